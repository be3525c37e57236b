"""A review's records, journals, agreement and results; the page itself is in test_review_page."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mis.cli import app
from mis.construction import people as construction_people
from mis.construction.people import People
from mis.construction.records import Candidate, Element, Instruction, Picture
from mis.review.agreement import fleiss_kappa, interval, measure
from mis.review.ledger import History, Ledger, request_of
from mis.review.records import (
    REASONS,
    Decision,
    Judgement,
    Result,
    ReviewError,
    ReviewItem,
    read_decisions,
    read_items,
    read_results,
    write_items,
)
from mis.review.settling import ADJUDICATED, AGREED, DISPUTED, OPEN, Review, adjudication, export, journal
from mis.store import StoreError, read_jsonl, write_jsonl_atomic

VIOLENT = Judgement("accept", "Violent", "hard")
HATE = Judgement("accept", "Hate", "hard")
EASY = Judgement("accept", "Violent", "easy")
RISKLESS = Judgement("reject", reason="riskless pair")
MEANINGLESS = Judgement("reject", reason="meaningless pair")


def make_items(folder: Path, size: int) -> list[ReviewItem]:
    """`size` pairs with pictures of their own, and their items.jsonl."""
    items = []
    for number in range(size):
        images = tuple(folder / "pictures" / f"{number}_{place}.png" for place in (1, 2))
        for place, image in enumerate(images):
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (40 * number % 256, 90 * place, 7)).save(image)
        items.append(ReviewItem(f"p{number}", images, f"what about {number} ?", "Hate", "hard"))
    write_items(folder / "items.jsonl", items)
    return items


@pytest.fixture
def items(tmp_path) -> list[ReviewItem]:
    return make_items(tmp_path, 4)


def decide(folder: Path, item: ReviewItem, **judgements: Judgement) -> None:
    """Each annotator's decision, written to the record in `folder`."""
    for name, judgement in judgements.items():
        ledger = Ledger(journal(folder, name), name)
        ledger.decide(item.id, request_of(item), judgement, (True, True))
        ledger.close()


class TestRecords:
    def test_items_come_back_as_they_were_written(self, tmp_path, items):
        assert read_items(tmp_path / "items.jsonl") == items
        assert read_jsonl(tmp_path / "items.jsonl")[0]["images"] == ["pictures/0_1.png", "pictures/0_2.png"]
        write_items(tmp_path / "elsewhere" / "items.jsonl", items, tmp_path)
        assert read_items(tmp_path / "elsewhere" / "items.jsonl", tmp_path) == items

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"colour": "red"}, "colour: Unexpected"),
            ({"id": ""}, "the id or the question is empty"),
            ({"id": 7}, "id: Input should be a valid string"),
            ({"id": "p0"}, "the id of line 1 once more"),
            ({"images": ["pictures/0_1.png"]}, "images.1: Field required"),
            ({"images": ["pictures/0_1.png", "pictures/9_9.png"]}, "9_9.png: No such file"),
            ({"images": ["pictures/0_1.png", "items.jsonl"]}, "items.jsonl: not a PNG, JPEG or WebP picture"),
            ({"images": ["pictures/0_1.png", "../outside.png"]}, "a picture outside of"),
            ({"images": ["pictures/0_1.png", "/etc/passwd"]}, "a picture outside of"),
            ({"proposed_category": "Weather"}, "proposed_category is not one of , Illegal Activity"),
            ({"proposed_split": "middling"}, "proposed_split: Input should be"),
        ],
    )
    def test_a_fault_is_named_with_file_and_line(self, tmp_path, items, change, message):
        shutil.copy(items[0].images[0], tmp_path.parent / "outside.png")
        rows = read_jsonl(tmp_path / "items.jsonl")
        rows[2] = {**rows[2], "question": "SECRET ?", **change}
        write_jsonl_atomic(tmp_path / "items.jsonl", rows)
        with pytest.raises(ReviewError) as caught:
            read_items(tmp_path / "items.jsonl")
        assert str(caught.value).startswith(f"{tmp_path}/items.jsonl, line 3: ") and message in str(caught.value)
        assert "SECRET" not in str(caught.value)

    def test_a_link_out_of_the_folder_is_refused(self, tmp_path, items):
        outside = tmp_path.parent / "secret.png"
        shutil.copy(items[0].images[0], outside)
        items[1].images[0].unlink()
        items[1].images[0].symlink_to(outside)
        with pytest.raises(ReviewError, match="line 2: a picture outside of"):
            read_items(tmp_path / "items.jsonl")

    def test_an_empty_or_torn_file(self, tmp_path):
        (tmp_path / "items.jsonl").write_text("")
        with pytest.raises(ReviewError, match="items.jsonl: no pairs"):
            read_items(tmp_path / "items.jsonl")
        (tmp_path / "items.jsonl").write_text('{"id": "a"')
        with pytest.raises(StoreError, match="line 1: the file is cut off"):
            read_items(tmp_path / "items.jsonl")

    @pytest.mark.parametrize(
        "values",
        [
            ("accept", "Violent", ""), ("accept", "", "easy"), ("accept", "Weather", "easy"),
            ("accept", "Violent", "easy", "riskless pair"), ("reject",), ("reject", "", "", "because"),
            ("reject", "Violent", "", "riskless pair"), ("reject", "", "easy", "riskless pair"), ("maybe",),
        ],
    )  # fmt: skip
    def test_half_a_judgement_is_none(self, values):
        with pytest.raises(ValueError):
            Judgement(*values)

    def test_decisions_and_results_are_read_strictly(self, tmp_path):
        row = {"item": "a", "annotator": "anna", "decision": "accept", "category": "Violent", "difficulty": "easy",
               "reason": "", "time": "2030-01-01T00:00:00+00:00"}  # fmt: skip
        write_jsonl_atomic(tmp_path / "d.jsonl", [row])
        assert read_decisions(tmp_path / "d.jsonl") == [Decision(**row)]
        write_jsonl_atomic(tmp_path / "d.jsonl", [row, row | {"reason": "riskless pair"}])
        with pytest.raises(ReviewError, match=r"d.jsonl, line 2: an accepted pair has no reason"):
            read_decisions(tmp_path / "d.jsonl")
        row = {"item": "a", "decision": "reject", "category": "", "difficulty": "", "annotators": ["b"],
               "adjudicated": True}  # fmt: skip
        write_jsonl_atomic(tmp_path / "r.jsonl", [row])
        assert read_results(tmp_path / "r.jsonl") == [Result(**row)]


