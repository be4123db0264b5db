"""Verified pairs in a file, their evidence, and the groups that their graph falls into."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RelookError
from pipeline.train.mining.evidence import Evidence, evidence_of
from pipeline.train.mining.graph import find_groups, number_groups, weakest_links
from pipeline.train.mining.pair_file import PairFile, names_of
from pipeline.train.mining.veto import read_veto
from pipeline.types import VerifiedMatches

Edge = tuple[int, int]
COUNT = 9


edge_lists = st.sets(
    st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)).filter(lambda edge: edge[0] < edge[1]), max_size=16
).map(sorted)


def array(edges: list[Edge]) -> np.ndarray:
    return np.array(edges, np.int64).reshape(-1, 2)


@given(edge_lists, st.data())
def test_groups_are_joined_greedily(edges: list[Edge], data: st.DataObject) -> None:
    # Distinct powers of two: no two sums are equal, so that there is one surest link.
    signs = data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=len(edges), max_size=len(edges)))
    order = data.draw(st.permutations(range(len(edges))))
    weight = np.array([sign * 2.0**place for sign, place in zip(signs, order, strict=True)])
    number = find_groups(COUNT, array(edges), weight)
    # By a plain loop over all pairs of parts.
    parts = [{photo} for photo in range(COUNT)]
    while True:
        sums = {
            (x, y): sum(
                value
                for (a, b), value in zip(edges, weight, strict=True)
                if (a in parts[x] and b in parts[y]) or (b in parts[x] and a in parts[y])
            )
            for x in range(len(parts))
            for y in range(x)
        }
        surest = max(sums, key=sums.__getitem__, default=None)
        if surest is None or sums[surest] <= 0:
            break
        parts[surest[1]] |= parts.pop(surest[0])
    for photo in range(COUNT):
        together = {other for other in range(COUNT) if number[other] == number[photo] >= 0}
        (own,) = [part for part in parts if photo in part]
        assert together == (own if len(own) > 1 else set())
    numbers = [value for value in number.tolist() if value >= 0]
    assert list(dict.fromkeys(numbers)) == list(range(len(set(numbers))))


def test_what_most_pairs_contradict_joins_nothing() -> None:
    inside = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]
    between = [(0, 3), (1, 4), (2, 5), (0, 4)]
    weight = np.array([0.5] * 6 + [0.4, -0.3, -0.3, -0.3])
    assert find_groups(6, array(inside + between), weight).tolist() == [0, 0, 0, 1, 1, 1]
    assert find_groups(6, array(inside + between[:1]), weight[:7]).tolist() == [0] * 6


def test_a_long_chain_is_one_group() -> None:
    chain = np.stack([np.arange(50_000), np.arange(1, 50_001)], axis=1)
    assert not find_groups(50_001, chain, np.ones(50_000)).any()


def test_the_weakest_link_is_that_of_the_strongest_way() -> None:
    edges = array([(0, 1), (1, 2), (0, 2), (3, 4)])
    number = number_groups(6, edges)
    assert number.tolist() == [0, 0, 0, 1, 1, -1]
    assert weakest_links(number, edges, np.array([50.0, 40.0, 3.0, 7.0])).tolist() == pytest.approx([40, 7])


# --- evidence ---------------------------------------------------------------------------------------------------------


def matches(xy: np.ndarray, inliers: np.ndarray) -> VerifiedMatches:
    points = xy.astype(np.float32)
    return VerifiedMatches(
        points, points, np.full(len(xy), 0.5, np.float32), inliers, np.eye(3), "fundamental", (0, 0, 200, 100)
    )


def test_points_on_a_line_or_on_one_spot_are_degenerate() -> None:
    rng = np.random.default_rng(0)
    spread = np.stack([rng.uniform(0, 200, 40), rng.uniform(0, 100, 40)], axis=1)
    everything = np.ones(40, np.bool_)
    region = (0.0, 0.0, 200.0, 100.0)
    good = evidence_of(matches(spread, everything), region)
    assert (good.inliers, good.support, good.degenerate) == (40, 20.0, False)
    line = np.stack([spread[:, 0], 0.5 * spread[:, 0] + rng.uniform(-1, 1, 40)], axis=1)
    stamp = 180 + rng.uniform(0, 9, (40, 2))
    assert evidence_of(matches(line, everything), region).degenerate
    assert evidence_of(matches(stamp, everything), region).degenerate
    # What does not agree with the model says nothing of the spread.
    half = np.arange(40) < 20
    assert evidence_of(matches(np.where(half[:, None], stamp, spread), half), region).degenerate
    assert evidence_of(matches(spread, ~everything), region) == Evidence(0, 0.0, 0.0)


# --- the file of pairs ------------------------------------------------------------------------------------------------


def test_pairs_are_kept_under_the_way_that_verified_them(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mine.pairs.sqlite"
    file, other = PairFile(path, "one"), PairFile(path, "another")
    assert file.read([("a", "b")]) == {}
    assert not path.exists()
    kept = {names_of("b", "a"): Evidence(9, 4.5, 0.125), ("a", "c"): Evidence(0, 0.0, 0.0)}
    file.keep(kept)
    assert PairFile(path, "one").read([("a", "b"), ("a", "c"), ("b", "c")]) == kept
    assert other.read([("a", "b")]) == {}


def test_a_killed_block_leaves_the_earlier_ones(tmp_path: Path) -> None:
    file = PairFile(tmp_path / "mine.pairs.sqlite", "one")
    file.keep({("a", "b"): Evidence(1, 1.0, 0.5)})
    with pytest.raises(sqlite3.ProgrammingError):
        file.keep({("a", "c"): Evidence(2, 2.0, 0.5), ("a", object()): Evidence(3, 3.0, 0.5)})  # type: ignore[dict-item]
    assert set(file.read([("a", "b"), ("a", "c")])) == {("a", "b")}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.pairs.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(RelookError, match=r"mine\.pairs\.sqlite: damaged .*; remove it"):
        PairFile(path, "one").read([("a", "b")])


def test_the_veto_file_is_a_list_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "veto.txt"
    path.write_text("# looked at on Monday\nphotos/a b.jpg\n\n  #1.jpg  \n")
    assert read_veto(path) == ["photos/a b.jpg", "#1.jpg"]
    with pytest.raises(RelookError, match=r"none\.txt: cannot read the veto file"):
        read_veto(tmp_path / "none.txt")
