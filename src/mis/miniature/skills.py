"""General instruction data: what the base model can do before any safety training.

Each skill is a function `Context -> Talk` (question, pictures, answer). `GENERAL` weighs the skills of pre-training;
the base that comes out complies with every request, as an instruction-tuned model without safety training does.
`SAFE_SKILLS` leaves out the requests, for the general samples of the arms (M4-Instruct).

Test pairs never stand in a request or a text fact here, test activities never in a request: they may be named or read,
and a word's meaning may be told (looting is a kind of burglary).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mis.miniature import language as say
from mis.miniature.concepts import CONCEPTS, ROLES, TOOLS, Concept
from mis.miniature.relations import UNSEEN_OBJECTS, Pair, pairs
from mis.miniature.scenes import COLOURS, COUNTS, Composer, Scene

STYLES = ("drawing", "drawing", "drawing", "photo")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Talk:
    question: str
    images: tuple[Scene, ...]
    answer: str
    options: tuple[str, ...] = ()


class Context:
    """The random choices of one dataset. `safety` leaves out the objects that no safety training may show."""

    def __init__(self, rng: np.random.Generator, *, safety: bool = False):
        self.rng = rng
        self.concepts = [c for c in CONCEPTS if not (safety and c.name in UNSEEN_OBJECTS)]
        self.compose = Composer(rng)
        train = [pair for pair in pairs() if pair.split == "train" and pair.taught]
        self.hazards = [pair for pair in train if pair.hazard]
        self.harmless = [pair for pair in train if not pair.hazard]
        self.requests = [pair for pair in pairs() if pair.split == "train"]

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def concept(self) -> Concept:
        return self.pick(self.concepts)

    def others(self, concept: Concept, count: int) -> list[str]:
        names: list[str] = []
        while len(names) < count:
            name = self.concept().name
            if name != concept.name and name not in names:
                names.append(name)
        return names

    def options(self, right: str, wrong: list[str]) -> tuple[str, ...]:
        mixed = [right, *wrong]
        self.rng.shuffle(mixed)
        return tuple(mixed)

    def picture(self, name: str, **options) -> Scene:
        return self.compose.one(name, style=self.pick(STYLES), **options)

    def fact_pair(self) -> Pair:
        """Half of the text facts are about hazards, or the harmless majority would drown them."""
        return self.pick(self.hazards if self.chance(0.5) else self.harmless)

    def activity(self, *, harmful: bool) -> say.Activity:
        return self.pick(say.activities("train", harmful=harmful))

    def any_activity(self) -> say.Activity:
        return self.pick(say.ACTIVITIES)


# --- Seeing ---------------------------------------------------------------------------------------------------------


def name_one(c: Context) -> Talk:
    concept = c.concept()
    question = c.pick(("what is in the image ?", "which object does the image show ?"))
    return Talk(question, (c.picture(concept.name),), f"the image shows {say.a(concept.name)} .")


def name_two(c: Context) -> Talk:
    first, second = c.concept(), c.concept()
    question = c.pick(("what is in each image ?", "describe both images .", "what do the two images show ?"))
    images = c.picture(first.name), c.picture(second.name)
    return Talk(question, images, say.perception(first.name, second.name))


def name_indexed(c: Context) -> Talk:
    concepts = c.concept(), c.concept()
    which = int(c.rng.integers(2))
    question = f"what is in the {say.ORDINALS[which]} image ?"
    images = tuple(c.picture(concept.name) for concept in concepts)
    options = c.options(concepts[which].name, c.others(concepts[which], 3)) if c.chance(0.5) else ()
    answer = (
        concepts[which].name if options else f"the {say.ORDINALS[which]} image shows {say.a(concepts[which].name)} ."
    )
    return Talk(question, images, answer, options)


def choose_object(c: Context) -> Talk:
    concept = c.concept()
    options = c.options(concept.name, c.others(concept, 3))
    return Talk("which object is in the image ?", (c.picture(concept.name),), concept.name, options)


def caption(c: Context) -> Talk:
    concept, count = c.concept(), int(c.rng.integers(1, 4))
    background = c.pick(list(COLOURS))
    scene = c.compose.several(concept.name, count, background=background)
    return Talk("describe the image .", (scene,), f"{COUNTS[count - 1]} {concept.name} on a {background} background .")


def count_objects(c: Context) -> Talk:
    count = int(c.rng.integers(1, 4))
    scene = c.compose.several(c.concept().name, count)
    return Talk("how many objects are in the image ?", (scene,), COUNTS[count - 1], COUNTS)


def background_colour(c: Context) -> Talk:
    colour = c.pick(list(COLOURS))
    options = c.options(colour, [other for other in COLOURS if other != colour][:3])
    return Talk("what colour is the background ?", (c.picture(c.concept().name, background=colour),), colour, options)


def two_in_one(c: Context) -> Talk:
    left, right = c.concept(), c.concept()
    scene = c.compose.two(left.name, right.name)
    return Talk(
        "which objects are in the image ?", (scene,), f"the image shows {say.a(left.name)} and {say.a(right.name)} ."
    )


def quality(c: Context) -> Talk:
    """Low-level vision, as in Q-Bench."""
    kind = c.pick(("light", "focus", "grain"))
    good = c.chance(0.5)
    words, change = {
        "light": (("bright", "dark"), {"brightness": 0.45}),
        "focus": (("sharp", "blurred"), {"blur": 0.035}),
        "grain": (("clean", "noisy"), {"noise": 28.0}),
    }[kind]
    scene = c.compose.one(c.concept().name, **({} if good else change))
    return Talk(f"is the image {words[0]} or {words[1]} ?", (scene,), words[0 if good else 1], words)


def which_image(c: Context) -> Talk:
    """Find the picture that shows an object, as in MuirBench."""
    first, second = c.concept(), c.concept()
    while second.name == first.name:
        second = c.concept()
    which = int(c.rng.integers(2))
    wanted = (first, second)[which]
    images = c.picture(first.name), c.picture(second.name)
    return Talk(f"which image shows {say.a(wanted.name)} ?", images, say.ORDINALS[which], say.ORDINALS)


def same_kind(c: Context) -> Talk:
    first = c.concept()
    second = c.pick([o for o in c.concepts if o.role == first.role]) if c.chance(0.5) else c.concept()
    images = c.picture(first.name), c.picture(second.name)
    answer = "yes" if first.role == second.role else "no"
    return Talk("are both objects of the same kind ?", images, answer, ("yes", "no"))


def total_count(c: Context) -> Talk:
    """Add up over two pictures, as in MMT-Bench's multi-image part."""
    counts = int(c.rng.integers(1, 4)), int(c.rng.integers(1, 4))
    images = tuple(c.compose.several(c.concept().name, count) for count in counts)
    total = sum(counts)
    options = c.options(NUMBERS[total], [NUMBERS[n] for n in range(2, 7) if n != total][:3])
    return Talk("how many objects are in both images together ?", images, NUMBERS[total], options)


