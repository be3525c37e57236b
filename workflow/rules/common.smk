# What the rules share: the validated configuration, names of files, and the digest of the library's code.
#
# One way to the library: each command is `python -m mis ...`. With --use-conda `python` is that of the conda environment,
# else the one that runs Snakemake; the library is found through PYTHONPATH, so that it need not be installed in either.
import sys
from os.path import relpath
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
SOURCE = ROOT / "src"
sys.path[:0] = [str(SOURCE), str(ROOT)]

from mis import layout, serving
from mis.benchmarks import BY_ID
from mis.mixtures import ARMS as DECLARED
from mis.planning import Job, cost
from mis.probes import BARE
from mis.probes.curves import points
from mis.report.needs import measured, needed
from mis.settings import ConfigurationError
from mis.sizes import model_size
from workflow.configuration import resolve, write_if_changed
from workflow.library import digest, reach
from workflow.planning import CostTable

reach(SOURCE)

try:
    settings = resolve(workflow.config_settings.config, workflow.config_settings.configfiles, ROOT / "config")
except ConfigurationError as error:
    raise WorkflowError(str(error))

BUILD, RESULTS, DATA = (str(path) for path in (settings.paths.build, settings.paths.results, settings.paths.data))
CONFIG = f"{RESULTS}/config.yaml"
LOGS = f"logs/{settings.scale}"
BENCHMARKS = f"{RESULTS}/benchmarks"

# Of this machine; jobs that are sent to a cluster know none.
ALL_CORES = workflow.resource_settings.cores or settings.evaluation.threads

MODELS = list(settings.models)
# Models whose base comes from a hub or a folder, and is one for all seeds.
TAKEN = [model for model in MODELS if layout.is_taken(settings, model)]
TRAINED = [arm for arm in settings.all_arms() if DECLARED[arm].trained]
SUITES = list(settings.evaluation.suites)


def data_of(*sources):
    """The files that say that the public datasets are there."""
    ours = {"benign_control": "benign_control/mis_benign.json", "benign_pairs": "benign_pairs/mis_train.json"}
    return [
        f"{DATA}/{ours[source]}" if source in ours else str(layout.fetched(settings, source))
        for source in dict.fromkeys(sources)
    ]


def labels_of(arm):
    """(source, variant) of the labels of an arm that no dataset brings."""
    named = {
        (part.source, settings.sources.labels.get(f"{part.source}/{part.labels}", part.labels))
        for part in DECLARED[arm].parts
    }
    released = {("mis_train", "safety_cot"), ("benign_pairs", "safety_cot")}
    return sorted(label for label in named - released if label[1] != "original")


def thought_sources():
    arms = {arm for model in MODELS if settings.models[model].thinks for arm in settings.arms_of(model)}
    return sorted({part.source for arm in arms for part in DECLARED[arm].parts})


def public_inputs():
    """The public datasets that the suites ask from and the arms are mixed from, and those that ours are built of."""
    suites = settings.evaluation.suites.values()
    sources = {BY_ID[name].source for names in suites for name in names}
    sources |= {part.source for arm in TRAINED for part in DECLARED[arm].parts}
    built = {"benign_control", "benign_pairs"} & sources
    return sorted(sources - built | ({"m4_instruct", "muirbench"} if built else set()))


def benign_training():
    """How many harmless pairs the arms train on at most."""
    parts = [part for arm in TRAINED for part in DECLARED[arm].parts]
    return max((part.count for part in parts if part.source == "benign_pairs"), default=0)


def arm_data(wildcards):
    """What an arm's mixture is made from: datasets and labels."""
    files = data_of(*(part.source for part in DECLARED[wildcards.arm].parts))
    return files + [f"{DATA}/{source}/labels/{variant}.jsonl" for source, variant in labels_of(wildcards.arm)]


def suite_data(wildcards):
    """The datasets that a suite asks from; the miniature's are all made before any checkpoint, if there is one."""
    if settings.world:
        model = getattr(wildcards, "model", None)  # the search for leaks has none
        return MIS_DATA if model and settings.models[model].served else []
    return data_of(*(BY_ID[name].source for name in settings.evaluation.suites[wildcards.suite]))


def unleaked(wildcards):
    """The check that an arm was trained on no sample of a suite, where the datasets are public."""
    trained = DECLARED[wildcards.arm].trained and settings.world is None
    return NO_LEAKS.format(arm=wildcards.arm, suite=wildcards.suite) if trained else []


