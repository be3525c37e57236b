"""The review's page: what the server refuses, and people at work in headless Chromium."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from test_review import make_items
from typer.testing import CliRunner

from mis.cli import app
from mis.review.records import read_decisions, read_results
from mis.review.settling import journal
from mis.store import read_jsonl

SIZE = 4
JUDGEMENT = {"decision": "accept", "category": "Hate", "difficulty": "easy", "reason": ""}
STRICT = ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'")

CONTRAST = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (place) => {
    const colour = parse(getComputedStyle(place).backgroundColor);
    return colour.length === 3 || colour[3] > 0.5 ? colour : ground(place.parentElement);
  };
  const written = [...document.querySelectorAll("body *")].filter((place) => place.checkVisibility()
    && !place.matches(":disabled, :disabled *, script")
    && [...place.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  return written.filter((place) => {
    const [more, less] = [parse(getComputedStyle(place).color), ground(place)].map(light).sort((a, b) => b - a);
    return (more + 0.05) / (less + 0.05) < 4.5;
  }).map((place) => `${place.tagName} ${place.textContent}`);
}"""


@dataclass
class Server:
    """A running `mis review serve`, in a process of its own."""

    process: subprocess.Popen
    links: dict[str, str]

    @property
    def port(self) -> int:
        return urlsplit(self.links["anna"]).port

    def token(self, name: str) -> str:
        return self.links[name].partition("token=")[2]

    def ask(self, method: str, path: str, *, token: str | None = "", body=None, **headers) -> tuple[int, bytes, dict]:
        """A raw request, by default anna's; headers with _ for -. Returns status, body, headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        token = self.token("anna") if token == "" else token
        sent = {"Host": f"127.0.0.1:{self.port}", "Cookie": f"mis_review_{self.port}={token}"}
        if method == "POST":
            sent |= {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        content = b"" if body is None else json.dumps(body).encode()
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        if method == "POST":
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
        answer = connection.getresponse()
        result = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        return result

    def submission(self, number: int) -> dict:
        item = json.loads(self.ask("GET", f"/anna/item/{number}")[1])
        return {"item": item["id"], "request": item["request"], "judgement": JUDGEMENT, "looked": [True, False]}


@contextmanager
def served(folder: Path, *options: str, port: int = 0, largest_file: int | None = None):
    command = [sys.executable, "-m", "mis", "review", "serve", str(folder / "items.jsonl"), "--port", str(port),
               "--annotators", "anna,ben", "--adjudicator", "dora", *options]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    with open(folder / "log.txt", "a") as log:
        limit = largest_file and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file)))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, preexec_fn=limit
        )
    try:
        lines = [process.stdout.readline().strip().split(": ", 1) for _ in range(3)]
        yield Server(process, {who.split()[1]: link for who, link in lines})
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server whose state no test relies on; (server, its folder)."""
    folder = tmp_path_factory.mktemp("shared")
    make_items(folder, SIZE)
    with served(folder) as server:
        yield server, folder


