"""The expressions of `claims.csv`: read, checked against a list of what may stand in them, compiled.

What an expression may hold is listed in `data/reported/claims_README.md` and nowhere wider here: comparisons, sums and
quotients, lists, comprehensions, and calls of the functions in `FUNCTIONS`; no attributes, no subscripts, no names from
outside. Only then is it compiled, and it runs without builtins.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from types import CodeType
from typing import Any

from mis.report.reported import ReportError

# What an expression may look up; a body of evidence defines each.
LOOKUPS = ("v", "t3", "t7", "t18", "t19", "names", "ids")
_PURE: dict[str, Callable] = {
    "mean": fmean, "min": min, "max": max, "abs": abs, "all": all, "any": any, "len": len, "sum": sum, "round": round,
}  # fmt: skip
FUNCTIONS = (*LOOKUPS, *_PURE)
# Put around each list of models that a comprehension runs over: a run leaves out those that it does not have.
_PRESENT = "_present"

_ALLOWED = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Store, ast.Call, ast.keyword, ast.List, ast.Tuple,
    ast.GeneratorExp, ast.ListComp, ast.comprehension, ast.IfExp, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.USub,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.In, ast.NotIn,
)  # fmt: skip
_LONGEST = 4000  # characters


class Expression:
    """A checked boolean expression. Its top-level conjuncts (`a and b`) are kept apart.

    `as_written` are the conjuncts' compiled forms; `with_ties` the same with each `<` read as `<=` and each `>` as
    `>=`. In both all parts are evaluated: nothing is skipped because the answer is known, so that a reader of the
    lookups sees all that a claim rests on. Raises `ReportError`, beginning with `where`, for anything not allowed.
    """

    def __init__(self, source: str, where: str, models: Iterable[str] = ()):
        self.source, self.where = source, where
        if len(source) > _LONGEST:
            raise ReportError(f"{where}: the expression is longer than {_LONGEST} characters")
        try:
            tree = ast.parse(source, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ReportError(f"{where}: not an expression: {getattr(error, 'msg', error)}") from None
        _check(tree, where)
        body = tree.body
        parts = body.values if isinstance(body, ast.BoolOp) and isinstance(body.op, ast.And) else [body]
        self.literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        self.called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call)}
        text = [ast.unparse(part) for part in parts]
        self.as_written = [_compile(part, frozenset(models), ties=False) for part in text]
        self.with_ties = [_compile(part, frozenset(models), ties=True) for part in text]

    def scope(self, lookups: Mapping[str, Callable], present: Callable[[list], list] = list) -> dict[str, Any]:
        """The names that the compiled forms see: `lookups` defines those of `LOOKUPS` that it has."""
        return {"__builtins__": {}, **_PURE, **lookups, _PRESENT: present}

    def evaluate(self, code: CodeType, scope: dict[str, Any]) -> bool:
        """One conjunct under `scope`. Raises `ReportError` where it cannot be computed or is no truth value."""
        try:
            value = eval(code, scope)  # noqa: S307  checked above, and without builtins
        except ReportError:
            raise
        except Exception as error:
            raise ReportError(f"{self.where}: cannot be evaluated: {type(error).__name__}: {error}") from None
        if not isinstance(value, bool):
            raise ReportError(f"{self.where}: the value is {value!r}, not true or false")
        return value


def _check(tree: ast.Expression, where: str) -> None:
    bound = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }
    if clash := bound & set(FUNCTIONS):
        raise ReportError(f"{where}: {sorted(clash)[0]} is a function; give the loop's variable another name")
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ReportError(f"{where}: {type(node).__name__} may not stand in an expression")
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS):
            raise ReportError(
                f"{where}: {ast.unparse(node.func)!r} is no function of claims; known: {', '.join(FUNCTIONS)}"
            )
        if isinstance(node, ast.Name) and id(node) not in called and node.id not in bound:
            raise ReportError(f"{where}: the name {node.id!r} is not bound by a `for` of the expression")
        if isinstance(node, ast.keyword) and (node.arg is None or node.arg.startswith("_")):
            raise ReportError(f"{where}: arguments must be given one by one")
        if isinstance(node, ast.comprehension) and node.is_async:
            raise ReportError(f"{where}: async may not stand in an expression")
        if isinstance(node, ast.Constant) and type(node.value) not in (str, int, float):
            raise ReportError(f"{where}: {node.value!r} may not stand in an expression")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            if any(isinstance(side, (ast.List, ast.ListComp, ast.Tuple)) for side in (node.left, node.right)) or any(
                isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (node.left, node.right)
            ):
                raise ReportError(f"{where}: only numbers may be multiplied")


class _Rewrite(ast.NodeTransformer):
    """Nothing is skipped: `a and b` -> all([a, b]), `a < b < c` -> all([a < b, b < c]), generators -> lists."""

    def __init__(self, models: frozenset[str], ties: bool):
        self.models, self.ties = models, ties

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        return _call("all" if isinstance(node.op, ast.And) else "any", ast.List(node.values, ast.Load()))

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        self.generic_visit(node)
        return ast.ListComp(node.elt, node.generators)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        operators = node.ops
        if self.ties:
            loose = {ast.Lt: ast.LtE, ast.Gt: ast.GtE}
            operators = [loose.get(type(operator), type(operator))() for operator in operators]
        sides = [node.left, *node.comparators]
        pairs = [ast.Compare(sides[i], [operator], [sides[i + 1]]) for i, operator in enumerate(operators)]
        return pairs[0] if len(pairs) == 1 else _call("all", ast.List(pairs, ast.Load()))

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        words = [item.value for item in node.iter.elts if isinstance(item, ast.Constant)] if isinstance(
            node.iter, ast.List) else []  # fmt: skip
        if words and len(words) == len(node.iter.elts) and set(words) <= self.models:
            node.iter = _call(_PRESENT, node.iter)
        return node


def _call(function: str, argument: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(function, ast.Load()), [argument], [])


def _compile(source: str, models: frozenset[str], ties: bool) -> CodeType:
    tree = _Rewrite(models, ties).visit(ast.parse(source, mode="eval"))
    return compile(ast.fix_missing_locations(tree), "<claim>", "eval")
