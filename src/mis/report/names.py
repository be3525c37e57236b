"""How ids are spelt in tables and figures. An id without an entry is shown as it is."""

from __future__ import annotations

from mis.benchmarks import BENCHMARKS

MODELS = {
    "llava_1_5_13b": "LLaVA-1.5-13B",
    "qwen2_vl_7b": "Qwen2-VL-7B",
    "qwen2_vl_72b": "Qwen2-VL-72B",
    "internvl2_5_8b": "InternVL2.5-8B",
    "internvl2_5_78b": "InternVL2.5-78B",
    "internvl2_5_2b": "InternVL2.5-2B",
    "internvl2_5_1b": "InternVL2.5-1B",
    "mantis_siglip": "Mantis-SigLIP",
    "minicpm_v_2_6": "MiniCPM-V-2.6",
    "phi_3_5_vision": "Phi-3.5-Vision",
    "idefics3_8b": "Idefics3-8B",
    "deepseek_vl2": "DeepSeek-VL2",
    "llava_next_interleave": "LLaVA-NeXT-Interleave",
    "llava_ov_7b": "LLaVA-OV-7B",
    "llava_ov_72b_chat": "LLaVA-OV-72B-Chat",
    "gpt_4o": "GPT-4o",
    "gemini_1_5_pro": "Gemini-1.5-Pro",
    "mimo_vl_7b_rl": "MiMo-VL-7B-RL",
}
METHODS = {
    "base": "Base",
    "textual_sft": "Textual SFT",
    "textual_sft_dagger": "Textual SFT†",
    "vlguard": "VLGuard",
    "vlguard_m": "VLGuard-M",
    "vlguard_p": "VLGuard-P",
    "vlguard_p_dagger": "VLGuard-P†",
    "vlguard_r": "VLGuard-R",
    "vlguard_r_dagger": "VLGuard-R†",
    "vlguard_r_ddagger": "VLGuard-R‡",
    "mirage": "MIRage",
    "mirage_star": "MIRage*",
    "mirage_sorry": "MIRage, “I'm sorry”",
    "mirage_text_only": "MIRage, text only",
    "mirage_wo_privacy_selfharm": "MIRage w/o privacy, self-harm",
    "mirage_balanced": "MIRage-balanced",
    "mirage_direct": "MIRage-direct",
    "mirage_benign_250": "MIRage + 250 benign pairs",
    "mirage_benign_500": "MIRage + 500 benign pairs",
    "mirage_benign_1000": "MIRage + 1,000 benign pairs",
    "mirage_benign_4000": "MIRage + 4,000 benign pairs",
    "vanilla_cot": "Vanilla CoT",
    "customized_cot": "Customized CoT",
    "customized_safety_cot": "Customized safety CoT",
    "ecso": "ECSO",
}
BENCHMARK_NAMES = {
    "mis": "MIS",
    "figstep": "FigStep",
    "mm_safetybench": "MM-SafetyBench",
    "jailbreakv": "JailbreakV",
    "vlsbench": "VLSBench",
    "siuo": "SIUO",
    "mssbench": "MSSBench",
    "mossbench": "MOSSBench",
    "advbench_suffix": "AdvBench + suffix",
    "q_bench": "Q-Bench",
    "mmstar": "MMStar",
    "mmmu": "MMMU",
    "muirbench": "MuirBench",
    "mmt_bench": "MMT-Bench",
    "benign_control": "Benign pairs",
    "average": "Average",
}
SPLITS = {
    "related_image": "related image",
    "white_image": "white image",
    "black_image": "black image",
    "text_only": "text only",
    "no_image": "no image",
    "new_object": "new objects",
    "new_relation": "new relations",
    "new_style": "new style",
    "privacy_selfharm": "privacy + self-harm",
}
METRICS = {
    "asr": "ASR",
    "rsr": "RSR",
    "rr": "RR",
    "hr": "HR",
    "accuracy": "acc.",
    "reject_rate": "reject rate",
    "safe_rate": "safe rate",
    "refusal_score": "refusal score",
    "over_flagging_rate": "over-flagging",
    "helpful_rate": "helpful",
    "exact_match": "",
    "general_data_share": "General data, %",
    "latency_s": "latency, s",
    "tokens_per_s": "tokens/s",
}
OUTCOMES = {
    "unsafe": "unsafe",
    "safe_reasoning": "safe with reasoning",
    "safe_refusal": "safe with refusal",
    "hallucination": "hallucination",
    "safe": "safe",
    "helpful": "helpful",
    "flagged": "over-flagged",
    "refused": "refused",
    "wrong": "wrong",
    "correct": "correct",
    "incorrect": "incorrect",
    "failed": "failed",
    "filtered": "filtered",
    "truncated": "cut off",
    "unparsable": "not judged",
    "judge_refused": "judge refused",
}
ARROWS = {"higher": " ↑", "lower": " ↓"}
DIRECTIONS = {metric: direction for benchmark in BENCHMARKS for metric, direction in benchmark.metrics}


def model(name: str) -> str:
    return MODELS.get(name, name)


def method(name: str) -> str:
    return METHODS.get(name, name)


def split(benchmark: str, name: str) -> str:
    """ "MIS-easy", "MSSBench safe": a benchmark with one of its splits."""
    label = BENCHMARK_NAMES.get(benchmark, benchmark)
    if not name:
        return label
    if name in ("easy", "hard", "real"):
        return f"{label}-{name}"
    return f"{label} {SPLITS.get(name, name.removeprefix('category:'))}"


def column(benchmark: str, name: str, metric: str, direction: str = "", leave_out: tuple[str, ...] = ()) -> str:
    """The head of a column: benchmark, split, metric and the arrow; `leave_out` names what a reader knows already."""
    if "split" in leave_out:
        where = ""
    elif "benchmark" in leave_out:
        where = SPLITS.get(name, name).capitalize()
    else:
        where = split(benchmark, name)
    return " ".join(word for word in (where, METRICS.get(metric, metric)) if word) + ARROWS.get(direction, "")
