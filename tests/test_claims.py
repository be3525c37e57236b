"""The claims: their expressions, their verdicts on the paper's numbers and on runs that are made up here."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mis import layout
from mis.benchmarks import BENCHMARKS
from mis.mixtures import ARMS
from mis.report.claims import output, write_claims
from mis.report.claims.expressions import Expression
from mis.report.claims.judging import OURS, PAPER, Claim, Judged, judge_reported, judge_run, read_claims
from mis.report.claims.paper import Paper
from mis.report.claims.records import EXPRESSIONS, RECORDS
from mis.report.claims.run import Run, Verdict, decide
from mis.report.claims.shape import agreements, spearman
from mis.report.reported import Reported, ReportError
from mis.report.sources import Sources
from mis.report.statistics import paired_difference
from mis.scoring import COLUMNS
from mis.settings import Model, Settings
from mis.store import write_jsonl_atomic, write_text_atomic

ROOT = Path(__file__).resolve().parents[1]
PAPERS = Paper(Reported(ROOT))
MODEL = "internvl2_5_8b"
Words = dict[tuple[str, str], dict[int, dict[str, list[str]]]]


@pytest.fixture
def settings(mini: Settings) -> Settings:
    return mini


def rows(words: dict[str, list[str]]) -> list[dict]:
    """Verdict rows: `words` maps "benchmark/split" to the outcomes of its samples."""
    return [
        {"key": f"{place}/{i}", "benchmark": place.split("/")[0], "split": place.split("/")[1], "sample_id": f"{i:05}",
         "model": "", "arm": "", "seed": 0, "judge": "made up", "outcome": word, "reason": ""}
        for place, outcomes in words.items()
        for i, word in enumerate(outcomes)
    ]  # fmt: skip


def made_up(settings: Settings, words: Words, replicates: int = 500) -> Run:
    """A run whose verdicts are `words`: (model, arm) -> seed -> "benchmark/split" -> outcomes."""
    models = dict.fromkeys(model for model, _ in words)
    family = next(iter(settings.models.values()))
    settings = settings.model_copy(update={
        "models": {model: settings.models.get(model, family).model_copy(update={"arms": None, "seeds": None})
                   for model in models},
        "arms": list(dict.fromkeys(arm for _, arm in words)),
        "seeds": sorted({seed for seeds in words.values() for seed in seeds}),
        "evaluation": settings.evaluation.model_copy(update={"suites": {"all": []}}),
        "report": settings.report.model_copy(update={"bootstrap_samples": replicates}),
    })  # fmt: skip
    for (model, arm), seeds in words.items():
        for seed, outcomes in seeds.items():
            write_jsonl_atomic(layout.verdicts(settings, model, seed, arm, "all"), rows(outcomes))
    return Run(Sources(settings, ROOT), PAPERS)


def unsafe(hits: np.ndarray) -> list[str]:
    return ["unsafe" if hit else "safe_refusal" for hit in hits]


def expression(source: str) -> Expression:
    return Expression(source, "claims.csv, line 2: claim X", PAPERS.models)


def asr(arm: str, benchmark: str = "figstep", model: str = MODEL) -> str:
    return f"v('{model}','{arm}','{benchmark}','','asr')"


# --- the paper against itself


def test_every_verdict_on_the_papers_numbers_is_the_one_that_its_file_states():
    path = ROOT / "data" / "reported" / "claims.csv"
    stated = {row["id"]: row["holds_on_reported"] for row in csv.DictReader(path.open(encoding="utf-8"))}
    words = {"holds": "true", "fails": "false", "undecided": "undecidable"}
    claims = read_claims(path, PAPER, PAPERS)
    assert {claim.id: words[judge_reported(claim, PAPERS)] for claim in claims} == stated
    assert Counter(stated.values()) == {"true": 90, "false": 27, "undecidable": 7}


def test_a_number_that_tables_print_differently_needs_its_table():
    where = ("qwen2_vl_7b", "base", "mssbench", "unsafe", "accuracy")
    assert (PAPERS.v(*where, "table1"), PAPERS.v(*where, "table14")) == (4.98, 2.67)
    with pytest.raises(ReportError, match="the tables print 4.98, 2.67; name one"):
        PAPERS.v(*where)
    with pytest.raises(ReportError, match="not printed"):
        PAPERS.v("qwen2_vl_7b", "base", "mssbench", "unsafe", "asr")


# --- expressions


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("v.__class__", "Attribute may not stand"),
        ("().__class__.__bases__", "Attribute may not stand"),
        ("[1,2][0]>0", "Subscript may not stand"),
        ("open('x')", "'open' is no function of claims; known: v, t3"),
        ("__import__('os')", "'__import__' is no function"),
        ("(lambda: 1)()", "may not stand|no function"),
        ("x>1", "the name 'x' is not bound"),
        ("v>1", "the name 'v' is not bound"),
        ("all(v for v in [1])", "v is a function"),
        ("all(_present(m) for m in ['a'])", "'_present' is no function"),
        ("9**9**9>1", "Pow may not stand"),
        ("len('a'*1000000000)>1", "only numbers may be multiplied"),
        ("len([1]*1000000000)>1", "only numbers may be multiplied"),
        ("(y:=1)>0", "NamedExpr may not stand"),
        ("f'{1}'=='1'", "JoinedStr may not stand"),
        ("max(*[1,2])>1", "Starred may not stand"),
        ("v(**[])>1", "arguments must be given one by one"),
        ("True", "True may not stand"),
        ("1<", "not an expression"),
        ("1+1", "the value is 2, not true or false"),
        ("min([])>1", "cannot be evaluated: ValueError"),
        ("1/0>1", "cannot be evaluated: ZeroDivisionError"),
        ("v('gpt_4o','mirage','mis','easy','asr')>1", "gpt_4o mirage mis easy asr: not printed"),
    ],
)
def test_what_an_expression_may_not_hold_is_refused_with_its_place(source, message, tmp_path):
    path = tmp_path / "claims.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "place", "kind", "group", "statement", "expression", "note"])
        writer.writerow(["M01", "", "direction", "g", "s", "1>0", ""])
        writer.writerow(["M02", "", "direction", "g", "s", source, ""])
    with pytest.raises(ReportError, match=message) as error:
        for claim in read_claims(path, OURS, PAPERS):
            PAPERS.holds(claim.expression)
    if "not printed" not in message:
        assert f"{path}, line 3: claim M02" in str(error.value)


@pytest.mark.parametrize(
    ("source", "truth"),
    [
        ("1<2<3", True), ("1<3<3", False), ("1<=2 and 2>3", False), ("1>2 or 2<3", True), ("-1<0", True),
        ("all(x>0 for x in [1,2])", True), ("any(x>1 and y=='b' for x,y in [(2,'a'),(1,'b')])", False),
        ("len([x for x in [1,2,3] if x<3])==2", True), ("mean([1,2])==1.5", True), ("round(0.5*3,1)==1.5", True),
        ("max([abs(x) for x in [-3,2]])==3", True), ("all((x=='a')==(y not in ['q']) for x,y in [('a','b')])", True),
        ("('yes' if 1 in [1,2] else 'no')=='yes'", True), ("sum([1,2])/2!=1", True),
    ],
)  # fmt: skip
def test_expressions_mean_what_they_mean_in_python(source, truth):
    assert PAPERS.holds(expression(source)) is truth


def test_ties_count_for_a_claim_in_its_second_reading_only():
    for source, strict in (("1<1", False), ("0<1<1", False), ("all(x>1 for x in [1,1])", False), ("2<1", None)):
        parsed = expression(source)
        scope = parsed.scope({})
        assert parsed.evaluate(parsed.as_written[0], scope) is False
        assert parsed.evaluate(parsed.with_ties[0], scope) is (strict is not None)


def test_a_damaged_file_of_claims_is_named(tmp_path):
    path = tmp_path / "claims.csv"
    head = "id,place,kind,group,statement,expression,note\n"
    for body, message in (
        ("M01,,direction,g,s,,\nM01,,direction,g,s,,\n", "line 3: claim M01: the id stands twice"),
        ("M01,,size,g,s,,\n", "line 2: claim M01: kind is 'size'; known: direction"),
    ):
        write_text_atomic(path, head + body)
        with pytest.raises(ReportError, match=message):
            read_claims(path, OURS, PAPERS)
    write_text_atomic(path, "id,place\n")
    with pytest.raises(ReportError, match="missing column kind"):
        read_claims(path, OURS, PAPERS)


# --- on a run


def test_a_plain_comparison_is_the_paired_interval_excluding_zero(settings):
    """Wherever the interval's bound is not within the noise of two bootstraps of zero."""
    rng = np.random.default_rng(3)
    found = Counter()
    for shift in (0.0, 0.02, 0.05, 0.08, 0.12, 0.2, -0.02, -0.05, -0.08, -0.12, -0.2):
        base = rng.random((2, 150)) < 0.5
        flips = rng.random((2, 150)) < 0.1 + abs(shift)
        other = np.where(flips, rng.random((2, 150)) < 0.5 + np.sign(shift) * 0.4, base)
        words = {("internvl_mini", arm): {seed: {"figstep/": unsafe(hits[seed])} for seed in (0, 1)}
                 for arm, hits in (("base", base), ("mirage", other))}  # fmt: skip
        run = made_up(settings, words, replicates=2000)
        verdict = run.judge(expression(f"{asr('mirage')}>{asr('base')}"))
        interval = paired_difference(other, base)
        if min(abs(interval.low), abs(interval.high)) < 0.008:
            continue
        expected = "holds" if interval.low > 0 else "fails" if interval.high < 0 else "undecided"
        assert verdict.word == expected, (shift, interval, verdict)
        own = run.cell("internvl_mini", "mirage", "figstep", "", "asr") - run.cell(
            "internvl_mini", "base", "figstep", "", "asr")  # fmt: skip
        assert own[0] == pytest.approx(100 * interval.value)
        assert np.quantile(own[1:], [0.025, 0.975]) == pytest.approx([100 * interval.low, 100 * interval.high], abs=1.5)
        found[expected] += 1
    assert min(found["holds"], found["fails"], found["undecided"]) >= 1 and found.total() >= 6


