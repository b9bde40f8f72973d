"""The engine that works on the nodes of a Ray cluster: same tasks, same slices, same bytes.

    sparqless etl s3://bucket/latest-all.json.gz --store data/store \\
      --engine ray --ray-address ray://head:10001 --runs s3://bucket/runs

A node needs Python and the packages of this installation in the same versions, which is checked;
this package's own code travels with the run. Nodes read the dump and put the slices they have
read into a place that all reach (:mod:`etl.location`); this machine takes them from there and
merges them on its own disk. Ray is imported when a cluster is asked for, and not before.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import etl
from etl import location as place
from etl.dump import Input, find_inputs
from etl.engine import Item, Result, Task
from etl.errors import UserError
from etl.manifest import tool_versions
from etl.progress import Tick
from etl.runs import SliceJob, SliceReport
from etl.source import is_elsewhere

#: Losses of one slice (a worker killed, a node gone) after which it is given up.
MOST_LOSSES: Final = 3

_MEMORY = 500 << 20  # bytes a slice takes at most, for Ray to place it
_IN_FLIGHT = 1024  # tasks handed to Ray at once; more than a plan has slices, mostly
_FETCHES = 8  # slices brought here at once
_CONNECT_SECONDS = 10.0

#: What decides about bytes, of slices and of images, and so has to be the same on every node.
_SAME = (
    "python",
    "pyarrow",
    "numpy",
    "msgspec",
    "isal",
    "zstandard",
    "pillow",
    "opencv-python-headless",
    "simplejpeg",
    "webdataset",
)

#: What of this environment nodes are given: which storage, and by what right. Paths are not
#: given, since they would be of this machine, nor what a node is told by its own cloud.
_GIVEN = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)
_GIVEN_PREFIX = "FSSPEC_"


class Cluster(msgspec.Struct, frozen=True):
    """Which cluster to work on; leaves no trace in the data.

    ``address``: auto (the cluster that runs on this machine, or RAY_ADDRESS), local (one started
    for this run), HOST:PORT or ray://HOST:PORT. ``runs``: LOCATION for slices that are read, ""
    for the directory of the store, which every node then has to see.
    """

    address: str = "auto"
    runs: str = ""


def location_of(cluster: Cluster, plan: Any, work: Path) -> str:
    """The folder for the slices of a plan (as plain data); ``work`` is where they end up here."""
    digest = hashlib.sha256(msgspec.json.encode(plan, order="sorted")).hexdigest()
    return f"{place.settled(cluster.runs or str(work / 'nodes'))}/{digest[:32]}"


class Nodes:
    """The nodes of a cluster; connected to when there is work, until the end of the ``with``."""

    def __init__(
        self,
        address: str,
        inputs: Iterable[Input] = (),
        location: str = "",
        rooms: Sequence[Path] = (),
    ) -> None:
        """``rooms``: folders of packages of this project that tasks need, besides ``etl``."""
        self._address = address
        self._rooms = rooms
        self._inputs = [file for file in inputs if not is_elsewhere(file.path)]
        self._location = location
        self._ray: Any = None

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None

    def run(
        self, task: Task[Item, Result], items: Sequence[Item], tick: Tick
    ) -> Iterator[tuple[Item, Result]]:
        """(item, result) for every item, in the order in which they end.

        ``tick`` is told of an item when it ends. A worker or a node that is lost costs what it
        was at; that is done again, up to :data:`MOST_LOSSES` times. A task's UserError or OSError
        is raised as it was there.

        Raises UserError where there is no such cluster, or a node is not like this machine.
        """
        ray = self._connected()
        call = _remote(ray)
        given = (_environment(), _versions())
        lost: Counter[int] = Counter()
        waiting = deque(enumerate(items))
        running: dict[Any, tuple[int, Item]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < _IN_FLIGHT:
                    number, item = waiting.popleft()
                    running[call.remote(task, item, *given)] = number, item
                for done in ray.wait(list(running))[0]:
                    number, item = running.pop(done)
                    try:
                        amount, result = _result(ray, done)
                    except _LostError as error:
                        lost[number] += 1
                        if lost[number] == MOST_LOSSES:
                            raise _given_up(item, error) from None
                        waiting.appendleft((number, item))
                    else:
                        tick(amount)
                        yield item, result
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _connected(self) -> Any:
        if self._ray is None:
            self._ray = _connect(self._address, self._rooms)
            self._check_nodes()
        return self._ray

    def _check_nodes(self) -> None:
        """Runs a small task on every node.

        Raises UserError that names the first that has other versions, doesn't see the dump or
        doesn't reach the place of the slices.
        """
        ray = self._ray
        nodes = [n for n in ray.nodes() if n["Alive"] and _fits(n["Resources"])]
        if not nodes:  # Ray would wait for one, and not say so
            raise UserError(
                f"the Ray cluster has no node with a CPU and {_MEMORY >> 20} MiB of memory for it; "
                "start one."
            )
        token = place.leave_token(self._location) if self._location else ""
        look = (self._inputs, self._location, token)
        pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        tasks = {
            _remote(ray)
            .options(num_cpus=0, memory=0, scheduling_strategy=pin(node["NodeID"], soft=False))
            .remote(_look, look, _environment(), _versions()): node
            for node in nodes
        }
        try:
            for task, node in tasks.items():
                try:
                    _result(ray, task)
                except _LostError as error:
                    name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                    raise UserError(f"node {name} can't work: {error}") from None
        finally:
            if token:
                place.remove_token(self._location, token)


def read_slices(
    nodes: Nodes, jobs: Sequence[SliceJob], location: str, work: Path, tick: Tick
) -> Iterator[tuple[SliceJob, SliceReport]]:
    """Has slices read on the nodes and brings each to ``work``, as if it had been read here."""
    if any(job.known for job in jobs) and not Path(location).is_relative_to(work):
        known = place.put_known(location, jobs[0].known)
        jobs = [msgspec.structs.replace(job, known=known) for job in jobs]
    task = functools.partial(place.read_slice_to, location=location)
    coming: dict[concurrent.futures.Future[SliceReport | None], SliceJob] = {}
    threads = concurrent.futures.ThreadPoolExecutor(_FETCHES)
    try:
        for job, _ in nodes.run(task, jobs, tick):
            fetch = threads.submit(place.take_slice, location, job.slice.index, work)
            coming[fetch] = job
            if len(coming) > _FETCHES:  # no more runs on the way than can be brought
                yield from _brought(coming, location)
        while coming:
            yield from _brought(coming, location)
    finally:
        threads.shutdown(cancel_futures=True)


def _brought(
    coming: dict[concurrent.futures.Future[SliceReport | None], SliceJob], location: str
) -> Iterator[tuple[SliceJob, SliceReport]]:
    done, _ = concurrent.futures.wait(coming, None, concurrent.futures.FIRST_COMPLETED)
    for fetch in done:
        job, report = coming.pop(fetch), fetch.result()
        if report is None:
            raise UserError(
                f"{location}: slice {job.slice.index} was put there and is not whole; see that "
                "nothing else writes there or clears it, and run the same command again."
            )
        yield job, report


def take_finished(location: str, missing: Iterable[int], work: Path) -> None:
    """Brings here what an earlier run had read on nodes; what isn't whole stays to be read."""
    there = sorted(set(place.slices_at(location)).intersection(missing))
    with concurrent.futures.ThreadPoolExecutor(_FETCHES) as threads:
        for _ in threads.map(lambda index: place.take_slice(location, index, work), there):
            pass


