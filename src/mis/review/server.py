"""The review's page: a server on the loopback interface alone, for people who each hold a link with a token.

Tornado, because Jupyter brings it: server and framework in one, no new package. What protects the page:

- A person's part lies under `/<name>/`; every request needs their token, as the cookie of that path. The link carries
  it in the query once; the answer sets the cookie (HttpOnly, SameSite=Strict) and leads to the address without it.
- The Host header must name the loopback interface, so that no other name can be made to point here. A change must come
  from the page itself: Origin, Sec-Fetch-Site and the content type are checked, and there is no other way to make one.
- Scripts, styles and pictures come from here alone (Content-Security-Policy); a picture is asked for by its pair's
  number, never by a path. Nothing is logged that holds a token or a question.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from mis.errors import MisError
from mis.review.ledger import History, Ledger
from mis.review.records import (
    EASY,
    HARD,
    PICTURES,
    REASONS,
    Judgement,
    ReviewError,
    ReviewItem,
    adapter,
    explain,
    picture_format,
    to_row,
)
from mis.review.settling import (
    ADJUDICATED,
    DISPUTED,
    NAME,
    OPEN,
    Case,
    Review,
    adjudication,
    check_names,
    journal,
)
from mis.taxonomy import CATEGORIES

ADDRESS = "127.0.0.1"
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?")  # any port: a tunnel may have another
LARGEST_REQUEST = 16 * 1024
ASSETS = {"review.css": "text/css", "review.js": "text/javascript", "icon.svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# A redirect would lose the cookie where the link was followed from another site: SameSite=Strict counts the whole way.
WELCOME = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=./">
<title>Review of pairs</title><link rel="icon" href="icon.svg"><p><a href="./">To the review</a></p></html>
"""
log = logging.getLogger(__name__)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Submission:
    """A judgement as the page sends it: of which pair, and of what was shown under its id."""

    item: str
    request: str
    judgement: Judgement
    looked: tuple[bool, bool]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Undo:
    """`revision` is the one that the page knows: what was decided since, in another tab, is not undone unseen."""

    revision: int


class Desk:
    """What one person sees and does. `ask` tells the page what can be answered."""

    role = ""

    def __init__(self, review: Review, name: str, ledger: Ledger, proposals: bool):
        self.review = review
        self.name = name
        self.ledger = ledger
        self.proposals = proposals
        self.numbers = {item.id: number for number, item in enumerate(review.items)}

    def queue(self) -> Sequence[int]:
        """Numbers of the pairs to judge, in this person's order."""
        raise NotImplementedError

    def current(self, item: str) -> str | None:
        """The request of a pair as it is shown now; None if it is not shown to this person."""
        raise NotImplementedError

    def extra(self, item: ReviewItem) -> dict[str, Any]:
        return {}

    def waiting(self) -> int:
        """How many pairs may still come."""
        return 0

    def shows_agreement(self, cases: Sequence[Case]) -> bool:
        raise NotImplementedError

    def _judgement(self, item: ReviewItem) -> Judgement | None:
        request = self.current(item.id)
        act = self.ledger.standing(item.id, request) if request else None
        return act and act.judgement

    def _done(self, queue: Sequence[int]) -> list[int]:
        return [number for number in queue if self._judgement(self.review.items[number])]

    def state(self) -> dict[str, Any]:
        queue, cases = self.queue(), self.review.cases()
        agreement = self.review.agreement(cases) if self.shows_agreement(cases) else None
        return {
            "role": self.role,
            "name": self.name,
            "revision": self.ledger.revision,
            "queue": queue,
            "done": self._done(queue),
            "waiting": self.waiting(),
            "agreement": agreement and [found.to_row() for found in agreement],
            "categories": list(CATEGORIES),
            "reasons": REASONS,
            "difficulties": [EASY, HARD],
        }

    def item(self, number: int) -> dict[str, Any]:
        if number >= len(self.review.items) or self.current(self.review.items[number].id) is None:
            raise HTTPError(404)
        item = self.review.items[number]
        judgement = self._judgement(item)
        shown = {
            "number": number,
            "id": item.id,
            "request": self.current(item.id),
            "question": item.question,
            "note": item.note,
            "judgement": judgement and to_row(judgement),
        }
        if self.proposals:
            shown["proposed"] = {"category": item.proposed_category, "difficulty": item.proposed_split}
        return shown | self.extra(item)

    def decide(self, given: Submission) -> dict[str, Any]:
        if given.item not in self.numbers or self.current(given.item) != given.request:
            raise Refused(409, "This pair has changed meanwhile; look at it again.")
        self.ledger.decide(given.item, given.request, given.judgement, given.looked)
        return self._progress(self.numbers[given.item])

    def undo(self, given: Undo) -> dict[str, Any]:
        if given.revision != self.ledger.revision:
            raise Refused(409, "Something was decided in another tab meanwhile; nothing was undone.")
        act = self.ledger.undo(lambda id: self.current(id) if id in self.numbers else None)
        if act is None:
            raise Refused(409, "There is nothing to undo.")
        return self._progress(self.numbers[act.item]) | {"undone": self.numbers[act.item]}

    def _progress(self, number: int) -> dict[str, Any]:
        """Where this person stands after a change of pair `number`; `next` is the next open one, around the end."""
        queue = list(self.queue())
        done = set(self._done(queue))
        at = queue.index(number) if number in queue else -1
        following = [n for n in queue[at + 1 :] + queue[: at + 1] if n not in done]
        return {
            "revision": self.ledger.revision,
            "done": number in done,
            "finished": len(done),
            "next": following[0] if following else None,
        }


