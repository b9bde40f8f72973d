"""All that stands above many rows at once, as arrays: (row, node, distance) by the million.

A search from every row by itself would cost a Python loop per row; here thousands of rows go up
together, level by level.  A cell, row << 32 | node, stands for one row's having met a node.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graph.ontology import ArrayGraph, Nodes, distinct

_ROWS = 1 << 14  # that climb together
_CELLS = 1 << 24  # that they may meet: some 50 bytes each while they are at it

_NODE = (1 << 32) - 1


def ancestors(
    graph: ArrayGraph, row: Nodes, start: Nodes, *, cells: int = _CELLS
) -> Iterator[tuple[Nodes, Nodes, Nodes]]:
    """Yield (row, node, distance) of every node that a row's starts lead to, a batch at a time.

    Distances are the shortest ones, 0 for the starts themselves; cycles do no harm.  Batches, and
    what they hold, come in the order of the rows, then of the nodes.

    Parameters
    ----------
    row, start : (P,) row i begins at every `start` that stands beside it; ordered by row
    cells : how many a batch may meet before it is cut; only a row alone may meet more
    """
    first, together = 0, _ROWS
    end = int(row[-1]) + 1 if len(row) else 0
    while first < end:
        low, high = np.searchsorted(row, (first, first + together))
        found = _climbed(graph, (row[low:high] << 32) | start[low:high], cells)
        if found is None and together > 1:
            together //= 2
            continue
        if found is None:
            found = _climbed(graph, (row[low:high] << 32) | start[low:high])
        if found is not None and len(found[0]):
            yield found
        first += together


def _climbed(
    graph: ArrayGraph, starts: Nodes, most: int | None = None
) -> tuple[Nodes, Nodes, Nodes] | None:
    """Climb from some cells; None as soon as there are more than `most` of them."""
    layer = distinct(starts)
    seen, layers = layer, [layer]
    while len(layer):
        above = [np.empty(0, np.int64)]
        for _, i, target in graph.steps(layer & _NODE):
            above.append((layer[i] & ~_NODE) | target)
        layer = distinct(np.concatenate(above))
        place = np.searchsorted(seen, layer)
        place[place == len(seen)] = 0
        layer = layer[seen[place] != layer]
        layers.append(layer)
        seen = np.concatenate((seen, layer))
        seen.sort(kind="stable")  # merges two runs that are sorted, in linear time
        if most is not None and len(seen) > most:
            return None
    cell = np.concatenate(layers)
    distance = np.repeat(np.arange(len(layers)), [len(layer) for layer in layers])
    order = np.argsort(cell)
    return cell[order] >> 32, cell[order] & _NODE, distance[order]
