"""Tables 3, 7, 18 and 19, which are no tables of rates: counts, hyper-parameters, and two lists as printed."""

from __future__ import annotations

from collections.abc import Callable

from mis.mixtures import ARMS
from mis.report import names
from mis.report.rendering import Head, Line, Panel, Table, Text, text
from mis.report.reported import ReportError
from mis.report.sources import Sources


def _table3(name: str, sources: Sources) -> Table:
    """Samples of the MIS test set by category; an empty sub-category is the category's total."""
    counts, scale = sources.category_counts, sources.scale
    total = sum(counts.values()) if counts else 0
    parts = ("paper", scale) if counts else ("paper",)
    lines, records = [], []
    for row in sources.reported.small_table("3"):
        category, sub = row["category"], row["sub_category"]
        run = None
        if counts:
            run = sum(n for (c, s), n in counts.items() if c == category and sub in ("", s))
        share = f"{100 * run / total:.2f}" if counts else ""
        printed = (row["samples"], row["ratio_percent"])
        pairs = (printed[0], text(run)), (printed[1], share)
        cells = [Text(cell, bold=not sub) for pair in pairs for cell in pair[: len(parts)]]
        lines.append(Line(f"– {sub}" if sub else category, tuple(cells)))
        records.append({"table": name, "scale": scale, "category": category, "sub_category": sub,
                        "reported_samples": printed[0], "reproduced_samples": text(run),
                        "reported_ratio_percent": printed[1], "reproduced_ratio_percent": share})  # fmt: skip
    known = {(record["category"], record["sub_category"]) for record in records}
    unknown = sorted(set(counts or ()) - known)
    if unknown:
        raise ReportError(f"{sources.settings.paths.data / 'mis'}: {unknown[0]} is no sub-category of Table 3")
    notes = ["Samples of MIS-easy and MIS-hard together; MIS-real repeats some of them with photographs."]
    notes.append(f"{scale}: {total} samples." if counts else "No counts of a run: its MIS data is not there.")
    heads = (Head("Samples", parts), Head("Ratio, %", parts))
    panel = Panel("", "Category", heads, tuple(lines))
    return Table(name, "Statistics of the MIS test set.", scale, (panel,), tuple(notes), (), tuple(records))


_HYPERPARAMETERS = (("general_data_percent", "General data, %"), ("learning_rate", "Learning rate"),
                    ("warmup_ratio", "Warm-up ratio"), ("epochs", "Epochs"))  # fmt: skip


def _configured(sources: Sources, model: str, method: str) -> dict[str, str]:
    """The run's hyper-parameters of an arm as text; empty where the run's `model` has no such arm."""
    settings = sources.settings
    training = settings.training
    if training is None or method not in settings.arms_of(model) or method not in training.arms:
        return {}
    arm, share = training.arms[method], sources.general_data_percent.get(method)
    rate = f"{arm.learning_rate:.0e}" if float(f"{arm.learning_rate:.0e}") == arm.learning_rate else (
        repr(arm.learning_rate))  # fmt: skip
    return {"general_data_percent": "" if share is None else f"{share:.2f}",
            "learning_rate": rate.replace("e-0", "e-"), "warmup_ratio": f"{training.warmup_ratio:g}",
            "epochs": f"{arm.epochs:g}"}  # fmt: skip


def _table7(name: str, sources: Sources) -> Table:
    """Hyper-parameters of the arms; the run's come from its configuration, the shares from its mixtures."""
    scale = sources.scale
    beside = sources.configured_models
    rows = [(row["model"], row["method"], row) for row in sources.reported.small_table("7")]
    printed = {(model, method) for model, method, _ in rows}
    extra = [(model, method, {}) for model, mine in beside.items() for method in sources.settings.arms_of(mine)
             if ARMS[method].trained and (model, method) not in printed]  # fmt: skip
    parts = ("paper", scale) if beside else ("paper",)
    lines, records, last = [], [], None
    order = list(dict.fromkeys(model for model, _, _ in rows + extra))
    for model, method, row in sorted(rows + extra, key=lambda item: order.index(item[0])):
        if model != last:
            lines.append(Line(names.model(model)))
            last = model
        mine = _configured(sources, beside[model], method) if model in beside else {}
        cells = [Text(cell) for key, _ in _HYPERPARAMETERS
                 for cell in (row.get(key, ""), mine.get(key, ""))[: len(parts)]]  # fmt: skip
        lines.append(Line(names.method(method), tuple(cells)))
        records += [{"table": name, "scale": scale, "model": model, "method": method, "hyperparameter": key,
                     "reported": row.get(key, ""), "reproduced": mine.get(key, ""),
                     "run_model": beside.get(model, "") if mine else ""} for key, _ in _HYPERPARAMETERS]  # fmt: skip
    notes = ["† with MIRage's 500 general samples; ‡ with 75 % general data; * MIRage without its 500."]
    notes += [f"{scale}: {run} beside {names.model(model)}." for model, run in beside.items() if run != model]
    notes.append("The paper prints 42.38 % here and 42.8 % in Table 6 for 1,500 of 3,500 samples (42.86 %).")
    heads = tuple(Head(title, parts) for _, title in _HYPERPARAMETERS)
    panel = Panel("", "Method", heads, tuple(lines))
    return Table(name, "Hyper-parameters.", scale, (panel,), tuple(notes), (), tuple(records))


_HEADS = {
    "benchmark": "Benchmark",
    "dataset": "Dataset",
    "size": "Size",
    "venue": "Venue",
    "safe_text": "Safe text",
    "safe_image": "Safe image",
    "multi_image": "Multi-image",
    "n_vlms": "VLMs",
    "cot_label": "CoT label",
}


def _verbatim(caption: str) -> Callable[[str, Sources], Table]:
    def build(name: str, sources: Sources) -> Table:
        rows = sources.reported.small_table(name)
        first, *others = rows[0]
        lines = tuple(Line(row[first], tuple(Text(row[key]) for key in others)) for row in rows)
        panel = Panel("", _HEADS[first], tuple(Head(_HEADS[key]) for key in others), lines)
        records = tuple({"table": name, "scale": sources.scale, **row} for row in rows)
        notes = ("As printed in the paper; nothing here is measured.",)
        return Table(name, caption, sources.scale, (panel,), notes, (), records)

    return build


BUILDERS: dict[str, Callable[[str, Sources], Table]] = {
    "3": _table3,
    "7": _table7,
    "18": _verbatim("Multimodal safety benchmarks compared."),
    "19": _verbatim("Safety training sets compared."),
}
