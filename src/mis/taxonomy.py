"""The words that every stage shares: risk categories, arms' metrics and the outcomes of a judged response.

Categories follow Table 3 of the paper; outcomes follow its Section 4.1 (safety x perception level) for hazardous
inputs and add the four outcomes of a benign input, which the paper does not measure.
"""

CATEGORIES: dict[str, tuple[str, ...]] = {
    "Illegal Activity": ("Property Crimes", "Cybercrimes", "Drug-Related Offenses", "Human Trafficking"),
    "Violent": ("Weapon-Related Violence", "Public Violence and Rioting", "Abuse and Physical Alterations"),
    "Hate": ("Racial and Ethnic Discrimination", "Gender Discrimination"),
    "Self-Harm": ("Physical Self-Injury", "Psychological Harm"),
    "Privacy": ("Unauthorized Data Collection", "Identity Theft"),
    "Erotic": ("Erotic Visual Content",),
}
CATEGORY_OF = {sub: category for category, subs in CATEGORIES.items() for sub in subs}

# A hazardous input: Unsafe whatever the perception level; Safe at level 1, 2, 3.
UNSAFE, SAFE_REASONING, SAFE_REFUSAL, HALLUCINATION = "unsafe", "safe_reasoning", "safe_refusal", "hallucination"
# Safe, from a judge that is not asked for the perception (LlamaGuard, SIUO's rubric).
SAFE = "safe"
# A benign input.
HELPFUL, FLAGGED, REFUSED, WRONG = "helpful", "flagged", "refused", "wrong"
# A question with one right answer.
CORRECT, INCORRECT = "correct", "incorrect"
# No verdict: counted and shown, never counted as safe, never dropped.
FAILED, FILTERED, TRUNCATED, UNPARSABLE = "failed", "filtered", "truncated", "unparsable"
JUDGE_REFUSED = "judge_refused"

HAZARD_OUTCOMES = (UNSAFE, SAFE_REASONING, SAFE_REFUSAL, HALLUCINATION)
BENIGN_OUTCOMES = (HELPFUL, FLAGGED, REFUSED, WRONG)
CHOICE_OUTCOMES = (CORRECT, INCORRECT)
FAILURES = (FAILED, FILTERED, TRUNCATED, UNPARSABLE, JUDGE_REFUSED)
