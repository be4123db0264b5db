"""The catalogue: which instances and distractors there are, how each is built and where it stands.

Read by views.py and make_samples.py.
Technique: look-alikes of a family share the generator of their style and differ in that of their layout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from . import landmarks, pots, printed
from .facades import facade
from .painting import painting
from .solids import Built
from .statue import statue
from .textures import Rng, rng_for

Builder = Callable[[Rng, Rng], Built]


@dataclass(frozen=True)
class Kind:
    """A family of look-alikes: how it is built, where it stands, how far one may walk round it (radians)."""

    build: Builder
    setting: str  # street, open, water, park, table, gallery
    around: float
    instances: tuple[str, ...]


def _house(kind: str) -> Builder:
    return lambda style, layout: facade(kind, style, layout)


KINDS: dict[str, Kind] = {
    "brick_house": Kind(_house("brick"), "street", 0.8, ("brick_house_a", "brick_house_b", "brick_house_c")),
    "palace": Kind(_house("palace"), "street", 0.8, ("palace_a", "palace_b", "palace_d")),
    "timber_house": Kind(_house("timber"), "street", 0.8, ("timber_house_a", "timber_house_b", "timber_house_d")),
    "clock_tower": Kind(landmarks.clock_tower, "open", 0.75, ("clock_tower_a", "clock_tower_b")),
    "lighthouse": Kind(landmarks.lighthouse, "open", 0.8, ("lighthouse_a",)),
    "gate": Kind(landmarks.gate, "open", 0.8, ("city_gate_a", "city_gate_b")),
    "temple": Kind(landmarks.temple, "open", 0.8, ("portico_a",)),
    "bridge": Kind(landmarks.bridge, "water", 0.55, ()),
    "statue": Kind(statue, "park", 0.95, ("statue_a", "statue_b", "statue_d")),
    "painting": Kind(painting, "gallery", 0.75, ("painting_a", "painting_b", "painting_c")),
    "book": Kind(printed.book, "table", 0.75, ("book_a", "book_b", "book_d")),
    "package": Kind(printed.package, "table", 0.85, ("package_b", "package_c", "package_d")),
    "vase": Kind(pots.vase, "table", 0.6, ("vase_a", "vase_b", "vase_c")),
    "bottle": Kind(pots.bottle, "table", 0.45, ()),
    "mug": Kind(pots.mug, "table", 0.55, ()),
    "tin": Kind(pots.tin, "table", 0.8, ()),
}
FAMILY_OF = {label: family for family, kind in KINDS.items() for label in kind.instances}
LABELS = list(FAMILY_OF)
# Whole families, so that the look-alikes that make retrieval hard are found within a split.
VAL_FAMILIES = ("timber_house", "lighthouse", "statue", "package")
VIEWS_EACH, DISTRACTORS = 8, 60
EMPTY = ("landscape", "interior")  # distractors without a subject
SETS = [*KINDS, *EMPTY, "brick_house", "palace", "timber_house", "book", "package", "painting"]


@functools.lru_cache(maxsize=2)
def subject(family: str, style: str, name: str) -> Built:
    return KINDS[family].build(rng_for("style", style), rng_for("layout", name))