class TestServer:
    @pytest.mark.parametrize("path", ["/anna/", "/anna/state", "/anna/item/0", "/anna/picture/0/0", "/anna/review.js",
                                      "/anna/nowhere", "/", "/zoe/", "/items.jsonl"])  # fmt: skip
    def test_nothing_without_a_token(self, shared, path):
        for token in (None, "x", shared[0].token("ben"), shared[0].token("anna")[:-1]):
            status, body, headers = shared[0].ask("GET", path, token=token)
            assert status == 403 and b"what about" not in body and b"PNG" not in body
            assert "set-cookie" not in headers
        assert shared[0].ask("GET", f"/anna/state?token={shared[0].token('anna')}", token=None)[0] == 403

    def test_the_link_sets_a_strict_cookie_for_its_path(self, shared):
        server = shared[0]
        link = urlsplit(server.links["anna"])
        status, body, headers = server.ask("GET", f"{link.path}?{link.query}", token=None)
        assert status == 200 and server.token("anna").encode() not in body
        cookie = headers["set-cookie"].split("; ")
        assert cookie[0] == f"mis_review_{server.port}={server.token('anna')}"
        assert {"HttpOnly", "Path=/anna/", "SameSite=Strict"} == set(cookie[1:])
        assert server.ask("GET", "/anna/?token=wrong", token=None)[0] == 403
        assert server.ask("GET", "/ben/?token=" + server.token("anna"), token=None)[0] == 403

    @pytest.mark.parametrize("host", [
        "evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "192.168.0.1", "127.0.0.1:{port}@evil.example",
        "localhost.", "0.0.0.0:{port}", None,
    ])  # fmt: skip
    def test_another_name_for_this_machine_is_refused(self, shared, host):
        """DNS rebinding: a page of that name would be of the same origin as the review."""
        server = shared[0]
        host = host and host.format(port=server.port)
        status, body, _ = server.ask("GET", "/anna/state", Host=host)
        assert status in (400, 403) and b"queue" not in body
        assert server.ask("GET", "/anna/state", Host="localhost:1")[0] == 200  # a tunnel's other end

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": None}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://evil.example"},
            {"Content_Type": "text/plain"}, {"Content_Type": "application/x-www-form-urlencoded"},
            {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
        ],
    )  # fmt: skip
    def test_no_other_page_can_decide(self, shared, headers):
        server, folder = shared
        body = server.submission(0)
        before = journal(folder / "record", "anna").read_bytes()
        assert server.ask("POST", "/anna/decide", body=body, **headers)[0] == 403
        assert server.ask("POST", "/anna/undo", body={"revision": 0}, **headers)[0] == 403
        assert journal(folder / "record", "anna").read_bytes() == before

    def test_no_other_page_can_read(self, shared):
        for path in ("/anna/state", "/anna/picture/0/0", "/anna/review.js"):
            assert shared[0].ask("GET", path, Sec_Fetch_Site="same-site")[0] == 403
            headers = shared[0].ask("GET", path)[2]
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in headers
        assert shared[0].ask("GET", "/anna/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200

    @pytest.mark.parametrize("path", [
        "/anna/picture/../../items.jsonl", "/anna/../items.jsonl", "/anna/picture/0/0/../../../../../etc/passwd",
        "/anna/picture/%2e%2e/0", "/anna/picture/..%2f..%2fitems.jsonl/0", "/anna/picture/0/2", "/anna/picture/-1/0",
        "/anna/picture/4/0", "/anna/picture/9999999/0", "/anna/picture/99999999999/0", "/anna/picture//etc/passwd",
        "/anna/assets/index.html", "/anna/index.html", "/anna/record/.secret", "/anna/item/4", "/anna/item/0x1",
    ])  # fmt: skip
    def test_a_picture_is_a_number_of_the_list(self, shared, path):
        status, body, _ = shared[0].ask("GET", path)
        assert status in (403, 404) and b"root:" not in body and b"pictures" not in body

    def test_pictures_and_headers(self, shared):
        server, folder = shared
        status, body, headers = server.ask("GET", "/anna/picture/1/0")
        assert status == 200 and body == (folder / "pictures" / "1_1.png").read_bytes()
        assert headers["content-type"] == "image/png"
        for path in ("/anna/", "/anna/picture/1/0", "/anna/nowhere"):
            headers = server.ask("GET", path)[2]
            assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
            assert all(rule in headers["content-security-policy"] for rule in STRICT)
            assert "unsafe" not in headers["content-security-policy"] and "server" not in headers

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"item": "nowhere"}, 409), ({"request": "another"}, 409), ({"more": 1}, 400), ({"looked": "yes"}, 400),
            ({"judgement": {"decision": "accept"}}, 400), ({"judgement": JUDGEMENT | {"category": "Weather"}}, 400),
            ({"judgement": JUDGEMENT | {"annotator": "ben"}}, 400), ({"item": "x" * 20_000}, 400),
        ],
    )  # fmt: skip
    def test_half_a_decision_is_refused(self, shared, change, status):
        server, folder = shared
        before = journal(folder / "record", "anna").read_bytes()
        answer = server.ask("POST", "/anna/decide", body=server.submission(0) | change)
        assert answer[0] == status
        assert journal(folder / "record", "anna").read_bytes() == before

    def test_other_methods_and_bodies(self, shared):
        assert shared[0].ask("POST", "/anna/decide", body=["no"])[0] == 400
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
            assert shared[0].ask(method, "/anna/state")[0] in (403, 405)

    def test_nobody_sees_the_others(self, shared):
        """An annotator is told of their own decisions alone, the adjudicator of no names."""
        server = shared[0]
        assert server.ask("POST", "/anna/decide", body=server.submission(2))[0] == 200
        for name, role in (("anna", "annotator"), ("ben", "annotator"), ("dora", "adjudicator")):
            text = server.ask("GET", f"/{name}/state", token=server.token(name))[1].decode()
            assert json.loads(text)["role"] == role
            assert all(f'"{other}"' not in text for other in {"anna", "ben", "dora"} - {name})
        assert json.loads(server.ask("GET", "/ben/state", token=server.token("ben"))[1])["agreement"] is None
        assert "votes" not in json.loads(server.ask("GET", "/ben/item/2", token=server.token("ben"))[1])
        assert server.ask("GET", "/dora/item/2", token=server.token("dora"))[0] == 404
        assert server.ask("GET", "/dora/picture/2/0", token=server.token("dora"))[0] == 404

    def test_it_listens_on_the_loopback_interface_alone(self, shared):
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
        listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{shared[0].port:04X}")]
        assert listening == [f"0100007F:{shared[0].port:04X}"]

    def test_the_secret_is_its_owners_and_no_log_holds_a_token(self, shared):
        server, folder = shared
        server.ask("GET", f"/anna/?token={server.token('anna')}&x=%ff", token=None)
        server.ask("POST", f"/anna/decide?token={server.token('anna')}", body=["no"])
        assert stat.S_IMODE((folder / "record" / ".secret").stat().st_mode) == 0o600
        written = [path for path in folder.rglob("*") if path.is_file()]
        assert len(written) > 5
        for path in written:
            assert all(server.token(name).encode() not in path.read_bytes() for name in server.links), path

    def test_a_taken_port_and_a_held_journal(self, shared, tmp_path):
        server, folder = shared
        make_items(tmp_path, 1)
        base = ["review", "serve", "--annotators", "anna"]
        taken = CliRunner().invoke(app, [*base, str(tmp_path / "items.jsonl"), "--port", str(server.port)])
        assert taken.exit_code == 2 and f"port {server.port}: " in taken.stderr and "--port" in taken.stderr
        held = CliRunner().invoke(app, [*base, str(folder / "items.jsonl"), "--port", "0"])
        assert held.exit_code == 2 and "another process is writing this journal" in held.stderr


