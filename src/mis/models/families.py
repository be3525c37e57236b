"""The families of networks, by transformers' names for them, and the family of what is at hand."""

from __future__ import annotations

from mis.errors import MisError
from mis.models.family import Family
from mis.models.internvl import InternVL
from mis.models.llava import Llava
from mis.models.llava_onevision import LlavaOnevision
from mis.models.qwen2_5_vl import Qwen25VL
from mis.models.qwen2_vl import Qwen2VL

# A family's file has the same name: caches of trained networks are keyed by its code.
FAMILIES: dict[str, Family] = {
    "internvl": InternVL(),
    "llava": Llava(),
    "qwen2_vl": Qwen2VL(),
    "qwen2_5_vl": Qwen25VL(),
    "llava_onevision": LlavaOnevision(),
}


def family_of(subject) -> Family:
    """The family of a network or of its processor. Raises :class:`MisError` for any other."""
    for family in FAMILIES.values():
        if isinstance(subject, (family.network, family.processor)):
            return family
    raise MisError(f"{type(subject).__name__} is of no known family; known: {', '.join(FAMILIES)}")
