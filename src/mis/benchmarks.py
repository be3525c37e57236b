"""The benchmarks, declared as data: what is loaded, how it is judged, which metric goes into the tables.

To add a benchmark: write its loader in `sources/`, add a line here, name it in a suite of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """One column of a table.

    `source` is the folder under the data root and the loader's name in `sources.LOADERS`. `task` says what a judge
    asks: "hazard" (is the answer unsafe, and with what perception?), "benign" (is a harmless input helped, flagged,
    refused?) or "choice" (exact match). `metrics` are (metric, direction) pairs as in the paper's tables.

    Who judges it at the paper's scale: `judge` is a kind of judge, "rubric" (a strong model fills in the form `rubric`
    of judges/rubrics/), "guard" (LlamaGuard, with the chat template `rubric`) or "refusal" (phrases). docs/judges.md
    says why. The miniature's oracle judges all of them.
    """

    name: str
    split: str
    source: str
    task: str
    metrics: tuple[tuple[str, str], ...]
    judge: str = "rubric"
    rubric: str = "mis"

    @property
    def id(self) -> str:
        return f"{self.name}/{self.split}" if self.split else self.name


MIS = (("asr", "lower"), ("rsr", "higher"), ("rr", "higher"), ("hr", "lower"))
ASR = (("asr", "lower"),)
ACCURACY = (("accuracy", "higher"),)
INPUT_FORMAT = (("reject_rate", "lower"), ("accuracy", "higher"))
EXACT_MATCH = (("exact_match", "higher"),)
BENIGN = (("over_flagging_rate", "lower"), ("reject_rate", "lower"), ("helpful_rate", "higher"))

GUARD, JAILBREAKV = ("guard", "llama_guard"), ("guard", "jailbreakv")
SITUATION = ("rubric", "mssbench")

BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("mis", "easy", "mis", "hazard", MIS),
    Benchmark("mis", "hard", "mis", "hazard", MIS),
    Benchmark("mis", "real", "mis", "hazard", MIS),
    Benchmark("figstep", "", "figstep", "hazard", ASR, *GUARD),
    Benchmark("mm_safetybench", "", "mm_safetybench", "hazard", ASR, *GUARD),
    Benchmark("jailbreakv", "", "jailbreakv", "hazard", ASR, *JAILBREAKV),
    Benchmark("vlsbench", "", "vlsbench", "hazard", ASR),
    Benchmark("siuo", "", "siuo", "hazard", (("safe_rate", "higher"),), "rubric", "siuo"),
    Benchmark("mssbench", "safe", "mssbench", "benign", ACCURACY, *SITUATION),
    Benchmark("mssbench", "unsafe", "mssbench", "hazard", ACCURACY, *SITUATION),
    # Table 2: the safe half once more, with the picture, with a white picture in its place, and without any.
    Benchmark("mssbench", "related_image", "mssbench", "benign", INPUT_FORMAT, *SITUATION),
    Benchmark("mssbench", "white_image", "mssbench", "benign", INPUT_FORMAT, *SITUATION),
    Benchmark("mssbench", "text_only", "mssbench", "benign", INPUT_FORMAT, *SITUATION),
    Benchmark("mossbench", "", "mossbench", "benign", (("refusal_score", "lower"),), "rubric", "mossbench"),
    Benchmark("advbench_suffix", "", "advbench", "hazard", ASR, "refusal", ""),
    Benchmark("q_bench", "", "q_bench", "choice", EXACT_MATCH),
    Benchmark("mmstar", "", "mmstar", "choice", EXACT_MATCH),
    Benchmark("mmmu", "", "mmmu", "choice", EXACT_MATCH),
    Benchmark("muirbench", "", "muirbench", "choice", EXACT_MATCH),
    Benchmark("mmt_bench", "", "mmt_bench", "choice", EXACT_MATCH),
    # Ours. The paper trains and tests on hazardous pairs only; this asks what happens to harmless ones.
    Benchmark("benign_control", "", "benign_control", "benign", BENIGN, "rubric", "help"),
    # Held-out MIS sets and input controls, in the layout of MIS.
    Benchmark("mis", "new_object", "mis_held_out", "hazard", MIS),
    Benchmark("mis", "new_relation", "mis_held_out", "hazard", MIS),
    Benchmark("mis", "new_style", "mis_held_out", "hazard", MIS),
    Benchmark("mis", "black_image", "mis", "hazard", MIS),
    Benchmark("mis", "white_image", "mis", "hazard", MIS),
    Benchmark("mis", "no_image", "mis", "hazard", MIS),
)
BY_ID = {benchmark.id: benchmark for benchmark in BENCHMARKS}
GENERAL = ("q_bench", "mmstar", "mmmu", "muirbench", "mmt_bench")
