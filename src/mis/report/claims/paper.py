"""The paper's own numbers as evidence for its claims: an audit of the paper against itself."""

from __future__ import annotations

from collections.abc import Callable

from mis.report.claims.expressions import Expression
from mis.report.reported import Reported, ReportError, Value

# `v` without an artifact reads every table but these: Figure 4 was misread by the OCR, the site is an older version.
_APART = ("figure4", "website_")


class Paper:
    """Lookups over `data/reported/`, as `claims_README.md` defines them."""

    def __init__(self, reported: Reported):
        self.reported = reported
        self._cells: dict[tuple[str, ...], list[Value]] = {}
        for value in reported.values:
            key = (value.model, value.method, value.benchmark, value.split, value.metric)
            self._cells.setdefault(key, []).append(value)
        self._small = {number: reported.small_table(number) for number in ("3", "7", "18", "19")}

    @property
    def models(self) -> frozenset[str]:
        """The ids of all models that the paper has numbers of."""
        return frozenset(value.model for value in self.reported.values)

    @property
    def lookups(self) -> dict[str, Callable]:
        return {"v": self.v, "t3": self.t3, "t7": self.t7, "t18": self.t18, "t19": self.t19, "names": self.names,
                "ids": self.ids}  # fmt: skip

    def holds(self, expression: Expression) -> bool:
        """Whether a claim holds on the paper's printed numbers."""
        scope = expression.scope(self.lookups)
        return all([expression.evaluate(code, scope) for code in expression.as_written])

    def v(self, model: str, method: str, benchmark: str, split: str, metric: str, artifact: str | None = None) -> float:
        """The printed value. Without `artifact` all tables that have it must agree, or it is an error."""
        where = (model, method, benchmark, split, metric)
        found = [
            value
            for value in self._cells.get(where, ())
            if (value.artifact == artifact if artifact else not value.artifact.startswith(_APART))
        ]
        numbers = {float(value.value) for value in found}
        if len(numbers) != 1:
            many = f"the tables print {', '.join(value.value for value in found)}; name one" if found else "not printed"
            raise ReportError(f"{self.reported.folder / 'paper_values.csv'}: {' '.join(where)}: {many}")
        return numbers.pop()

    def ids(self, column: str, **where: str) -> list[str]:
        """Distinct entries of a column of `paper_values.csv`, in order, over the rows that agree with `where`."""
        rows = [row for row in self.reported.values if all(getattr(row, key) == value for key, value in where.items())]
        return list(dict.fromkeys(getattr(row, column) for row in rows))

    def names(self, table: str, column: str) -> list[str]:
        return [name for name in dict.fromkeys(row[column] for row in self._small[table.removeprefix("t")]) if name]

    def t3(self, category: str, sub_category: str = "", column: str = "samples") -> float | str:
        return self._entry("3", column, category=category, sub_category=sub_category)

    def t7(self, model: str, method: str, column: str) -> float | str:
        return self._entry("7", column, model=model, method=method)

    def t18(self, benchmark: str, column: str) -> float | str:
        return self._entry("18", column, benchmark=benchmark)

    def t19(self, dataset: str, column: str) -> float | str:
        return self._entry("19", column, dataset=dataset)

    def _entry(self, number: str, column: str, **where: str) -> float | str:
        rows = [row for row in self._small[number] if all(row[key] == value for key, value in where.items())]
        if len(rows) != 1:
            raise ReportError(f"Table {number} of the paper has {len(rows)} rows with {where}")
        try:
            return float(rows[0][column])
        except ValueError:
            return rows[0][column]
