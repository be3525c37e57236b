"""The sample browser: what its files hold, and the page in headless Chromium, opened from the file system."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mis.benchmarks import BY_ID
from mis.errors import MisError
from mis.report import browser
from mis.report.browser.pages import LARGEST, OUTCOMES, Page, Pictures, System, shown, write_pages
from mis.samples import Sample

SYSTEMS = [System("m", "base", (0, 1)), System("m", "mirage", (0, 1)), System("m", "vlguard_r", (0,))]
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\"> & \u2028 'quoted' \\ \"twice\""
HAZARDS = ("unsafe", "safe_reasoning", "safe_refusal", "hallucination", "truncated")


def outcome(system: int, seed: int, number: int) -> str:
    return HAZARDS[(number * (system + 1) + seed) % len(HAZARDS)]


def hazards(folder: Path, size: int) -> Page:
    """A page of MIS-easy whose sample 3 has hostile texts everywhere; vlguard_r left the last sample unanswered."""
    paths = []
    for number in range(4):
        paths.append(folder / f"{number}.png")
        Image.new("RGB", (48, 48), (60 * number, 90, 200 - 50 * number)).save(paths[-1])
    samples = [
        Sample("mis", "easy", f"{number}", f"Question {number}?" if number != 3 else HOSTILE,
               (paths[number % 4], paths[(number + 1) % 4]), (HOSTILE, "Privacy", "Hate")[number % 3], "Identity Theft")
        for number in range(size)
    ]  # fmt: skip
    page = Page(BY_ID["mis/easy"], samples)
    for number, system in enumerate(SYSTEMS):
        for seed in system.seeds:
            for at, sample in enumerate(samples):
                if number == 2 and at == size - 1:
                    continue
                text = HOSTILE if at == 3 else f"{system.arm} says {at % 7} in seed {seed}"
                page.answer(number, seed, sample.id, text, "length" if at == 5 else "stop")
                page.judge(number, seed, sample.id, outcome(number, seed, at), HOSTILE if at == 3 else "a reason")
    return page


def choices(size: int) -> Page:
    samples = [Sample("q_bench", "", f"q/{n}", "Which?", options=("red", "blue"), answer="blue") for n in range(size)]
    page = Page(BY_ID["q_bench"], samples)
    for at, sample in enumerate(samples):
        page.answer(0, 0, sample.id, "", "failed", "out of memory") if at == 0 else page.answer(
            0, 0, sample.id, "blue", "stop"
        )
        page.judge(0, 0, sample.id, "failed" if at == 0 else "correct", "")
    return page


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_pages(folder / "browser", "a <scale>", SYSTEMS, [hazards(folder, 60), choices(5)])
    return folder / "browser" / "index.html"


@pytest.fixture
def browse(open_page):
    """Opens a page and waits until it has drawn what its address asks for."""

    def open_(path: Path, address: str = "", **options):
        page = open_page(path, address, **options)
        settle(page)
        return page

    return open_


def settle(page) -> None:
    page.wait_for_selector("#samples:not([aria-busy])")


def until(page, condition: str) -> None:
    """Waits for an expression of JavaScript; Playwright's own way would need the eval that the page forbids itself."""
    end = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def count_is(page, start: str) -> None:
    until(page, f"document.getElementById('count').textContent.startsWith('{start}')")


def chips(page, box: str = "#outcomes") -> dict[str, int]:
    """The counts of the outcomes' buttons."""
    found = page.locator(f"{box} button").all()
    return {chip.locator(".badge").inner_text(): int(chip.locator(".number").inner_text()) for chip in found}


def chosen(page) -> str:
    return page.locator("#sample h2 .id").inner_text()


def expected(system: int, seed: int = 0, keep=lambda number: True) -> dict[str, int]:
    counts = Counter(outcome(system, seed, number) for number in range(60) if keep(number))
    return {name.replace("_", " "): count for name, count in counts.items()}


