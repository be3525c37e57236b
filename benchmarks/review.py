"""What a review costs the server: processor seconds of each thing that a page asks for, with many pairs.

    python -m benchmarks.review [--pairs 7000] [--annotators 3]

Everyone decides every pair, one in ten differently; then each desk answers. One row a thing: processor milliseconds.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from PIL import Image

from mis.review.ledger import Ledger
from mis.review.records import REASONS, Judgement, ReviewItem, read_items, write_items
from mis.review.server import AdjudicatorsDesk, AnnotatorsDesk, Submission
from mis.review.settling import Review, adjudication, export, journal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7000)
    parser.add_argument("--annotators", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        images = (folder / "first.png", folder / "second.png")
        for image in images:
            Image.new("RGB", (512, 512)).save(image)
        write_items(folder / "items.jsonl", (ReviewItem(str(n), images, "what ?") for n in range(given.pairs)))
        items = timed("read the items", lambda: read_items(folder / "items.jsonl"))

        def ledger(path: Path, name: str) -> Ledger:
            return stack.enter_context(closing(Ledger(path, name)))

        people = {f"p{n}": ledger(journal(folder, f"p{n}"), f"p{n}") for n in range(given.annotators)}
        review = Review(items, people, ledger(adjudication(folder), "adjudicator"))
        draw = random.Random(0)
        answers = [Judgement("accept", "Hate", "easy")] * 9 + [Judgement("accept", "Violent", "easy")]

        def decide() -> None:
            for item in items:
                for person in people.values():
                    person.decide(item.id, review.requests[item.id], draw.choice(answers), (True, True))

        timed(f"write {given.pairs * given.annotators} decisions, each synced", decide)
        desks = {
            "annotator": AnnotatorsDesk(review, "p0", people["p0"], False),
            "adjudicator": AdjudicatorsDesk(review, "adjudicator", review.adjudicator, False),
        }
        for role, desk in desks.items():
            state = timed(f"{role}: open the page", desk.state)
            shown = timed(f"{role}: show a pair", lambda desk=desk, state=state: desk.item(state["queue"][0]))
            rejected = Submission(shown["id"], shown["request"], Judgement("reject", reason=REASONS[0]), (True, True))
            timed(f"{role}: decide", lambda desk=desk, rejected=rejected: desk.decide(rejected))
        timed("export", lambda: export(review, folder / "out"))
        timed("read the journals again", lambda: Review.read(items, folder))


def timed(what: str, run: Callable[[], Any]) -> Any:
    start = time.process_time()
    result = run()
    print(f"{what:45} {1000 * (time.process_time() - start):10.1f} ms", flush=True)
    return result


if __name__ == "__main__":
    main()
