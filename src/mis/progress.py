"""Progress that a person can follow: a bar on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERVAL_S = 10.0


@contextmanager
def track(total: int, label: str, *, enabled: bool = True) -> Iterator[Callable[[int], None]]:
    """Yields `advance(count)`; writes to standard error."""
    if not enabled or not total:
        yield lambda count: None
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit="sample", dynamic_ncols=True) as bar:
            yield bar.update
    else:
        yield _lines(total, label)


def _lines(total: int, label: str) -> Callable[[int], None]:
    start = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if done >= total or now - last >= INTERVAL_S:
            last = now
            rate = done / max(now - start, 1e-9)
            left = f"{(total - done) / rate:.0f} s left" if rate and done < total else f"{now - start:.0f} s"
            print(f"{label}: {done}/{total} ({rate:.1f}/s, {left})", file=sys.stderr, flush=True)

    return advance