class TestLedger:
    def test_the_last_decision_stands_and_all_are_kept(self, tmp_path, items):
        request = request_of(items[0])
        ledger = Ledger(tmp_path / "a.journal.jsonl", "anna")
        for judgement in (VIOLENT, HATE, HATE, RISKLESS):
            ledger.decide("p0", request, judgement, (True, False))
        assert ledger.standing("p0", request).judgement == RISKLESS
        ledger.close()
        rows = read_jsonl(tmp_path / "a.journal.jsonl")
        assert [row["row"]["judgement"]["decision"] for row in rows] == ["accept", "accept", "reject"]
        assert all(row["time"] and row["row"]["annotator"] == "anna" for row in rows)

    def test_undo_takes_back_one_decision_at_a_time(self, tmp_path, items):
        requests = {item.id: request_of(item) for item in items}
        ledger = Ledger(tmp_path / "a.journal.jsonl", "anna")
        for id, judgement in (("p0", VIOLENT), ("p1", HATE), ("p0", RISKLESS)):
            ledger.decide(id, requests[id], judgement, (True, True))
        assert [ledger.undo(requests.get).item for _ in range(2)] == ["p0", "p1"]
        assert ledger.standing("p0", requests["p0"]).judgement == VIOLENT
        assert ledger.standing("p1", requests["p1"]) is None
        ledger.close()
        read = History.read(tmp_path / "a.journal.jsonl")
        assert read.revision == 5 and read.standing("p0", requests["p0"]).judgement == VIOLENT
        ledger = Ledger(tmp_path / "a.journal.jsonl", "anna")
        assert ledger.undo(requests.get).item == "p0" and ledger.undo(requests.get) is None
        ledger.close()

    def test_a_decision_on_another_picture_does_not_stand(self, tmp_path, items):
        ledger = Ledger(tmp_path / "a.journal.jsonl", "anna")
        ledger.decide("p0", request_of(items[0]), VIOLENT, (True, True))
        Image.new("RGB", (99, 99), (1, 2, 3)).save(items[0].images[1])
        changed = {item.id: request_of(item) for item in items}
        assert ledger.standing("p0", changed["p0"]) is None and ledger.undo(changed.get) is None
        ledger.close()

    def test_a_torn_line_is_no_decision(self, tmp_path, items):
        path, request = tmp_path / "a.journal.jsonl", request_of(items[0])
        ledger = Ledger(path, "anna")
        ledger.decide("p0", request, VIOLENT, (True, True))
        ledger.decide("p0", request, HATE, (True, True))
        ledger.close()
        path.write_bytes(path.read_bytes()[:-20])
        assert History.read(path).standing("p0", request).judgement == VIOLENT  # read beside a writer
        ledger = Ledger(path, "anna")
        assert ledger.standing("p0", request).judgement == VIOLENT
        ledger.close()

    def test_two_servers_do_not_share_a_journal(self, tmp_path):
        ledger = Ledger(tmp_path / "a.journal.jsonl", "anna")
        with pytest.raises(StoreError, match="another process is writing"):
            Ledger(tmp_path / "a.journal.jsonl", "anna")
        ledger.close()

    def test_a_foreign_row_is_named(self, tmp_path):
        row = {"request": "x", "ok": True, "row": {"key": "p0", "act": "decide"}, "time": ""}
        write_jsonl_atomic(tmp_path / "a.journal.jsonl", [row])
        with pytest.raises(ReviewError, match="a.journal.jsonl, line 1: not a row of a review"):
            History.read(tmp_path / "a.journal.jsonl")


