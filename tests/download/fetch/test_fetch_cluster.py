"""The nodes of a Ray cluster fetch what this machine does, each host by one of them."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from download.fetch.bodies import Bodies
from tests.download.fetching import go, log, results, write_candidates
from tests.download.image_server import Server, serving

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("ray", "fsspec"))),
    reason="ray is not installed: pip install -e '.[dev]'",
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_nodes_fetch_what_this_machine_does(server: Server, tmp_path: Path) -> None:
    given = [f"http://h{n % 13}.test/{('ok', '404', 'same')[n % 3]}/{n}" for n in range(60)]
    given += [f"http://h{n}.test/away/h{n + 1}.test/ok/from-{n}" for n in range(12)]
    for name in ("here", "there"):
        write_candidates(tmp_path / name, given)
    go(tmp_path / "here", server)
    before = len(server.images())
    go(tmp_path / "there", server, workers=2, engine="ray", ray_address="local")
    assert results(tmp_path / "there") == results(tmp_path / "here")
    with Bodies(tmp_path / "there" / "fetches") as bodies:
        assert all(
            r["sha256"] is None or r["sha256"] in bodies for r in results(tmp_path / "there")
        )
    asked = Counter(f"{a.host}{a.path}" for a in server.images()[before:])
    assert set(asked.values()) == {1}
    assert {row["run"] for row in log(tmp_path / "there")} == {1}