def test_a_full_disk_is_said_and_nothing_is_half_kept(tmp_path, visit):
    make_items(tmp_path, SIZE)
    with served(tmp_path, largest_file=400) as server:
        page = visit(server.links["anna"])
        press(page, "a1e")
        item = shown(page)
        press(page, "a2h")
        says(page, "record/annotators/anna.journal.jsonl: File too large")
        assert shown(page) == item and count(page) == "1 of 4 decided"
        assert pressed(page) == ["accept", "Violent", "hard"], "one key tries again"
        visit.troubles.clear()
    assert len(read_jsonl(journal(tmp_path / "record", "anna"))) == 1


@pytest.fixture
def visit(chromium):
    """Opens people's links; an error on a console or a request that leaves the loopback interface fails the test."""
    contexts, troubles = [], []

    def open_(link: str, context=None, **options):
        if context is None:
            usual = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}
            context = chromium.new_context(**usual | options)
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda r: r.url.startswith("http://127.0.0.1:") or troubles.append(r.url))
        page.goto(link)
        ready(page)
        return page

    open_.troubles = troubles
    yield open_
    for context in contexts:
        context.close()
    assert not troubles


def ready(page) -> None:
    page.wait_for_selector("#main:not([aria-busy]) > section:not([hidden])")


def press(page, keys: str) -> None:
    """Keys one after the other; `>` and `<` are arrows, `!` is Escape."""
    for key in keys:
        page.keyboard.press({">": "ArrowRight", "<": "ArrowLeft", "!": "Escape"}.get(key, key))
        ready(page)