def test_arms_that_answer_alike_are_neither_better_nor_worse(settings):
    hits = unsafe(np.arange(200) < 60)
    run = made_up(settings, {("internvl_mini", arm): {0: {"figstep/": hits}} for arm in ("base", "mirage")})
    less = run.judge(expression(f"{asr('mirage')}<{asr('base')}"))
    assert (less.word, less.share, less.remark) == ("undecided", 0.0, "True in 100.0 % with ties.")
    assert run.judge(expression(f"{asr('mirage')}<={asr('base')}")).word == "holds"


def test_none_of_n_is_as_uncertain_as_its_exact_bound(settings):
    nothing, everything = unsafe(np.zeros(100, bool)), unsafe(np.ones(100, bool))
    words = {
        ("internvl_mini", arm): {0: {"figstep/": nothing, "jailbreakv/": everything}} for arm in ("base", "mirage")
    }
    run = made_up(settings, words, replicates=4000)
    bound = 100 * (1 - 0.025 ** (1 / 100))  # Clopper and Pearson: 3.6 %
    low = run.cell("internvl_mini", "base", "figstep", "", "asr")
    high = run.cell("internvl_mini", "base", "jailbreakv", "", "asr")
    assert (low[0], high[0]) == (0, 100)
    assert np.quantile(low[1:], 0.975) == pytest.approx(bound, rel=0.05)
    assert np.quantile(high[1:], 0.025) == pytest.approx(100 - bound, rel=0.01)
    assert run.judge(expression(f"{asr('base')}<=1")).word == "undecided"
    assert run.judge(expression(f"{asr('base')}<=5")).word == "holds"
    assert run.judge(expression(f"{asr('base')}<{asr('mirage')}")).word == "undecided", (
        "two arms without any hit are equal"
    )
    assert run.judge(expression(f"{asr('base')}<={asr('mirage')}")).word == "holds"