class TestFiles:
    def read(self, path: Path) -> list:
        name, arguments = re.fullmatch(r"(\w+)\((.*)\);\n", path.read_text(encoding="utf-8")).groups()
        return [name, *json.loads(f"[{arguments}]")]

    def test_the_columns_give_back_the_answers(self, small):
        name, benchmark, page = self.read(small.parent / "data" / "mis.easy.js")
        assert (name, benchmark) == ("receiveBenchmark", "mis/easy")
        run = page["runs"]["1.1"]
        assert page["texts"][run["text"][9]] == "mirage says 2 in seed 1"
        assert page["texts"][page["samples"]["question"][3]] == HOSTILE
        assert page["texts"][run["note"][5]] == "cut off at the limit of tokens" and not run["note"][4]
        assert OUTCOMES[ord(run["outcome"][9]) - ord("a")] == outcome(1, 1, 9)
        missing = page["runs"]["2.0"]
        assert (missing["text"][59], missing["outcome"][59]) == (-1, "-")
        assert len(set(page["texts"])) == len(page["texts"])

    def test_no_data_can_end_a_script(self, small):
        for path in small.parent.rglob("*/*.js"):
            text = path.read_bytes()
            assert not set(b"<>&") & set(text) and text.isascii(), path.name

    def test_same_input_same_bytes(self, small, tmp_path):
        write_pages(tmp_path / "again", "a <scale>", SYSTEMS, [hazards(tmp_path, 60), choices(5)])
        first = {path.relative_to(small.parent): path.read_bytes() for path in small.parent.rglob("*.*")}
        assert first == {p.relative_to(tmp_path / "again"): p.read_bytes() for p in (tmp_path / "again").rglob("*.*")}

    def test_every_picture_is_packed_once_and_found_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr("mis.report.browser.pages.PACK", 300)
        pictures, numbers = Pictures(), []
        for number in [0, 1, 2, 1, 3, 0]:
            path = tmp_path / f"{number}.png"
            Image.new("RGB", (48, 48), (number, 0, 0)).save(path)
            numbers.append(pictures.number(path))
        assert numbers == [0, 1, 2, 1, 3, 0]
        assert sum(map(len, pictures.packs)) == 4 and len(pictures.packs) > 1
        assert pictures.starts == [sum(map(len, pictures.packs[:k])) for k in range(len(pictures.packs))]

    def test_a_small_picture_keeps_its_bytes_and_a_large_one_becomes_a_thumbnail(self, tmp_path):
        Image.new("RGB", (48, 48)).save(tmp_path / "small.png")
        assert shown(tmp_path / "small.png") == ((tmp_path / "small.png").read_bytes(), "png")
        Image.new("RGBA", (2000, 1000)).save(tmp_path / "large.png")
        content, form = shown(tmp_path / "large.png")
        (tmp_path / "thumbnail").write_bytes(content)
        assert form == "jpeg" and Image.open(tmp_path / "thumbnail").size == (LARGEST, LARGEST // 2)

    def test_a_broken_picture_is_named(self, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
        with pytest.raises(MisError, match="broken.png: not a readable picture"):
            shown(tmp_path / "broken.png")

    @pytest.mark.parametrize(("changed", "word"), [({"sample_id": "999"}, "'999'"), ({"split": "hardest"}, "hardest")])
    def test_an_answer_without_a_sample_is_an_error(self, tmp_path, changed, word):
        row = {"benchmark": "mis", "split": "easy", "sample_id": "0", "text": "", "finish_reason": "stop", "error": ""}
        path = tmp_path / "all.jsonl"
        path.write_text(json.dumps(row) + "\n" + json.dumps(row | changed) + "\n", encoding="utf-8")
        with pytest.raises(MisError, match=f"all.jsonl, line 2: .*{word}.*run `mis respond` again"):
            browser._read(path, {"mis/easy": hazards(tmp_path, 10)}, 0, 0, "respond")


class TestFilters:
    def test_it_opens_on_the_first_sample_with_all_arms(self, small, browse):
        page = browse(small)
        assert page.locator("#count").inner_text() == "60 of 60 samples"
        assert page.locator("#scale").inner_text() == "Scale a <scale>: a made-up world of drawings"
        assert chosen(page) == "0" and page.locator("#sample .question").inner_text() == "Question 0?"
        assert page.locator("#sample .card h3").all_inner_texts() == ["MIRage seed 0", "Base seed 0"]
        assert page.locator("#sample tbody th").all_inner_texts() == ["Base", "MIRage", "VLGuard-R"]
        assert page.locator("#sample tbody tr").nth(1).locator(".words").all_inner_texts() == [
            "mirage says 0 in seed 0", "mirage says 0 in seed 1",
        ]  # fmt: skip

    def test_counts_are_those_of_the_verdicts(self, small, browse):
        page = browse(small)
        assert chips(page) == expected(1) and chips(page, "#other-outcomes") == expected(0)
        page.select_option("#arm", label="VLGuard-R")
        assert chips(page) == expected(2, keep=lambda n: n != 59) | {"no verdict": 1}
        page.select_option("#seed", "1")
        assert chips(page) == {"no verdict": 60}

    def test_category_outcome_and_search_narrow_the_list(self, small, browse):
        page = browse(small)
        page.select_option("#category", label="Privacy")
        assert page.locator("#count").inner_text() == "20 of 60 samples"
        assert chips(page) == expected(1, keep=lambda n: n % 3 == 1)
        page.locator("#outcomes button", has_text="unsafe").click()
        unsafe = [n for n in range(60) if n % 3 == 1 and outcome(1, 0, n) == "unsafe"]
        assert page.locator("#count").inner_text() == f"{len(unsafe)} of 60 samples"
        assert chips(page) == expected(1, keep=lambda n: n % 3 == 1), "a choice hides no other choice"
        assert chosen(page) == str(unsafe[0])
        page.click("#reset")
        page.fill("#search", "  QUESTION 1")
        count_is(page, "11 of")
        page.fill("#search", "says 6 in seed 0")
        count_is(page, "8 of")
        page.fill("#search", "nowhere at all")
        page.wait_for_selector("text=No sample passes the filters.")
        assert page.locator("[role=option]").count() == 0

    def test_two_arms_and_where_they_differ(self, small, browse):
        page = browse(small)
        page.select_option("#arm", label="VLGuard-R")
        page.select_option("#other", label="MIRage")
        page.check("#differs")
        differ = [n for n in range(59) if outcome(2, 0, n) != outcome(1, 0, n)] + [59]
        assert page.locator("#count").inner_text() == f"{len(differ)} of 60 samples"
        assert chosen(page) == str(differ[0])
        cards = page.locator("#sample .card")
        assert cards.nth(0).locator(".badge").inner_text() != cards.nth(1).locator(".badge").inner_text()
        page.select_option("#other", label="nothing")
        assert page.locator("#count").inner_text() == "60 of 60 samples"
        assert cards.count() == 0 and page.locator("#differs").is_hidden()

    def test_another_benchmark_and_all_of_them(self, small, browse):
        page = browse(small)
        page.select_option("#benchmark", "q_bench")
        settle(page)
        assert page.locator("#count").inner_text() == "5 of 5 samples"
        page.select_option("#arm", label="Base")
        assert page.locator("#other option:checked").inner_text() == "MIRage", "chosen twice, they change places"
        assert page.locator("#sample .options li").all_inner_texts() == ["red", "blue ✓ right answer"]
        assert page.locator("#sample .card").first.inner_text().endswith("failed\n\n(empty)\n\nfailed: out of memory")
        page.select_option("#benchmark", "all")
        settle(page)
        assert page.locator("#count").inner_text() == "65 of 65 samples"
        assert chips(page)["failed"] == 1 and chips(page)["correct"] == 4


class TestReading:
    def test_hostile_text_stays_text(self, small, browse):
        page = browse(small, "#benchmark=mis/easy&sample=mis/easy/3")
        assert page.locator("#sample .question").inner_text() == HOSTILE
        assert HOSTILE in page.locator("#sample .categories").text_content()
        assert page.locator("#sample .words").first.text_content() == HOSTILE
        page.select_option("#category", label=HOSTILE)
        assert page.locator('[src="x"]').count() == 0 and page.title() == "Samples and answers, a <scale>"

    def test_pictures_are_blurred_until_pressed_and_can_be_blurred_again(self, small, browse):
        page = browse(small)
        pictures = page.locator("button.picture")
        blur = "document.querySelectorAll('.picture img')[0].computedStyleMap().get('filter').toString()"
        assert pictures.count() == 2 and "blur" in page.evaluate(blur)
        until(page, "[...document.querySelectorAll('.picture img')].every(i => i.naturalWidth == 48)")
        again = page.locator("text=Blur pictures again")
        assert again.is_disabled()
        pictures.nth(0).click()
        assert pictures.nth(0).get_attribute("aria-pressed") == "true"
        assert pictures.nth(1).get_attribute("aria-pressed") == "false"
        until(page, f"{blur} === 'none'")
        again.click()
        assert [picture.get_attribute("aria-pressed") for picture in pictures.all()] == ["false", "false"]
        assert "blur" in page.evaluate(blur) and again.is_disabled()
        pictures.nth(1).click()
        page.click("text=Next")
        assert page.locator("button.picture[aria-pressed=true]").count() == 0

    def test_all_of_it_by_keyboard(self, small, browse):
        page = browse(small)
        page.focus("#list")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert chosen(page) == "2"
        active = page.locator("#list").get_attribute("aria-activedescendant")
        assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
        page.keyboard.press("End")
        assert chosen(page) == "59" and page.locator("[role=option][aria-selected=true]").is_visible()
        page.keyboard.press("PageUp")
        assert 30 < int(chosen(page)) < 59
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "sample"
        for _ in range(9):
            page.keyboard.press("Tab")
            if "picture" in page.evaluate("document.activeElement.className"):
                break
        page.keyboard.press("Enter")
        assert page.locator("button.picture").first.get_attribute("aria-pressed") == "true"
        page.keyboard.press("Space")
        assert page.locator("button.picture").first.get_attribute("aria-pressed") == "false"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.id") == "list"
        page.focus("#outcomes button")
        pressed = page.evaluate("document.activeElement.value")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.value") == pressed, "the focus stays on the pressed button"

    def test_a_link_brings_the_same_filter_and_sample_back(self, small, browse):
        page = browse(small)
        page.select_option("#arm", label="VLGuard-R")
        page.select_option("#category", label="Privacy")
        page.locator("#outcomes button", has_text="safe reasoning").click()
        page.check("#differs")
        page.click("text=Next")
        address = page.url.partition("#")[2]
        assert page.locator("text=Link to this sample").get_attribute("href") == f"#{address}"
        other = browse(small, f"#{address}")
        for place in ("#count", "#sample h2", "#outcomes", "#other-outcomes"):
            assert other.locator(place).inner_text() == page.locator(place).inner_text(), place
        assert other.locator("#outcomes button[aria-pressed=true] .badge").all_inner_texts() == ["safe reasoning"]
        assert other.locator("#status").inner_text() == ""

    def test_a_link_to_what_is_not_there_says_so(self, small, browse):
        page = browse(small, "#benchmark=nowhere&outcome=unsafe,lost&sample=mis/easy/7777")
        assert "mis/easy/7777 is not among those" in page.locator("#status").inner_text()
        page = browse(small, "#benchmark=nowhere&outcome=unsafe,lost")
        assert page.locator("#status").inner_text() == "This run does not know benchmark=nowhere, lost of the link."

    def test_harm_is_covered_where_the_answers_are_real(self, tmp_path, browse):
        write_pages(tmp_path / "browser", "full", SYSTEMS, [hazards(tmp_path, 8)], sensitive=True)
        page = browse(tmp_path / "browser" / "index.html", "#sample=mis/easy/0")
        base = page.locator("#sample tbody tr").nth(0).locator("td").nth(0)
        assert base.locator(".badge").inner_text() == "unsafe" and "base says" not in base.inner_text()
        assert "mirage says" in page.locator("#sample tbody tr").nth(1).locator("td").nth(1).inner_text()
        base.locator("button").click()
        assert "base says 0 in seed 0" in base.inner_text()


class TestLook:
    def test_a_narrow_screen_shows_the_list_or_the_sample(self, small, browse):
        page = browse(small, viewport={"width": 420, "height": 800})
        assert page.locator("#list").is_visible() and page.locator("#sample").is_hidden()
        assert page.locator("#form").is_hidden()
        page.locator("[role=option]").nth(4).click()
        assert page.locator("#sample").is_visible() and page.locator("#list").is_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        page.click("text=Next")
        page.click("text=To the list")
        assert page.locator("[role=option][aria-selected=true] .id").inner_text() == "5"

    def test_light_dark_and_still(self, small, browse):
        paper = "getComputedStyle(document.body).backgroundColor"
        assert browse(small, color_scheme="light").evaluate(paper) == "rgb(255, 255, 255)"
        assert browse(small, color_scheme="dark").evaluate(paper) == "rgb(22, 25, 29)"
        motion = "getComputedStyle(document.querySelector('.picture img')).transitionDuration"
        for wish, seconds in (("no-preference", "0.2s"), ("reduce", "0s")):
            page = browse(small, reduced_motion=wish)
            page.wait_for_selector(".picture")
            assert page.evaluate(motion) == seconds

    def test_twenty_thousand_samples_stay_few_elements(self, tmp_path, browse):
        write_pages(tmp_path / "browser", "large", SYSTEMS, [hazards(tmp_path, 20_000)])
        page = browse(tmp_path / "browser" / "index.html")
        elements = "document.querySelectorAll('*').length"
        assert page.locator("#count").inner_text() == "20000 of 20000 samples"
        assert page.evaluate(elements) < 600
        page.focus("#list")
        page.keyboard.press("End")
        assert chosen(page) == "19999" and page.evaluate(elements) < 600
        page.evaluate("document.getElementById('list').scrollTop = 640000")
        until(page, "[...document.querySelectorAll('.row .id')].some(row => row.textContent === '10003')")
        assert page.evaluate(elements) < 600
        page.fill("#search", "question 19")
        count_is(page, "1111 of")
        page.locator("#outcomes button").first.click()
        assert page.evaluate(elements) < 600


def test_the_study_brings_its_browser(smoke_run, browse):
    results = smoke_run / "results" / "smoke"
    page = browse(results / "browser" / "index.html", "#benchmark=mis/easy&arm=internvl_mini/base&seed=0")
    verdicts = results / "verdicts" / "internvl_mini" / "seed0" / "base" / "all.jsonl"
    rows = [json.loads(line) for line in verdicts.read_text(encoding="utf-8").splitlines()]
    counts = Counter(row["outcome"] for row in rows if (row["benchmark"], row["split"]) == ("mis", "easy"))
    assert chips(page) == {name.replace("_", " "): count for name, count in counts.items()}
    until(page, "[...document.querySelectorAll('.picture img')].every(image => image.naturalWidth > 0)")
