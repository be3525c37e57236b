"""Tables as pages of HTML, and Snakemake's report on the finished study, opened in headless Chromium."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from mis.report.html import to_html
from mis.report.rendering import Head, Line, Panel, Table, Text

HOSTILE = '<script>alert("x")</script> & {{ 7 * 7 }}'


def table() -> Table:
    heads = (Head("ASR ↓", ("paper", "run, n = 9")), Head("RR"))
    lines = (
        Line(f"Group {HOSTILE}"),
        Line("a part", level=1),
        Line("Base", (Text("80.12", mark="a"), Text("0.0", "(0.0–21.5), 14 failed", bold=True), Text("1"))),
    )
    panels = (
        Panel("MIS-easy", "Model", heads, lines),
        Panel("", "Model", (Head("n"),), (Line(HOSTILE, (Text("2"),)),)),
    )
    return Table("4", f"Results {HOSTILE}", HOSTILE, panels, ("a note",), (("a", f"doubtful {HOSTILE}"),))


class _Grid(HTMLParser):
    """The columns that each row of each table begins, spans counted; and the names of all elements."""

    def __init__(self):
        super().__init__()
        self.tables: list[list[int]] = []
        self.elements: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("th", "td"):
            self.tables[-1][-1] += int(dict(attrs).get("colspan", 1))


def test_every_text_of_a_table_is_escaped():
    page = to_html(table())
    parsed = _Grid()
    parsed.feed(page)
    assert "script" not in parsed.elements
    assert page.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; {{ 7 * 7 }}") == 6
    assert page == to_html(table())


def test_heads_and_rows_have_the_same_columns():
    parsed, page = _Grid(), to_html(table())
    parsed.feed(page)
    assert parsed.tables == [[4, 2, 4, 4, 4], [2, 2]]
    assert page.count('rowspan="2"') == 2, "the corner and RR reach down into the second row of heads"


def test_a_table_page_says_what_the_table_says(tmp_path, open_page):
    path = tmp_path / "table.html"
    path.write_text(to_html(table()), encoding="utf-8")
    page = open_page(path, viewport={"width": 420, "height": 800})
    assert page.locator("h1").inner_text() == f"Table 4: Results {HOSTILE}"
    cell = page.locator("td").nth(1)
    assert cell.locator("strong").inner_text() == "0.0"
    assert cell.locator("small").inner_text() == "(0.0–21.5), 14 failed"
    assert page.locator("td sup").inner_text() == "a" and f"doubtful {HOSTILE}" in page.locator("ul").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 420, "a wide grid scrolls by itself"


@pytest.mark.slow
def test_the_report_shows_every_table_and_figure(smoke_run, snakemake, root, tmp_path, open_page):
    path = tmp_path / "report.html"
    style = root / "workflow" / "report" / "style.css"
    arguments = ("--report", str(path), "--report-stylesheet", str(style))
    done = snakemake(smoke_run, "--cores", "2", "--config", "scale=smoke", *arguments)
    assert done.code == 0, done.text
    page = open_page(path)
    description = page.locator(".prose")
    assert "Scale: smoke" in description.inner_text() and "scale: smoke" in description.locator("pre").inner_text()
    assert description.bounding_box()["y"] >= 0, "what is taller than the window begins at its top"

    tables = sorted((smoke_run / "results" / "smoke" / "tables").glob("*.html"))
    figures = sorted((smoke_run / "figures" / "smoke").glob("*.png"))
    assert tables and figures
    for category, files in (("Figures", figures), ("Tables", tables)):
        page.get_by_text(category, exact=True).first.click()
        rows = page.locator("tbody tr")
        assert rows.count() == len(files)
        for row in rows.all():
            number, shows, _ = row.inner_text().split("\t")
            assert shows
            row.locator("a").first.click()
            if category == "Figures":
                picture = page.locator("img[src^='data:image/png']")
                picture.wait_for(state="visible")
                assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
                assert f"figure{number.lstrip('0')}.png" in picture.get_attribute("src")[:100]
            else:
                page.frame_locator("iframe").locator(f"h1:has-text('Table {number.lstrip('0')}')").wait_for()
        page.evaluate("app.setView({ navbarMode: 'menu' })")
    for category in ("Headline", "Claims"):
        page.get_by_text(category, exact=True).first.click()
        page.locator("tbody tr a").first.click()
        page.frame_locator("iframe").locator(f"h1:has-text('{category}')").wait_for()
        page.evaluate("app.setView({ navbarMode: 'menu' })")
    page.get_by_text("Statistics", exact=True).first.click()
    page.locator(".vega-embed canvas, .vega-embed svg").first.wait_for()