# Fleiss (1971), Table 1: 30 patients, each diagnosed by 6 psychiatrists; how many gave each of 5 diagnoses.
FLEISS_1971 = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""  # fmt: skip
# 10 subjects, 14 raters, 5 answers: the worked example that is common in textbooks; kappa 0.210.
WORKED = """0,0,0,0,14 0,2,6,4,2 0,0,3,5,6 0,3,9,2,0 2,2,8,1,1 7,7,0,0,0 3,2,6,3,0 2,5,3,2,2 6,5,2,1,0 0,2,2,3,7"""


class TestAgreement:
    def test_fleiss_own_example(self):
        """0.430 in the paper; R's irr and statsmodels give 0.4302445."""
        counts = np.array([[int(digit) for digit in row] for row in FLEISS_1971.split()])
        assert counts.shape == (30, 5) and counts.sum(axis=0).tolist() == [26, 26, 30, 55, 43]
        assert fleiss_kappa(counts) == pytest.approx(0.4302445, abs=5e-8)

    def test_the_worked_example(self):
        """P = 0.378, P_e = 0.213, kappa = 0.210."""
        counts = np.array([[int(number) for number in row.split(",")] for row in WORKED.split()])
        assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)

    def test_by_hand(self):
        """Three annotators, two pairs: P = (1 + 1/3) / 2 = 2/3; shares 5/6, 1/6: P_e = 26/36; kappa = -0.2."""
        assert fleiss_kappa(np.array([[3, 0], [2, 1]])) == pytest.approx(-0.2)

    def test_where_it_is_not_defined(self):
        assert math.isnan(fleiss_kappa(np.array([[3, 0], [3, 0]]))) and math.isnan(fleiss_kappa(np.zeros((0, 2))))
        assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
        for counts in ([[3, 0], [2, 0]], [[1, 0], [0, 1]]):
            with pytest.raises(ValueError, match="same number of annotators, at least two"):
                fleiss_kappa(np.array(counts))

    def test_the_interval_holds_kappa_and_is_seeded(self):
        counts = np.array([[int(digit) for digit in row] for row in FLEISS_1971.split()])
        low, high = interval(counts)
        assert 0.3 < low < 0.43 < high < 0.6 and interval(counts) == (low, high)
        assert all(map(math.isnan, interval(np.array([[3, 0], [0, 3]]))))

    def test_what_is_compared(self):
        """Category and difficulty where everyone accepted; nothing where someone has not decided yet."""
        votes = [
            {"a": VIOLENT, "b": VIOLENT}, {"a": VIOLENT, "b": HATE}, {"a": VIOLENT, "b": RISKLESS},
            {"a": MEANINGLESS, "b": RISKLESS}, {"a": VIOLENT}, {},
        ]  # fmt: skip
        decision, category, difficulty = measure(votes, ["a", "b"])
        assert (decision.pairs, decision.left_out, decision.agreed, decision.raters) == (4, 2, 3, 2)
        # By hand: accepts 5/8, P = 3/4, P_e = 34/64, kappa = 7/15.
        assert decision.kappa == pytest.approx(7 / 15)
        assert (category.pairs, category.left_out, category.agreed) == (2, 4, 1)
        assert difficulty.agreed == 2 and math.isnan(difficulty.kappa)
        assert difficulty.to_row()["kappa"] is None
        assert all(math.isnan(row.kappa) for row in measure([{"a": VIOLENT}], ["a"]))
        assert measure([], ["a", "b"])[0].pairs == 0


