"""The parts of a network that an arm trains, by the names of their weights."""

from __future__ import annotations

from mis.models.families import family_of


def freeze(model, trains: tuple[str, ...]) -> None:
    """Leave gradients only to the named parts; the vision tower never gets any."""
    wanted = prefixes(model, trains)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(f".{prefix}." in f".{name}" for prefix in wanted))


def prefixes(model, trains: tuple[str, ...]) -> tuple[str, ...]:
    """How the names of the named parts' weights begin."""
    parts = family_of(model).parts
    return tuple(prefix for part in trains for prefix in parts[part])
