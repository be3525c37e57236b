"""Which configuration a run uses: one complete file, and only what `--config` lays over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mis.settings import ConfigurationError, Settings, validate

DEFAULT_SCALE = "mini"


def resolve(given: Mapping[str, Any], configfiles: Sequence[Path], folder: Path) -> Settings:
    """The validated settings of a run.

    `given` is what `--config` says and `configfiles` what `--configfile` names. A scale's file, `folder/<scale>.yaml`,
    is read only if no file is named; a named file must be complete. Raises :class:`ConfigurationError`.
    """
    given = dict(given)
    if configfiles:
        if "scale" in given:
            raise ConfigurationError(f"give --config scale={given['scale']} or --configfile {configfiles[0]}, not both")
        raw: dict[str, Any] = {}
        for path in configfiles:
            _overlay(raw, _read(Path(path)))
        name = ", ".join(str(path) for path in configfiles)
    else:
        path = folder / f"{given.pop('scale', DEFAULT_SCALE)}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
            raise ConfigurationError(f"unknown scale {path.stem!r}; known: {known}; or name a file with --configfile")
        raw, name = _read(path), str(path)
    if given:
        _overlay(raw, given)
        name += " with --config " + " ".join(f"{key}={value}" for key, value in given.items())
    return validate(raw, name)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); known scales lie in config/") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path}: expected a mapping of keys at the top, found {type(raw).__name__}")
    return raw


def _overlay(base: dict[str, Any], top: Mapping[str, Any]) -> None:
    """Lays `top` over `base`: mappings key by key, everything else whole."""
    for key, value in top.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _overlay(base[key], value)
        else:
            base[key] = value


def write_if_changed(settings: Settings, path: Path) -> None:
    """Writes the resolved configuration as YAML, atomically; an equal file keeps its time."""
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
    text = "# The resolved configuration of this run; the Snakefile wrote it.\n" + text
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
