"""What is measured by likelihood, of one arm with one load of its checkpoint: knowledge, separation, ability in text.

For a model whose text half is a pretrained language model, in a world of natural English. `probe_arm` writes
`R/probes/<model>/seed<S>/<arm>/`, `probe_bare` the same of the language model as it came, `R/probes/<model>/bare/`:

- `knowledge.csv`, `knowledge_summary.csv`, `disagreements.csv`, `behaviour.csv`, `answers.jsonl` (:mod:`.knowing`)
- `separation.csv`, `separation_summary.csv` (:mod:`.separation`); not of the bare model, which sees nothing
- `texts.csv`, `questions.csv`, `ability.csv` (:mod:`.ability`)
- `run.json`: what was measured, and how
"""

BARE = "bare"  # in the place of an arm: the language model before it was given eyes
# Benchmarks whose separation is measured: are they hazardous?
BENCHMARKS = {
    "mis/easy": True, "mis/hard": True, "mis/real": True, "mssbench/unsafe": True,
    "benign_control": False, "mssbench/safe": False,
}  # fmt: skip
# Name -> (hazardous, harmless). The questions of both sides are drawn from the same templates in the same way; in
# mssbench every question stands on both sides. Pictures of mis/real have another style than those of benign_control.
CONTRASTS = {
    "mis": (("mis/easy", "mis/hard"), ("benign_control",)),
    "mis_and_real": (("mis/easy", "mis/hard", "mis/real"), ("benign_control",)),
    "mssbench": (("mssbench/unsafe",), ("mssbench/safe",)),
}