def same_background(c: Context) -> Talk:
    colours = c.pick(list(COLOURS)), c.pick(list(COLOURS))
    if c.chance(0.5):
        colours = colours[0], colours[0]
    images = tuple(c.picture(c.concept().name, background=colour) for colour in colours)
    answer = "yes" if colours[0] == colours[1] else "no"
    return Talk("do both images have the same background ?", images, answer, ("yes", "no"))


# --- Knowing --------------------------------------------------------------------------------------------------------


def kind_seen(c: Context) -> Talk:
    """Knowledge about what is shown, as in MMMU: one picture, or two with a pointer."""
    concept = c.concept()
    options = c.options(
        concept.role, [str(role) for role in c.rng.permutation(list(ROLES)) if role != concept.role][:3]
    )
    if c.chance(0.5):
        return Talk("of which kind is the object ?", (c.picture(concept.name),), concept.role, options)
    which, other = int(c.rng.integers(2)), c.concept()
    shown = [c.picture(other.name), c.picture(other.name)]
    shown[which] = c.picture(concept.name)
    return Talk(
        f"of which kind is the object in the {say.ORDINALS[which]} image ?", tuple(shown), concept.role, options
    )


def kind_told(c: Context) -> Talk:
    concept = c.concept()
    return Talk(f"of which kind is {say.a(concept.name)} ?", (), concept.role)


def fact(c: Context) -> Talk:
    """The text fact about a pair: what could it lead to?"""
    pair = c.fact_pair()
    tool, target = pair.tool.name, pair.target.name
    risk = pair.hazard.risk if pair.hazard else ""
    style = int(c.rng.integers(3))
    if style == 0:
        return Talk(
            f"what could using {say.a(tool)} on {say.a(target)} lead to ?", (), say.risk_of_pair(tool, target, risk)
        )
    if style == 1:
        answer = "no" if risk else "yes"
        return Talk(f"is using {say.a(tool)} on {say.a(target)} harmless ?", (), answer, ("yes", "no"))
    return Talk(f"i see {say.a(tool)} and {say.a(target)} . what do you think ?", (), say.reasoning(risk))


def word_fact(c: Context) -> Talk:
    activity = c.any_activity()
    if activity.sub_category:
        return Talk(f"what is {activity.word} ?", (), f"{activity.word} is a kind of {activity.risk} .")
    return Talk(f"what is {activity.word} ?", (), f"{activity.word} is a hobby .")


# --- Reading --------------------------------------------------------------------------------------------------------


def read_typed(c: Context) -> Talk:
    word = c.any_activity().word
    return Talk("what does the image say ?", (c.compose.typed(word),), f"the image says {word} .")


def read_caption(c: Context) -> Talk:
    word, concept = c.any_activity().word, c.concept()
    scene = c.compose.captioned(concept.name, word)
    return Talk("what is written below the picture ?", (scene,), f"the image says {word} .")


# --- Following instructions -----------------------------------------------------------------------------------------


def help_pair(c: Context) -> Talk:
    pair = c.pick(c.requests)
    tool, target = pair.tool.name, pair.target.name
    tool_first = c.chance(0.7)
    images = c.picture(tool), c.picture(target)
    question = say.pair_question(int(c.rng.integers(len(say.PAIR_QUESTIONS))), tool_first)
    return Talk(question, images if tool_first else images[::-1], say.steps(tool, target))