# Names of files with wildcards in the place of names.
CHECKPOINT = str(layout.checkpoint(settings, "{model}", "{seed}", "{arm}") / "model.safetensors")
BASE = str(layout.checkpoint(settings, "{model}", "{seed}", "base") / "model.safetensors")
TAKEN_BASE = f"{BUILD}/models/{{model}}/base/config.json"
BACKBONE = f"{BUILD}/backbone/source.json"
FEATURES = str(layout.features(settings, "{model}", "{seed}") / "index.json")
RESPONSES = str(layout.responses(settings, "{model}", "{seed}", "{arm}", "{suite}"))
VERDICTS = str(layout.verdicts(settings, "{model}", "{seed}", "{arm}", "{suite}"))
REJUDGED = str(layout.rejudged(settings, "second", "{model}", "{seed}", "{arm}", "{suite}"))
REJUDGED_BY = str(layout.rejudged(settings, "{judge}", "{model}", "{seed}", "{arm}", "{suite}"))
GENERAL = str(layout.general(settings, "{model}", "{seed}", "{arm}") / "results.json")
SERVED_ARM = str(serving.arm_file(settings, "{model}", "{seed}", "{arm}"))
SERVED_JUDGE = str(serving.judge_file(settings, "{judge}"))
SKILLS = str(layout.skills(settings, "{model}", "{seed}"))
TIMES = str(layout.latency(settings, "{model}", "{seed}"))
# What `mis probe` writes of an arm, and of the bare language model, which sees nothing.
PROBED_IN_TEXT = [
    "knowledge.csv",
    "knowledge_summary.csv",
    "disagreements.csv",
    "behaviour.csv",
    "answers.jsonl",
    "texts.csv",
    "questions.csv",
    "ability.csv",
    "run.json",
]
PROBED_BEHIND_PICTURES = ["separation.csv", "separation_summary.csv"]
PROBES = str(layout.probes(settings, "{model}", "{seed}", "{arm}"))
PROBES_OF_BARE = str(layout.probes(settings, "{model}", None, BARE))
DATASHEET = str(layout.datasheet(settings))
# A mixture's file a trained arm.
MIXTURES = [str(layout.mixture(settings, arm)) for arm in TRAINED]
# What stands for the data of MIS: the miniature's construction, which all else of the miniature's data comes before; of
# the public datasets the note that they were read.
MIS_DATA = [f"{BUILD}/construction/funnel.csv"] if settings.world else data_of("mis") if MODELS else []
# Sources of what a reasoning model is trained on, and the labels that a model writes (`mis data label`): source, variant.
THOUGHT_SOURCES = ["general", "saferlhf", "vlguard"] if settings.world else thought_sources()
THOUGHTS = [f"{DATA}/thoughts/{source}.jsonl" for source in THOUGHT_SOURCES]
LABELS = [] if settings.world else sorted({label for arm in TRAINED for label in labels_of(arm)})
# The mixtures that a reasoning model learns with thoughts, and the datasets that a run reads.
THINKING = {arm for model in MODELS if settings.models[model].thinks for arm in settings.arms_of(model)}
MIXTURES_OF_THINKERS = [str(layout.mixture(settings, arm)) for arm in TRAINED if arm in THINKING]
INPUTS = [] if settings.world else public_inputs()
INPUTS_LISTED = [str(layout.inputs(settings).with_suffix(suffix)) for suffix in (".csv", ".md")]
LEAKS = str(layout.leaks(settings, "{arm}", "{suite}"))
NO_LEAKS = f"{BUILD}/leaks/{{arm}}/{{suite}}.ok"
SCORES = str(layout.scores(settings))
RELEASE = str(layout.release(settings))


wildcard_constraints:
    model="|".join(MODELS) or "$.",
    arm="|".join(settings.all_arms()) or "$.",
    suite="|".join(SUITES) or "$.",
    seed=r"\d+",
    judge="|".join(settings.judges) or "$.",


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
    """The files of all models; where each artifact has its own scores, of what any of those that are drawn needs."""
    if settings.report.scores == "artifact":
        return list(dict.fromkeys(file for name in ARTIFACTS for file in of_artifact(pattern, name)))
    return [
        file.format(seed=seed)
        for model in MODELS
        for file in of_model(pattern, model)
        for seed in settings.seeds_of(model)
    ]


def of_artifact(pattern, artifact):
    """The files of the models, arms and suites behind a table or figure."""
    suite_of = {name: suite for suite, names in settings.evaluation.suites.items() for name in names}
    files = [
        pattern.format(model=model, seed=seed, arm=arm, suite=suite_of[benchmark])
        for model, arm, benchmark in needed(settings, artifact, ROOT)
        if benchmark in suite_of
        for seed in settings.seeds_of(model)
    ]
    return list(dict.fromkeys(files))


