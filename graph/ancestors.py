"""All that stands above many rows at once, as arrays: (row, node, distance) by the million.

A search from every row by itself would cost a Python loop per row; here a few hundred rows go up
together, level by level, over a table of what each has seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graph.ontology import ArrayGraph, Nodes, distinct

# Cells (one byte each) of the table of what a batch of rows has seen.
_CELLS = 1 << 26


def ancestors(
    graph: ArrayGraph, row: Nodes, start: Nodes, *, cells: int = _CELLS
) -> Iterator[tuple[Nodes, Nodes, Nodes]]:
    """Yield (row, node, distance) of every node that a row's starts lead to, a batch at a time.

    Distances are the shortest ones, 0 for the starts themselves; cycles do no harm.  Batches, and
    what they hold, come in the order of the rows, then of the nodes.

    Parameters
    ----------
    row, start : (P,) row i begins at every `start` that stands beside it; ordered by row
    cells : memory for a batch, in bytes; what it finds takes some 40 bytes a pair on top
    """
    reach = graph.reachable(start)  # few: of Wikidata's 5 million classes, those above the starts
    place = np.zeros(graph.size, np.int64)
    place[reach] = np.arange(len(reach))
    together = max(1, cells // max(1, len(reach)))
    end = int(row[-1]) + 1 if len(row) else 0
    for first in range(0, end, together):
        low, high = np.searchsorted(row, (first, first + together))
        if low < high:
            found = _climbed(graph, reach, place, row[low:high] - first, start[low:high])
            yield found[0] + first, found[1], found[2]


def _climbed(
    graph: ArrayGraph, reach: Nodes, place: Nodes, row: Nodes, start: Nodes
) -> tuple[Nodes, Nodes, Nodes]:
    """Climb from one batch of rows; a cell is row * len(reach) + the node's place in `reach`."""
    width = len(reach)
    seen = np.zeros((int(row[-1]) + 1) * width, bool)
    layer = distinct(row * width + place[start])
    layers = []
    while len(layer):
        seen[layer] = True
        layers.append(layer)
        at, node = np.divmod(layer, width)
        above = [np.empty(0, np.int64)]
        for _, i, target in graph.steps(reach[node]):
            cell = at[i] * width + place[target]
            above.append(cell[~seen[cell]])
        layer = distinct(np.concatenate(above))
    cell = np.concatenate(layers)
    distance = np.repeat(np.arange(len(layers)), [len(layer) for layer in layers])
    order = np.argsort(cell)
    at, node = np.divmod(cell[order], width)
    return at, reach[node], distance[order]
