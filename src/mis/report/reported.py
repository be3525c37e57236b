"""The paper's own numbers (`data/reported/`, read-only) and which run stands beside them (`data/analogues.yaml`).

Values stay the strings that the paper prints: "46.50" is not "46.5", and a doubtful cell keeps its doubtful value with
its note. `data/reported/README.md` lists the 24 places where the paper disagrees with itself.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import yaml

from mis.errors import MisError

IDENTITY = ("model", "method", "benchmark", "split", "metric")
SMALL_TABLES = {
    "3": "table3_categories.csv",
    "7": "table7_hyperparameters.csv",
    "18": "table18_benchmarks.csv",
    "19": "table19_training_sets.csv",
}


class ReportError(MisError, ValueError):
    """A table or figure that cannot be made. Its text is meant for the user: it names the file and the remedy."""


@dataclass(frozen=True)
class Value:
    """One printed number. `value` is the string in the paper; `note` says what is doubtful about it."""

    artifact: str
    model: str
    method: str
    benchmark: str
    split: str
    metric: str
    unit: str
    direction: str
    value: str
    note: str


def repository_root(root: Path | str | None = None) -> Path:
    """The folder that holds `data/reported/`: `root` if given, otherwise the checkout that this package lies in.

    The package reads its data from the checkout (it is installed in editable mode), so that a number can be traced to
    a file under version control. Raises `ReportError` where `data/reported/paper_values.csv` is not there.
    """
    folder = Path(root) if root is not None else Path(__file__).resolve().parents[3]
    if not (folder / "data" / "reported" / "paper_values.csv").is_file():
        raise ReportError(
            f"{folder / 'data' / 'reported' / 'paper_values.csv'}: not found; run from a checkout of the repository "
            "(pip install -e .) or name its root"
        )
    return folder


def read_csv(path: Path, columns: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file as strings, each with its line number under "line". Raises `ReportError`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise ReportError(f"{path}, line 1: missing column {', '.join(missing)}")
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise ReportError(
                        f"{path}, line {reader.line_num}: {len(reader.fieldnames)} cells expected; "
                        "the file is damaged, make it again"
                    )
                rows.append({**row, "line": str(reader.line_num)})
    except FileNotFoundError:
        raise ReportError(f"{path}: not found") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReportError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    return rows


class Reported:
    """The numbers of the paper, by artifact ("table4", "website_figure4") and cell."""

    def __init__(self, root: Path | str | None = None):
        self.folder = repository_root(root) / "data" / "reported"
        names = tuple(Value.__dataclass_fields__)
        rows = read_csv(self.folder / "paper_values.csv", names)
        self.values = [Value(**{name: row[name] for name in names}) for row in rows]
        self._cells = {(v.artifact, *(getattr(v, name) for name in IDENTITY)): v for v in self.values}

    def of(self, artifact: str) -> list[Value]:
        """The values of one artifact in the paper's order."""
        return [value for value in self.values if value.artifact == artifact]

    def get(self, artifact: str, *identity: str) -> Value | None:
        """The value at `identity` (model, method, benchmark, split, metric), or None where the paper prints none."""
        return self._cells.get((artifact, *identity))

    def rows(self, artifact: str) -> list[tuple[str, str]]:
        """The (model, method) pairs of an artifact in the paper's order."""
        return list(dict.fromkeys((value.model, value.method) for value in self.of(artifact)))

    def small_table(self, number: str) -> list[dict[str, str]]:
        """The rows of Table 3, 7, 18 or 19, as printed."""
        rows = read_csv(self.folder / SMALL_TABLES[number])
        return [{key: cell for key, cell in row.items() if key != "line"} for row in rows]


@dataclass(frozen=True)
class Analogues:
    """`models` maps a run's model to its reported row; `methods` holds the reported methods without a counterpart."""

    models: dict[str, str]
    methods: dict[str, str | None]

    def reported_model(self, run_model: str) -> str:
        return self.models.get(run_model, run_model)

    def run_method(self, reported_method: str) -> str | None:
        return self.methods.get(reported_method, reported_method)


def read_analogues(root: Path | str | None = None) -> Analogues:
    """Read `data/analogues.yaml`; an unknown key or a method that is shown twice raises `ReportError`."""
    path = repository_root(root) / "data" / "analogues.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from None
    if not isinstance(raw, dict) or set(raw) - {"models", "methods"}:
        raise ReportError(f"{path}: expected the keys models and methods")
    models, methods = raw.get("models") or {}, raw.get("methods") or {}
    for name, part, kinds in (("models", models, str), ("methods", methods, str | None)):
        if not isinstance(part, dict) or not all(isinstance(v, kinds) for v in part.values()):
            raise ReportError(f"{path}: {name} must map ids to ids" + (" or null" if name == "methods" else ""))
    for reported, run in methods.items():
        if run is not None:
            raise ReportError(f"{path}: methods.{reported}: a run is shown under its own name only; give null")
    return Analogues(models, methods)
