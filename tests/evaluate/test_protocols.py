"""The protocols by name: each equals the official function of its benchmark, and says what it cannot score."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RelookError, UsageError
from pipeline.evaluate import (
    PROTOCOLS,
    Guess,
    RankedRelevance,
    RevisitedTruth,
    Scores,
    by_labels,
    by_products,
    by_revisited,
    landmark_retrieval,
    mark_relevance,
    protocol_named,
    recognition_gap,
    recognition_top1,
)
from pipeline.types import Ranking

seeds = st.integers(0, 2**32 - 1)
GRADES = ("easy", "hard", "junk")


def ranked(name: str, ids: Sequence[str]) -> Ranking:
    return Ranking(name, list(ids), np.linspace(1, 0, len(ids), dtype=np.float32))


def gallery(count: int) -> list[str]:
    return [f"image {number}" for number in range(count)]


def drawn(seed: int, count: int, queries: int, groups: Sequence[str]) -> list[tuple[list[int], dict[str, list[int]]]]:
    """Per query a ranking of all rows, and disjoint groups of rows, some of them empty."""
    random = Random(seed)
    found = []
    for _ in range(queries):
        rows = random.sample(range(count), count)
        cuts = sorted(random.randrange(count // 2) for _ in groups)
        chosen = random.sample(range(count), count)
        parts = [chosen[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
        found.append((rows, dict(zip(groups, parts, strict=True))))
    return found


def judged(
    queries: Sequence[tuple[list[int], dict[str, list[int]]]], shown: int | None = None
) -> list[RankedRelevance]:
    return [
        mark_relevance(
            ranked(str(number), [f"image {row}" for row in rows[:shown]]),
            {group: [f"image {row}" for row in members] for group, members in groups.items()},
        )
        for number, (rows, groups) in enumerate(queries)
    ]


def same(found: Scores, wanted: dict[str, Sequence[float]]) -> None:
    assert list(found.per_query) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found.per_query[name], values, atol=1e-12, rtol=0)


# --- each protocol is the official function ---------------------------------------------------------------------------


@given(seeds, st.integers(4, 60), st.sampled_from([None, 7]))
def test_revisited(seed: int, count: int, shown: int | None) -> None:
    queries = drawn(seed, count, 5, GRADES)
    truths = [RevisitedTruth(*(np.array(groups[grade]) for grade in GRADES)) for _, groups in queries]
    wanted: dict[str, Sequence[float]] = {}
    for setup in "EMH":
        if any(len(truth.positives(setup)) for truth in truths):
            official = by_revisited([np.array(rows[:shown]) for rows, _ in queries], truths, setup)
            wanted |= {f"{name}_{setup}": values for name, values in official.per_query.items()}
    if not wanted:
        with pytest.raises(RelookError, match="no query has a positive, easy or hard"):
            PROTOCOLS["revisited"].score(judged(queries, shown))
        return
    same(PROTOCOLS["revisited"].score(judged(queries, shown)), wanted)


@given(seeds, st.sampled_from([30, 260]))
def test_landmark_retrieval(seed: int, count: int) -> None:
    queries = [item for item in drawn(seed, count, 5, ("positive",)) if item[1]["positive"]]
    if not queries:
        return
    predictions = {str(number): [str(row) for row in rows] for number, (rows, _) in enumerate(queries)}
    solution = {str(number): [str(row) for row in groups["positive"]] for number, (_, groups) in enumerate(queries)}
    official = landmark_retrieval(predictions, solution)
    wanted = {"mAP@100": official.average_precisions}
    wanted |= {f"P@{k}": official.precisions[:, k - 1] for k in (1, 10, 100)}
    same(PROTOCOLS["gldv2"].score(judged(queries)), wanted)


@given(seeds)
def test_instances_are_landmark_retrieval_ten_times_as_deep(seed: int) -> None:
    queries = [item for item in drawn(seed, 2300, 2, ("positive",)) if item[1]["positive"]]
    if not queries:
        return
    predictions = {str(number): [str(row) for row in rows] for number, (rows, _) in enumerate(queries)}
    solution = {str(number): [str(row) for row in groups["positive"]] for number, (_, groups) in enumerate(queries)}
    official = landmark_retrieval(predictions, solution, depth=1000)
    same(PROTOCOLS["ilias"].score(judged(queries)), {"mAP@1k": official.average_precisions})


@given(seeds)
def test_products(seed: int) -> None:
    """All of a set query each other; the class of some stands alone, and they count."""
    random = Random(seed)
    labels = [random.randrange(12) for _ in range(30)]
    neighbours = [random.sample([row for row in range(30) if row != query], 29) for query in range(30)]
    members = [[row for row in range(30) if labels[row] == labels[query] and row != query] for query in range(30)]
    found = PROTOCOLS["products"].score(
        judged([(rows, {"positive": group}) for rows, group in zip(neighbours, members, strict=True)])
    )
    official = by_products(np.array(neighbours), np.array(labels), np.array(labels), (1, 10))
    for k in (1, 10):
        assert found.per_query[f"R@{k}"].tolist() == official.per_query[f"R@{k}"].tolist()
    assert found.means()["R@1000"] == np.mean([len(group) > 0 for group in members])


@given(seeds)
def test_labels(seed: int) -> None:
    random = Random(seed)
    labels = {name: random.choice(["a", "b", "c", ""]) for name in gallery(20)} | {"image 0": "a", "image 1": "a"}
    rankings = [ranked(name, random.sample([other for other in labels if other != name], 19)) for name in labels]
    found = PROTOCOLS["labels"].score(
        [
            mark_relevance(
                ranking, {"positive": {o for o in labels if labels[o] == label and o != ranking.query_id and label}}
            )
            for ranking, label in zip(rankings, labels.values(), strict=True)
        ]
    )
    official, unscored = by_labels(rankings, list(labels.values()), labels, [{name} for name in labels])
    assert found.unscored == unscored
    assert found.summary() == official.summary()


@given(seeds)
def test_landmark_recognition(seed: int) -> None:
    """The first labelled answer of each ranking is the guess; an image of something else has no landmark."""
    random = Random(seed)
    labels = {name: random.choice(["tower", "bridge", ""]) for name in gallery(12)}
    truth = {f"query {number}": random.choice([["tower"], ["bridge", "tower"], []]) for number in range(8)}
    truth["query 0"] = ["bridge"]
    rankings = []
    for query in truth:
        ids = random.sample(sorted(labels), 12)
        scores = np.array(sorted((random.choice([0.1, 0.5, 0.9]) for _ in ids), reverse=True), dtype=np.float32)
        rankings.append(Ranking(query, ids, scores))
    found = PROTOCOLS["gldv2_recognition"].score(
        [mark_relevance(ranking, {}, labels, truth[ranking.query_id]) for ranking in rankings]
    )
    guesses = {}
    for ranking in rankings:
        first = [place for place, name in enumerate(ranking.ids) if labels[name]]
        if first:
            guesses[ranking.query_id] = Guess(labels[ranking.ids[first[0]]], float(ranking.scores[first[0]]))
    means = found.means()
    assert means["uAP"] == pytest.approx(recognition_gap(guesses, truth), abs=1e-12)
    assert means["top1"] == pytest.approx(recognition_top1(guesses, truth), abs=1e-12)
    assert found.unscored == sum(not shown for shown in truth.values())


# --- what cannot be scored --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_without_any_answer_there_is_an_error(name: str) -> None:
    protocol = PROTOCOLS[name]
    empty = mark_relevance(ranked("q", gallery(3)), dict.fromkeys(protocol.groups, ()), dict.fromkeys(gallery(3), "a"))
    with pytest.raises(RelookError, match=r"^no (query|image)") as caught:
        protocol.score([empty])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_the_headline_is_a_metric_of_the_protocol(name: str) -> None:
    protocol = PROTOCOLS[name]
    groups = {group: [image] for group, image in zip(protocol.groups, gallery(3), strict=False)}
    perfect = mark_relevance(ranked("q", gallery(3)), groups, dict.fromkeys(gallery(3), "a"), ["a"])
    scores = protocol.score([perfect]).summary()
    assert scores[protocol.headline] == 100
    assert protocol_named(name) is protocol


def test_an_unknown_protocol_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown protocol 'revisit'; did you mean 'revisited'"):
        protocol_named("revisit")


def test_recognition_without_a_guess_is_wrong_and_no_error() -> None:
    unlabelled = mark_relevance(ranked("q", gallery(2)), {}, {}, ["a"])
    assert unlabelled.guess is None
    assert PROTOCOLS["gldv2_recognition"].score([unlabelled]).summary() == {"uAP": 0.0, "top1": 0.0}