# --- Ray ----------------------------------------------------------------------------------------


class _LostError(Exception):
    """A task ended without a result, and not by an error of its own."""


def import_ray() -> Any:
    """Ray, where it is installed.

    Raises UserError that says what to install where it isn't.
    """
    # no report of the use made of it leaves the machine, unless its owner wants that
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import fsspec  # noqa: F401
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise UserError(
            f"--engine ray needs a package that is not installed ({error.name}); install "
            "sparqless[cluster], or leave the option out."
        ) from error
    return ray


def _connect(address: str, rooms: Sequence[Path] = ()) -> Any:
    ray = import_ray()
    _check_address(address)
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(
            address,
            runtime_env={
                "py_modules": [str(folder) for folder in (Path(etl.__file__).parent, *rooms)],
                "excludes": ["__pycache__"],
            },
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except (Exception, SystemExit) as error:  # it exits where a server isn't what it expects
        said = " ".join(str(error).split())
        raise UserError(
            f"can't work on the Ray cluster at {address} ({said}); see that it runs, with the same "
            "Python and Ray, and that RAY_AUTH_TOKEN is set here if it wants one, or give "
            "--ray-address local."
        ) from error
    return ray


def _check_address(address: str) -> None:
    """Ray itself tries for minutes where nobody answers."""
    if address in ("auto", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isdecimal() and "/" not in host):
        raise UserError(f"--ray-address {address}: give auto, local, HOST:PORT or ray://HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}); give the address that `ray start "
            "--head` printed, or --ray-address local."
        ) from error


def _fits(resources: dict[str, float]) -> bool:
    return resources.get("CPU", 0) >= 1 and resources.get("memory", 0) >= _MEMORY


def _remote(ray: Any) -> Any:
    # no retries of Ray's own: those for want of memory have no end
    return ray.remote(num_cpus=1, memory=_MEMORY, max_retries=0)(_call)


def _result(ray: Any, reference: Any) -> tuple[int, Any]:
    """What a task returned; its own errors are raised as they were there."""
    errors = ray.exceptions
    losses = (
        errors.WorkerCrashedError,
        errors.NodeDiedError,
        errors.LocalRayletDiedError,
        errors.OutOfMemoryError,
        errors.ObjectLostError,
        errors.TaskUnschedulableError,
    )
    try:
        found: tuple[int, Any] = ray.get(reference)
    except errors.RayTaskError as error:
        if isinstance(error.cause, UserError | OSError):
            raise error.cause from None
        raise
    except losses as error:
        raise _LostError(str(error).strip().partition("\n")[0]) from None
    except errors.RuntimeEnvSetupError as error:
        raise UserError(f"a node can't unpack the code of this run: {error}") from error
    return found


def _given_up(item: Any, error: _LostError) -> UserError:
    name = "a task"
    if isinstance(item, SliceJob):
        name = f"slice {item.slice.index} (from byte {item.slice.start:,} of {item.slice.path})"
    return UserError(
        f"{name} was lost {MOST_LOSSES} times with the worker that was at it ({error}), most "
        "likely because memory ran out there; what is done is kept: give the nodes fewer CPUs or "
        "more memory, and run the same command again."
    )


def _environment() -> dict[str, str]:
    """Travels as an argument of a task: what is part of Ray's ``runtime_env`` gets into logs."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _GIVEN or name.startswith(_GIVEN_PREFIX)
    }


# --- on a node ----------------------------------------------------------------------------------


@functools.cache
def _versions() -> dict[str, str]:
    """What has to be the same on every machine: Python, libraries, and this code itself."""
    found = tool_versions()
    code = hashlib.sha256()
    for path in sorted(Path(etl.__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return {**{name: found[name] for name in _SAME}, "sparqless": code.hexdigest()[:12]}


def _call(
    task: Task[Item, Result], item: Item, environment: dict[str, str], versions: dict[str, str]
) -> tuple[int, Result]:
    """A task's result, and the sum of its ticks."""
    os.environ.update(environment)
    here = _versions()
    other = [
        f"{name} {here[name]}, not {wanted}"
        for name, wanted in versions.items()
        if here[name] != wanted
    ]
    if other:
        raise UserError(
            f"node {socket.gethostname()} has {'; '.join(other)}: the store would not be the "
            "same; install the same versions on every node (constraints.txt pins them)."
        )
    amount = 0

    def tick(more: int) -> None:
        nonlocal amount
        amount += more

    result = task(item, tick)
    return amount, result


def _look(wanted: tuple[list[Input], str, str], tick: Tick) -> None:
    """Whether this node sees the dump and the place of the slices as the first machine does."""
    inputs, location, token = wanted
    node = socket.gethostname()
    for file in inputs:
        try:
            (here,) = find_inputs((file.path,))
        except UserError as error:
            raise UserError(f"on node {node}: {error}") from error
        if (here.size, here.digest) != (file.size, file.digest):
            raise UserError(
                f"{file.path} is another file on node {node}; put the same dump there, or give "
                "an address such as s3://bucket/dump.json.gz."
            )
    if token and not place.has_token(location, token):
        raise UserError(
            f"{location} on node {node} is not the directory that it is here; give --runs with a "
            "place that every node reaches, such as s3://bucket/runs."
        )