def general_of(artifact=None):
    """What lmms-eval measures for a table or figure, or for all that are drawn."""
    plan = settings.evaluation.lmms_eval
    if plan is None:
        return []
    if artifact is None and settings.report.scores == "artifact":
        return list(dict.fromkeys(file for name in ARTIFACTS for file in general_of(name)))
    if artifact is None:
        answering = [(model, arm) for model in MODELS for arm in settings.arms_of(model)]
    else:
        needs = needed(settings, artifact, ROOT)
        answering = dict.fromkeys((model, arm) for model, arm, name in needs if name in plan.benchmarks)
    return [GENERAL.format(model=m, arm=arm, seed=seed) for m, arm in answering for seed in settings.seeds_of(m)]


def arm_service(wildcards):
    """The server of an arm's checkpoint, where checkpoints are served."""
    served = settings.models[wildcards.model].served is not None
    return SERVED_ARM if settings.evaluation.service and not served else []


def judge_services(wildcards):
    """The servers of the judges that judge a suite, or of the one that judges it once more."""
    named = getattr(wildcards, "judge", None)
    judges = [named] if named else [BY_ID[name].judge for name in settings.evaluation.suites[wildcards.suite]]
    return [
        SERVED_JUDGE.format(judge=judge)
        for judge in dict.fromkeys(judges)
        if getattr(settings.judges.get(judge), "service", None)
    ]


def judging(wildcards):
    """What of the settings decides the verdicts on a suite, or those of the judge that judges it once more."""
    named = getattr(wildcards, "judge", None)
    judges = [named] if named else [BY_ID[name].judge for name in settings.evaluation.suites[wildcards.suite]]
    return {judge: values(settings.judges.get(judge)) for judge in dict.fromkeys(judges)}


def judging_gpus(wildcards):
    """A guard without a server runs in the job itself."""
    return int(any(judge and judge.get("source") and not judge.get("service") for judge in judging(wildcards).values()))


def rejudged_by(wildcards):
    return of_all_models(REJUDGED_BY.replace("{judge}", wildcards.judge))


def drift_files(judge, *names):
    return [str(layout.drift(settings, judge) / name) for name in names]


def service_gpus(service):
    return settings.services[service].gpus if service else 0


def constructed(wildcards):
    """What says that this run has constructed MIS: by the miniature's stand-ins, or by models and people."""
    if settings.construction:
        return rules.construct_with_models.output.published
    if settings.world:
        return rules.construct_mis.output.funnel
    raise WorkflowError(f"scale {settings.scale}: MIS is not constructed here; give the configuration a `construction`")


def construction_data():
    """The datasets that elements are taken from, and those that nothing may be taken from."""
    if settings.construction is None:
        return []
    names = [*(source.benchmark for source in settings.construction.sources), *settings.construction.duplicates.against]
    return data_of(*dict.fromkeys("advbench" if name == "advbench_goals" else BY_ID[name].source for name in names))


def painter_gpus():
    """A painter of diffusers runs in the job itself."""
    return int(hasattr(settings.construction, "painter") and hasattr(settings.construction.painter, "pipeline"))


def asks(model):
    return [arm for arm in settings.arms_of(model) if DECLARED[arm].asks]


def timed(model):
    """The arms that are timed: the configuration's, if the model has all of them; one alone compares with nothing."""
    plan = settings.evaluation.latency
    if plan is None or (plan.models is not None and model not in plan.models):
        return []
    return plan.arms if set(plan.arms) <= set(settings.arms_of(model)) else []


def measurements(*patterns):
    """What is scored besides verdicts: skills of the models that are asked in a way, times of those that are timed.

    Skills are those that the miniature's development split can show.
    """
    kinds = [*([(SKILLS, asks)] if settings.world else []), (TIMES, timed)]
    return [
        pattern.format(model=model, seed=seed)
        for pattern, wanted in kinds
        if pattern in (patterns or (SKILLS, TIMES))
        for model in MODELS
        if wanted(model)
        for seed in settings.seeds_of(model)
    ]


def labels_of_judge():
    """The labelled answers by which the judge's errors widen the intervals of the scores."""
    folder = settings.report.audit
    return sorted(relpath(path) for path in (ROOT / folder).iterdir()) if folder else []


def probed(model):
    """Is the model measured by likelihood? One with a pretrained language model is, where the configuration says so."""
    return settings.evaluation.probes is not None and settings.models[model].text_folder is not None


def probes_of(*models):
    """All that is measured by likelihood."""
    return [
        *(f"{PROBES_OF_BARE}/run.json".format(model=model) for model in models if probed(model)),
        *(
            f"{PROBES}/run.json".format(model=model, seed=seed, arm=arm)
            for model in models
            if probed(model)
            for seed in settings.seeds_of(model)
            for arm in settings.arms_of(model)
            if DECLARED[arm].trained or arm == "base"
        ),
    ]