class AnnotatorsDesk(Desk):
    """Everyone has an order of their own, so that nobody's fatigue meets the same pairs."""

    role = "annotator"

    def __init__(self, *given: Any):
        super().__init__(*given)
        key = [hashlib.sha256(f"{self.name}/{item.id}".encode()).digest() for item in self.review.items]
        self._queue = sorted(range(len(key)), key=key.__getitem__)

    def queue(self) -> Sequence[int]:
        return self._queue

    def current(self, item: str) -> str | None:
        return self.review.requests[item]

    def shows_agreement(self, cases: Sequence[Case]) -> bool:
        """Only at the end: before, it would tell how the others decide."""
        return all(case.state != OPEN for case in cases)


class AdjudicatorsDesk(Desk):
    """Sees what was decided, counted and without names, of pairs on which the annotators differ."""

    role = "adjudicator"

    def queue(self) -> Sequence[int]:
        return [n for n, case in enumerate(self.review.cases()) if case.state in (DISPUTED, ADJUDICATED)]

    def current(self, item: str) -> str | None:
        return self._case(item).request or None

    def extra(self, item: ReviewItem) -> dict[str, Any]:
        case = self._case(item.id)
        votes = Counter(json.dumps(to_row(act.judgement)) for act in case.votes.values())
        ordered = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))
        return {"votes": [{"times": n, **json.loads(vote)} for vote, n in ordered], "differ": case.differ}

    def waiting(self) -> int:
        return sum(case.state == OPEN for case in self.review.cases())

    def shows_agreement(self, cases: Sequence[Case]) -> bool:
        return True

    def _case(self, item: str) -> Case:
        return self.review.case(self.review.items[self.numbers[item]])


class Refused(HTTPError):
    """A request that is understood and refused; the text is shown to the person."""

    def __init__(self, status: int, text: str):
        super().__init__(status)
        self.text = text


