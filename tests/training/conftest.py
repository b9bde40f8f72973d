"""A small data set and its tables of texts, for each file of tests that asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.data_sets import animals
from training.text_build import build


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return animals(tmp_path_factory.mktemp("texts") / "graph")


@pytest.fixture(scope="module")
def folder(graph: Path) -> Path:
    """The tables of its texts."""
    return build(graph, graph.parent / "tables")
