"""The colours of all figures: Okabe and Ito's, told apart by colour-blind readers. No colour ever stands alone."""

from __future__ import annotations

from mis import taxonomy
from mis.taxonomy import CATEGORIES

COLOURS = {
    "base": "#4D4D4D",
    "textual_sft": "#0072B2",
    "vlguard_p": "#F0C000",
    "vlguard_r": "#E69F00",
    "mirage": "#009E73",
    "mirage_wo_privacy_selfharm": "#56B4E9",
    "mirage_balanced": "#CC79A7",
    "mirage_direct": "#D55E00",
    # Variants: a lighter shade of their family; their markers tell them apart.
    "textual_sft_dagger": "#7FB8D8",
    "vlguard_r_dagger": "#F2CF80",
    "vlguard_r_ddagger": "#FAE7BF",
    "mirage_star": "#66C5AB",
    "mirage_sorry": "#B2E2D5",
    "mirage_text_only": "#DDF1EB",
}
CATEGORY_COLOURS = dict(
    zip(CATEGORIES, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"), strict=True)
)

# Behind black text; the three differ by 50 grey levels or more, so that they stay apart on a black-and-white print.
PART_COLOURS = {"perception": "#56B4E9", "reasoning": "#F0E442", "safe answer": "#009E73"}

# An outcome is a symbol, a word (`names.OUTCOMES`) and a colour.
OUTCOME_MARKS = {
    taxonomy.UNSAFE: ("✗", "#D55E00"),
    taxonomy.SAFE_REASONING: ("✓", "#009E73"),
    taxonomy.SAFE_REFUSAL: ("⊘", "#56B4E9"),
    taxonomy.HALLUCINATION: ("?", "#CC79A7"),
    taxonomy.SAFE: ("✓", "#56B4E9"),
    taxonomy.HELPFUL: ("✓", "#009E73"),
    taxonomy.FLAGGED: ("!", "#E69F00"),
    taxonomy.REFUSED: ("⊘", "#56B4E9"),
    taxonomy.WRONG: ("?", "#CC79A7"),
    **dict.fromkeys(taxonomy.FAILURES, ("–", "#999999")),
}
