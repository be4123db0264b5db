"""Labelling an index: the next question, the answers that are kept, and the points that match on a pair.

Held by the page's server, and read without one by `label --labels` and `label --pairs`.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.train.mining.answers import ANSWERS, NOTHING, AnswerFile
from pipeline.train.mining.pair_file import Names, PairFile, names_of, pairs_beside
from pipeline.types import ImageRecord, VerifiedMatches
from pipeline.workflow.labelling.choice import Choice, choose_pairs
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.progress import Reporter
from pipeline.workflow.training.mining import (
    MinedPairs,
    adapted_path,
    known_pairs,
    near_pairs,
    pair_matcher,
    way_of_matching,
)


@dataclass(frozen=True)
class Question:
    """A pair of photos that a person is shown.

    Attributes:
        first, second: the photos.
        support: of the pair as `adapt` verified it; None: it did not.
        similarity: cosine of the global descriptors.
        sizes: photos of the groups that both are in, themselves included.
        together: whether both are in one group, which a no divides.
        worth: how many pairs of photos the answer is expected to move.
    """

    first: ImageRecord
    second: ImageRecord
    support: float | None
    similarity: float
    sizes: tuple[int, int]
    together: bool
    worth: float


class LabellingSession:
    """Questions and answers of one generation of an index. Safe to use from several threads.

    Args:
        gallery: opened; its store has every vector.
        config: `adapt` and `rerank.matching` matter here.
        file: of the answers.
        reporter: told about the progress.

    Attributes:
        file: of the answers.
        mined: pairs, what is known of them and what was answered.

    Raises:
        RelookError: the verified pairs or the store cannot be read.
    """

    def __init__(self, gallery: OpenedIndex, config: Config, file: AnswerFile, reporter: Reporter) -> None:
        self._gallery, self._config, self.file = gallery, config, file
        # Matching takes longer than a quick answer should wait, so it has a lock of its own.
        self._lock, self._matching = threading.RLock(), threading.Lock()
        verified = pairs_beside(adapted_path(config, gallery.index.card.name))
        way = way_of_matching(gallery, config) if verified.is_file() else ""
        near = near_pairs(gallery, config, reporter)
        self.mined: MinedPairs = known_pairs(near, PairFile(verified, way), file.answers)
        self._number = {pair: number for number, pair in enumerate(map(tuple, self.mined.pairs.tolist()))}
        self._given: list[Names] = []

    def question(self) -> Question | None:
        """The pair whose answer is worth most; None: no answer is left that does not follow from others."""
        with self._lock:
            choice = choose_pairs(self.mined, self._config.adapt.least)
            return self._question(choice, int(choice.order[0])) if len(choice.order) else None

    def questions(self, count: int) -> list[Names]:
        """The ids of the first `count` pairs by what is known now."""
        order = choose_pairs(self.mined, self._config.adapt.least).order[:count]
        rows = self.mined.pairs[order].tolist()
        return [(self.mined.records[left].id, self.mined.records[right].id) for left, right in rows]

    def answer(self, first: str, second: str, answer: str) -> None:
        """Keep what a person says of a pair; it is on the disk when this returns.

        Raises:
            UsageError: there is no such answer, or the two are no pair of the index that is shown.
            RelookError: the file cannot be written.
        """
        if answer not in ANSWERS:
            raise UsageError(f"answer = {answer!r} must be {', '.join(ANSWERS)}")
        with self._lock:
            self._keep(first, second, answer)
            self._given.append(names_of(first, second))

    def undo(self) -> Question | None:
        """Take back the answer that this session was given last, and ask again; None: there is none.

        Raises:
            RelookError: the file cannot be written.
        """
        with self._lock:
            if not self._given:
                return None
            pair = self._given[-1]
            number = self._keep(*pair, NOTHING)
            self._given.pop()
            return self._question(choose_pairs(self.mined, self._config.adapt.least), number)

    def counts(self) -> dict[str, int]:
        """How many pairs have each answer, and how many answers can be taken back as "undo"."""
        with self._lock:
            given = Counter(self.file.answers.values())
            return {**{answer: given[answer] for answer in ANSWERS}, "undo": len(self._given)}

    def points(self, first: str, second: str) -> VerifiedMatches:
        """The points that match on two photos of the index.

        Raises:
            UsageError: an id is not in the index.
            RelookError: keypoints or the matcher cannot be had.
        """
        for name in (first, second):
            if name not in self.mined.place_of:
                raise UsageError(f"the index has no image {name[:200]!r}")
        with self._matching:
            left, right = self._gallery.keypoints([first, second])
            return self._matcher.match_images([(left, right)])[0]

    @cached_property
    def _matcher(self) -> MatchingReranker:
        return pair_matcher(self._gallery, self._config)

    def _keep(self, first: str, second: str, answer: str) -> int:
        left, right = sorted(self.mined.place_of.get(name, -1) for name in (first, second))
        number = self._number.get((left, right))
        if number is None:
            raise UsageError(f"{first[:200]!r} and {second[:200]!r} are no pair of the index that is shown")
        self.file.add(first, second, answer)
        answers = self.mined.answers.copy()
        answers[number] = answer
        self.mined = replace(self.mined, answers=answers)
        return number

    def _question(self, choice: Choice, number: int) -> Question:
        left, right = self.mined.pairs[number].tolist()
        groups = choice.number[[left, right]].tolist()
        sizes = [1 if group < 0 else int(np.count_nonzero(choice.number == group)) for group in groups]
        return Question(
            first=self.mined.records[left],
            second=self.mined.records[right],
            support=float(self.mined.evidence[number].support) if self.mined.compared[number] else None,
            similarity=float(self.mined.similarity[number]),
            sizes=(sizes[0], sizes[1]),
            together=groups[0] == groups[1] >= 0,
            worth=float(choice.worth[number]),
        )


def question_document(question: Question | None) -> dict[str, Any] | None:
    """Plain values of a question; of a photo its id, its path and its size."""
    if question is None:
        return None
    photos = {
        name: {"id": photo.id, "path": photo.path, "width": photo.width, "height": photo.height}
        for name, photo in (("first", question.first), ("second", question.second))
    }
    return {
        **photos,
        "support": None if question.support is None else round(question.support, 1),
        "similarity": round(question.similarity, 3),
        "sizes": list(question.sizes),
        "together": question.together,
        "worth": round(question.worth, 2),
    }
