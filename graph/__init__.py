"""A store → a graph data set: recipes, property paths, the array graph and what it selects.

>>> import graph
>>> animals = graph.load("data/sample/graph/entitynet", root="Q729")  # a networkx.DiGraph
>>> entities = graph.datasets("data/sample/graph/entitynet")["entities"]  # an Arrow dataset

docs/python.md has more.  Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx
    import pyarrow.dataset as ds


def load(directory: Path | str, root: str | None = None) -> nx.DiGraph[str]:
    """Load a finished data set as a plain networkx graph.

    Nodes are ids (`"Q144"`), edges lead from child to parent; an edge's `property` is the list of
    the statements that make it (`["P279"]`; `"^P1672"` for one of the parent about the child).  A
    node of an entity that the data set keeps has the attributes `name`, `roots`, `depths`,
    `sitelinks`, `natural_type`, `natural_type_name` and `visual`, where they are not null.  The
    ancestors in between that it doesn't keep are nodes without attributes.

    With `root`, only the entities of that root and all that stands between them and it.

    Costs 1 kB a node with its attributes and 0.6 kB an edge, and 10 µs each (measured on a million
    nodes and 1.5 million edges: 2 GB, 24 s): for results of up to a few million edges.
    `graph.read.hierarchy` has the edges of larger ones as arrays, at 16 bytes an edge.

    Raises
    ------
    UserError : there is no finished data set, or `root` is none of its roots.
    """
    from graph import read

    return read.load(Path(directory), root)


def datasets(directory: Path | str) -> dict[str, ds.Dataset]:
    """Open the tables of a finished data set: name (`"entities"`, ...) -> Arrow dataset.

    A dataset reads what is asked of it: `datasets(d)["entities"].to_table(columns=["id", "name"])`.

    Raises
    ------
    UserError : there is no finished data set.
    """
    from graph import read

    return read.datasets(Path(directory))