def shown(page) -> str:
    return page.locator("#id").inner_text()


def count(page) -> str:
    return page.locator("#count").inner_text()


def says(page, text: str) -> None:
    page.wait_for_selector(f"#status:has-text('{text}')")


def pressed(page, box: str = ".panel") -> list[str]:
    return page.locator(f"{box} button[aria-pressed=true]:visible").evaluate_all("all => all.map(b => b.dataset.value)")


def unblurred(page) -> list[str]:
    return page.locator(".picture[aria-pressed=true]").evaluate_all("all => all.map(b => b.id)")


@pytest.fixture
def folder(tmp_path) -> Path:
    make_items(tmp_path, SIZE)
    return tmp_path


class TestPage:
    def test_from_the_first_key_to_the_export(self, folder, visit):
        """Two annotators at once, each with every key; then the adjudicator; then the files."""
        with served(folder) as server:
            anna, ben = visit(server.links["anna"]), visit(server.links["ben"])
            assert "token" not in anna.url and anna.locator("#person").inner_text() == "anna, annotator"
            assert count(anna) == "0 of 4 decided" and anna.locator("#show-agreement").is_hidden()
            # Pictures: blurred until asked for, one by one; blurred again on Escape and on the next pair.
            blur = "document.querySelectorAll('.picture img')[0].computedStyleMap().get('filter').toString()"
            assert unblurred(anna) == [] and "blur" in anna.evaluate(blur)
            press(anna, "s")
            assert unblurred(anna) == ["second"] and "blur" in anna.evaluate(blur)
            press(anna, "f")
            assert unblurred(anna) == ["first", "second"]
            press(anna, "!")
            assert unblurred(anna) == []
            press(anna, "fs")
            # The answers, in any order, and one pair after the other.
            said = {"anna": {}, "ben": {}}
            for turn, of in enumerate((("a1e", "ha1"), ("e2a", "a2e"), ("r3", "r1"), ("ah6", "a5h"))):
                for page, name, keys in zip((anna, ben), said, of, strict=True):
                    said[name][shown(page)] = keys
                    press(page, keys)
                    assert count(page) == f"{turn + 1} of 4 decided"
                    assert unblurred(page) == []
            assert set(said["anna"]) == set(said["ben"]) == {f"p{n}" for n in range(SIZE)}
            assert anna.locator("#finished-title").inner_text() == "All pairs are decided"
            assert ben.locator("#finished-agreement td").first.inner_text() == "4", "told when everyone is done"
            # The adjudicator sees where they differ, and no names.
            differ = self.differing(said)
            dora = visit(server.links["dora"])
            assert count(dora) == f"0 of {len(differ)} decided"
            for _ in differ:
                assert shown(dora) in differ
                votes = dora.locator("#vote-list").inner_text()
                assert votes.count("1 ×") == 2 and "anna" not in dora.content() and "ben" not in dora.content()
                press(dora, "fsa2h")
            assert dora.locator("#finished-text").inner_text() == "No more will come."
            dora.click("#show-agreement")
            assert dora.locator("#agreement td").first.inner_text() == "4"
            press(dora, "!")
            # Exported while the server runs.
            result = CliRunner().invoke(app, ["review", "export", str(folder / "items.jsonl")])
            assert result.exit_code == 0, result.output
        decisions = {(d.item, d.annotator): d for d in read_decisions(folder / "decisions.jsonl")}
        assert len(decisions) == 2 * SIZE
        for name, of in said.items():
            for item, keys in of.items():
                assert decisions[item, name].judgement == self.meant(keys), (name, item)
        results = read_results(folder / "results.jsonl")
        assert {r.item for r in results if r.adjudicated} == differ and len(results) == SIZE
        assert all((r.category, r.difficulty) == ("Violent", "hard") for r in results if r.adjudicated)

    def meant(self, keys: str):
        from mis.review.records import REASONS, Judgement
        from mis.taxonomy import CATEGORIES

        digit = int(next(key for key in keys if key.isdigit())) - 1
        if "r" in keys:
            return Judgement("reject", reason=REASONS[digit])
        return Judgement("accept", list(CATEGORIES)[digit], "easy" if "e" in keys else "hard")

    def differing(self, said) -> set[str]:
        def final(keys):
            judgement = self.meant(keys)
            return judgement.decision, judgement.category, judgement.difficulty

        return {item for item in said["anna"] if final(said["anna"][item]) != final(said["ben"][item])}

    def test_undo_and_another_look(self, folder, visit):
        with served(folder) as server:
            page = visit(server.links["anna"])
            first = shown(page)
            press(page, "u")
            says(page, "There is nothing to undo.")
            press(page, "a1e")
            second = shown(page)
            press(page, "r2")
            third = shown(page)
            press(page, "a")  # begun, not complete
            press(page, "u")
            assert shown(page) == second and count(page) == "1 of 4 decided" and pressed(page) == []
            press(page, "u")
            assert shown(page) == first and count(page) == "0 of 4 decided"
            press(page, "a1e")
            press(page, "r2")
            assert shown(page) == third
            press(page, "<<")
            assert shown(page) == first and pressed(page) == ["accept", "Illegal Activity", "easy"]
            assert page.locator("#mark").inner_text() == "decided: accept"
            press(page, "4")  # one answer changed, then another: the pair stays until one goes on
            assert shown(page) == first and pressed(page) == ["accept", "Self-Harm", "easy"]
            press(page, "h")
            assert pressed(page) == ["accept", "Self-Harm", "hard"]
            press(page, "u")
            assert shown(page) == first and pressed(page) == ["accept", "Self-Harm", "easy"]
            press(page, "r")
            assert page.locator("#categories").is_hidden()
            assert page.locator("#missing").inner_text() == "Still open: why not."
            press(page, ">n")
            assert shown(page) == third
            visit.troubles.clear()  # the browser's own word on the refused undo
        decisions = {d.item: d for d in self.exported(folder)}
        assert decisions[first].category == "Self-Harm" and decisions[second].reason == "meaningless pair"
        acts = [row["row"]["act"] for row in read_jsonl(journal(folder / "record", "anna"))]
        assert acts == ["decide", "decide", "undo", "undo", "decide", "decide", "decide", "decide", "undo"]

    def exported(self, folder: Path):
        assert CliRunner().invoke(app, ["review", "export", str(folder / "items.jsonl")]).exit_code == 1
        return read_decisions(folder / "decisions.jsonl")

    def test_two_tabs_of_one_person(self, folder, visit):
        with served(folder) as server:
            one = visit(server.links["anna"])
            two = visit(f"http://127.0.0.1:{server.port}/anna/", one.context)
            item = shown(one)
            assert shown(two) == item
            press(one, "a1e")
            press(two, "a2h")
            press(one, "u")
            says(one, "in another tab")
            assert count(one) == "1 of 4 decided" and count(two) == "1 of 4 decided"
            press(one, "<")
            assert shown(one) == item and pressed(one) == ["accept", "Violent", "hard"], "the last decision stands"
            visit.troubles.clear()
        assert [d.category for d in self.exported(folder) if d.item == item] == ["Violent"]
        rows = read_jsonl(journal(folder / "record", "anna"))
        assert [row["row"]["judgement"]["category"] for row in rows] == ["Illegal Activity", "Violent"]

    def test_a_killed_server_loses_nothing(self, folder, visit):
        with served(folder) as server:
            page = visit(server.links["anna"])
            press(page, "a1e")
            item, port = shown(page), server.port
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            with open(journal(folder / "record", "anna"), "ab") as file:
                file.write(b'{"request": "torn')
            page.keyboard.press("r")
            page.keyboard.press("5")  # nobody answers
            says(page, "Not saved yet")
            assert shown(page) == item and count(page) == "1 of 4 decided"
            with served(folder, port=port) as again:
                assert again.links == server.links, "a link outlives the server"
                page.wait_for_selector("#count:has-text('2 of 4 decided')")
                ready(page)
                assert shown(page) != item
                fresh = visit(again.links["anna"])
                assert shown(fresh) == shown(page) and count(fresh) == "2 of 4 decided"
            visit.troubles.clear()  # refused connections
        assert {d.item: d.decision for d in self.exported(folder)}[item] == "reject"

    def test_without_a_mouse_and_without_single_keys(self, folder, visit):
        with served(folder) as server:
            page = visit(server.links["anna"])
            press(page, "?")
            assert page.locator("#keys").is_visible()
            page.keyboard.press("r")  # not behind a dialog
            page.locator("#single").focus()
            page.keyboard.press("Space")
            press(page, "!r1")
            assert pressed(page) == [] and count(page) == "0 of 4 decided"
            wanted = ["first", "second", "accept", "Erotic", "hard"]
            for _ in range(40):
                page.keyboard.press("Tab")
                name = page.evaluate("document.activeElement.dataset.value || document.activeElement.id")
                if wanted and name == wanted[0]:
                    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                    assert outline == "solid", name
                    page.keyboard.press("Enter")
                    wanted.pop(0)
            ready(page)
            assert not wanted and count(page) == "1 of 4 decided"
        rows = read_jsonl(journal(folder / "record", "anna"))
        assert rows[0]["row"]["looked"] == [True, True] and rows[0]["row"]["judgement"]["category"] == "Erotic"

    def test_names_for_a_screen_reader(self, folder, visit):
        with served(folder, "--proposals") as server:
            page = visit(server.links["anna"])
            for role, name in (("button", "First picture, shown unblurred"), ("button", "Accept"), ("button", "Undo"),
                               ("group", "Category of the risk"), ("progressbar", "Pairs decided"),
                               ("button", "Previous pair"), ("heading", "Review of pairs")):  # fmt: skip
                assert page.get_by_role(role, name=name, exact=name != "Undo").count() == 1, name
            assert page.locator("html[lang=en]").count() == 1 and page.locator("#status[role=status]").count() == 1
            assert page.locator(".proposed:not(:empty)").count() == 2
            proposed = page.locator(".answer:has(.proposed:not(:empty))")
            assert proposed.evaluate_all("all => all.map(b => b.dataset.value)") == ["Hate", "hard"]
            assert pressed(page) == [], "a proposal is no decision"

    def test_light_dark_still_and_narrow(self, folder, visit):
        paper = "getComputedStyle(document.body).backgroundColor"
        motion = "getComputedStyle(document.querySelector('.picture img')).transitionDuration"
        with served(folder) as server:
            light = visit(server.links["anna"], reduced_motion="no-preference")
            assert light.evaluate(paper) == "rgb(255, 255, 255)" and light.evaluate(motion) == "0.2s"
            assert light.evaluate("document.documentElement.scrollHeight") <= 800
            dark = visit(server.links["anna"], color_scheme="dark", viewport={"width": 360, "height": 740})
            assert dark.evaluate(paper) == "rgb(22, 25, 29)" and dark.evaluate(motion) == "0s"
            assert dark.evaluate("document.documentElement.scrollWidth") <= 360
            for page in (light, dark):
                assert self.faint(page) == []

    def faint(self, page) -> list[str]:
        """Texts with less contrast to their ground than 4.5:1 (WCAG 2.2, AA)."""
        return page.evaluate(CONTRAST)

    def test_hostile_text_stays_text(self, folder, visit):
        rows = read_jsonl(folder / "items.jsonl")
        hostile = "</script><img src=x onerror=\"document.title='taken'\"> & 'quoted'"
        (folder / "items.jsonl").write_text(
            "".join(json.dumps(row | {"question": hostile, "note": hostile, "id": f"{hostile} {n}"}) + "\n"
                    for n, row in enumerate(rows)))  # fmt: skip
        with served(folder) as server:
            page = visit(server.links["anna"])
            assert page.locator("#question").inner_text() == hostile and page.locator("#note").inner_text() == hostile
            press(page, "a1e")
            assert count(page) == "1 of 4 decided" and page.locator('[src="x"]').count() == 0
            assert page.title() == "Review of pairs, anna"
