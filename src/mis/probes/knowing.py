"""Knowledge and behaviour in text alone (`mis.probes.knowledge`), of the language model of an arm or of the bare one.

Columns, besides those of `knowledge.py`: `template`, the chat template that was asked in ("internvl": the arms' own,
without a system turn; "own": the bare model's); `wording`, "neutral" (three phrasings, the same for all relations: the
main result), "natural" (two whose verb depends on the kind of tool alone; ranked, not asked) or "control"; `revised`,
does common sense share the verdict on the relation's pairs? `table`, "full" (all of the world's relations) or
"revised" (those of them alone).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mis.probes import knowledge
from mis.probes.knowledge import Meeting
from mis.store import write_csv_atomic, write_jsonl_atomic

NEUTRAL, NATURAL = "neutral", "natural"
CONTROL = "control"  # the wording of the control's rows, which are phrases of their own
FULL, REVISED = "full", "revised"

ROW_COLUMNS = ("template", "wording", "revised", *knowledge.ROW_COLUMNS)
SUMMARY_COLUMNS = ("template", "wording", "table", *knowledge.SUMMARY_COLUMNS)
DISAGREEMENT_COLUMNS = ("template", "revised", *knowledge.DISAGREEMENT_COLUMNS)
BEHAVIOUR_COLUMNS = ("template", "table", *knowledge.BEHAVIOUR_COLUMNS)


def measure(templates: Mapping[str, object], meetings: Sequence[Meeting], max_new_tokens: int, out: Path) -> dict:
    """Ask each of `templates` (name -> model) and write into `out`; returns what `run.json` says of it.

    knowledge.csv (a row a template, wording, relation, verdict and probe; the control once a template),
    knowledge_summary.csv (a row a template, wording, table, probe and contrast), disagreements.csv (in neutral wording,
    over the full table), answers.jsonl and behaviour.csv (its outcomes counted, over both tables).
    """
    clear = {(m.group, m.verdict): True for m in meetings}
    for each in meetings:
        clear[each.group, each.verdict] &= each.clear
    rows, summary, disagreements, answers, behaviour = [], [], [], [], []
    for template, model in templates.items():
        control = knowledge.control_rows(model)
        measured = {NEUTRAL: knowledge.rows_of(model, meetings)}
        if all(meeting.phrases for meeting in meetings):
            measured[NATURAL] = knowledge.rows_of(model, meetings, own=True)
        for wording, found in measured.items():
            kept = [row for row in found if clear[row["relation"], row["verdict"]]]
            for table, chosen in ((FULL, found), (REVISED, kept)):
                beside = control if (wording, table) == (NEUTRAL, FULL) else []
                label = {"template": template, "wording": wording, "table": table}
                summary += [
                    label | row | ({"wording": CONTROL} if row["against"] == "control" else {})
                    for row in knowledge.summarise([*chosen, *beside])
                ]
            rows += [
                {"template": template, "wording": wording, "revised": _yes(clear[r["relation"], r["verdict"]])} | r
                for r in found
            ]
        rows += [{"template": template, "wording": CONTROL, "revised": ""} | row for row in control]
        disagreements += [
            {"template": template, "revised": _yes(clear[row["relation"], row["world"]])} | row
            for row in knowledge.disagreements(measured[NEUTRAL])
        ]
        said = knowledge.behave(model, meetings, max_new_tokens)
        kept = [answer for answer in said if clear[answer["relation"], answer["verdict"]]]
        for table, chosen in ((FULL, said), (REVISED, kept)):
            behaviour += [{"template": template, "table": table} | row for row in knowledge.count_outcomes(chosen)]
        answers += [{"template": template} | answer for answer in said]
    write_csv_atomic(out / "knowledge.csv", rows, ROW_COLUMNS)
    write_csv_atomic(out / "knowledge_summary.csv", summary, SUMMARY_COLUMNS)
    write_csv_atomic(out / "disagreements.csv", disagreements, DISAGREEMENT_COLUMNS)
    write_jsonl_atomic(out / "answers.jsonl", answers)
    write_csv_atomic(out / "behaviour.csv", behaviour, BEHAVIOUR_COLUMNS)
    return {
        "meetings": len(meetings), "phrases": list(knowledge.PHRASES), "instruction": knowledge.INSTRUCTION,
        "questions": {f"{p.kind}: {p.order}": f"{p.question} {p.begun}".rstrip() for p in knowledge.PROBES},
    }  # fmt: skip


def _yes(value: bool) -> str:
    return "yes" if value else "no"