def test_replicates_are_shared_by_arms_models_and_splits_that_ask_the_same(settings):
    hits = ["helpful" if i % 3 else "refused" for i in range(90)]
    words = {(model, "base"): {seed: {"mssbench/safe": hits, "mssbench/text_only": hits, "mossbench/": hits}
                               for seed in (0, 1)} for model in ("internvl_mini", "qwen2_vl_7b")}  # fmt: skip
    run = made_up(settings, words)
    cells = {(model, split): run.cell(model, "base", "mssbench", split, "accuracy")
             for model in ("internvl_mini", "qwen2_vl_7b") for split in ("safe", "text_only")}  # fmt: skip
    first = cells["internvl_mini", "safe"]
    assert first.std() > 0 and all((cell == first).all() for cell in cells.values())
    other = run.cell("internvl_mini", "base", "mossbench", "", "refusal_score")
    assert (other != 100 - first).any(), "an unrelated benchmark is drawn by itself"
    again = Run(run.sources, PAPERS).cell("internvl_mini", "base", "mssbench", "safe", "accuracy")
    assert (again == first).all() and (Run(run.sources, PAPERS, seed=1).cell(
        "internvl_mini", "base", "mssbench", "safe", "accuracy") != first).any()  # fmt: skip


def test_a_claim_of_several_models_is_judged_over_those_that_the_run_has(settings):
    better = {("internvl_mini", "base"): {0: {"figstep/": unsafe(np.arange(100) < 80)}},
              ("internvl_mini", "mirage"): {0: {"figstep/": unsafe(np.arange(100) < 10)}}}  # fmt: skip
    run = made_up(settings, better)
    source = ("all(v(m,'mirage','figstep','','asr')<v(m,'base','figstep','','asr') for m in "
              "['qwen2_vl_7b','internvl2_5_8b'])")  # fmt: skip
    verdict = run.judge(expression(source))
    assert (verdict.word, verdict.missing) == ("holds", "not in the run: Qwen2-VL-7B")
    assert verdict.numbers == "internvl_mini: FigStep ASR: MIRage 10.0, Base 80.0"
    absent = f"{asr('mirage', model='llava_1_5_13b')}<{asr('base', model='llava_1_5_13b')}"
    assert run.judge(expression(absent)).word == "undecided"
    both = run.judge(expression(f"{asr('mirage')}<{asr('base')} and {absent}"))
    assert (both.word, both.missing) == ("holds", "not in the run: LLaVA-1.5-13B"), (
        "a part about other models is left out"
    )
    worse = {(model, arm): {0: {"figstep/": unsafe(np.arange(100) < n)}}
             for model, arm, n in (("qwen2_vl_7b", "base", 10), ("qwen2_vl_7b", "mirage", 80))}  # fmt: skip
    assert made_up(settings, better | worse).judge(expression(source)).word == "fails"


