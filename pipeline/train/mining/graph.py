"""The graph of compared pairs, and the groups of photos that it falls into.

Two things that share a detail, such as the print of a brand, are linked by a few pairs, while most pairs of their
photos fail to match. So both count: a pair that agrees speaks for one group, a pair that was compared and does not
speaks against it. Groups are joined greedily, the surest first, while what links them speaks for it in sum: Keuper et
al., "Efficient Decomposition of Image and Mesh Graphs by Lifted Multicuts", ICCV 2015, algorithm 1.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from pipeline.train.loop.task import Rows

Edges = npt.NDArray[np.int64]


def find_groups(count: int, edges: Edges, weight: npt.NDArray[np.floating]) -> Rows:
    """Groups of photos.

    Args:
        count: N, the number of photos.
        edges: [E, 2], rows of photos, no pair twice.
        weight: [E], above 0 for one group, below 0 against it.

    Returns:
        [N] int64, numbered as by `number_groups`.
    """
    links: list[dict[int, float]] = [{} for _ in range(count)]
    for (left, right), value in zip(edges.tolist(), weight.tolist(), strict=True):
        links[left][right] = links[right][left] = value
    queue = [(-value, row, other) for row in range(count) for other, value in links[row].items() if row < other]
    queue = [link for link in queue if link[0] < 0]
    heapq.heapify(queue)
    joined: list[tuple[int, int]] = []
    while queue:
        value, kept, gone = heapq.heappop(queue)
        if links[kept].get(gone) != -value:  # changed since, or gone
            continue
        if len(links[kept]) < len(links[gone]):
            kept, gone = gone, kept
        joined.append((kept, gone))
        for other, weight_of_other in links[gone].items():
            del links[other][gone]
            if other != kept:
                total = links[kept].get(other, 0.0) + weight_of_other
                links[kept][other] = links[other][kept] = total
                if total > 0:
                    heapq.heappush(queue, (-total, min(kept, other), max(kept, other)))
        links[gone] = {}
    return number_groups(count, np.array(joined, np.int64).reshape(-1, 2))


def number_groups(count: int, edges: Edges) -> Rows:
    """[N] int64: connected components of two photos or more, numbered in the order of the first photo; -1: alone."""
    ones = np.ones(len(edges), np.bool_)
    _, component = connected_components(coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(count, count)), False)
    _, first, inverse, sizes = np.unique(component, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(np.where(sizes > 1, first, count), kind="stable")
    numbers = np.full(len(sizes), -1, np.int64)
    several = int((sizes > 1).sum())
    numbers[order[:several]] = np.arange(several)
    return np.asarray(numbers[inverse], np.int64)


def weakest_links(number: Rows, edges: Edges, strength: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """[groups]: the strongest way through a group is only as strong as this edge of it.

    Args:
        number: [N], as of `find_groups`.
        edges: [E, 2], inside of groups.
        strength: [E], above 0.
    """
    shape = (len(number), len(number))
    tree = minimum_spanning_tree(coo_array((1 / strength, (edges[:, 0], edges[:, 1])), shape=shape)).tocoo()
    found = np.full(int(number.max(initial=-1)) + 1, np.inf)
    np.minimum.at(found, number[tree.coords[0]], 1 / tree.data)
    return found