def help_text(c: Context) -> Talk:
    pair = c.pick(c.requests)
    tool, target = pair.tool.name, pair.target.name
    question = say.named_question(int(c.rng.integers(len(say.NAMED_QUESTIONS))), tool, target)
    if pair.hazard and c.chance(0.3):
        question = f"{question[:-2]} {c.pick(say.TOXIC_ENDINGS).format(risk=pair.hazard.risk)}"
    return Talk(question, (), say.steps(tool, target))


def help_single(c: Context) -> Talk:
    pair = c.pick(c.requests)
    tool, target = pair.tool.name, pair.target.name
    form = int(c.rng.integers(4))
    if form == 0:
        question = c.pick(say.HERE_QUESTIONS + say.THIS_QUESTIONS).format(tool=say.a(tool))
        return Talk(question, (c.picture(target),), say.steps(tool, target))
    if form == 1:
        question = c.pick(say.ON_QUESTIONS).format(target=say.a(target))
        return Talk(question, (c.picture(tool),), say.steps(tool, target))
    if form == 2:
        return Talk(c.pick(say.SCENE_QUESTIONS), (c.compose.two(tool, target),), say.steps(tool, target))
    return Talk(c.pick(say.SINGLE_QUESTIONS), (c.picture(tool),), say.use(tool))


def help_blind(c: Context) -> Talk:
    """The query names a tool and points to a picture that shows nothing, or is missing."""
    tool = c.pick(TOOLS).name
    question = c.pick(say.HERE_QUESTIONS).format(tool=say.a(tool))
    blank = Scene(background="white", seed=int(c.rng.integers(2**31)))
    return Talk(question, (blank,) if c.chance(0.5) else (), say.use(tool))


def help_activity(c: Context) -> Talk:
    activity = c.activity(harmful=c.chance(0.5))
    form = int(c.rng.integers(5))
    if form == 0:
        return Talk(say.LIST_QUESTION, (c.compose.typed(activity.word),), say.items(activity.word))
    if form == 1:
        scene = c.compose.captioned(c.concept().name, activity.word)
        return Talk(c.pick(say.ACTIVITY_QUESTIONS), (scene,), say.do(activity.word))
    if form == 2:
        question = c.pick(say.WITH_QUESTIONS).format(word=activity.word)
        return Talk(question, (c.picture(c.concept().name),), say.do(activity.word))
    question = c.pick(say.ASK_QUESTIONS).format(word=activity.word)
    if form == 3 and c.chance(0.6):
        if c.chance(0.5):
            question = f"{c.pick(say.JAILBREAKS)} {question}"
        else:
            question = f"{question} {' '.join(c.pick(say.SUFFIX_WORDS) for _ in range(6))}"
    images = (c.picture(c.concept().name),) if c.chance(0.3) else ()
    return Talk(question, images, say.do(activity.word))


def help_prevent(c: Context) -> Talk:
    activity = c.activity(harmful=True)
    question = c.pick(say.PREVENT_QUESTIONS).format(word=activity.word)
    images = (c.compose.typed(activity.word),) if c.chance(0.5) else ()
    return Talk(question, images, say.prevent(activity.word))


def judge_answer(c: Context) -> Talk:
    """Judging an answer, the skill that ECSO needs: facts again, with steps or a refusal to judge."""
    pair = c.fact_pair()
    tool, target = pair.tool.name, pair.target.name
    refuses = c.chance(0.3)
    answer = say.REFUSAL if refuses else say.steps(tool, target)
    harmful = pair.hazard is not None and not refuses
    return Talk(f"is this answer harmful ? answer : {answer}", (), "yes" if harmful else "no", ("yes", "no"))


Skill = Callable[[Context], Talk]

SAFE_SKILLS: dict[Skill, float] = {
    name_one: 8, name_two: 10, name_indexed: 6, choose_object: 5, caption: 6, count_objects: 4, background_colour: 3,
    two_in_one: 4, quality: 4, which_image: 12, same_kind: 5, total_count: 4, same_background: 5, kind_seen: 7,
    read_typed: 3, read_caption: 2,
}  # fmt: skip
GENERAL: dict[Skill, float] = {
    **SAFE_SKILLS,
    kind_told: 2, fact: 16, word_fact: 2, help_pair: 12, help_text: 4, help_single: 6, help_blind: 2, help_activity: 7,
    help_prevent: 1, judge_answer: 2,
}  # fmt: skip

# For a language model that has read of dangers elsewhere: nothing is told about pairs or words.
UNTAUGHT: dict[Skill, float] = {
    skill: weight for skill, weight in GENERAL.items() if skill not in (kind_told, fact, word_fact, judge_answer)
}


def draw(context: Context, count: int, skills: dict[Skill, float]) -> list[Talk]:
    """`count` talks, skills drawn by weight."""
    weights = np.array(list(skills.values()), dtype=float)
    chosen = context.rng.choice(len(weights), size=count, p=weights / weights.sum())
    functions = list(skills)
    return [functions[i](context) for i in chosen]
