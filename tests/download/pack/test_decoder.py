"""A codec that dies, hangs or eats all memory costs its image and no other."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from download.pack import decoder
from download.pack.decoder import Decoder
from download.pack.image import Dropped, ImageOptions, Picture, encode
from etl import engine
from etl.errors import UserError
from etl.progress import Tick
from tests.console import ROOT
from tests.download import dying

OPTIONS = ImageOptions(size=64, min_side=1, drop_blank=False)


def noise(seed: int, width: int = 90, height: int = 70, kind: str = "PNG", **given: Any) -> bytes:
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(samples).save(file, kind, **given)
    return file.getvalue()


GOOD = [noise(seed) for seed in range(12)]


def do(what: str) -> bytes:
    return dying.PREFIX + what.encode()


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders whose images can make them die."""
    start = decoder._START.replace("download.pack.decoder", "tests.download.dying")
    monkeypatch.setattr(decoder, "_START", start)


def test_answers_are_those_of_this_process_in_the_order_of_the_images() -> None:
    bodies = [*GOOD, b"", b"<html>", GOOD[0][:500], *GOOD[::-1]]
    with Decoder(OPTIONS) as one:
        assert list(one.encode_all(bodies)) == [encode(body, OPTIONS) for body in bodies]
        assert one.encode(GOOD[3]) == encode(GOOD[3], OPTIONS)
        assert list(one.encode_all([])) == []


def alive(body: bytes) -> Picture:
    made = encode(body, OPTIONS)
    assert isinstance(made, Picture)
    return made


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("SIGSEGV", Dropped("crashed", "SIGSEGV")),
        ("SIGABRT", Dropped("crashed", "SIGABRT")),
        ("SIGKILL", Dropped("crashed", "SIGKILL")),
        ("exit", Dropped("crashed", "exit status 3")),
        ("raise", Dropped("crashed", "ValueError: a fault of ours")),
        ("spin", Dropped("timeout")),
        ("sleep", Dropped("timeout")),
        ("eat", Dropped("memory")),
    ],
)
@pytest.mark.usefixtures("mortal")
def test_a_death_costs_one_image(what: str, wanted: Dropped) -> None:
    fatal = do(what)
    bodies = [*GOOD[:2], fatal, fatal, *GOOD[2:8]]
    with Decoder(OPTIONS, seconds=0.05) as one:
        found = list(one.encode_all(bodies))
    assert found == [wanted if body is fatal else alive(body) for body in bodies]


@pytest.mark.usefixtures("mortal")
def test_who_is_killed_by_another_is_not_to_blame(tmp_path: Path) -> None:
    """The system may kill the process for want of memory that others took."""
    bodies = [GOOD[0], do(f"once {tmp_path / 'died'}"), GOOD[1]]
    with Decoder(OPTIONS) as one:
        assert list(one.encode_all(bodies)) == [
            alive(GOOD[0]),
            Dropped("broken", "lived"),
            alive(GOOD[1]),
        ]


@pytest.mark.usefixtures("mortal")
@pytest.mark.parametrize("descriptor", [3, 4, 5, 6])
def test_an_answer_without_sense_is_a_crash(descriptor: int) -> None:
    with Decoder(OPTIONS) as one:
        found = list(one.encode_all([GOOD[0], do(f"babble {descriptor}"), GOOD[1]]))
    assert found[::2] == [alive(GOOD[0]), alive(GOOD[1])]
    assert isinstance(found[1], Dropped)
    assert found[1].reason == "crashed"


