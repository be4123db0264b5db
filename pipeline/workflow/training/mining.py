"""Verified pairs of an index without labels: candidates of the store, matched point by point, kept in a file.

The first half of `adapt`. Near duplicates are one photo. What was verified before is read from the file, so that a run
on a grown index, or after a kill, matches new pairs alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config import Config
from pipeline.files import sha256_of
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.train.loop.task import Rows
from pipeline.train.mining.evidence import Evidence, evidence_of
from pipeline.train.mining.pair_file import PairFile, names_of
from pipeline.types import FloatArray, ImageRecord
from pipeline.workflow.duplicate_images import all_records, duplicate_rows
from pipeline.workflow.model_loading import choose_device, reranker_options
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.progress import Reporter

# Photos whose candidates are requested together, and pairs that are matched and kept together.
_QUERIES, _PAIRS = 256, 64
# Candidates that are requested for each that is wanted: near duplicates of the photo are among the first.
_DEPTH = 3


@dataclass(frozen=True)
class MinedPairs:
    """What verification found in an index.

    Attributes:
        records: N images, without near duplicates: of each group of them the first.
        vectors: [N, D] float32, their global descriptors.
        pairs: [P, 2] int64, rows of images, the smaller one first; each pair once.
        evidence: P of them.
        similarity: [P] float32, cosines.
        place_of: of each image of the index, duplicates included, the row that stands for it.
        known: how many of the pairs an earlier run had verified.
    """

    records: list[ImageRecord]
    vectors: FloatArray
    pairs: npt.NDArray[np.int64]
    evidence: list[Evidence]
    similarity: FloatArray
    place_of: dict[str, int]
    known: int

    @property
    def support(self) -> npt.NDArray[np.float64]:
        """[P], 0 where the model of a pair is degenerate."""
        return np.array([0.0 if one.degenerate else one.support for one in self.evidence], np.float64)


def mine_pairs(gallery: OpenedIndex, config: Config, file: PairFile, reporter: Reporter) -> MinedPairs:
    """Find candidates of every photo and verify them.

    Args:
        gallery: opened; its store has every vector.
        config: `adapt` and `rerank.matching` matter here.
        file: of pairs that were verified before, and where new ones are kept.
        reporter: told about the progress.

    Raises:
        RelookError: the file, the store or the weights cannot be used.
    """
    index = gallery.index
    everyone = list(all_records(index))
    group = duplicate_rows(index, config.adapt.duplicates, reporter)
    rows = np.sort(np.unique(group, return_index=True)[1])
    records = [everyone[row] for row in rows.tolist()]
    vectors = gallery.globals([record.id for record in records])
    stands_for = {record.id: int(number) for record, number in zip(everyone, group.tolist(), strict=True)}
    of_group = {int(group[row]): place for place, row in enumerate(rows.tolist())}
    place_of = {name: of_group[number] for name, number in stands_for.items()}
    pairs = _candidates(gallery, vectors, place_of, config.adapt.neighbours, len(everyone))
    names = [content_name(record) for record in records]
    keys = [names_of(names[left], names[right]) for left, right in pairs.tolist()]
    found = file.read(keys)
    known = len(found)
    missing = [number for number, key in enumerate(keys) if key not in found]
    ids = [record.id for record in records]
    with reporter.bar("verify", len(missing), "pairs") as bar:
        for some, evidence in _verify(gallery, config, ids, pairs, missing):
            block = {keys[number]: one for number, one in zip(some, evidence, strict=True)}
            file.keep(block)
            found |= block
            bar.advance(len(some))
    similarity = np.einsum("pd,pd->p", vectors[pairs[:, 0]], vectors[pairs[:, 1]])
    return MinedPairs(records, vectors, pairs, [found[key] for key in keys], similarity, place_of, known)


def way_of_matching(gallery: OpenedIndex, config: Config) -> str:
    """Equal where two runs verify pairs in the same way: by keypoints, matcher and geometry."""
    settings = config.rerank.matching.model_dump(mode="json", exclude={"top", "weight", "margin", "checkpoint"})
    checkpoint = config.rerank.matching.checkpoint
    weights = "" if checkpoint is None else sha256_of(checkpoint)
    text = json.dumps([gallery.keypoints_card.to_json(), settings, weights, config.adapt.keypoints], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_name(record: ImageRecord) -> str:
    """The content of a photo, and the part of it that is described; the id of one whose bytes are not known."""
    return f"{record.sha256 or record.id} {record.bbox or ''}".strip()


def _candidates(
    gallery: OpenedIndex, vectors: FloatArray, place_of: dict[str, int], count: int, total: int
) -> npt.NDArray[np.int64]:
    """[P, 2] rows: each photo with its `count` nearest that are no near duplicates of it, every pair once."""
    found: set[tuple[int, int]] = set()
    depth = min(total, _DEPTH * count + 1)
    for start in range(0, len(vectors), _QUERIES):
        block = vectors[start : start + _QUERIES]
        for row, (names, _) in enumerate(gallery.store.query(block, depth), start=start):
            others = dict.fromkeys(place_of[name] for name in names if name in place_of)
            others.pop(row, None)
            found |= {(min(row, other), max(row, other)) for other in list(others)[:count]}
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _verify(
    gallery: OpenedIndex, config: Config, ids: Sequence[str], pairs: Rows, missing: Sequence[int]
) -> Iterator[tuple[Sequence[int], list[Evidence]]]:
    """Numbers of pairs, and what verifying them found, block by block."""
    if not missing:
        return
    options = reranker_options(config, "matching", gallery.index.keypoints_card)
    options["keypoints"] = config.adapt.keypoints
    matcher = MatchingReranker.load(device=choose_device(config), **options)
    matcher.check_keypoints(gallery.keypoints_card)
    for start in range(0, len(missing), _PAIRS):
        some = missing[start : start + _PAIRS]
        names = sorted({ids[row] for number in some for row in pairs[number].tolist()})
        images = dict(zip(names, gallery.keypoints(names), strict=True))
        both = [(images[ids[left]], images[ids[right]]) for left, right in pairs[some].tolist()]
        verified = matcher.match_images(both)
        yield some, [evidence_of(one, right.region) for one, (_, right) in zip(verified, both, strict=True)]
