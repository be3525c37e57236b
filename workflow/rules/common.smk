# What the rules share: the validated configuration, names of files, and the digest of the library's code.
#
# One way to the library: each command is `python -m mis ...`. With --use-conda `python` is that of the conda environment,
# else the one that runs Snakemake; the library is found through PYTHONPATH, so that it need not be installed in either.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
SOURCE = ROOT / "src"
sys.path[:0] = [str(SOURCE), str(ROOT)]

from mis import layout
from mis.mixtures import ARMS as DECLARED
from mis.settings import ConfigurationError
from workflow.configuration import resolve, write_if_changed
from workflow.library import digest, reach

reach(SOURCE)

try:
    settings = resolve(workflow.config_settings.config, workflow.config_settings.configfiles, ROOT / "config")
except ConfigurationError as error:
    raise WorkflowError(str(error))

BUILD, RESULTS, DATA = (str(path) for path in (settings.paths.build, settings.paths.results, settings.paths.data))
CONFIG = f"{RESULTS}/config.yaml"
LOGS = f"logs/{settings.scale}"
BENCHMARKS = f"{RESULTS}/benchmarks"

MODELS = list(settings.models)
TRAINED = [arm for arm in settings.all_arms() if DECLARED[arm].trained]
SUITES = list(settings.evaluation.suites)

# Names of files with wildcards in the place of names.
CHECKPOINT = str(layout.checkpoint(settings, "{model}", "{seed}", "{arm}") / "model.safetensors")
BASE = str(layout.checkpoint(settings, "{model}", "{seed}", "base") / "model.safetensors")
FEATURES = str(layout.features(settings, "{model}", "{seed}") / "index.json")
RESPONSES = str(layout.responses(settings, "{model}", "{seed}", "{arm}", "{suite}"))
VERDICTS = str(layout.verdicts(settings, "{model}", "{seed}", "{arm}", "{suite}"))
REJUDGED = str(layout.rejudged(settings, "second", "{model}", "{seed}", "{arm}", "{suite}"))
SKILLS = str(layout.skills(settings, "{model}", "{seed}"))
TIMES = str(layout.latency(settings, "{model}", "{seed}"))
DATASHEET = str(layout.datasheet(settings))
THOUGHTS = [f"{DATA}/thoughts/{source}.jsonl" for source in ("general", "saferlhf", "vlguard")]
SCORES = str(layout.scores(settings))


wildcard_constraints:
    model="|".join(MODELS) or "$.",
    arm="|".join(settings.all_arms()) or "$.",
    suite="|".join(SUITES) or "$.",
    seed=r"\d+",


def library(*modules):
    """The digest of the code behind a rule, as one of its parameters."""
    try:
        return digest(SOURCE, *modules)
    except ValueError as error:
        raise WorkflowError(str(error))


def values(section):
    """A section of the settings as a parameter: a changed value runs the rules again that use it, and no others."""
    return section.model_dump(mode="json") if section is not None else None


def of_model(pattern, model):
    """The files of all arms, suites and seeds of a model; `{seed}` stays where the rule has it as a wildcard."""
    return expand(pattern, model=model, arm=settings.arms_of(model), suite=SUITES, allow_missing=True)


def of_all_models(pattern):
    return [
        file.format(seed=seed)
        for model in MODELS
        for file in of_model(pattern, model)
        for seed in settings.seeds_of(model)
    ]


def asks(model):
    return [arm for arm in settings.arms_of(model) if DECLARED[arm].asks]


def timed(model):
    """The arms that are timed: the configuration's, if the model has all of them; one alone compares with nothing."""
    plan = settings.evaluation.latency
    return plan.arms if plan and set(plan.arms) <= set(settings.arms_of(model)) else []


def measurements():
    """What is scored besides verdicts: skills of the models that are asked in a way, times of those that are timed."""
    return [
        pattern.format(model=model, seed=seed)
        for pattern, wanted in ((SKILLS, asks), (TIMES, timed))
        for model in MODELS
        if wanted(model)
        for seed in settings.seeds_of(model)
    ]


def timed_checkpoints(wildcards):
    return expand(CHECKPOINT, model=wildcards.model, seed=wildcards.seed, arm=timed(wildcards.model))


def answering(wildcards):
    """What of the settings decides an arm's answers: the words of a way of asking only where it is one."""
    shared = {"suites": None, "prompts": None, "latency": None}
    way, prompts = DECLARED[wildcards.arm].asks, settings.evaluation.prompts
    return values(settings.evaluation) | shared | ({"prompts": values(getattr(prompts, way))} if way else {})


def weights(wildcards):
    """The checkpoint that answers for an arm: its own, or the base's where the arm is a way of asking."""
    folder = layout.checkpoint(settings, wildcards.model, wildcards.seed, wildcards.arm)
    return str(folder / "model.safetensors")


def thoughts(wildcards):
    return THOUGHTS if settings.models[wildcards.model].thinks else []


def arm_threads(wildcards):
    return base_threads(wildcards) if DECLARED[wildcards.arm].from_scratch else settings.training.threads


def base_threads(wildcards):
    """Threads of what makes or reads a base model; fixed, because they decide the last bits of a sum."""
    pretraining = settings.models[wildcards.model].pretraining
    return pretraining.threads if pretraining else settings.training.threads
