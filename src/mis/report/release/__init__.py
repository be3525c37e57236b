"""A constructed MIS as a dataset that others can load: Parquet with pictures, card, Croissant, statistics.

`datasets.load_dataset("<build>/release/mis")` reads it. It is a folder on this machine and nothing else: publishing it
is a person's decision. The same construction gives the same bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mis import layout
from mis.report.figures import write_figure
from mis.report.release.card import write_card
from mis.report.release.croissant import write_croissant
from mis.report.release.funnel import write_funnel
from mis.report.release.parquet import write_split
from mis.report.release.rows import Construction
from mis.settings import Settings
from mis.store import write_jsonl_atomic

if TYPE_CHECKING:
    from mis.report.pictures import Draw

FIGURES = ("2", "3", "7")


def release(settings: Settings, draw: Draw | None = None) -> Path:
    """Writes `B/release/mis/` anew, whole or not at all; returns the folder.

    Raises :class:`mis.errors.MisError` where nothing is constructed, or its files disagree.
    """
    construction = Construction(settings)
    target = layout.release(settings)
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    files = {split: write_split(new, split, construction) for split in construction.splits}
    write_jsonl_atomic(new / "construction" / "participants.jsonl", construction.participants)
    shutil.copyfile(construction.folder / "funnel.csv", new / "construction" / "funnel.csv")
    write_funnel(new / "figures", construction)
    # The released data, whatever MIS the run itself trains on.
    paths = {"data": layout.constructed(settings), "figures": new / "figures"}
    own = settings.model_copy(update={"paths": settings.paths.model_copy(update=paths)})
    for number in FIGURES:
        write_figure(number, own, draw=draw)
    write_card(new, construction, files)
    write_croissant(new, construction, files)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    return target
