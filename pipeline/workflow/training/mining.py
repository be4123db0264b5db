"""Verified pairs of an index without labels: candidates of the store, matched point by point, kept in a file.

The first half of `adapt`. Near duplicates are one photo. What was verified before is read from the file, so that a run
on a grown index, or after a kill, matches new pairs alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from pipeline.config import Config
from pipeline.files import sha256_of
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.rerank.matching.settings import DEPTH_CONFIDENCE, WIDTH_CONFIDENCE
from pipeline.train.loop.task import Rows
from pipeline.train.mining.answers import NOTHING
from pipeline.train.mining.evidence import Evidence, evidence_of
from pipeline.train.mining.pair_file import Names, PairFile, names_of
from pipeline.types import FloatArray, ImageRecord
from pipeline.workflow.duplicate_images import all_records, duplicate_rows
from pipeline.workflow.model_loading import choose_device, reranker_options
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.progress import Reporter, logger

# Photos whose candidates are requested together, and pairs that are matched and kept together.
_QUERIES, _PAIRS = 256, 64
# Candidates that are requested for each that is wanted: near duplicates of the photo are among the first.
_DEPTH = 3
# Ids without an image that are named one by one.
_NAMED = 3
# Of a pair that a person answered and nobody matched.
_NOT_COMPARED = Evidence(0, 0.0, 0.0)


@dataclass(frozen=True)
class NearPairs:
    """Pairs of an index that may show the same thing: each photo with its nearest ones.

    Attributes:
        records: N images, without near duplicates: of each group of them the first.
        vectors: [N, D] float32, their global descriptors.
        pairs: [P, 2] int64, rows of images, the smaller one first; each pair once.
        place_of: of each image of the index, duplicates included, the row that stands for it.
    """

    records: list[ImageRecord]
    vectors: FloatArray
    pairs: npt.NDArray[np.int64]
    place_of: dict[str, int]

    @property
    def similarity(self) -> FloatArray:
        """[P] float32, cosines."""
        found: FloatArray = np.einsum("pd,pd->p", self.vectors[self.pairs[:, 0]], self.vectors[self.pairs[:, 1]])
        return found

    @property
    def keys(self) -> list[Names]:
        """The contents of each pair, as a `PairFile` has them."""
        names = [content_name(record) for record in self.records]
        return [names_of(names[left], names[right]) for left, right in self.pairs.tolist()]


@dataclass(frozen=True)
class MinedPairs:
    """What verification found in an index.

    Attributes:
        records, vectors, pairs, place_of: see `NearPairs`.
        evidence: P of them.
        similarity: [P] float32, cosines.
        known: how many of the pairs an earlier run had verified.
        answers: [P] str, what a person says of each pair: yes, no, unsure or nothing.
        compared: [P] bool, whether a pair was matched; one that was not has the evidence of nothing.
    """

    records: list[ImageRecord]
    vectors: FloatArray
    pairs: npt.NDArray[np.int64]
    evidence: list[Evidence]
    similarity: FloatArray
    place_of: dict[str, int]
    known: int
    answers: npt.NDArray[np.str_]
    compared: npt.NDArray[np.bool_]

    @property
    def support(self) -> npt.NDArray[np.float64]:
        """[P], 0 where the model of a pair is degenerate."""
        return np.array([0.0 if one.degenerate else one.support for one in self.evidence], np.float64)


def near_pairs(gallery: OpenedIndex, config: Config, reporter: Reporter) -> NearPairs:
    """The candidates of every photo. Raises RelookError when the store cannot be used."""
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
    return NearPairs(records, vectors, pairs, place_of)


def mine_pairs(
    gallery: OpenedIndex,
    config: Config,
    file: PairFile,
    reporter: Reporter,
    answers: Mapping[Names, str] = MappingProxyType({}),
) -> MinedPairs:
    """Find candidates of every photo and verify them, but for those that a person answered.

    Args:
        gallery: opened; its store has every vector.
        config: `adapt` and `rerank.matching` matter here.
        file: of pairs that were verified before, and where new ones are kept.
        reporter: told about the progress.
        answers: by the ids of two images.

    Raises:
        RelookError: the file, the store or the weights cannot be used.
    """
    near = near_pairs(gallery, config, reporter)
    pairs = known_pairs(near, file, answers)
    keys = replace(near, pairs=pairs.pairs).keys
    ids = [record.id for record in near.records]
    evidence = list(pairs.evidence)
    missing = np.flatnonzero(~pairs.compared & (pairs.answers == NOTHING)).tolist()
    with reporter.bar("verify", len(missing), "pairs") as bar:
        for some, found in _verify(gallery, config, ids, pairs.pairs, missing):
            file.keep({keys[number]: one for number, one in zip(some, found, strict=True)})
            for number, one in zip(some, found, strict=True):
                evidence[number] = one
            bar.advance(len(some))
    compared = pairs.compared.copy()
    compared[missing] = True
    return replace(pairs, evidence=evidence, compared=compared)


def known_pairs(near: NearPairs, file: PairFile, answers: Mapping[Names, str]) -> MinedPairs:
    """Candidates and pairs that were answered, with what is known of them. Raises RelookError as the file does."""
    said = answers_of_rows(answers, near.place_of)
    pairs = np.array(sorted({*map(tuple, near.pairs.tolist()), *said}), np.int64).reshape(-1, 2)
    near = replace(near, pairs=pairs)
    answered = np.array([said.get((left, right), NOTHING) for left, right in pairs.tolist()], "<U6")
    keys = near.keys
    found = file.read(keys)
    evidence = [found.get(key, _NOT_COMPARED) for key in keys]
    compared = np.array([key in found for key in keys], np.bool_)
    return MinedPairs(
        near.records, near.vectors, pairs, evidence, near.similarity, near.place_of, len(found), answered, compared
    )


def answers_of_rows(answers: Mapping[Names, str], place_of: Mapping[str, int]) -> dict[tuple[int, int], str]:
    """The answers by rows of images, the smaller one first; those of near duplicates say nothing of each other.

    Images that the index does not have are named in a warning.
    """
    warn_unknown("answers", [name for pair in answers for name in pair if name not in place_of])
    found: dict[tuple[int, int], str] = {}
    for (first, second), answer in answers.items():
        if first in place_of and second in place_of and place_of[first] != place_of[second]:
            left, right = sorted((place_of[first], place_of[second]))
            found[left, right] = answer
    return found


def warn_unknown(what: str, names: Sequence[str]) -> None:
    """Name the first images of a person's file that the index does not have, and count the others."""
    for name in list(dict.fromkeys(names))[:_NAMED]:
        logger.warning("%s: the index has no image %r", what, name)
    if (count := len(set(names))) > _NAMED:
        logger.warning("%s: the index has no image for %d ids", what, count)


