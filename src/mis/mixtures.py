"""The arms, declared as data: which samples an arm is trained on and what is frozen (Section 2 and Appendix of the
paper).

An arm is a list of parts. A part takes `count` examples (None: all) of one `kind` from one source, by a seeded
shuffle; `labels` names the variant of the answer that the source offers. To add an arm: add a line to `ARMS` and its
hyper-parameters to the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """`count` examples of `source` (a name of `sources.TRAINING_SOURCES`) with answer variant `labels`."""

    source: str
    kind: str
    count: int | None = None
    labels: str = "original"
    without_categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """`trains` names the parts of the network that are updated; the vision tower is frozen in every arm.

    An arm without parts trains nothing and answers with the base model's weights: `asks` then names the way of asking
    (`models.prompting`). An arm `from_scratch` is no fine-tuning: its parts are mixed into the data that makes the
    base model an assistant. `ours` marks what the paper does not have; of those, `supplement` is left to our tables.
    """

    name: str
    parts: tuple[Part, ...]
    trains: tuple[str, ...] = ("language_model", "projector")
    ours: bool = False
    supplement: bool = False
    asks: str = ""
    from_scratch: bool = False

    @property
    def trained(self) -> bool:
        return bool(self.parts)


# Parts of which the released dataset has fewer examples than the paper's round number. VLGuard's "1k" benign samples
# are the 977 safe pictures of its training file: all are taken, and nothing is put in the place of the other 23.
RELEASED = {("vlguard", "benign"): 977}
# Public sources in which a prompt stands more than once: it is drawn once.
ONCE = ("saferlhf",)

TEXTUAL = (Part("saferlhf", "safety", 2000), Part("saferlhf", "benign", 1000))
GENERAL_500 = Part("m4_instruct", "general", 500)
GENERAL_5000 = Part("m4_instruct", "general", 5000)


def _vlguard(labels: str, benign: int = 1000) -> tuple[Part, ...]:
    return Part("vlguard", "safety", 2000, labels), Part("vlguard", "benign", benign)


def _mis(labels: str, **options) -> Part:
    return Part("mis_train", "safety", None, labels, **options)


def _balanced(benign: int) -> tuple[Part, ...]:
    return _mis("safety_cot"), Part("benign_pairs", "benign", benign, "safety_cot"), GENERAL_500


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("base", ()),
        Arm("textual_sft", TEXTUAL, trains=("language_model",)),
        Arm("textual_sft_dagger", (*TEXTUAL, GENERAL_500), trains=("language_model",)),
        Arm("vlguard_p", _vlguard("original")),
        Arm("vlguard_r", _vlguard("reasoning")),
        Arm("vlguard_r_dagger", (*_vlguard("reasoning"), GENERAL_500)),
        # 75 % general data (Table 6) is 6,000 of 8,000: VLGuard's own 1,000 benign samples and 5,000 more.
        Arm("vlguard_r_ddagger", (*_vlguard("reasoning"), GENERAL_5000)),
        Arm("mirage", (_mis("safety_cot"), GENERAL_500)),
        Arm("mirage_star", (_mis("safety_cot"),)),
        Arm("mirage_sorry", (_mis("sorry"), GENERAL_500)),
        Arm("mirage_text_only", (_mis("text_only"), GENERAL_500)),
        Arm(
            "mirage_wo_privacy_selfharm", (_mis("safety_cot", without_categories=("Privacy", "Self-Harm")), GENERAL_500)
        ),
        # Mixed into the instruction data instead of tuned after it (the paper has it for LLaVA-1.5 alone).
        Arm("vlguard_m", _vlguard("original"), from_scratch=True),
        # Prompt-only and inference-time baselines.
        Arm("vanilla_cot", (), asks="vanilla_cot"),
        Arm("customized_cot", (), asks="customized_cot"),
        Arm("customized_safety_cot", (), asks="customized_safety_cot"),
        Arm("ecso", (), asks="ecso"),
        # Ours: half as many benign pairs again, with labels that reason as well; and the verdict before the reasons.
        Arm("mirage_balanced", _balanced(2000), ours=True),
        Arm("mirage_direct", (_mis("direct"), GENERAL_500), ours=True),
        # Ours: the share of benign pairs as a curve, from none (mirage) over 2,000 (mirage_balanced) to as many as
        # there are hazards.
        *(
            Arm(f"mirage_benign_{count}", _balanced(count), ours=True, supplement=True)
            for count in (250, 500, 1000, 4000)
        ),
    )
}
