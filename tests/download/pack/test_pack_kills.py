"""A pack that is killed: the next run goes on, and leaves what nobody killed leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from download.pack.run import pack
from tests.download.fetched import write
from tests.download.pack.test_pack import bytes_of, candidates, options

PROGRAM = """
import sys
from tests.download.pack.test_pack import options
from download.pack.run import pack
from pathlib import Path
if __name__ == "__main__":
    pack(Path(sys.argv[1]), sys.argv[2], options(workers=2, per_task=3, shard_count=3))
"""


def test_killed_at_its_steps_on_disk_it_is_gone_on_with(tmp_path: Path) -> None:
    """Over finished shards that say the splits: their manifest is true until the new one is."""
    images = write(tmp_path / "images", candidates()[:14])
    found = killed("killed_packs", images, tmp_path, "5")
    assert found["wrong"] == []
    assert found["killed"] > 10


def test_an_export_that_is_killed_at_its_steps_on_disk_is_gone_on_with(tmp_path: Path) -> None:
    images = write(tmp_path / "images", candidates()[:14])
    few, many = tmp_path / "few", tmp_path / "many"
    pack(images, str(few), options(shard_count=5))
    pack(images, str(many), options(shard_count=2))
    found = killed("killed_exports", many, few, tmp_path, "3")
    assert found["wrong"] == []
    assert found["killed"] > 10


def killed(program: str, *arguments: object) -> dict[str, Any]:
    """What a program that kills its own work has found."""
    command = [sys.executable, "-m", f"tests.download.{program}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_killed_at_random_moments_with_its_workers_it_is_gone_on_with(tmp_path: Path) -> None:
    rng = random.Random(0)
    images = write(tmp_path / "images", candidates())
    out, program = tmp_path / "shards", tmp_path / "program.py"
    program.write_text(PROGRAM)
    for _ in range(5):
        process = start(program, images, out)
        wait_for_work(process, out, rng.randint(1, 12))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(program, images, out).wait() == 0
    whole = tmp_path / "whole"
    pack(images, str(whole), options(per_task=3, shard_count=3))
    assert bytes_of(out) == bytes_of(whole)
    assert not (out / ".packing").exists()


def start(program: Path, images: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(program), str(images), str(out)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )


def work_so_far(out: Path) -> int:
    """Files that stand in the work, and what is in place already."""
    return sum(len(files) for _, _, files in os.walk(out))


def wait_for_work(process: subprocess.Popen[bytes], out: Path, amount: int) -> None:
    """Until there are so many more files than now, or the process has ended.

    Looks a hundred times a second: looking all the time would take a core from who works.
    """
    wanted = work_so_far(out) + amount
    while process.poll() is None and work_so_far(out) < wanted:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