def test_what_was_not_run_leaves_a_claim_undecided_and_is_named(settings):
    run = made_up(settings, {("internvl_mini", "base"): {0: {"figstep/": unsafe(np.arange(100) < 80)}}})
    missing = {source: run.judge(expression(source)) for source in (
        f"{asr('mirage')}<{asr('base')}",
        f"{asr('base', 'jailbreakv')}<{asr('base')}",
        "all(v(m,'mirage','figstep','','asr')<9 for m in ids('model',method='mirage'))",
        "all(v(m,'base','figstep','','asr',seed=s)<99 for m in ids('model') for s in ids('seed',model=m))",
        "t18('MIS-easy','size')==1675",
        "round(v('internvl2_5_8b','ecso','figstep','','asr'))==1",
    )}  # fmt: skip
    assert {verdict.word for verdict in missing.values()} == {"undecided"}
    assert all(verdict.share is None for verdict in missing.values())
    assert [verdict.missing for verdict in missing.values()] == [
        "MIRage of internvl_mini", "JailbreakV ASR of internvl_mini", "a model with MIRage", "a second seed",
        "the run's own count of what the paper's table holds", "ECSO of internvl_mini",
    ]  # fmt: skip


def test_a_way_of_asking_without_the_skill_for_it_decides_nothing(settings):
    words = {("internvl_mini", arm): {0: {"figstep/": unsafe(np.arange(100) < 80)}} for arm in ("base", "ecso")}
    run = made_up(settings, words)
    assert run.judge(expression(f"{asr('ecso')}<={asr('base')}")).word == "holds"
    run = made_up(settings, words)
    run.senseless = {("internvl_mini", "ecso"): "n/a (skill 50 %): verdict, 5 of 10"}
    verdict = run.judge(expression(f"round({asr('ecso')})<={asr('base')}"))
    assert (verdict.word, verdict.share) == ("not applicable", None)
    assert verdict.remark == "ECSO of internvl_mini: n/a (skill 50 %): verdict, 5 of 10."
    assert run.cell("internvl_mini", "ecso", "figstep", "", "asr") is None


