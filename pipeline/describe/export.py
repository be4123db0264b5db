"""A network's describer as a graph of one scale: the maps that it reads, and what its heads make of them.

For a compiled runtime (`describer.py`), and for the index, which carries it (`carried.py`). Loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pipeline.describe.exported import ATTENTION, CELLS, VECTOR
from pipeline.describe.network import DescriberNetwork
from pipeline.describe.network_pass import NetworkPass
from pipeline.describe.runtimes.export import ExportedNetwork, on_cpu

_Head = Callable[[torch.Tensor, Sequence[torch.Tensor]], torch.Tensor]


def export_network(network: DescriberNetwork, run: NetworkPass, multiple: int) -> ExportedNetwork:
    """The graph of one scale: the final map, those of the stages that `run` reads, and what heads make of them.

    Args:
        network: on any device.
        run: the passes of that network.
        multiple: pixels; the sides of its input are multiples of it.

    Raises:
        RelookError: torch cannot export it.
    """
    whole = on_cpu(network)
    assert isinstance(whole, DescriberNetwork)
    backbone = getattr(whole.backbone, "torch_backbone", whole.backbone)
    taps = run.taps
    place = taps.index(run.local_tap) if run.local_tap else None
    heads: dict[str, _Head] = {}

    def source(final: torch.Tensor, tapped: Sequence[torch.Tensor]) -> torch.Tensor:
        return final if place is None else tapped[place]

    if whole.head.modules_used is None:  # SuperGlobal's pooling looks at the map's size
        heads[VECTOR] = lambda final, tapped: whole.head.pool(final)
    if run.local_scales and whole.reduce is not None:
        reduce = whole.reduce
        heads[CELLS] = lambda final, tapped: reduce(source(final, tapped))
    if run.weighs_by_attention and whole.attention is not None:
        attention = whole.attention
        heads[ATTENTION] = lambda final, tapped: attention(source(final, tapped))
    return ExportedNetwork(whole, backbone, taps, heads, multiple)
