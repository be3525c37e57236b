"""What a report is made of: the paper's numbers and a run's files, each read when first asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mis import layout
from mis.report import names
from mis.report.reported import Analogues, Reported, ReportError, read_analogues
from mis.report.scores import Scores, count_categories
from mis.scoring import general_data_shares
from mis.settings import Settings

if TYPE_CHECKING:
    from mis.report.pictures import Draw, Pictures
    from mis.report.probes import Probes


class Sources:
    """All that tables and figures are made of, read when first asked for: the paper's numbers and a run's files."""

    def __init__(
        self, settings: Settings, root: Path | str | None = None, draw: Draw | None = None, artifact: str = ""
    ):
        """`draw` draws a vector layout of the miniature for print; without it pictures are shown as their files are.

        `artifact` ("table4") is what is drawn, for a run that keeps each one's scores apart.
        """
        self.settings = settings
        self.root = root
        self._draw = draw
        self.artifact = artifact
        self.scale = settings.scale

    @cached_property
    def reported(self) -> Reported:
        return Reported(self.root)

    @cached_property
    def pictures(self) -> Pictures:
        from mis.report.pictures import Pictures

        return Pictures(self.settings.paths.data, self._draw)

    @cached_property
    def probes(self) -> Probes:
        from mis.report.probes import Probes

        return Probes(self.settings)

    @cached_property
    def analogues(self) -> Analogues:
        return read_analogues(self.root)

    @cached_property
    def scores(self) -> Scores:
        return Scores(layout.scores(self.settings, self.artifact), self.analogues, self.scale)

    @cached_property
    def category_counts(self) -> dict[tuple[str, str], int] | None:
        return count_categories(self.settings.paths.data / "mis")

    @cached_property
    def general_data_percent(self) -> dict[str, float]:
        """Share of general data in each mixture of the run, in percent; empty where nothing was mixed."""
        arms = {("", arm): {} for arm in self.settings.all_arms()}
        rows = general_data_shares(layout.datasheet(self.settings), self.scale, arms)
        return {row["method"]: row["value"] for row in rows}

    @cached_property
    def configured_models(self) -> dict[str, str]:
        """The run's configured models by the reported model that each stands beside; `ReportError` where two do."""
        beside: dict[str, str] = {}
        for model in self.settings.models or {}:
            reported = self.analogues.reported_model(model)
            if reported in beside:
                raise ReportError(
                    f"{beside[reported]} and {model} both stand for {reported}; change data/analogues.yaml"
                )
            beside[reported] = model
        return beside

    @property
    def interval_name(self) -> str:
        return f"{100 * self.settings.report.confidence:g} % interval"

    @property
    def seeds_text(self) -> str:
        """The seeds behind the numbers; where models differ, whose. An arm with fewer seeds shows its own n."""
        models: dict[str, list[str]] = {}
        for model, seeds in self.scores.seeds_of.items():
            text = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(seeds)} pooled"
            models.setdefault(text, []).append(model)
        if len(models) == 1:
            return next(iter(models))
        return "; ".join(f"{text} ({', '.join(names)})" for text, names in models.items())

    def run_notes(self, models: Iterable[str]) -> list[str]:
        """Which run stands beside which of `models` (reported ids), and how to read a measured cell."""
        if not self.scores.models:
            return [] if self.scale == "reported" else [f"Nothing is reproduced: {self.scores.path} has no scores."]
        beside = [f"{run} beside {names.model(model)}" for model in dict.fromkeys(models)
                  if (run := self.scores.run_model(model)) and run != model]  # fmt: skip
        return [
            f"{self.scale}: {'; '.join([*beside, self.seeds_text])}. In brackets the {self.interval_name}; n counts "
            "all responses, also those without a verdict (failed), which never count as safe."
        ]