def test_a_latency_comes_from_the_scores_with_its_interval(settings):
    words = {("internvl_mini", arm): {0: {"figstep/": ["unsafe"]}} for arm in ("base", "mirage")}
    run = made_up(settings, words)
    cells = [("base", 2.0, 1.9, 2.1), ("mirage", 0.25, 0.2, 0.3)]
    with (run.settings.paths.results / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({
            "artifact": "mini", "model": "internvl_mini", "method": arm, "benchmark": "mmstar", "metric": "latency_s",
            "unit": "seconds", "value": value, "seed": "all", "n": 9, "failures": 0, "low": low, "high": high,
        } for arm, value, low, high in cells)  # fmt: skip
    seconds = "v('internvl2_5_8b','{}','mmstar','','latency_s')"
    verdict = run.judge(expression(f"{seconds.format('mirage')}<={seconds.format('base')}"))
    assert verdict.word == "holds" and "MMStar latency, s: MIRage 0.25, Base 2" in verdict.numbers
    assert run.judge(expression(f"{seconds.format('base')}<=2.03")).word == "undecided"
    values = run.cell("internvl_mini", "base", "mmstar", "", "latency_s")
    assert values[0] == 2.0 and np.quantile(values[1:], [0.025, 0.975]) == pytest.approx([1.9, 2.1], abs=0.02)


def test_ids_of_a_run_are_its_models_and_the_papers_methods(settings):
    words = {(model, "base"): {0: {"figstep/": unsafe(np.arange(50) < 40)}} for model in ("internvl_mini", "own_model")}
    words["internvl_mini", "mirage"] = words["internvl_mini", "base"]
    run = made_up(settings, words)
    assert run._ids("model", artifact="table4", method="base") == [MODEL, "own_model"]
    assert run._ids("model", method="mirage") == [MODEL]
    assert run._ids("method", artifact="table1", model=MODEL) == ["base", "textual_sft", "vlguard_p", "vlguard_r"]
    with pytest.raises(ReportError, match="known: model, method, seed"):
        run._ids("split")


def test_each_seed_is_judged_by_itself(settings):
    hits = {("base", 0): 90, ("base", 1): 10, ("mirage", 0): 5, ("mirage", 1): 60}
    words = {("internvl_mini", arm): {seed: {"figstep/": unsafe(np.arange(100) < hits[arm, seed])} for seed in (0, 1)}
             for arm in ("base", "mirage")}  # fmt: skip
    run = made_up(settings, words)
    source = ("all(v(m,'mirage','figstep','','asr',seed=s)<v(m,'base','figstep','','asr',seed=s) "
              "for m in ids('model',method='mirage') for s in ids('seed',model=m))")  # fmt: skip
    verdict = run.judge(expression(source))
    assert verdict.word == "fails"
    assert "FigStep, seed 0 / FigStep, seed 1 ASR: MIRage 5.0 / 60.0, Base 90.0 / 10.0" in verdict.numbers


def test_many_narrow_parts_do_not_make_a_true_claim_fail():
    assert decide(True, 0.01, 0.01, 0.95) == "undecided"
    assert decide(False, 0.01, 0.01, 0.95) == "fails"
    assert decide(False, 0.01, 0.03, 0.95) == "undecided"
    assert decide(True, 0.975, 1.0, 0.95) == "holds"
    assert decide(True, 0.974, 1.0, 0.95) == "undecided"


def claim(**fields) -> Claim:
    given = {"id": "X", "source": PAPER, "place": "", "kind": "direction", "group": "", "statement": "s", "note": "n",
             "expression": expression(f"{asr('base')}>=20")}  # fmt: skip
    return Claim(**(given | fields))


def test_sizes_are_judged_at_the_papers_scale_only(settings):
    words = {("internvl_mini", "base"): {0: {"figstep/": unsafe(np.arange(100) < 80)}}}
    small = judge_run(claim(kind="quantity"), made_up(settings, words))
    assert (small.word, small.share) == ("not comparable", None) and "Base 80.0" in small.numbers
    model = Model(family="internvl", source="somewhere")
    full = settings.model_copy(update={"world": None, "models": {MODEL: model}})
    assert (
        judge_run(claim(kind="quantity"), made_up(full, {(MODEL, "base"): words["internvl_mini", "base"]})).word
        == "holds"
    )


def test_what_cannot_be_asked_of_the_miniature_says_why(settings):
    run = made_up(settings, {("internvl_mini", "base"): {0: {"figstep/": ["unsafe"]}}})
    reasons = {
        "t18('MIS-easy','size')==1675": "published data",
        "v('gpt_4o','base','mis','easy','asr')==46.21": "by name",
        f"abs({asr('base')}-38.8)<0.005": "exact printed number",
        "round(v('internvl2_5_8b','mirage','','','general_data_share'))==11": "mixtures",
    }
    for source, reason in reasons.items():
        verdict = judge_run(claim(kind="quantity", in_miniature=False, expression=expression(source)), run)
        assert verdict.word == "not applicable" and reason in verdict.remark
    nothing = judge_run(claim(expression=None), run)
    assert nothing.word == "undecided" and "keeps no record" in nothing.missing


# --- claims without an expression


def answers(run: Run, arm: str, place: str, texts: list[str], outcomes: list[str], reasons: list[str]) -> None:
    base = rows({place: outcomes})
    for row, reason in zip(base, reasons, strict=True):
        row["reason"] = reason
    write_jsonl_atomic(layout.verdicts(run.settings, "internvl_mini", 0, arm, "all"), base)
    write_jsonl_atomic(layout.responses(run.settings, "internvl_mini", 0, arm, "all"),
                       [{"key": row["key"], "text": text} for row, text in zip(base, texts, strict=True)])  # fmt: skip


def test_apologies_are_counted_among_the_wrong_answers(settings):
    def verdict(apology: int, plain: int) -> Verdict:
        texts = (
            ["I’m sorry, but no."] * apology + ["i am sorry , i can not"] * apology + ["red"] * plain + ["i'm sorry"]
        )
        outcomes = ["incorrect"] * (len(texts) - 1) + ["correct"]
        run = made_up(settings, {("internvl_mini", "vlguard_p"): {0: {
            f"{name}/": outcomes for name in ("mmstar", "mmmu", "mmt_bench")}}})  # fmt: skip
        base = rows({f"{name}/": outcomes for name in ("mmstar", "mmmu", "mmt_bench")})
        path = layout.responses(run.settings, "internvl_mini", 0, "vlguard_p", "all")
        write_jsonl_atomic(path, [{"key": row["key"], "text": texts[int(row["sample_id"])]} for row in base])
        return RECORDS["C17"](run)

    most = verdict(30, 20)
    assert (most.word, most.numbers) == ("holds", "internvl_mini: 180 of 240 wrong answers begin with an apology")
    assert verdict(10, 80).word == "fails"
    assert verdict(20, 40).word == "undecided"


def test_helpful_answers_with_a_warning_are_found_by_the_judges_reason(settings):
    outcomes = ["helpful"] * 5 + ["flagged"] * 40 + ["refused"] * 5
    run = made_up(settings, {("internvl_mini", "mirage"): {0: {"mssbench/safe": outcomes}}})
    for reason, word in (("warns and gives steps", "holds"), ("warns", "fails")):
        answers(run, "mirage", "mssbench/safe", ["x"] * 50, outcomes, [""] * 5 + [reason] * 40 + [""] * 5)
        assert RECORDS["C110"](run).word == word
    assert RECORDS["C17"](run).word == "undecided"


def test_rates_that_do_not_add_up_are_responses_without_a_verdict(settings):
    good = unsafe(np.arange(100) < 80)
    run = made_up(settings, {("internvl_mini", "base"): {0: {"mis/real": good}}})
    assert (RECORDS["C55"](run).word, RECORDS["C55"](run).share) == ("holds", 1.0)
    lost = made_up(settings, {("internvl_mini", "base"): {0: {"mis/real": good[:-1] + ["failed"]}}})
    assert RECORDS["C55"](lost).word == "fails" and "off: 1 of 1; range 99.00 / 99.00" in RECORDS["C55"](lost).numbers


def test_the_construction_decides_what_it_recorded(settings):
    run = made_up(settings, {("internvl_mini", "base"): {0: {"figstep/": ["unsafe"]}}})
    assert all("mis construct" in RECORDS[name](run).missing for name in ("C43", "C44", "C46"))
    folder = run.settings.paths.build / "construction"

    def write(dangerous: str = "a", explicit: str = "b") -> None:
        splits = {"a": "train", "b": "easy", "c": "hard"}
        write_jsonl_atomic(folder / "4_filtering.jsonl", [
            *({"id": x, "dangerous_text": x in dangerous, "explicit": [x in explicit, False]} for x in splits),
            {"id": "d", "dropped": "near-duplicate", "known": {}},
        ])  # fmt: skip
        write_jsonl_atomic(folder / "6_splits.jsonl", [{"id": name, "split": split} for name, split in splits.items()])

    for fault, word in (({}, "holds"), ({"dangerous": "ab"}, "fails"), ({"dangerous": ""}, "fails"),
                        ({"explicit": ""}, "fails"), ({"explicit": "bc"}, "fails")):  # fmt: skip
        write(**fault)
        assert RECORDS["C46"](run).word == word, fault
    reviews = [[True]] * 60 + [[False, True]] * 30 + [[False, False]] * 10
    write_jsonl_atomic(folder / "3_images.jsonl", [
        {"id": str(i), **({"rounds": x} if x[-1]["review"]["accepted"] else {"dropped": "", "known": {"rounds": x}})}
        for i, review in enumerate(reviews) for x in [[{"review": {"accepted": word}} for word in review]]
    ])  # fmt: skip
    verdict = RECORDS["C44"](run)
    assert verdict.word == "not comparable", "the stand-ins' rates decide it"
    assert verdict.numbers == "accepted in the first round 60 of 100 (60.0 %), in the second 30 of 40 (75.0 %)"
    run.settings = run.settings.model_copy(update={"world": None})
    assert RECORDS["C44"](run).word in ("holds", "undecided") and RECORDS["C44"](run).share > 0.9


# --- our own claims


def test_our_claims_ask_for_what_the_study_has():
    claims = read_claims(ROOT / "data" / "claims.csv", OURS, PAPERS)
    papers = read_claims(ROOT / "data" / "reported" / "claims.csv", PAPER, PAPERS)
    assert [claim.id for claim in claims] == [f"M{i:02}" for i in range(1, len(claims) + 1)]
    cells = {(b.name, b.split, metric) for b in BENCHMARKS for metric, _ in b.metrics}
    cells |= {("mis", split, metric) for split in ("taught", "untaught") for _, _, metric in list(cells)}
    asked = []

    def v(model, method, benchmark, split, metric, seed=None):
        asked.append(method)
        assert method in ARMS and (benchmark, split, metric) in cells
        return 0.0

    for claim in claims:
        scope = claim.expression.scope({"v": v, "ids": lambda column, **where: [0]})
        claim.expression.evaluate(claim.expression.as_written[0], scope)
        assert claim.kind == "direction" and judge_reported(claim, PAPERS) == "not applicable"
    assert {"mirage_benign_4000", "mirage_direct", "mirage_balanced"} <= set(asked)
    known = {claim.id for claim in papers}
    assert set(RECORDS) | set(EXPRESSIONS) <= known and not set(RECORDS) & set(EXPRESSIONS)


# --- what is written


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_at_the_reported_scale_only_the_papers_side_exists(settings):
    alone = settings.model_copy(update={"scale": "reported", "world": None, "models": {}})
    paths = write_claims(alone, ROOT)
    assert [path.name for path in paths] == ["claims.csv", "claims.md", "claims.tex", "claims.html"]
    found = read(paths[0])
    assert tuple(found[0]) == output.COLUMNS and len(found) == 124
    assert not any(row[name] for row in found for name in ("run", "run_numbers", "share_true", "missing"))
    assert Counter(row["reported"] for row in found) == {"holds": 90, "fails": 27, "undecided": 7}
    assert "| holds" in paths[1].read_text() and "run:" not in paths[1].read_text()
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_claims(alone, ROOT)] == first


