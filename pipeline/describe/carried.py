"""What an index carries of its describer, so that searches need neither torch nor the weights.

Made by extraction, read by `exported.py`. Loads torch. Before it is given away, it is compared with the describer
itself: one that describes in a way that `exported.py` does not know is refused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.exported import CELLS, ExportedDescriber, ExportedSpec, config_of
from pipeline.describe.runtimes.base import FINAL
from pipeline.describe.runtimes.export import TOLERANCE, tap_name
from pipeline.describe.runtimes.registry import INSTALLED, open_session
from pipeline.errors import RelookError
from pipeline.types import Description

# (height, width) in pixels of the pictures that both describers are compared on.
_COMPARED = ((120, 160), (200, 150))


class CarriedDescriber(NamedTuple):
    """What an index carries: a graph, and what has to be known of it."""

    graph: bytes
    spec: ExportedSpec


def carried_describer(describer: NetworkDescriber) -> CarriedDescriber:
    """What an index has to carry, so that its queries are described without torch.

    Raises:
        RelookError: it cannot be had; the message says why.
    """
    card = describer.card
    config_of(card)  # raises the error for what needs torch
    if card.settings.get("precision") != "float32":  # the comparison below is one of last digits
        raise RelookError(f"describe.precision = {card.settings.get('precision')}: computed by torch only")
    exported, run, network = describer.export(), describer.network_pass, describer.network
    local = tap_name(run.local_tap) if run.local_tap else FINAL
    cells = (CELLS if network.reduce is not None else local) if run.local_scales else ""
    spec = ExportedSpec(network.backbone.patch, cells, run.weighs_by_attention, network.head.adapted is not None)
    found = ExportedDescriber(card, describer.fitted(), spec, open_session(INSTALLED, exported.graph))
    _compare(describer, found)
    return CarriedDescriber(exported.graph, spec)


def _compare(describer: NetworkDescriber, found: ExportedDescriber) -> None:
    """Raises RelookError where the two describe pictures differently."""
    random = np.random.default_rng(0)
    for height, width in _COMPARED:
        coarse = random.integers(0, 256, (height // 10, width // 10, 3))
        noise = random.integers(-20, 20, (height, width, 3))
        picture = np.clip(coarse.repeat(10, axis=0).repeat(10, axis=1) + noise, 0, 255).astype(np.uint8)
        (mine,) = describer.describe([describer.prepare(picture)])
        (theirs,) = found.describe([found.prepare(picture)])
        difference = _difference(mine, theirs)
        if difference:
            raise RelookError(f"the exported describer differs from the network's in {difference}")


def _difference(mine: Description, theirs: Description) -> str:
    """What differs, in a few words; "" where nothing does."""
    if mine.vector.shape != theirs.vector.shape or not 1 - float(mine.vector @ theirs.vector) < TOLERANCE:
        return "its global descriptor"
    if mine.maps is not None or (mine.locals is None) != (theirs.locals is None):
        return "the parts of a description"
    if mine.locals is None or theirs.locals is None:
        return ""
    pairs = ((mine.locals.xy, theirs.locals.xy), (mine.locals.descriptors, theirs.locals.descriptors))
    for name, (one, other) in zip(("the places", "the values"), pairs, strict=True):
        # Cells of equal strength may change places.
        if one.shape != other.shape or (one.size and np.isclose(one, other, rtol=1e-3, atol=1e-3).mean() < 0.9):
            return f"{name} of local descriptors"
    return ""
