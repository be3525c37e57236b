"""The world's objects in natural English, for a language model that has read English elsewhere."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from mis.knowledge import BENIGN, EXCEPTED, HAZARDOUS, Meeting
from mis.miniature.concepts import CONCEPTS
from mis.miniature.relations import EXCEPTIONS, Pair, pairs

# Where "a" and the world's word are not how one would say it.
_OTHERWISE = {
    "bow": "a bow and arrow", "swords": "a pair of swords", "flask": "a laboratory flask",
    "disk": "a computer disk", "fuel": "gasoline", "scissors": "scissors", "fireworks": "fireworks",
    "plug": "an electric plug", "bulb": "a light bulb", "torch": "a flashlight", "lightning": "a lightning bolt",
    "slots": "a slot machine", "die": "a pair of dice", "cards": "playing cards", "crystal": "a crystal ball",
    "fax": "a fax machine", "magnifier": "a magnifying glass", "card": "a credit card",
    "cabinet": "a filing cabinet", "moneybag": "a bag of money", "juice": "juice", "coffee": "coffee",
    "soup": "soup", "bread": "bread", "santa": "Santa Claus", "police": "a police officer",
    "shrine": "a Shinto shrine", "rainbow": "a rainbow flag", "mother": "a pregnant woman",
    "wave": "an ocean wave", "moon": "the moon", "sleeper": "a sleeping person", "badge": "an ID card",
    "nametag": "a name tag", "briefs": "underwear", "lipstick": "lipstick", "heels": "high heels",
    "kiss": "a kiss mark", "wood": "a piece of wood", "plane": "an airplane",
}  # fmt: skip
NOUN = {concept.name: _OTHERWISE.get(concept.name, f"{concept.article} {concept.name}") for concept in CONCEPTS}


def _verdict(pair: Pair) -> str:
    if (pair.tool.name, pair.target.name) in EXCEPTIONS:
        return EXCEPTED
    return HAZARDOUS if pair.hazard else BENIGN


def meetings(per_relation: int) -> list[Meeting]:
    """Up to so many pairs of every relation and verdict, chosen by a hash of their names: always the same."""
    groups = defaultdict(list)
    for pair in pairs():
        groups[pair.relation, _verdict(pair)].append(pair)
    return [
        Meeting(
            NOUN[pair.tool.name], NOUN[pair.target.name], relation, verdict,
            pair.hazard.sub_category if pair.hazard else "",
        )
        for (relation, verdict), found in groups.items()
        for pair in sorted(found, key=lambda p: hashlib.sha256(f"{p.tool.name} {p.target.name}".encode()).digest())[
            :per_relation
        ]
    ]  # fmt: skip