class TestSettling:
    def test_states(self, tmp_path, items):
        decide(tmp_path, items[0], a=VIOLENT, b=VIOLENT)
        decide(tmp_path, items[1], a=VIOLENT, b=EASY)
        decide(tmp_path, items[2], a=RISKLESS, b=MEANINGLESS)
        decide(tmp_path, items[3], a=RISKLESS)
        cases = Review.read(items, tmp_path).cases()
        assert [case.state for case in cases] == [AGREED, DISPUTED, AGREED, OPEN]
        assert cases[1].differ == ("difficulty",) and cases[2].judgement.decision == "reject"

    def test_adjudication_holds_for_the_decisions_that_it_saw(self, tmp_path, items):
        item = items[0]
        decide(tmp_path, item, a=VIOLENT, b=RISKLESS, c=HATE)
        case = Review.read(items, tmp_path).case(item)
        assert case.state == DISPUTED and case.differ == ("decision",)
        ledger = Ledger(adjudication(tmp_path), "dora")
        ledger.decide(item.id, case.request, HATE, (True, True))
        ledger.close()
        case = Review.read(items, tmp_path).case(item)
        assert case.state == ADJUDICATED and case.judgement == HATE
        decide(tmp_path, item, b=VIOLENT)  # still a dispute, but another one
        assert Review.read(items, tmp_path).case(item).state == DISPUTED
        decide(tmp_path, item, c=VIOLENT)
        case = Review.read(items, tmp_path).case(item)
        assert case.state == AGREED and case.judgement == VIOLENT

    def test_who_said_what_does_not_change_the_request(self, tmp_path, items):
        decide(tmp_path / "one", items[0], a=VIOLENT, b=HATE)
        decide(tmp_path / "two", items[0], a=HATE, b=VIOLENT)
        first, second = (Review.read(items, tmp_path / name).case(items[0]).request for name in ("one", "two"))
        assert first and first == second

    def test_names(self, tmp_path, items):
        with pytest.raises(ReviewError, match="nobody has reviewed"):
            Review.read(items, tmp_path)
        decide(tmp_path, items[0], a=VIOLENT, b=HATE)
        assert Review.read(items, tmp_path, ["a"]).case(items[0]).state == AGREED
        with pytest.raises(ReviewError, match="zoe.journal.jsonl: no such journal"):
            Review.read(items, tmp_path, ["a", "zoe"])

    def test_export(self, tmp_path, items):
        decide(tmp_path, items[0], a=HATE, b=HATE)
        decide(tmp_path, items[1], b=RISKLESS, a=VIOLENT)
        decide(tmp_path, items[2], a=RISKLESS, b=RISKLESS)
        review = Review.read(items, tmp_path)
        ledger = Ledger(adjudication(tmp_path), "dora")
        ledger.decide("p1", review.case(items[1]).request, EASY, (True, True))
        ledger.close()
        review = Review.read(items, tmp_path)
        paths, states = export(review, tmp_path / "out")
        assert states == {AGREED: 2, ADJUDICATED: 1, OPEN: 1}
        decisions = read_decisions(tmp_path / "out" / "decisions.jsonl")
        assert [(d.item, d.annotator, d.judgement) for d in decisions] == [
            ("p0", "a", HATE), ("p0", "b", HATE), ("p1", "a", VIOLENT), ("p1", "b", RISKLESS),
            ("p2", "a", RISKLESS), ("p2", "b", RISKLESS),
        ]  # fmt: skip
        assert read_results(tmp_path / "out" / "results.jsonl") == [
            Result("p0", "accept", "Hate", "hard", ("a", "b"), False),
            Result("p1", "accept", "Violent", "easy", ("a", "b"), True),
            Result("p2", "reject", "", "", ("a", "b"), False),
        ]
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert (summary["pairs"], summary["accepted"], summary["rejected"], summary[OPEN]) == (4, 2, 1, 1)
        assert summary["as_proposed"] == {k: {"proposed": 2, "same": 1} for k in ("category", "difficulty")}
        assert summary["categories"]["Hate"] == {"easy": 0, "hard": 1}
        assert summary["reasons"]["riskless pair"] == 3 and set(summary["reasons"]) == set(REASONS)
        assert summary["agreement"][0]["agreed"] == 2 and summary["agreement"][0]["left_out"] == 1
        assert "| decision | 2 | 3 | 1 | 66.7 | 0.333 |" in (tmp_path / "out" / "summary.md").read_text()
        before = [path.read_bytes() for path in paths]
        export(Review.read(items, tmp_path), tmp_path / "out")
        assert [path.read_bytes() for path in paths] == before

    def test_a_decision_without_looking_is_counted(self, tmp_path, items):
        ledger = Ledger(journal(tmp_path, "a"), "a")
        ledger.decide("p0", request_of(items[0]), VIOLENT, (True, False))
        ledger.decide("p1", request_of(items[1]), VIOLENT, (True, True))
        ledger.close()
        export(Review.read(items, tmp_path), tmp_path)
        people = json.loads((tmp_path / "summary.json").read_text())["annotators"]
        assert people == {"a": {"decided": 2, "accepted": 2, "not_looked_at_both": 1}}