def development_probes(wildcards):
    """The separation on the development split, of each arm behind a point of its curves; the first seed's."""
    return [
        f"{PROBES}/development/separation_summary.csv".format(model=model, seed=settings.seeds[0], arm=arm)
        for model, arm in points(settings)
        if probed(model)
    ]


def timed_checkpoints(wildcards):
    return [
        str(layout.checkpoint_file(settings, wildcards.model, wildcards.seed, arm)) for arm in timed(wildcards.model)
    ]


def answering(wildcards):
    """What of the settings decides an arm's answers: the words of a way of asking only where it is one."""
    shared = {"suites": None, "prompts": None, "latency": None, "probes": None}
    way, prompts = DECLARED[wildcards.arm].asks, settings.evaluation.prompts
    model = settings.models[wildcards.model]
    served, here = model.served, settings.evaluation.service and not model.served
    facts = ("name", "revision", "max_images", "image_text", "system", "temperature")
    return (
        values(settings.evaluation)
        | shared
        | ({"prompts": values(getattr(prompts, way))} if way else {})
        | ({"served": {fact: getattr(served, fact) for fact in facts}} if served else {})
        | ({"image_text": model.image_text, "serve_with": model.serve_with} if here else {})
    )


def weights(wildcards):
    """The checkpoint that answers for an arm: its own, the base's where the arm is a way of asking, or one elsewhere."""
    if settings.models[wildcards.model].served:
        return []
    return str(layout.checkpoint_file(settings, wildcards.model, wildcards.seed, wildcards.arm))


def base(wildcards):
    """The checkpoint that a model's arms start from."""
    return str(layout.checkpoint_file(settings, wildcards.model, wildcards.seed, "base"))


def backbone(wildcards):
    """The pretrained language model in a base model, if it is the one that is unpacked here."""
    return BACKBONE if settings.models[wildcards.model].text_folder == Path(BACKBONE).parent else []


def thoughts(wildcards):
    return THOUGHTS if settings.models[wildcards.model].thinks else []


def arm_threads(wildcards):
    if DECLARED[wildcards.arm].from_scratch:
        return base_threads(wildcards)
    plan = settings.training
    return (plan.threads + plan.workers) * (plan.sharding.gpus if plan.sharding else 1)


def arm_memory(wildcards):
    """Of a training: measured for the miniature's models, and for a pretrained language model in its world."""
    if settings.world is None:
        return 200000
    return 10000 if settings.models[wildcards.model].text_folder else 4000


ARM_NODES = settings.training.sharding.nodes if settings.training.sharding else 1


def arm_gpus(wildcards):
    """GPUs of a training on one machine; a miniature world is trained on the CPU."""
    plan = settings.training.sharding
    return plan.gpus if plan else 0 if settings.world else 1


# A server and all that ask it must run at the same time, and Snakemake adds up their threads: with one each, a server whose
# arm is asked a dozen suites could not be run, nor planned, on fewer than a dozen cores. They wait for the GPU.
WAITING = 0


def asking_threads(wildcards):
    return WAITING if arm_service(wildcards) else settings.evaluation.threads


def judging_threads(wildcards):
    return WAITING if judge_services(wildcards) else 1


def answering_gpus(wildcards):
    """A checkpoint that is loaded in the job itself wants a GPU, unless it is a miniature."""
    return int(settings.world is None and not settings.models[wildcards.model].served and not arm_service(wildcards))


def weights_mb(wildcards):
    """Memory of a job that reads a checkpoint: a miniature's, a client's, or the checkpoint's in 16 bits and half again."""
    model = settings.models[wildcards.model]
    if settings.world or model.served:
        return 3000
    parameters = model_size(wildcards.model).parameters
    return 8000 + round(3e-6 * (parameters or 1e10))


def minutes(rule):
    """A job's time limit on a cluster, as a function of its wildcards: three times what `mis plan` counts, and an hour.

    Where a server answers, its pace is not known: a day.
    """

    def of(wildcards):
        if settings.planning is None:
            return 240
        bill = cost(settings, Job(0, rule, dict(wildcards.items()), gpus=1))
        return 1440 if bill.requests else 60 + round(60 * 3 * bill.gpu_hours / max(bill.gpus, 1))

    return of


def stored_features(wildcards):
    """The vision tower's stored outputs, where they are stored."""
    if settings.training.features == "computed" or settings.models[wildcards.model].served:
        return []
    return FEATURES.format(model=wildcards.model, seed=wildcards.seed)


def base_threads(wildcards):
    """Threads of what makes or reads a base model; fixed, because they decide the last bits of a sum."""
    pretraining = settings.models[wildcards.model].pretraining
    return pretraining.threads if pretraining else settings.training.threads
