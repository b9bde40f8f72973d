"""A Ray cluster gives the store that this machine gives, whatever is killed on the way."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from etl import cluster, location
from etl.dump import Slice, find_inputs
from etl.errors import UserError
from etl.ingest import ingest
from etl.manifest import read_manifest
from etl.plan import Options
from etl.runs import SliceJob, read_report, read_slice
from tests.console import ROOT, run, start
from tests.etl import dumps
from tests.etl.cluster_run import KEPT, SLICE_BYTES

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("ray", "s3fs", "moto"))),
    reason="ray, s3fs or moto is not installed: pip install -e '.[dev]'",
)

SECRET = "a-secret-of-the-storage-4711"
MISFIT = 6  # the slice that guesses its beginning wrong


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, Path]]:
    """Address of a cluster of two nodes, and its folder of logs."""
    with tempfile.TemporaryDirectory(prefix="nodes") as folder:  # its sockets want a short path
        yield from two_nodes(folder)


def two_nodes(folder: str) -> Iterator[tuple[str, Path]]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "FSSPEC_", "PYTHONPATH"))
    }
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("two_nodes.py"))],
        cwd=folder,
        env={**environment, "RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": folder},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        address, session = process.stdout.readline().split()
        yield address, Path(session)
        process.stdin.close()


@pytest.fixture(scope="module")
def storage(nodes: tuple[str, Path]) -> Iterator[Any]:
    """An S3 of this machine, with a bucket; nodes know of it by what a run tells them only."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="wikidata")
        yield client
        client.close()
    server.stop()


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many slices; the first member of one begins inside a line, and looks as if on its own."""
    inside = b'{"type":"wikibase-entityid","value":{"entity-type":"item","id":"Q1"}}'
    line = (
        b'{"type":"item","id":"Q5","descriptions":{"en":{"language":"en","value":"%s"}},"claims":'
        b'{"P31":[{"rank":"normal","mainsnak":{"snaktype":"value","property":"P31","datavalue":'
    )
    whole, size, misfit = [gzip.compress(b"[\n")], 0, MISFIT * SLICE_BYTES
    for made in dumps.entities(400):
        if misfit - SLICE_BYTES // 2 < size < misfit:
            padding = random.Random(0).randbytes(misfit - size).hex().encode()
            whole += [gzip.compress(line % padding), gzip.compress(inside + b"}}]}},\n")]
        whole.append(gzip.compress(dumps.as_line(made) + b",\n"))
        size = sum(map(len, whole))
    whole.append(gzip.compress(b'{"type":"item","id":"Q7"}\n]\n'))
    path = tmp_path_factory.mktemp("dump") / "dump.gz"
    path.write_bytes(b"".join(whole))
    return path


@pytest.fixture(scope="module")
def expected(dump: Path) -> dict[str, Any]:
    options = Options(kept=KEPT, workers=0, quiet=True, slice_bytes=SLICE_BYTES)
    ingest((str(dump),), dump.with_name("store"), options)
    return contents(dump.with_name("store"))


def contents(store: Path) -> dict[str, Any]:
    manifest = read_manifest(store, "store")
    digests = {n: d["sha256"] for n, d in manifest["outputs"].items() if n != "data.mdb"}
    return {"contents": manifest["contents"], "counts": manifest["counts"], **digests}


def keys(storage: Any, prefix: str = "") -> list[str]:
    listed = storage.list_objects_v2(Bucket="wikidata", Prefix=prefix)
    return [found["Key"] for found in listed.get("Contents", [])]


# --- on a cluster


def test_a_dump_in_s3_becomes_the_same_store_over_s3(
    tmp_path: Path, dump: Path, expected: dict[str, Any], nodes: tuple[str, Path], storage: Any
) -> None:
    address, session = nodes
    storage.upload_file(str(dump), "wikidata", "dumps/dump.gz")
    done = run(
        "etl s3://wikidata/dumps/dump.gz --store store --runs s3://wikidata/runs --engine ray"
        f" --ray-address {address} {arguments(tmp_path)}",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "store") == expected
    assert keys(storage) == ["dumps/dump.gz"]
    written = [p for top in (session, tmp_path) for p in top.rglob("*") if p.is_file()]
    assert len(written) > 10
    assert not [p for p in written if SECRET.encode() in p.read_bytes()]


def arguments(folder: Path) -> str:
    listed = folder / "properties.tsv"
    listed.write_text("".join(f"{p}\n" for p in KEPT.properties))
    return (
        f"--languages {','.join(KEPT.languages)} --properties {listed} --slice-size {SLICE_BYTES}"
    )


def started(folder: Path, *given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.etl.cluster_run", *map(str, given)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300  # for a machine that is busy with other things
    while not happened():
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            raise AssertionError(process.communicate()[1])


def test_a_worker_that_is_killed_costs_the_slice_that_it_was_at(
    tmp_path: Path, dump: Path, expected: dict[str, Any], nodes: tuple[str, Path]
) -> None:
    """With neither S3 nor --runs: nodes on this machine see the directory of the store."""
    store, caught = tmp_path / "store", 3
    process = started(tmp_path, nodes[0], dump, store, "", tmp_path, caught)
    wait_until(process, (tmp_path / "pid").exists)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert process.wait() == 0, process.communicate()[1]
    process.communicate()
    assert contents(store) == expected
    read = Counter(map(int, (tmp_path / "read").read_text().split()))
    assert {n: times for n, times in read.items() if times > 1} == {caught: 2, MISFIT: 2}


def test_a_driver_that_is_killed_finds_what_nodes_had_read(
    tmp_path: Path, dump: Path, expected: dict[str, Any], nodes: tuple[str, Path], storage: Any
) -> None:
    """Even where its own disk is lost: the slices are at LOCATION, with sizes, until the end."""
    last = 8
    runs = "s3://wikidata/elsewhere"
    process = started(tmp_path, nodes[0], dump, tmp_path / "lost", runs, tmp_path, -1, last)

    def all_there() -> bool:
        return sum(k.endswith("done.json") for k in keys(storage, "elsewhere")) == last + 1

    wait_until(process, all_there)
    process.kill()
    process.communicate()
    broken, short = (k for k in keys(storage, "elsewhere") if re.search("/00000[02]/.*0.arrow", k))
    storage.delete_object(Bucket="wikidata", Key=broken)
    storage.put_object(Bucket="wikidata", Key=short, Body=b"cut off")
    (tmp_path / "read").unlink()
    process = started(tmp_path, nodes[0], dump, tmp_path / "store", runs, tmp_path, -1)
    assert process.wait() == 0, process.communicate()[1]
    process.communicate()
    assert contents(tmp_path / "store") == expected
    read = set(map(int, (tmp_path / "read").read_text().split()))
    assert read & set(range(last + 1)) == {0, 2, MISFIT}
    manifest = read_manifest(tmp_path / "store", "store")
    assert manifest["seconds"]["slices_read_earlier"] == last - 1
    assert keys(storage, "elsewhere") == []


def test_a_slice_that_kills_every_worker_is_named(
    tmp_path: Path, dump: Path, nodes: tuple[str, Path]
) -> None:
    code = (
        "import os, signal, sys\n"
        "from etl.cluster import Nodes\n"
        "from etl.dump import Slice\n"
        "from etl.kept import Kept\n"
        "from etl.runs import SliceJob\n"
        "def task(job, tick):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "with Nodes(sys.argv[1]) as nodes:\n"
        "    slice_ = Slice(7, 'dump.gz', 'gz', 1234567, 2345678, 3456789)\n"
        "    job = SliceJob(slice_, '', Kept((), {}), 0, 0)\n"
        "    list(nodes.run(task, [job], print))\n"
    )
    done = start([sys.executable, "-c", code, nodes[0]], tmp_path)
    assert "UserError: slice 7 (from byte 1,234,567 of dump.gz) was lost 3 times" in done.stderr
    assert "memory" in done.stderr


# --- what is refused


def test_what_a_cluster_is_not_for_is_refused_in_a_sentence(tmp_path: Path, dump: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ray = f"etl {dump} --store store --engine ray"
    for command, said in {
        f"{ray} --ray-address 127.0.0.1:{port}": "no Ray cluster answers at",
        f"{ray} --ray-address ray://127.0.0.1:{port}": "no Ray cluster answers at",
        f"{ray} --ray-address nowhere": "give auto, local, HOST:PORT or ray://HOST:PORT",
        f"{ray} --limit 3": "leave out --engine ray",
        f"{ray} --runs ftp://me:word@host/runs": "--runs holds a password",
        f"{ray} --runs nonsense://runs": "nonsense://runs/",
        f"etl {dump} --store store --runs s3://x": "add --engine ray",
        "etl - --store store --engine ray": "standard input",
    }.items():
        done = run(command, tmp_path)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_without_ray_everything_else_works_and_ray_says_what_to_install(
    tmp_path: Path, dump: Path
) -> None:
    code = (
        "import sys; sys.modules.update(ray=None, fsspec=None, s3fs=None); import cli; cli.main()"
    )
    command = [sys.executable, "-c", code, "etl", str(dump), "--store", "store", "--quiet"]
    assert start(command, tmp_path).returncode == 0
    done = start([*command, "--fresh", "--engine", "ray"], tmp_path)
    assert done.returncode == 1
    assert "install sparqless[cluster]" in done.stderr


@pytest.mark.parametrize(
    "node",
    [
        {"Alive": False, "Resources": {"CPU": 4.0, "memory": 8e9}},
        {"Alive": True, "Resources": {"memory": 8e9}},
        {"Alive": True, "Resources": {"CPU": 4.0, "memory": 4e8}},
    ],
)
def test_a_cluster_on_which_no_slice_fits_is_said(node: dict[str, Any]) -> None:
    """Ray waits without an end for a node on which a task fits."""
    nodes = cluster.Nodes("auto")
    nodes._ray = SimpleNamespace(nodes=lambda: [node], shutdown=lambda: None)
    with nodes, pytest.raises(UserError, match="no node with a CPU and 500 MiB of memory"):
        nodes._check_nodes()


def test_a_node_with_other_versions_is_refused() -> None:
    with pytest.raises(UserError, match=r"node .* has pyarrow \S+, not 1\.0: .* same versions"):
        cluster._call(lambda item, tick: None, 0, {}, {**cluster._versions(), "pyarrow": "1.0"})


def test_a_node_that_has_another_dump_or_not_the_place_is_refused(
    tmp_path: Path, dump: Path
) -> None:
    (file,) = find_inputs((str(dump),))
    shorter = msgspec.structs.replace(file, size=file.size - 1)
    gone = msgspec.structs.replace(file, path=str(tmp_path / "gone"))
    for inputs, said in (([shorter], "another file on node"), ([gone], "on node .*no such file")):
        with pytest.raises(UserError, match=said):
            cluster._look((inputs, "", ""), lambda _: None)
    with pytest.raises(UserError, match="not the directory that it is here"):
        cluster._look(([], str(tmp_path), "token"), lambda _: None)


# --- the place of the slices


def test_of_a_slice_that_is_not_whole_nothing_is_taken(tmp_path: Path, dump: Path) -> None:
    there, work = tmp_path / "runs" / "digest", tmp_path / "work"
    work.mkdir()
    size = dump.stat().st_size
    job = SliceJob(Slice(0, str(dump), "gz", 0, 9_000, size), str(tmp_path), KEPT, 10**6, 0)
    location.read_slice_to(job, lambda _: None, str(there))
    listing = there / "000000" / "done.json"
    done = json.loads(listing.read_bytes())
    for other in (
        {**done, "attempt": "../000000/" + done["attempt"]},
        {**done, "files": {**done["files"], "../../../x": 0}},
        {**done, "files": {**done["files"], "report.json": 1}},
        {**done, "files": {**done["files"], "run-0001.arrow": 1}},
        {"files": done["files"]},
    ):
        listing.write_text(json.dumps(other))
        assert location.take_slice(str(there), 0, work) is None
        assert list(work.iterdir()) == []
    listing.write_text(json.dumps(done)[:-9])
    assert location.take_slice(str(there), 0, work) is None
    assert location.take_slice(str(there), 1, work) is None
    listing.write_text(json.dumps(done))
    assert location.slices_at(str(there)) == [0]
    report = location.take_slice(str(there), 0, work)
    assert report == read_report(work, 0) == read_slice(job, lambda _: None)
    assert {p.name: p.read_bytes() for p in (work / "000000").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "000000").iterdir()
    }


def test_a_dump_that_a_node_lacks_is_named_with_the_node(tmp_path: Path) -> None:
    job = SliceJob(Slice(0, "/gone.gz", "gz", 0, 9, 9), str(tmp_path), KEPT, 10**6, 0)
    with pytest.raises(UserError, match=f"/gone.gz can't be read on {socket.gethostname()}"):
        location.read_slice_to(job, lambda _: None, str(tmp_path / "runs"))


def test_revisions_are_put_into_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    known = tmp_path / "known.bin"
    known.write_bytes(b"revisions")
    assert (
        Path(location.put_known(str(tmp_path / "new" / "place"), str(known))).read_bytes()
        == b"revisions"
    )