class Doors:
    """Who may come in: a desk a person, and the token that opens it."""

    def __init__(self, desks: Sequence[Desk], secret: bytes):
        self._desks = {desk.name: desk for desk in desks}
        self._secret = secret
        self._nobodys = secrets.token_urlsafe()

    def token(self, desk: Desk) -> str:
        """The same as long as the secret is: a link holds until the review's end."""
        digest = hmac.digest(self._secret, f"{desk.role}/{desk.name}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def open(self, name: str, token: str) -> Desk | None:
        desk = self._desks.get(name)
        expected = self.token(desk) if desk else self._nobodys
        return desk if hmac.compare_digest(token.encode(), expected.encode()) else None

    def links(self, port: int) -> dict[str, str]:
        return {
            f"{desk.role} {desk.name}": f"http://{ADDRESS}:{port}/{desk.name}/?token={self.token(desk)}"
            for desk in self._desks.values()
        }


class Handler(RequestHandler):
    """Lets in who holds the token; answers with JSON, errors too."""

    def initialize(self, doors: Doors, cookie: Callable[[], str]) -> None:
        self.doors = doors
        self.cookie = cookie

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def compute_etag(self) -> None:
        return None

    def prepare(self) -> None:
        hosts = self.request.headers.get_list("Host")
        if len(hosts) != 1 or not LOOPBACK.fullmatch(hosts[0]):
            raise Refused(403, "This page answers on the loopback interface alone.")
        name = self.path_args[0] if self.path_args else ""
        desk = self.doors.open(name, self.token())
        if desk is None:
            raise Refused(403, "Open the link that `mis review serve` has printed for you.")
        self.desk = desk
        if not self.from_the_page(hosts[0]):
            raise Refused(403, "This request does not come from the review's own page.")

    def token(self) -> str:
        return self.get_cookie(self.cookie()) or ""

    def from_the_page(self, host: str) -> bool:
        headers = self.request.headers
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        return self.request.method == "GET" or (
            headers.get_list("Origin") == [f"http://{host}"] and headers.get("Content-Type") == "application/json"
        )

    def body(self, kind: type) -> Any:
        try:
            return adapter(kind).validate_json(self.request.body)
        except ValidationError as error:
            raise Refused(400, explain(error)) from None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, MisError):  # a full disk: the decision was not kept, and the page must say so
            text = str(error)
        else:
            text = getattr(error, "text", self._reason)
        self.finish({"error": text})

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Without the request, which may hold a token."""
        if not isinstance(error, HTTPError):
            log.error("%s: %s", self.request.path, error, exc_info=None if isinstance(error, MisError) else error)


class Nothing(Handler):
    def get(self, *_: str) -> None:
        raise HTTPError(404)

    post = get


class Page(Handler):
    """The page; with the token in the query, the way to it."""

    def token(self) -> str:
        return self.get_query_argument("token", "") or super().token()

    def from_the_page(self, host: str) -> bool:
        return self.request.method == "GET"  # a link may be followed from anywhere

    def get(self, name: str) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        if self.get_query_argument("token", ""):
            self.set_cookie(self.cookie(), self.token(), path=f"/{name}/", httponly=True, samesite="Strict")
            self.finish(WELCOME)
        else:
            self.finish(_asset("index.html"))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        text = getattr(kwargs.get("exc_info", (None, None))[1], "text", self._reason)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{text}\n")


class Asset(Handler):
    def get(self, name: str, asset: str) -> None:
        self.set_header("Content-Type", f"{ASSETS[asset]}; charset=utf-8")
        self.finish(_asset(asset))


class State(Handler):
    def get(self, name: str) -> None:
        self.finish(self.desk.state())


class Item(Handler):
    def get(self, name: str, number: str) -> None:
        self.finish(self.desk.item(int(number)))


class Picture(Handler):
    def get(self, name: str, number: str, place: str) -> None:
        self.desk.item(int(number))  # 404 unless it is shown to this person
        path = self.desk.review.items[int(number)].images[int(place)]
        try:
            self.set_header("Content-Type", PICTURES[picture_format(path)])
            self.finish(path.read_bytes())
        except OSError:
            raise HTTPError(404) from None


class Decide(Handler):
    def post(self, name: str) -> None:
        self.finish(self.desk.decide(self.body(Submission)))


class TakeBack(Handler):
    def post(self, name: str) -> None:
        self.finish(self.desk.undo(self.body(Undo)))


def _asset(name: str) -> bytes:
    return (resources.files(__package__) / "assets" / name).read_bytes()


def application(doors: Doors, cookie: Callable[[], str]) -> Application:
    given = {"doors": doors, "cookie": cookie}
    person, assets = f"/({NAME.pattern})/", "|".join(map(re.escape, ASSETS))
    return Application(
        [
            (person, Page, given),
            (f"{person}({assets})", Asset, given),
            (f"{person}state", State, given),
            (f"{person}item/([0-9]{{1,7}})", Item, given),
            (f"{person}picture/([0-9]{{1,7}})/([01])", Picture, given),
            (f"{person}decide", Decide, given),
            (f"{person}undo", TakeBack, given),
            (f"{person}.*", Nothing, given),
        ],
        default_handler_class=Nothing, default_handler_args=given, log_function=lambda handler: None,
    )  # fmt: skip


def read_secret(record: Path) -> bytes:
    """The record's own secret, made once, readable by its owner alone; without the file all old links are void."""
    path = record / ".secret"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = path.read_bytes()
        if len(secret) != 32:
            raise ReviewError(f"{path}: not a review's secret; remove it and hand out new links") from None
        return secret
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()


def serve(
    items: Sequence[ReviewItem], record: Path, annotators: Sequence[str], adjudicator: str = "", *,
    port: int, proposals: bool = False, announce: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Serves until it is told to stop (SIGINT, SIGTERM); `announce` gets everyone's link, a line each.

    Port 0 is any free one. Raises :class:`ReviewError` for a port or names that cannot be used, and
    :class:`mis.store.StoreError` where another server holds a journal.
    """
    check_names([*annotators, *([adjudicator] if adjudicator else [])])
    record.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:

        def opened(path: Path, name: str) -> Ledger:
            ledger = Ledger(path, name)
            stack.callback(ledger.close)
            return ledger

        ledgers = {name: opened(journal(record, name), name) for name in annotators}
        place = adjudication(record)
        review = Review(items, ledgers, opened(place, adjudicator) if adjudicator else History.read(place))
        desks: list[Desk] = [AnnotatorsDesk(review, name, ledger, proposals) for name, ledger in ledgers.items()]
        if adjudicator:
            desks.append(AdjudicatorsDesk(review, adjudicator, review.adjudicator, proposals))
        asyncio.run(_run(Doors(desks, read_secret(record)), port, announce))


async def _run(doors: Doors, port: int, announce: Callable[[str], None]) -> None:
    try:
        sockets = bind_sockets(port, ADDRESS)
    except OSError as error:
        raise ReviewError(f"port {port}: {error.strerror}; name another with --port (0: any free one)") from None
    port = sockets[0].getsockname()[1]
    # Cookies know no ports: two reviews on one machine need two names.
    server = HTTPServer(application(doors, lambda: f"mis_review_{port}"), max_body_size=LARGEST_REQUEST)
    server.add_sockets(sockets)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for person, link in doors.links(port).items():
        announce(f"{person}: {link}")
    await stop.wait()
    server.stop()
    await server.close_all_connections()
