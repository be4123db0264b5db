"""AMES as a reranker: local descriptors alone, many of the query against few of each candidate.

A reranker; its network is in `network.py`. Suma et al., ECCV 2024: the logit times a temperature
becomes a probability, which is fused with the global similarity.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from pipeline.checkpoints import hash_weights
from pipeline.errors import RelookError
from pipeline.rerank.ames.network import AMESNetwork, AMESShape, shape_of
from pipeline.rerank.checkpoints import building, read_checkpoint, without_checkpoint
from pipeline.rerank.image_rows import Batch, Ragged
from pipeline.rerank.pair_reranker import PairReranker, first_locals, refuse_without_locals
from pipeline.rerank.transformer import inference
from pipeline.types import Description, LocalsProjection, ModelCard

# The key of the matrix that makes bits.
_BITS = "remap_local.0.W"
# What a card says of local descriptors that changes none of them, or that `check` compares itself.
_OF_NO_MATTER = frozenset({"count", "stored", "geometry", "dimension", "projection", "places"})
# Tokens that pass the first layer at once.
_TOKENS = 8192


class AMESReranker(PairReranker[AMESNetwork]):
    """Compares the strongest local descriptors of two images; see `PairReranker` for the other arguments.

    Args:
        query_locals, gallery_locals: how many of an image's descriptors are compared, on either side of a pair.
        projected: whether the descriptors that it is given were projected by its own projection at extraction, which
            `bind` finds out from a model card; otherwise it projects them itself.
    """

    name = "ames"
    needs = frozenset({"locals"})

    def __init__(
        self,
        network: AMESNetwork,
        card: ModelCard | None = None,
        weight: float | None = None,
        temperature: float = 1.0,
        batch_size: int = 128,
        device: str = "cpu",
        precision: str = "float32",
        query_locals: int = 600,
        gallery_locals: int = 50,
        projected: bool = False,
    ) -> None:
        super().__init__(network, card, weight, temperature, batch_size, device, precision)
        self._counts = {False: query_locals, True: gallery_locals}
        self._projected = projected

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        device: str = "cpu",
        batch_size: int = 128,
        heads: int = 2,
        query_locals: int = 600,
        gallery_locals: int = 50,
        temperature: float | None = None,
        round_gallery: bool | None = None,
        precision: str = "float32",
    ) -> AMESReranker:
        """Read relook's own checkpoint or an official one, of either variant.

        Args:
            checkpoint: the file.
            device: where it runs.
            batch_size: pairs per forward pass, at most.
            heads: of an official checkpoint, whose tensors do not tell; relook's own says it.
            query_locals, gallery_locals: how many descriptors of an image are compared.
            temperature: factor on the logit; None: as the checkpoint says, 1 for an official one.
            round_gallery: see `AMESShape`; None: as the checkpoint says, and official ones do unless binarised.
            precision: see `PairReranker`.

        Raises:
            RelookError: no file, or a file of another network; the message lists the keys that differ.
        """
        if checkpoint is None:
            raise without_checkpoint("ames")
        path = Path(checkpoint)
        read = read_checkpoint(path, "ames")
        with building(path, cls.name):
            shape = AMESShape(**read.shape) if read.shape else shape_of(read.state, heads)
            if round_gallery is not None:
                shape = dataclasses.replace(shape, round_gallery=round_gallery)
            network = AMESNetwork(shape)
        read.load_into(network, path)
        factor = read.temperature if temperature is None else temperature
        options: dict[str, Any] = {"query_locals": query_locals, "gallery_locals": gallery_locals}
        return cls(network, read.card, read.weight, factor, batch_size, device, precision, **options)

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`: dimensions have to fit, and a projection at extraction has to be its own."""
        refuse_without_locals(card, "ames", geometry=False)
        shape = self.network.shape
        projection = card.locals.projection
        if projection is not None:
            self._refuse_other_projection(projection)
        expected = shape.local_dim if projection is None else shape.model_dim
        if card.local_dimension != expected:
            what = "local" if projection is None else "projected local"
            raise RelookError(
                f"this ames takes {what} descriptors of {expected} values; the index has {card.local_dimension} "
                "(describe.locals.dimension projects to fewer)"
            )
        self.refuse_other_card(card)

    def bind(self, card: ModelCard) -> Self:
        """See `Reranker.bind`; descriptors that were projected at extraction are not projected again."""
        self.check(card)
        bound = copy.copy(self)
        bound._projected = card.locals.projection is not None
        return bound

    def source_of(self, card: ModelCard) -> ModelCard:
        """See `PairReranker.source_of`: not how many descriptors there are, nor whether they were projected."""
        return dataclasses.replace(card.changed("locals", without=_OF_NO_MATTER), local_dimension=0)

    def project(self, descriptors: torch.Tensor, gallery: bool) -> torch.Tensor:
        """Tokens [..., model_dim] of local descriptors [..., local_dim] as a backbone gives them, on the CPU."""
        with inference(self._device, self._precision):
            return self.network.project(descriptors.to(self._device), gallery).float().cpu()

    def bits(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Signs [..., model_dim] of such descriptors. Raises RelookError when the checkpoint is not binarised."""
        if not self.network.shape.binarised:
            raise RelookError("this ames is of full precision: its descriptors have no bits")
        with inference(self._device, "float32"):
            return self.network.bits(descriptors.to(self._device)).cpu()

    def logits(
        self, query: torch.Tensor, query_padding: torch.Tensor, gallery: torch.Tensor, gallery_padding: torch.Tensor
    ) -> torch.Tensor:
        """Raw logits [B] of pairs; descriptors [B, n, local_dim], and [B, n] bool, True where there is none."""
        sides = [
            self._begun(rows[~padding], (~padding).sum(dim=1), in_gallery, ready=False)
            for rows, padding, in_gallery in ((query, query_padding, False), (gallery, gallery_padding, True))
        ]
        rows = torch.arange(len(query))
        return self.pairs(sides[0], sides[1], rows, rows)

    def read(self, images: Sequence[Description], gallery: bool) -> Ragged:
        """See `PairReranker.read`: projection, and the first layer's attention within each image."""
        shape = self.network.shape
        width = shape.model_dim if self._projected else shape.local_dim
        chosen = [first_locals(image, self._counts[gallery], "ames", width, geometry=False) for image in images]
        parts = [part.descriptors for part in chosen]
        lengths = torch.tensor([len(part) for part in parts])
        return self._begun(torch.from_numpy(np.concatenate(parts)), lengths, gallery, self._projected)

    def compare(self, queries: Batch, gallery: Batch) -> torch.Tensor:
        """See `PairReranker.compare`."""
        logits: torch.Tensor = self.network(queries, gallery)
        return logits

    def _begun(self, rows: torch.Tensor, lengths: torch.Tensor, gallery: bool, ready: bool) -> Ragged:
        """Images after `AMESNetwork.begin`; `rows` [total, d] are those of all images, `lengths` [N] of each."""
        with inference(self._device, self._precision):
            tokens = self.network.project(rows.to(self._device), gallery, ready)
            images = Ragged(tokens, lengths, tokens.new_zeros(len(lengths), 0))
            step = max(1, _TOKENS // max(1, int(lengths.max())))
            parts = torch.split(torch.arange(len(lengths)), step)
            return Ragged.joined([self._first_layer(images, part) for part in parts])

    def _first_layer(self, images: Ragged, which: torch.Tensor) -> Ragged:
        batch = images.batch(which)
        begun, whole = self.network.begin(batch.rows, batch.padding)
        rows = begun.flatten(0, 1) if batch.padding is None else begun[~batch.padding]
        return Ragged(rows, images.lengths[which], whole)

    def _refuse_other_projection(self, projection: LocalsProjection) -> None:
        """Raises RelookError unless the descriptors were projected by this checkpoint's own projection."""
        kind = "ames_bits" if self.network.shape.binarised else "ames"
        if projection.kind != kind:
            raise RelookError(
                f"this ames reads local descriptors projected by {kind}; those of the index were by {projection.kind}"
            )
        weights = projection_hash(self.network)
        if projection.weights != weights:
            raise RelookError(
                f"the local descriptors were projected by another ames checkpoint ({projection.weights}) than "
                f"this one ({weights})"
            )


def projection_hash(network: AMESNetwork) -> str:
    """ "sha256:..." of what turns local descriptors into what an index can store: of the bits, only the matrix."""
    state = {key: value for key, value in network.state_dict().items() if key.startswith("remap_local.")}
    return hash_weights({_BITS: state[_BITS]} if network.shape.binarised else state)