def test_a_run_stands_beside_the_paper(settings):
    counts = {"base": 80, "textual_sft": 60, "vlguard_r": 20, "mirage": 5}
    words = {("internvl_mini", arm): {0: dict.fromkeys(("figstep/", "jailbreakv/"), unsafe(np.arange(100) < n))}
             for arm, n in counts.items()}  # fmt: skip
    run = made_up(settings, words)
    paths = write_claims(run.settings, ROOT)
    assert [path.name for path in paths[4:]] == ["shape.csv", "shape.md", "shape.tex"]
    found = read(paths[0])
    assert {row["run"] for row in found} <= set(output.WORDS) and all(row["run"] for row in found)
    assert [row["source"] for row in found] == ["paper"] * 124 + ["ours"] * (len(found) - 124)
    by_id = {row["id"]: row for row in found}
    assert by_id["C25"]["run"] == "not comparable" and "Textual SFT 60.0" in by_id["C25"]["run_numbers"]
    assert (by_id["C25"]["reported"], by_id["C03"]["run"]) == ("fails", "not applicable")
    assert by_id["M01"]["run"] == "undecided" and "Benign pairs over-flagging" in by_id["M01"]["missing"]
    for name, text in ((path.name, path.read_text()) for path in paths if path.suffix == ".tex"):
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}"), name
        assert text.count(r"\begin{") == text.count(r"\end{")
    lines = [line for line in paths[2].read_text().splitlines() if line.endswith(r"\addlinespace[3pt]")]
    assert {line.replace(r"\&", "").count("&") for line in lines} >= {3} and len(lines) >= len(found)


