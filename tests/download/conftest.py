"""The sample, as `make graph` leaves it, with the dumps of its Commons."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.ingest import ingest
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.plan import Options
from etl.sample import write_dump
from etl.sample.commons import write_commons
from graph.build import build
from graph.recipe import load


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with store/, graph/ and the sample's dumps; not to be written into."""
    folder = tmp_path_factory.mktemp("sample")
    dump = folder / "dump.json.gz"
    write_dump(dump)
    write_commons(folder)
    kept = Kept(DEFAULT_LANGUAGES, read_properties(None))
    ingest((str(dump),), folder / "store", Options(kept, workers=0, quiet=True))
    build(folder / "store", load("entitynet"), folder / "graph", quiet=True)
    return folder
