"""Before a fetch: what it will take (`--dry-run`), and a first look at it (`--limit`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from download.fetch.forecast import announcement, best, lasting, lines
from download.fetch.plan import Plan
from download.fetch.report import finished_run
from download.fetch.report import lines as report
from download.fetch.run import fetch, foresee
from etl.errors import UserError
from etl.manifest import MANIFEST, digests, write_manifest
from tests.download.fetching import go, options, write_candidates
from tests.download.image_server import Server, serving

PACES = """
[default]
connections = 3
per_second = 2
burst = 4

[group."narrow.test"]
per_second = 1000
bytes_per_second = 9200
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def foreseen(images: Path, server: Server, **more: Any) -> dict[str, Any]:
    return foresee(images, options(server, images.parent, contact=None, **more))


def many(host: str, urls: int) -> list[str]:
    return [f"http://{host}/ok/{number}" for number in range(urls)]


def test_a_dry_run_asks_nobody_and_needs_no_contact(server: Server, tmp_path: Path) -> None:
    write_candidates(
        tmp_path / "i", ["http://a.test/ok/1", ["http://b.test/404/1", *many("c.test", 1)]]
    )
    found = foreseen(tmp_path / "i", server)
    assert (found["candidates"], found["urls"], found["to_ask"], found["done"]) == (2, 3, 2, 0)
    assert [host["host"] for host in found["hosts"]] == ["a.test", "b.test"]
    assert not server.asked
    assert not (tmp_path / "i" / "fetches" / MANIFEST).exists()


def test_the_host_that_takes_longest_comes_first_and_says_how_long(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "paces.toml").write_text(PACES)
    wanted = [*many("few.test", 3), *many("many.test", 204), *many("narrow.test", 12)]
    write_candidates(tmp_path / "i", wanted)
    found = foreseen(tmp_path / "i", server, manners=tmp_path / "paces.toml")
    times = {host["host"]: host["seconds"] for host in found["hosts"]}
    # (204 - 4) at 2 a second; 12 images of 92 kB at 9.2 kB a second; what may come at once
    assert times == {"narrow.test": 120.0, "many.test": 100.0, "few.test": 0.0}
    assert [host["host"] for host in found["hosts"]] == ["narrow.test", "many.test", "few.test"]
    assert (found["seconds"], found["bytes"]) == (120.0, 219 * 92_000)
    said = "\n".join(lines(found))
    assert "time: 2 min or more, which is what narrow.test takes" in said
    assert "disk: about 20.1 MB, at 92 kB an image" in said


def test_what_is_done_is_not_foreseen_again(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", ["http://a.test/ok/1", "http://a.test/busy/1"])
    go(tmp_path / "i", server)
    before = (tmp_path / "i" / "fetches" / MANIFEST).read_bytes()
    assert foreseen(tmp_path / "i", server)["to_ask"] == 0
    again = foreseen(tmp_path / "i", server, retry=("transient",))
    assert (again["to_ask"], again["done"]) == (1, 1)
    # candidates of which nothing is planned yet: what was fetched stays a finished fetch
    write_candidates(tmp_path / "i", ["http://a.test/ok/1", "http://a.test/ok/2"])
    assert foreseen(tmp_path / "i", server)["to_ask"] == 1
    assert (tmp_path / "i" / "fetches" / MANIFEST).read_bytes() == before


def test_a_dry_run_of_nothing_says_what_to_run_first(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `sparqless images find` to its end first"):
        foreseen(tmp_path / "i", server)
    assert not (tmp_path / "i").exists()


def test_a_run_says_first_what_it_will_take(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", many("a.test", 3))
    told: list[dict[str, Any]] = []
    for _ in range(2):  # the second has nothing to ask for, and nothing to say
        fetch(tmp_path / "i", options(server, tmp_path), told.append)
    (found,) = told
    assert announcement(found).startswith("Asking for 3 URLs of 1 host: 0 s or more")


def test_a_first_look_goes_to_all_hosts_and_the_next_run_goes_on(
    server: Server, tmp_path: Path
) -> None:
    images = tmp_path / "i"
    write_candidates(images, [*many("a.test", 40), *many("b.test", 40)])
    first = go(images, server, limit=20)
    assert len(server.images()) == 20
    assert {asked.host for asked in server.images()} == {"a.test", "b.test"}
    assert first["counts"]["candidates"]["outcomes"]["not_asked"] == 60
    said = "\n".join(report(images, first))
    assert sum(host["ok"] for host in first["hosts"]) == 20
    assert f"40  a.test (100% of {first['hosts'][0]['ok']})" in said
    assert "60 candidates not asked for yet: run it again without --limit" in said
    assert finished_run(images) is None  # so `images pack` refuses it, without --unfinished
    go(images, server, limit=20)
    assert len(server.images()) == 20
    last = go(images, server)
    assert len(server.images()) == 80
    assert last["counts"]["candidates"]["outcomes"]["ok"] == 80
    assert "not asked for yet" not in "\n".join(report(images, last))
    assert go(images, server, limit=20) == last


def test_a_first_look_uses_fallbacks(server: Server, tmp_path: Path) -> None:
    write_candidates(
        tmp_path / "i", [[f"http://a.test/404/{n}", f"http://a.test/ok/{n}"] for n in "12"]
    )
    go(tmp_path / "i", server, limit=1)
    assert [asked.path.split("/")[1] for asked in server.images()] == ["404", "ok"]


def test_a_first_look_takes_the_best(server: Server, tmp_path: Path) -> None:
    images = tmp_path / "i"
    write_candidates(images, many("a.test", 30))
    table = images / "candidates" / "candidates.parquet"
    rows = pq.read_table(table).to_pylist()
    for number, row in enumerate(rows):
        row["score"] = 1.0 if number % 10 == 7 else 0.5
    schema = pq.read_schema(table)
    pq.write_table(type(pq.read_table(table)).from_pylist(rows, schema), table)
    foreseen_plan(images, server)
    chosen = best(Plan(images / "fetches" / "plan"), 3)
    assert np.count_nonzero(chosen) == 3
    assert set(np.flatnonzero(chosen)) == {0, 1, 2}  # a plan has a host's best first


def foreseen_plan(images: Path, server: Server) -> None:
    folder = images / "candidates"
    outputs = digests(folder, ["candidates.parquet"], quiet=True)
    write_manifest(folder, {"step": "candidates", "counts": {"candidates": 30}, "outputs": outputs})
    foreseen(images, server)


def test_a_run_without_work_says_so(server: Server, tmp_path: Path) -> None:
    write_candidates(tmp_path / "i", many("a.test", 1))
    assert finished_run(tmp_path / "i") is None
    first = "\n".join(report(tmp_path / "i", go(tmp_path / "i", server)))
    assert "nothing was left" not in first
    before = finished_run(tmp_path / "i")
    again = "\n".join(report(tmp_path / "i", go(tmp_path / "i", server), before))
    assert "nothing was left to ask for" in again


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89.4, "89 s"), (600, "10 min"), (7_200, "2.0 h"), (864_000, "10.0 days")],
)
def test_times_are_told_in_a_unit_that_fits(seconds: float, said: str) -> None:
    assert lasting(seconds) == said
