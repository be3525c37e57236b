"""How rules reach the library, and which of its code a rule depends on.

Imported modules are no inputs to Snakemake: the digest of their files is a parameter of the rule instead. The files
are found from the import statements, so that the list cannot go stale: a change in the training code trains again, a
change in the tables draws only the tables again.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from functools import cache
from pathlib import Path

from mis.code import code_digest

PACKAGE = "mis"
# Values of the configuration reach a rule as parameters of their own, and the command line only passes them on; without
# this exception a new key for one stage would run every stage again.
NOT_FOLLOWED = {f"{PACKAGE}.settings", f"{PACKAGE}.cli"}
CODE_AND_DATA = {".py", ".json", ".yaml", ".csv", ".png", ".html", ".css", ".js", ".md", ".txt", ".jinja"}


def reach(source: Path) -> None:
    """Sets the environment of the jobs, so that `python -m mis` works in each of them.

    The running interpreter comes first on PATH (a conda environment that is activated for a job comes before it), the
    library from `source`. Idle OpenMP threads sleep: spinning, they would take the cores from the job beside them.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("PYTHONUNBUFFERED", "1")


def digest(source: Path, *modules: str) -> str:
    """SHA-256 (16 hex digits) of `modules` (packages whole), of all that they import from the library, and of its data.

    `source` is the folder that holds the package. Raises ValueError for a module that does not exist.
    """
    total = hashlib.sha256()
    for path in files(source, *modules):
        total.update(f"{path.relative_to(source)}\0{_content_digest(path)}\n".encode())
    return total.hexdigest()[:16]


def files(source: Path, *modules: str) -> list[Path]:
    """The files that :func:`digest` reads, sorted."""
    found: set[Path] = set()
    waiting = list(modules)
    seen: set[str] = set()
    for module in modules:
        path = _path(source, module)
        if path is None:
            raise ValueError(f"{source}: there is no module {module}; mend the rule that names it")
        if path.name == "__init__.py":
            folder = path.parent
            found.update(file for file in folder.rglob("*") if file.suffix in CODE_AND_DATA and file.is_file())
            waiting += [_name(source, file) for file in folder.rglob("*.py")]
    while waiting:
        module = waiting.pop()
        if module in seen or module in NOT_FOLLOWED:
            continue
        seen.add(module)
        path = _path(source, module)
        if path is None:
            continue  # `from mis.x import name`: a name, not a module
        found.add(path)
        # Data beside it; what has the name of another module is that module's own.
        data = (file for file in path.parent.iterdir() if file.suffix in CODE_AND_DATA - {".py"})
        found.update(file for file in data if file.stem == path.stem or not file.with_suffix(".py").is_file())
        waiting += _imports(path, module)
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return sorted(found)


def _path(source: Path, module: str) -> Path | None:
    base = source.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _name(source: Path, path: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _imports(path: Path, module: str) -> list[str]:
    """Everything that `path` imports from the package, at any depth; a name may be a module or not."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == PACKAGE]


@cache
def _content_digest(path: Path) -> str:
    return code_digest(path)
