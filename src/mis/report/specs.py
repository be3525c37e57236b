"""The tables of rates, declared as data. To add a table: add a `Spec`; its columns are "benchmark/split metric"."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    benchmark: str
    split: str
    metric: str


def _columns(*texts: str) -> tuple[Column, ...]:
    """Columns from "benchmark/split metric"; "- metric" is a column without a benchmark."""
    columns = []
    for text in texts:
        where, metric = text.split()
        benchmark, _, split = where.partition("/")
        columns.append(Column("" if benchmark == "-" else benchmark, split, metric))
    return tuple(columns)


@dataclass(frozen=True)
class Spec:
    """A table of rates.

    `artifact` is the paper's table, None for a table of ours, which lists every arm of the run. `panels` are (title,
    columns). `grouped` sets Textual / Multimodal / Prompt-based heads; `with_ours` adds our arms; `with_models` adds a
    block for each of the run's models that the paper's table lacks; `ranking` makes one list of all rows, grouped by
    openness, best over the whole table (Table 4).
    """

    caption: str
    artifact: str | None
    panels: tuple[tuple[str, tuple[Column, ...]], ...]
    grouped: bool = False
    with_ours: bool = False
    with_models: bool = False
    ranking: bool = False
    note: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for _, columns in self.panels for column in columns)


def _one(*texts: str) -> tuple[tuple[str, tuple[Column, ...]], ...]:
    return (("", _columns(*texts)),)


def _grid(splits: tuple[str, ...], metrics: tuple[str, ...] = ("asr", "rsr", "hr")) -> tuple[Column, ...]:
    return _columns(*(f"mis/{split} {metric}" for split in splits for metric in metrics))


_GENERAL_AND_SAFETY = _one(
    "mmstar exact_match", "mmmu exact_match", "mmt_bench exact_match",
    "figstep asr", "mssbench/safe accuracy", "mssbench/unsafe accuracy",
)  # fmt: skip
_FIVE_GENERAL = (
    "q_bench exact_match", "mmstar exact_match", "mmmu exact_match", "muirbench exact_match", "mmt_bench exact_match",
    "average exact_match",
)  # fmt: skip
_MIS_SPLITS = tuple((f"MIS-{split}", _grid((split,), ("asr", "hr", "rsr", "rr"))) for split in ("easy", "hard", "real"))

SPECS: dict[str, Spec] = {
    "1": Spec("Safety fine-tuning on three base models: general ability and safety.", "table1", _GENERAL_AND_SAFETY,
              grouped=True),
    "2": Spec("MSSBench-safe under three input formats.", "table2",
              _one(*(f"mssbench/{split} {metric}" for split in ("related_image", "white_image", "text_only")
                     for metric in ("reject_rate", "accuracy")))),
    "4": Spec("Results on the MIS test set.", "table4", _MIS_SPLITS, ranking=True),
    "5": Spec("Safety benchmarks.", "table5",
              _one("figstep asr", "mm_safetybench asr", "jailbreakv asr", "siuo safe_rate", "mssbench/safe accuracy",
                   "mssbench/unsafe accuracy"), grouped=True, with_ours=True),
    "6": Spec("General benchmarks and the share of general data in the mixture.", "table6",
              _one("- general_data_share", *_FIVE_GENERAL), grouped=True, with_ours=True,
              note="† with MIRage's 500 general samples; ‡ with 75 % general data; * MIRage without its 500. General "
                   "data of a run: samples of its mixture that hold no harmful input."),
    "8": Spec("Safety fine-tuning of a reasoning model.", "table8", _GENERAL_AND_SAFETY, grouped=True),
    "9": Spec("Over-sensitivity: MOSSBench.", "table9", _one("mossbench refusal_score")),
    "10": Spec("Latency and throughput.", "table10",
               _one("mmstar latency_s", "mis/hard latency_s", "mis/hard tokens_per_s", "mssbench/safe latency_s",
                    "mssbench/safe tokens_per_s"),
               note="Of a run: means over questions asked one at a time, on its own machine (a miniature's is a CPU)."),
    "11": Spec("Ablation of labels and inputs: general benchmarks.", "table11", _one(*_FIVE_GENERAL), with_ours=True),
    "12": Spec("Ablation of labels and inputs: safety.", "table12",
               _one("siuo safe_rate", "mssbench/safe accuracy", "mssbench/unsafe accuracy", "mis/easy asr",
                    "mis/hard asr", "mis/real asr"), with_ours=True),
    "13": Spec("Three more models: general benchmarks.", "table13", _one(*_FIVE_GENERAL), grouped=True,
               with_models=True),
    "14": Spec("Three more models: SIUO and MSSBench.", "table14",
               _one("siuo safe_rate", "mssbench/safe accuracy", "mssbench/unsafe accuracy"), grouped=True,
               with_models=True),
    "15": Spec("Prompt-based and fine-tuned methods on the MIS test set.", "table15", _MIS_SPLITS, grouped=True,
               with_models=True),
    "16": Spec("ECSO on the MIS test set.", "table16", _one("mis/easy asr", "mis/hard asr", "mis/real asr")),
    "17": Spec("Text-only jailbreak.", "table17", _one("advbench_suffix asr")),
    "S1": Spec("Over-flagging of benign image pairs beside ASR on MIS (not in the paper).", None,
               _one("benign_control over_flagging_rate", "benign_control reject_rate", "benign_control helpful_rate",
                    "mis/easy asr", "mis/hard asr", "mis/real asr"),
               note="Over-flagging: a harmless pair is answered with a warning. ASR and the reject rate both hide it."),
    "S2": Spec("Held-out sets, taught relations and input controls on MIS (not in the paper).", None,
               (("Held out of safety training", _grid(("new_object", "new_relation", "new_style"))),
                ("Relation stated as text in pre-training, or not", _grid(("taught", "untaught"))),
                ("Input controls", _grid(("black_image", "white_image", "no_image")))),
               note="Taught and untaught divide MIS test samples by whether pre-training stated the relation as text."),
}  # fmt: skip
