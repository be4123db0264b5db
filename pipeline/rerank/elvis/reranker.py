"""ELViS as a reranker: an optimal transport between local descriptors, in which each of them has a vote.

A reranker; its network is in `network.py`. Suma et al., ICLR 2026: the sum of the votes times a temperature becomes a
value in [0.5, 1), which is fused with the global similarity.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import building, read_checkpoint, without_checkpoint
from pipeline.rerank.elvis.network import ELViSNetwork, ELViSShape, shape_of
from pipeline.rerank.elvis.transport import refuse_sharpness
from pipeline.rerank.image_rows import Batch, Ragged
from pipeline.rerank.pair_reranker import PairReranker, first_locals, refuse_without_locals
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.rerank.transformer import inference
from pipeline.types import Attended, Candidates, Description, DescriptorSource, ModelCard

# Of the authors' evaluation; their files hold none.
_TEMPERATURE = 0.5
# Descriptors that pass the first layers at once, so that what these write stays in the caches.
_ROWS = 1024
# What a card says of local descriptors that changes none of them.
_OF_NO_MATTER = frozenset({"count", "stored", "geometry"})


class ELViSReranker(PairReranker[ELViSNetwork]):
    """Compares the strongest local descriptors of two images; see `PairReranker` for the other arguments.

    Args:
        query_locals, gallery_locals: how many of an image's descriptors are compared, on either side of a pair; where
            the network counts padding, images with fewer are padded to them.
    """

    name = "elvis"
    needs = frozenset({"locals"})
    # One kernel at a time is in memory; only the perceptron sees all pairs of a batch.
    cpu_tokens = 6000

    def __init__(
        self,
        network: ELViSNetwork,
        card: ModelCard | None = None,
        weight: float | None = None,
        temperature: float = _TEMPERATURE,
        batch_size: int = 128,
        device: str = "cpu",
        precision: str = "float32",
        query_locals: int = 600,
        gallery_locals: int = 600,
    ) -> None:
        super().__init__(network, card, weight, temperature, batch_size, device, precision)
        self._counts = {False: query_locals, True: gallery_locals}

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        device: str = "cpu",
        batch_size: int = 128,
        query_locals: int = 600,
        gallery_locals: int = 600,
        temperature: float | None = None,
        counts_padding: bool | None = None,
        iterations: int | None = None,
        sharpness: float | None = None,
        precision: str = "float32",
    ) -> ELViSReranker:
        """Read relook's own checkpoint or an official one.

        Args:
            checkpoint: the file.
            device: where it runs.
            batch_size: pairs per forward pass, at most.
            query_locals, gallery_locals: how many descriptors of an image are compared.
            temperature: factor on the score; None: as the checkpoint says, 0.5 for an official one.
            counts_padding, iterations, sharpness: see `ELViSShape`; None: as the checkpoint says, and for an official
                one the authors' (its tensors do not tell).
            precision: see `PairReranker`.

        Raises:
            RelookError: no file, or a file of another network (the message lists the keys that differ), or a sharpness
                that is out of range for it.
        """
        if checkpoint is None:
            raise without_checkpoint("elvis")
        path = Path(checkpoint)
        read = read_checkpoint(path, "elvis")
        given: dict[str, Any] = {
            "counts_padding": counts_padding,
            "iterations": iterations,
            "sharpness": sharpness,
        }
        with building(path, cls.name):
            shape = ELViSShape(**read.shape) if read.shape else shape_of(read.state)
            shape = dataclasses.replace(shape, **{key: value for key, value in given.items() if value is not None})
            network = ELViSNetwork(shape)
        read.load_into(network, path)
        refuse_sharpness(network.dust_bin, shape.sharpness)
        factor = temperature
        if factor is None:
            factor = read.temperature if read.shape else _TEMPERATURE
        counts = {"query_locals": query_locals, "gallery_locals": gallery_locals}
        return cls(network, read.card, read.weight, factor, batch_size, device, precision, **counts)

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`: descriptors of unit length, of its width, and those that it was trained on."""
        refuse_without_locals(card, self.name, geometry=False)
        width = self.network.shape.local_dim
        projection = card.locals.projection
        if projection is not None or card.locals.kind == "map":
            what = "a whole map" if projection is None else f"projected by {projection.kind}"
            raise RelookError(
                f"elvis reads the backbone's local descriptors at unit length; those of the index are {what}"
            )
        if card.local_dimension != width:
            raise RelookError(
                f"this elvis takes local descriptors of {width} values; the index has {card.local_dimension} "
                "(describe.locals.dimension projects to fewer)"
            )
        self.refuse_other_card(card)

    def source_of(self, card: ModelCard) -> ModelCard:
        """See `PairReranker.source_of`: not how many descriptors there are."""
        return card.changed("locals", without=_OF_NO_MATTER)

    def scores(
        self, query: torch.Tensor, query_padding: torch.Tensor, gallery: torch.Tensor, gallery_padding: torch.Tensor
    ) -> torch.Tensor:
        """Sums of votes [B] of pairs; descriptors [B, n, local_dim], and [B, n] bool, True where there is none.

        Where the network counts padding, the masses count these places.
        """
        sides = self._begun_padded(query, query_padding), self._begun_padded(gallery, gallery_padding)
        rows = torch.arange(len(query))
        return self.pairs(*sides, rows, rows)

    def log_transport(
        self, query: torch.Tensor, query_padding: torch.Tensor, gallery: torch.Tensor, gallery_padding: torch.Tensor
    ) -> torch.Tensor:
        """Logarithm [B, m, n] of the transport times m + n, minus infinity in padding; see `scores`."""
        sides = self._begun_padded(query, query_padding), self._begun_padded(gallery, gallery_padding)
        plans = torch.full((len(query), query.shape[1], gallery.shape[1]), -torch.inf)
        for number in range(len(query)):
            one = torch.tensor([number])
            with inference(self._device, self._precision):
                plan = self.network.plan(*(side.batch(one) for side in sides))[0].log().cpu()
            there = ~query_padding[number][:, None] & ~gallery_padding[number][None]
            plans[number][there] = plan.flatten()
        return plans

    def bins(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Scores [..., n] of descriptors [..., n, local_dim] with the bin, in [-1, 1], on the CPU."""
        with inference(self._device, self._precision):
            return self.network.begin(descriptors.to(self._device))[..., -1].cpu()

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Attended]:
        """See `ExplainingReranker.explain`; the effects are the votes, which add up to the score."""
        source, one = self.read([query], gallery=False), torch.tensor([0])
        found = []
        for part in gallery.locals(ids):
            image = Description(np.zeros(0, np.float32), part)
            target = self.read([image], gallery=True)
            with inference(self._device, self._precision):
                votes = self.network.votes(source.batch(one), target.batch(one))
            places = self.places(query, source), self.places(image, target)
            of_query, of_image = (side[0, : len(xy)].cpu().numpy() for side, xy in zip(votes, places, strict=True))
            found.append(Attended(*places, of_query, of_image))
        return found

    def read(self, images: Sequence[Description], gallery: bool) -> Ragged:
        """See `PairReranker.read`: projection, and the score with the bin."""
        return self.read_all([images], len(images), gallery)

    def read_all(self, chunks: Iterable[Sequence[Description]], count: int, gallery: bool) -> Ragged:
        """See `PairReranker.read_all`: what is read is projected meanwhile, to where it stays."""
        most, width = self._counts[gallery], self.network.shape.local_dim
        rows = torch.empty(count * most, self.network.shape.model_dim + 1, device=self._device)
        sizes: list[int] = []

        def parts() -> Iterator[torch.Tensor]:
            for image in itertools.chain.from_iterable(chunks):
                part = first_locals(image, most, self.name, width, geometry=False)
                sizes.append(len(part))
                yield torch.from_numpy(part.descriptors)

        def begin(run: _Run) -> None:
            with inference(self._device, self._precision):
                joined = run.parts[0] if len(run.parts) == 1 else torch.cat(run.parts)
                self.network.begin_into(rows[run.start : run.start + len(joined)], joined.to(self._device))

        deque(map_in_parallel(begin, _runs(parts()), self._device), maxlen=0)
        lengths = torch.tensor(sizes)
        padding = most - lengths if self.network.shape.counts_padding else torch.zeros_like(lengths)
        with inference(self._device, self._precision):
            whole = self.network.padding(padding.float().to(self._device))
            return Ragged(rows[: int(lengths.sum())], lengths, whole)

    def compare(self, queries: Batch, gallery: Batch) -> torch.Tensor:
        """See `PairReranker.compare`: the sums of the votes."""
        scores: torch.Tensor = self.network(queries, gallery)
        return scores

    def _begun_padded(self, descriptors: torch.Tensor, padding: torch.Tensor) -> Ragged:
        """Images of descriptors [B, n, local_dim] whose padding [B, n] is as it is in the tensor."""
        padding = padding.to(self._device)
        with inference(self._device, self._precision):
            begun = self.network.begin(descriptors.to(self._device))
            count = padding.sum(dim=1).float() * self.network.shape.counts_padding
            bins = begun[..., -1].masked_fill(~padding, -torch.inf)
            if not self.network.shape.counts_padding:
                bins = torch.full_like(bins, -torch.inf)
            return Ragged(begun[~padding], (~padding).sum(dim=1).cpu(), self.network.padding(count, bins))


class _Run(NamedTuple):
    """Neighbouring images whose descriptors pass the first layers at once, and the number of the first descriptor."""

    start: int
    parts: list[torch.Tensor]


def _runs(parts: Iterable[torch.Tensor]) -> Iterator[_Run]:
    start, run, count = 0, list[torch.Tensor](), 0
    for part in parts:
        if run and count + len(part) > _ROWS:
            yield _Run(start, run)
            start, run, count = start + count, [], 0
        run.append(part)
        count += len(part)
    if run:
        yield _Run(start, run)