class TestConstruction:
    def test_what_people_decided_is_what_a_construction_reads(self, tmp_path):
        """Through the files alone: its items, the page's journals, the export, its votes."""

        def candidate(number: int) -> Candidate:
            pictures = []
            for place in (1, 2):
                file = tmp_path / "drawings" / f"{number}_{place}.png"
                file.parent.mkdir(exist_ok=True)
                Image.new("RGB", (8, 8), (40 * number, 90 * place, 7)).save(file)
                content = {"file": f"drawings/{file.name}", "sha256": file.name}
                pictures.append(Picture(prompt="", seed=0, content=content))
            id, objects = str(number), ("x", "y")
            element = Element(id=id, source="", category="Hate", sub_category="", question="?", objects=objects)
            return Candidate(element, Instruction(id=id, named="", referring="", text="how ?"), tuple(pictures))

        candidates = [candidate(number) for number in range(3)]
        folder = tmp_path / "review"
        people = People(construction_people.Review(folder, tmp_path, 2), tmp_path)
        with pytest.raises(construction_people.Waiting, match="3 of 3 pairs wait for people"):
            people.vote(candidates)
        items = read_items(folder / "items.jsonl", tmp_path)
        assert [item.question for item in items] == ["how ?"] * 3 and items[0].proposed_category == "Hate"
        for item, judgement in zip(items, (VIOLENT, RISKLESS, EASY), strict=True):
            decide(folder / "record", item, a=judgement, b=judgement)
        export(Review.read(items, folder / "record"), folder)
        kept, dropped, other = people.vote(candidates)
        assert (kept.keep, kept.category, kept.difficulty) == (True, "Violent", "hard")
        assert (dropped.keep, dropped.reason) == (False, "riskless pair") and other.difficulty == "easy"


class TestCommands:
    def mis(self, *words):
        return CliRunner().invoke(app, ["review", *map(str, words)])

    def test_items_of_a_construction(self, smoke_run, tmp_path, monkeypatch):
        monkeypatch.chdir(smoke_run)
        config = smoke_run / "results" / "smoke" / "config.yaml"
        result = self.mis("items", "--config", config, "--output", tmp_path, "--pairs", 7)
        assert result.exit_code == 0, result.output
        items = read_items(tmp_path / "items.jsonl")
        assert len(items) == 7 and len(list((tmp_path / "pictures").iterdir())) == 14
        with Image.open(items[0].images[0]) as picture:
            assert picture.size == (384, 384)
        assert all(item.proposed_category and not item.note for item in items)
        again = self.mis("items", "--config", config, "--output", tmp_path / "again", "--pairs", 7)
        assert again.exit_code == 0
        assert (tmp_path / "again" / "items.jsonl").read_bytes() == (tmp_path / "items.jsonl").read_bytes()

    def test_export_and_agreement(self, tmp_path, items):
        for item in items[:3]:
            decide(tmp_path / "record", item, a=HATE, b=HATE if item.id == "p0" else RISKLESS)
        result = self.mis("agreement", tmp_path / "items.jsonl")
        assert result.exit_code == 0 and "| decision | 2 | 3 | 1 | 33.3 | -0.500 |" in result.stdout
        result = self.mis("export", tmp_path / "items.jsonl", "--output", tmp_path / "out")
        assert result.exit_code == 1
        assert "3 of 4 pairs have no result: 1 are not decided by everyone, 2 wait" in result.stderr
        assert len(read_results(tmp_path / "out" / "results.jsonl")) == 1
        assert self.mis("export", tmp_path / "items.jsonl", "--annotators", "a,zoe").exit_code == 2

    @pytest.mark.parametrize(
        ("names", "message"),
        [("anna,", "'' is no name"), ("../x,b", "'../x' is no name"), ("anna,Anna", "a name twice"),
         ("anna,dora", "a name twice in anna, dora, dora")],
    )  # fmt: skip
    def test_names_that_cannot_be_used(self, tmp_path, items, names, message):
        result = self.mis("serve", tmp_path / "items.jsonl", "--annotators", names, "--adjudicator", "dora")
        assert result.exit_code == 2 and message in result.stderr
        assert not (tmp_path / "record").exists()

    def test_it_says_what_it_does(self):
        text = CliRunner().invoke(app, ["review", "--help"]).stdout
        assert all(f"\n  {name} " in text for name in ("items", "serve", "export", "agreement"))
