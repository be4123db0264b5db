"""Groups that follow from a person's answers alone: yes joins two photos, no keeps them apart.

Written as labels by `label --labels`. Answers that contradict each other are reported; the greater number decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.train.loop.task import Rows
from pipeline.train.mining.answers import NO, YES
from pipeline.train.mining.graph import find_groups
from pipeline.train.mining.pair_file import Names
from pipeline.workflow.training.mining import answers_of_rows


@dataclass(frozen=True)
class AnsweredGroups:
    """Groups of N photos.

    Attributes:
        number: [N] int64, of each photo; -1: none.
        contradictions: answers that the groups do not follow, because others say otherwise: (first, second, answer).
    """

    number: Rows
    contradictions: list[tuple[str, str, str]]


def group_answers(answers: Mapping[Names, str], place_of: Mapping[str, int], count: int) -> AnsweredGroups:
    """The groups of answers.

    Args:
        answers: by the ids of two images.
        place_of: of each image the row that stands for it.
        count: N, the number of rows.
    """
    said = {pair: answer for pair, answer in answers_of_rows(answers, place_of).items() if answer in (YES, NO)}
    edges = np.array(list(said), np.int64).reshape(-1, 2)
    number = find_groups(count, edges, np.array([1.0 if answer == YES else -1.0 for answer in said.values()]))
    against = []
    for (first, second), answer in answers.items():
        if first in place_of and second in place_of and answer in (YES, NO):
            left, right = place_of[first], place_of[second]
            together = left == right or (number[left] == number[right] and number[left] >= 0)
            if together != (answer == YES):
                against.append((first, second, answer))
    return AnsweredGroups(number, against)