@pytest.mark.usefixtures("mortal")
def test_what_codecs_print_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with Decoder(OPTIONS) as one:
        assert one.encode(do("print")) == Dropped("broken", "")
        assert one.encode(do("read")) == Dropped("broken", "b''")
        assert one.encode(GOOD[0]) == alive(GOOD[0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("mortal")
def test_it_knows_no_secrets_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    with Decoder(OPTIONS) as one:
        told = one.encode(do("environment"))
        assert isinstance(told, Dropped)
        assert "PATH" in told.detail.split()
        assert "SOME_API_KEY" not in told.detail
        assert one.encode(do(f"write {tmp_path / 'file'}")) == Dropped("broken", "File too large")


@pytest.mark.usefixtures("mortal")
def test_ctrl_c_is_for_the_process_that_began_it() -> None:
    with Decoder(OPTIONS) as one:
        assert one.encode(do("SIGINT")) == Dropped("broken", "")


@pytest.mark.parametrize(
    ("limit", "reason"), [({"memory": 384 << 20}, "memory"), ({"seconds": 0.03}, "timeout")]
)
def test_memory_and_time_have_limits(limit: dict[str, Any], reason: str) -> None:
    """25 million pixels with opacity take 0.3 GB and 0.3 s; the process itself, 0.3 GB."""
    file = io.BytesIO()
    Image.new("RGBA", (5_000, 5_000), (1, 2, 3, 4)).save(file, "PNG", compress_level=1)
    with Decoder(OPTIONS, **limit) as one:
        assert list(one.encode_all([GOOD[0], file.getvalue(), GOOD[1]])) == [
            alive(GOOD[0]),
            Dropped(reason),
            alive(GOOD[1]),
        ]


def test_memory_that_opencv_lacks_is_memory_too() -> None:
    file = io.BytesIO()
    Image.effect_noise((5_000, 5_000), 50).convert("RGB").save(file, "JPEG", quality=50)
    with Decoder(ImageOptions(size=3_333), memory=430 << 20) as one:
        assert one.encode(file.getvalue()) == Dropped("memory")


def test_bodies_and_answers_larger_than_any_pipe_pass() -> None:
    options = ImageOptions(size=2_000, quality=95)
    bodies = [noise(seed, 1_400, 1_300, compress_level=0) for seed in range(3)] * 3
    with Decoder(options) as one:
        found = list(one.encode_all(bodies))
    assert found == [encode(body, options) for body in bodies[:3]] * 3
    assert all(isinstance(made, Picture) and len(made.data) > 1 << 20 for made in found)


def test_few_bodies_are_taken_ahead() -> None:
    taken = 0

    def bodies() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(5):
            for body in GOOD:
                taken += 1
                yield body

    with Decoder(OPTIONS) as one:
        for given, _ in enumerate(one.encode_all(bodies()), start=1):
            assert taken <= given + 4
    assert taken == given == 60


def test_answers_that_nobody_waits_for_are_not_given_to_another() -> None:
    with Decoder(OPTIONS) as one:
        for made in one.encode_all(GOOD):
            assert made == alive(GOOD[0])
            break
        assert list(one.encode_all(GOOD[5:8])) == [alive(body) for body in GOOD[5:8]]

        def failing() -> Iterator[bytes]:
            yield GOOD[0]
            raise KeyError("no such body")

        with pytest.raises(KeyError):
            list(one.encode_all(failing()))
        assert one.encode(GOOD[1]) == alive(GOOD[1])


def test_a_process_that_cannot_start_is_no_image_s_fault(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoder, "_START", "raise SystemExit('no such codec')")
    with (
        Decoder(OPTIONS) as one,
        pytest.raises(UserError, match=r"decodes images can't be started \(exit status 1\)"),
    ):
        one.encode(GOOD[0])
    assert "no such codec" in capfd.readouterr().err


def in_a_worker(seed: int, tick: Tick) -> list[Picture | Dropped]:
    with Decoder(OPTIONS) as one:
        return list(one.encode_all(GOOD[seed : seed + 4]))


def test_workers_of_a_pool_have_their_own() -> None:
    for seed, found in engine.run(in_a_worker, [0, 4, 8], 2, lambda _: None):
        assert found == [alive(body) for body in GOOD[seed : seed + 4]]


KILLED = """
import os, sys
from download.pack.decoder import Decoder
from download.pack.image import ImageOptions
with Decoder(ImageOptions()) as one:
    one.encode(b"")
    print(one._process._popen.pid, flush=True)
    {then}
"""


@pytest.mark.parametrize("then", ["input()", "one.encode(b'x' * (50 << 20))\n    input()"])
def test_it_ends_with_the_process_that_began_it(then: str) -> None:
    command = [sys.executable, "-c", KILLED.format(then=then)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _is_there(pid):
        assert time.monotonic() < deadline, "it outlives its parent"
        time.sleep(0.01)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