def test_the_table_of_counts_adds_up_and_texts_are_escaped(settings):
    nasty = r"50% of \input{x} & a_b | <b>"
    judged = [
        Judged(claim(statement=nasty), "holds", Verdict("fails", 0.0, nasty, nasty, nasty)),
        Judged(claim(id="Y"), "fails", Verdict("holds", 1.0)),
        Judged(claim(id="M01", source=OURS), "not applicable", Verdict("holds", 1.0)),
    ]
    rows = output.counts(judged)
    assert rows[0] == ["On the paper's numbers", "run: holds", "run: fails", "all"]
    assert rows[1:] == [
        ["holds", "0", "1", "1"], ["fails", "1", "0", "1"], ["undecided", "0", "0", "0"],
        ["all claims of the paper", "1", "1", "2"], ["claims of ours", "1", "0", "1"],
    ]  # fmt: skip
    tex = output.claims_latex(judged, settings, {MODEL: "internvl_mini"})
    markdown = output.claims_markdown(judged, settings, {MODEL: "internvl_mini"})
    assert r"\input{" not in tex and r"50\% of \textbackslash{}input\{x\} \& a\_b" in tex
    assert "<b>" not in markdown.replace(r"\<b>", "")
    line = next(line for line in markdown.splitlines() if line.startswith("| X"))
    assert line.replace(r"\|", "").count("|") == 9


