"""CVNet-Rerank as a reranker: reads the candidates' maps, scores pairs in batches.

A reranker; its network is in `network.py`. Lee et al., CVPR 2022. The maps are computed once, when
extracting (`describe.maps`), so that a query costs the correlations and the 4-D convolutions alone.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from pipeline.checkpoints import Checkpoint, hash_weights
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint, read_checkpoint, without_checkpoint
from pipeline.rerank.cvnet.explanation import attended_cells
from pipeline.rerank.cvnet.network import CVLearner, expand
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.rerank.transformer import check_precision, inference
from pipeline.types import (
    Attended,
    Candidates,
    Description,
    DescriptorSource,
    FeatureMaps,
    FloatArray,
    MapsCard,
    ModelCard,
)

# Candidates whose volumes are in memory together: 8 of them at 20 x 15 cells take 14 MB, which stays near a core.
_VOLUME_BYTES = 14 << 20

# Of the global similarity, where a file says none: the official code adds half the score to the similarity, which gives
# the order of 2/3 to 1/3.
_WEIGHT = 2 / 3

# What relook's and the official files of CVNet hold besides.
_DESCRIBER = ("encoder_q.", "globalmodel.", "backbone.", "head.")


class CVNetReranker:
    """Scores candidates by the probability that they show the same thing, in [0, 1]; not symmetric in its two images.

    Args:
        learner: reads the correlation volumes; put into evaluation mode.
        projection: one 3x3 convolution per level, for maps that were not projected when extracting; None: maps are
            compared as they are.
        card: the model whose maps it was trained on; None where the checkpoint does not say.
        weight: of the global similarity in the fused score, as tuned in training; None: not tuned.
        temperature: factor on the logits before they become a probability.
        precision: "float32", or "bfloat16" or "float16" for the products and convolutions.
        device: where it runs.
    """

    needs = frozenset({"maps"})

    def __init__(
        self,
        learner: CVLearner,
        projection: nn.ModuleList | None = None,
        card: ModelCard | None = None,
        weight: float | None = None,
        temperature: float = 1.0,
        precision: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.learner = learner.to(device).eval()
        self.projection = None if projection is None else projection.to(device).eval()
        self.card = card
        self.weight = weight
        self.temperature = temperature
        self._precision = check_precision("cvnet", precision, device)
        self._projected = False
        self._device = torch.device(device)
        if self._device.type == "cuda" and precision == "float32":
            torch.backends.cudnn.allow_tf32 = False  # by default convolutions round to ten bits

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        device: str = "cpu",
        precision: str = "float32",
        project: bool = True,
    ) -> CVNetReranker:
        """Read relook's own checkpoint, or an official one, which holds the describer as well.

        Where a file holds no weight, it is the paper's 2/3.

        Args:
            checkpoint: the file.
            device: where it runs.
            precision: see the class.
            project: False leaves the checkpoint's projection (conv2ds) unused, so that maps of any describer can be
                compared.

        Raises:
            RelookError: no file, or a file of another network; the message lists the keys that differ.
        """
        if checkpoint is None:
            raise without_checkpoint("cvnet")
        path = Path(checkpoint)
        read = read_checkpoint(path, "cvnet")
        file = Checkpoint(path, read.state).renamed("maps.", "")
        first = file.state.get("cv_learner.block1.0.conv1.weight")
        if first is None:
            raise RelookError(f"{path}: not a checkpoint of cvnet (no cv_learner.block1.0.conv1.weight)")
        file.refuse(unexpected=[k for k in file.state if not k.startswith(("cv_learner.", "conv2ds.", *_DESCRIBER))])
        learner = CVLearner(round(first.shape[1] ** 0.5))
        file.part("cv_learner.").load_into(nn.ModuleDict({"cv_learner": learner}))
        convolutions = file.part("conv2ds.")
        projection = _projection(convolutions) if convolutions.state and project else None
        weight = _WEIGHT if read.weight is None else read.weight
        return cls(learner, projection, read.card, weight, read.temperature, precision, device)

    def to_checkpoint(self) -> RerankCheckpoint:
        """What `load` needs to make the same reranker again."""
        state = {f"cv_learner.{key}": value for key, value in self.learner.state_dict().items()}
        if self.projection is not None:
            state |= {f"conv2ds.{key}": value for key, value in self.projection.state_dict().items()}
        weight = None if self.weight == _WEIGHT else self.weight  # the paper's value is not tuned
        shape = {"levels": self.learner.levels}
        return RerankCheckpoint("cvnet", state, shape, self.card, weight, self.temperature)

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`: the maps have to be those that this checkpoint projects, or projected by it."""
        maps = card.maps
        levels = len(maps.levels)
        if not levels:
            raise RelookError("cvnet needs feature maps; extract with describe.maps.levels, as cvnet_r50 does")
        if levels != self.learner.levels:
            raise RelookError(f"this cvnet compares {self.learner.levels} levels of maps; the index has {levels}")
        if self.card is not None and self.card.fingerprint != card.fingerprint:
            differences = "; ".join(self.card.differences(card)[:3])
            raise RelookError(f"this cvnet was trained on another model's maps ({differences})")
        if self.projection is None or self._projected_by_own(maps):
            return
        inputs = self.projection[0].in_channels
        foreign = None
        if maps.projected_by:
            foreign = "projected by another checkpoint"
        elif maps.channels != inputs:
            foreign = f"of {maps.channels} channels"
        elif maps.projection == "pca" and self.card is None:
            foreign = "reduced by a PCA that it was not trained on"
        if foreign:
            raise RelookError(
                f"this cvnet projects maps of {inputs} channels; those of the index are {foreign}; "
                "rerank.cvnet.project = false compares them as they are"
            )

    def bind(self, card: ModelCard) -> Self:
        """See `Reranker.bind`; unbound, maps of as many channels as the projection takes are projected."""
        self.check(card)
        bound = copy.copy(self)
        bound._projected = self._projected_by_own(card.maps)
        return bound

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`; probabilities in [0, 1]."""
        scores = []
        for query, ids in zip(queries, candidates.ids, strict=True):
            if query.maps is None:
                raise RelookError("cvnet needs feature maps; extract with describe.maps.levels, as cvnet_r50 does")
            scores.append(self.probabilities(query.maps, gallery.maps(ids)) if ids else np.zeros(0, np.float32))
        return scores

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Attended]:
        """See `ExplainingReranker.explain`: the effect of each cell of the maps.

        Raises:
            RelookError: the query was described without maps, or it is not known which part of a photo they show.
        """
        if query.maps is None or query.region is None:
            raise RelookError("cvnet explains its scores for queries with feature maps of a known part of a photo")
        with inference(self._device, self._precision):
            own = self.expanded([query.maps])[0].float()
            others = [self.expanded([maps])[0].float() for maps in gallery.maps(ids)]
        regions = gallery.regions(ids)
        return [
            attended_cells(self.learner, own, other, (query.region, region), self.temperature)
            for other, region in zip(others, regions, strict=True)
        ]

    def probabilities(self, query: FeatureMaps, others: Sequence[FeatureMaps]) -> FloatArray:
        """[K] float32 of one image's maps against K others', which may be of any sizes."""
        result = np.zeros(len(others), dtype=np.float32)
        with inference(self._device, self._precision):
            query_levels = self.expanded([query])[0]
            blocks = self._blocks(query_levels, others)

        def compare(rows: list[int]) -> FloatArray:
            with inference(self._device, self._precision):
                logits = self.learner(query_levels, self.expanded([others[row] for row in rows])).float()
                found: FloatArray = (self.temperature * logits).softmax(dim=1)[:, 1].cpu().numpy()
                return found

        for rows, found in zip(blocks, map_in_parallel(compare, blocks, self._device), strict=True):
            result[rows] = found
        return result

    def expanded(self, items: Sequence[FeatureMaps]) -> torch.Tensor:
        """Maps of equal sizes as the learner reads them, projected where they have to be: [B, L, C, h, w]."""
        return self.expanded_levels([torch.from_numpy(np.stack(level)) for level in zip(*items, strict=True)])

    def expanded_levels(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """The same of maps that were stacked before, [B, C, h_l, w_l] per level; gradients reach the projection."""
        levels = [level.to(self._device, torch.float32) for level in levels]
        projection = None if self._projected else self.projection
        if projection is not None and levels[0].shape[1] == projection[0].in_channels:
            levels = [convolve(level) for convolve, level in zip(projection, levels, strict=True)]
        return expand([level.float() for level in levels])

    def _blocks(self, query_levels: torch.Tensor, others: Sequence[FeatureMaps]) -> list[list[int]]:
        """Rows of equal sizes, few enough for their volumes."""
        alike: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for row, item in enumerate(others):
            alike[tuple(level.shape for level in item)].append(row)
        blocks = []
        cells = query_levels.shape[-2] * query_levels.shape[-1]
        for shape, rows in alike.items():
            # Two halves of a quarter of all pairs of cells, 4 bytes each.
            volume = self.learner.levels**2 * cells * shape[-1][-2] * shape[-1][-1] * 2
            size = max(1, _VOLUME_BYTES // volume)
            blocks += [rows[start : start + size] for start in range(0, len(rows), size)]
        return blocks

    def _projected_by_own(self, maps: MapsCard) -> bool:
        """Whether maps were projected at extraction by the convolutions of this checkpoint."""
        if self.projection is None:
            return False
        return maps.projected_by == hash_weights(self.projection.state_dict())


def _projection(file: Checkpoint) -> nn.ModuleList:
    weights = [file.state[key] for key in sorted(file.state)]
    layers = nn.ModuleList([nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1, bias=False) for w in weights])
    file.load_into(nn.ModuleDict({"conv2ds": layers}))
    return layers
