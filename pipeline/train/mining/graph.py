"""The graph of verified pairs, and the groups of photos that it falls into once weak bridges are cut.

An edge that is the only link between two parts of the graph (a bridge) joins things that merely share a detail as
easily as views of one thing. A weak bridge is cut; weak edges that other paths confirm stay. Bridges are found as by
Tarjan, "A note on finding the bridges of a graph", Information Processing Letters 2 (1974).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from pipeline.train.loop.task import Rows

Edges = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def find_groups(count: int, edges: Edges, strength: npt.NDArray[np.floating], sure: float) -> tuple[Rows, Mask]:
    """Groups of photos.

    Args:
        count: N, the number of photos.
        edges: [E, 2], rows of photos, no pair twice.
        strength: [E].
        sure: a bridge that is weaker is cut.

    Returns:
        [N] int64, the group of each photo, numbered from 0 in the order of the first photo, -1 for one that has none;
        and [E] bool, which edges stayed.
    """
    kept = ~find_bridges(count, edges) | (strength >= sure)
    return number_groups(count, edges[kept]), kept


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


def find_bridges(count: int, edges: Edges) -> Mask:
    """[E] bool: edges without which their two ends would not be connected; in O(N + E), without recursion."""
    bridges = np.zeros(len(edges), np.bool_)
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for number, (left, right) in enumerate(edges.tolist()):
        neighbours[left].append((right, number))
        neighbours[right].append((left, number))
    reached, lowest = [-1] * count, [0] * count
    clock = 0
    for start in range(count):
        if reached[start] >= 0 or not neighbours[start]:
            continue
        reached[start] = lowest[start] = clock
        clock += 1
        path = [(start, -1, iter(neighbours[start]))]
        while path:
            node, arrived_by, others = path[-1]
            for other, number in others:
                if number == arrived_by:
                    continue
                if reached[other] >= 0:
                    lowest[node] = min(lowest[node], reached[other])
                    continue
                reached[other] = lowest[other] = clock
                clock += 1
                path.append((other, number, iter(neighbours[other])))
                break
            else:
                path.pop()
                if path:
                    before = path[-1][0]
                    lowest[before] = min(lowest[before], lowest[node])
                    bridges[arrived_by] = lowest[node] > reached[before]
    return bridges


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
