"""The Reranking Transformer for products as a reranker: whole maps of local descriptors, pairs become probabilities.

A reranker; its network is in `network.py`. Tan, Yuan, Ordonez, ICCV 2021: it was trained together
with its backbone (the describer `sop_r50`), whose map it reads as it is, without unit length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.checkpoints import Checkpoint
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import building, read_checkpoint, without_checkpoint
from pipeline.rerank.image_rows import Batch, Ragged
from pipeline.rerank.pair_reranker import PairReranker, first_locals, refuse_without_locals
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork, RRTSOPShape, shape_of
from pipeline.rerank.transformer import inference
from pipeline.types import Description, FloatArray, LocalDescriptors, ModelCard

# The transformer's part of the whole model, and the other parts, which describers read, in the official file and in
# what `relook convert` makes of it.
_MATCHER = "matcher."
_OFFICIAL = ("remap.", "remap_local.", "classifier.", "conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
_CONVERTED = ("backbone.", "head.", "reduce.", "image.")
_BUFFERS = ("mean", "std")
# Coordinates that differ by less, in pixels, are the same row or column.
_SAME = 1e-3


class RRTSOPReranker(PairReranker[RRTSOPNetwork]):
    """Compares two maps of local descriptors; see `PairReranker` for the arguments."""

    name = "rrt_sop"
    needs = frozenset({"locals"})

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        device: str = "cpu",
        batch_size: int = 128,
        heads: int = 4,
        precision: str = "float32",
    ) -> RRTSOPReranker:
        """Read relook's own checkpoint, the whole official model, or the `matcher` of one.

        Args:
            checkpoint: the file.
            device: where it runs.
            batch_size: pairs per forward pass, at most.
            heads: of an official checkpoint, whose tensors do not tell; relook's own says it.
            precision: see `PairReranker`.

        Raises:
            RelookError: no file, or a file of another network; the message lists the keys that differ.
        """
        if checkpoint is None:
            raise without_checkpoint("rrt_sop")
        path = Path(checkpoint)
        read = read_checkpoint(path, "rrt_sop")
        state = _matcher(path, read.state)
        with building(path, cls.name):
            shape = RRTSOPShape(**read.shape) if read.shape else shape_of(state, heads)
            network = RRTSOPNetwork(shape)
        Checkpoint(path, state).load_into(network)
        return cls(network, read.card, read.weight, read.temperature, batch_size, device, precision)

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`: local descriptors have to be whole maps, and those that it was trained on."""
        refuse_without_maps(card)
        width = self.network.shape.width_of_locals
        if card.local_dimension != width:
            raise RelookError(
                f"this rrt_sop takes local descriptors of {width} values; the index has {card.local_dimension}"
            )
        self.refuse_other_card(card)

    def logits(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Raw logits [B] of pairs of maps [B, d_model, h, w]; the two sides may be of different sizes."""
        sides = []
        for maps in (source, target):
            lengths = torch.full((len(maps),), maps.shape[2] * maps.shape[3])
            with inference(self._device, self._precision):
                rows, whole = self.network.embed(maps.to(self._device))
            sides.append(Ragged(rows.flatten(0, 1), lengths, whole))
        places = torch.arange(len(source))
        return self.pairs(sides[0], sides[1], places, places)

    def read(self, images: Sequence[Description], gallery: bool) -> Ragged:
        """See `PairReranker.read`; both sides are read in the same way."""
        maps = maps_of(images, self.network.shape.width_of_locals)
        with inference(self._device, self._precision):
            embedded = [self.network.embed(torch.from_numpy(part)[None].to(self._device)) for part in maps]
        lengths = torch.tensor([part.shape[1] * part.shape[2] for part in maps])
        return Ragged(torch.cat([rows[0] for rows, _ in embedded]), lengths, torch.cat([w for _, w in embedded]))

    def places(self, image: Description, read: Ragged) -> FloatArray:
        """See `PairReranker.places`: the cells of the map row by row."""
        xy = super().places(image, read)
        return xy[np.lexsort((xy[:, 0], xy[:, 1]))]

    def compare(self, queries: Batch, gallery: Batch) -> torch.Tensor:
        """See `PairReranker.compare`."""
        logits: torch.Tensor = self.network(queries, gallery)
        return logits


def refuse_without_maps(card: ModelCard) -> None:
    """Raises RelookError when an index of this card does not hold one whole map of every picture."""
    refuse_without_locals(card, "rrt_sop", geometry=True)
    if card.locals.kind != "map":
        raise RelookError(
            "rrt_sop reads whole maps of local descriptors (describe.name=sop_r50 or describe.locals.kind=map); those "
            f"of the index, made by {card.name}, are a selection"
        )
    scales = card.locals.scales
    if len(scales) > 1:
        raise RelookError(
            f"rrt_sop reads one map of every picture; those of the index are of {len(scales)} scales "
            "(describe.locals.scales=[1.0] gives one)"
        )


def maps_of(images: Sequence[Description], width: int | None = None) -> list[FloatArray]:
    """The map [d, h, w] of each image. Raises RelookError for one without, or with another d than `width`."""
    return [map_of(first_locals(image, None, "rrt_sop", width, geometry=True)) for image in images]


def map_of(part: LocalDescriptors) -> FloatArray:
    """The map [d, h, w] whose cells the local descriptors of an image are, in whatever order they come.

    Raises:
        RelookError: their places are no full grid.
    """
    count = len(part)
    (columns, w), (rows, h) = _lines(part.xy[:, 0]), _lines(part.xy[:, 1])
    cells = rows * w + columns
    if not w or not h or h * w != count or len(np.unique(cells)) != count:
        raise RelookError(f"rrt_sop reads whole maps; the {count} local descriptors of an image are no full grid")
    grid = np.empty_like(part.descriptors)
    grid[cells] = part.descriptors
    return np.ascontiguousarray(grid.T.reshape(-1, h, w), dtype=np.float32)


def _lines(values: FloatArray) -> tuple[npt.NDArray[np.intp], int]:
    """Which line each coordinate belongs to, and how many evenly spaced lines there are; 0 when they are not even."""
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order].astype(np.float64))
    apart = steps > max(_SAME, 0.25 * steps.max(initial=0))
    spaces = np.diff(np.append(values[order][:1], values[order][1:][apart]).astype(np.float64))
    if len(spaces) and spaces.max() > 1.5 * spaces.min():
        return np.zeros(len(values), np.intp), 0
    lines = np.empty(len(values), np.intp)
    lines[order] = np.concatenate([[0], np.cumsum(apart)])
    return lines, int(apart.sum()) + 1


def _matcher(path: Path, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The transformer's tensors without their prefix. Raises RelookError listing keys of no known part."""
    if not any(key.startswith(_MATCHER) for key in state):
        return state
    strange = [key for key in state if not key.startswith((_MATCHER, *_OFFICIAL, *_CONVERTED)) and key not in _BUFFERS]
    Checkpoint(path, state).refuse(unexpected=strange)
    return {key.removeprefix(_MATCHER): value for key, value in state.items() if key.startswith(_MATCHER)}