def adapted_path(config: Config, name: str) -> Path:
    """Where `adapt` writes the checkpoint of a describer; its verified pairs lie beside it."""
    return config.adapt.out or Path("describers") / f"{name}-adapted.safetensors"


def way_of_matching(gallery: OpenedIndex, config: Config) -> str:
    """Equal where two runs verify pairs in the same way: by keypoints, matcher and geometry."""
    settings = config.rerank.matching.model_dump(mode="json", exclude={"top", "weight", "margin", "checkpoint"})
    # A setting that is left open is another one when its default changes.
    for key, default in (("depth_confidence", DEPTH_CONFIDENCE), ("width_confidence", WIDTH_CONFIDENCE)):
        settings[key] = default if settings[key] is None else settings[key]
    checkpoint = config.rerank.matching.checkpoint
    weights = "" if checkpoint is None else sha256_of(checkpoint)
    text = json.dumps([gallery.keypoints_card.to_json(), settings, weights, config.adapt.keypoints], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pair_matcher(gallery: OpenedIndex, config: Config) -> MatchingReranker:
    """What pairs are verified with. Raises RelookError where its weights or the keypoints cannot be had."""
    options = reranker_options(config, "matching", gallery.index.keypoints_card)
    options["keypoints"] = config.adapt.keypoints
    matcher = MatchingReranker.load(device=choose_device(config), **options)
    matcher.check_keypoints(gallery.keypoints_card)
    return matcher


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
    matcher = pair_matcher(gallery, config)
    for start in range(0, len(missing), _PAIRS):
        some = missing[start : start + _PAIRS]
        names = sorted({ids[row] for number in some for row in pairs[number].tolist()})
        images = dict(zip(names, gallery.keypoints(names), strict=True))
        both = [(images[ids[left]], images[ids[right]]) for left, right in pairs[some].tolist()]
        verified = matcher.match_images(both)
        yield some, [evidence_of(one, right.region) for one, (_, right) in zip(verified, both, strict=True)]