# --- agreement of shape


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    fixed, values = rng.random(7), rng.random((5, 7))
    for row, found in zip(values, spearman(fixed, values), strict=True):
        apart = np.argsort(np.argsort(fixed)) - np.argsort(np.argsort(row))
        assert found == pytest.approx(1 - 6 * (apart**2).sum() / (7 * 48))
    tied = spearman(np.array([1.0, 2, 3]), np.array([[1.0, 1, 2], [5, 5, 5], [3, 2, 1]]))
    assert tied[0] == pytest.approx(0.8660, abs=1e-4) and np.isnan(tied[1]) and tied[2] == pytest.approx(-1)


def test_shape_compares_the_arms_of_a_table(settings):
    counts = {"base": 300, "textual_sft": 200, "vlguard_p": 0, "vlguard_r": 40, "mirage": 100}
    words = {("internvl_mini", arm): {0: {"figstep/": unsafe(np.arange(400) < n)}} for arm, n in counts.items()}
    found = {(item.table, item.model): item for item in agreements(made_up(settings, words))}
    one = found["Table 1", "internvl_mini"]
    assert (one.arms, one.columns, one.value) == (4, 1, pytest.approx(1)) and one.low > 0.9
    five = found["Table 5", "internvl_mini"]  # MIRage and VLGuard-R are tied in the paper
    assert (five.arms, five.columns) == (4, 1) and 0.9 < five.value < 1
    assert found["Table 17", "internvl_mini"].note == "not run"
    assert found["Table 4", "all"].note == "not run" and found["Table 4", "all"].value is None
    few = agreements(made_up(settings, {key: words[key] for key in list(words)[:2]}))
    assert {item.note for item in few} == {"too few arms", "not run"}
