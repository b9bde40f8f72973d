"""Strangers' images are decoded in a process of their own: a crash costs one image, not the run.

    with Decoder(ImageOptions()) as decoder:
        for made in decoder.encode_all(bodies):  # Picture | Dropped, in the order of bodies
            ...

The process has a limit on its memory and on its time for an image, writes no files, is given none
of this one's environment but what starts Python, and ends with the process that began it. What it
answers is read as data of two known types, never as objects. That keeps a broken codec from
taking the run along; it is no prison for a codec that an attacker has taken over, which may still
read files and open connections as its user may.

An image goes through two pipes of a megabyte each, and while one is decoded the next is there: an
image of 100 kB takes 0.05 ms longer than in one process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, Final

import msgspec

from download.pack.image import Dropped, ImageOptions, Picture, encode
from etl.errors import UserError

#: Bytes of address space that the process may take; 0.3 GB of it are Python and its libraries, and
#: 80 million pixels, the most by default, come to 1.6 GB as WebP with opacity.
MEMORY: Final = 9 << 28

#: Seconds of processor time for one image; 80 million pixels take up to 3.4.
SECONDS: Final = 30.0

#: Times as long it may take by the clock: more than a busy machine needs, and yet an end.
_BY_THE_CLOCK = 10

_AHEAD = 4  # images that were sent and aren't answered
_AHEAD_BYTES = 16 << 20  # of these, but one image always

_PIPE = 1 << 20  # bytes; what Linux lets everyone have (pipe(7), pipe-max-size)
_ANSWER_BYTES = 256 << 20  # more is no answer of ours

_START: Final = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "  # Ctrl-C is the parent's
    "from download.pack.decoder import serve; serve()"
)
#: What of the environment Python may need to start; no keys, no tokens.
_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")

_NO_MEMORY: Final = 112  # the exit status that says so
_TIMERS: Final = (signal.SIGPROF, signal.SIGALRM)

_answers: Final = msgspec.msgpack.Decoder(Picture | Dropped)


class _EndedError(Exception):
    """The process is gone, and why in a word of :data:`download.pack.image.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.dropped = Dropped(reason, detail)


class Decoder:
    """A process that decodes, begun when there is work and anew whenever an image has killed it.

    It can be used within workers of :mod:`etl.engine` and of Ray, by one thread at a time.
    """

    def __init__(
        self, options: ImageOptions, *, memory: int = MEMORY, seconds: float = SECONDS
    ) -> None:
        self._given = (options, memory, seconds)
        self._process: _Process | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process; the next image begins another."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def encode(self, body: bytes) -> Picture | Dropped:
        """:func:`download.pack.image.encode` in the other process."""
        (made,) = self.encode_all([body])
        return made

    def encode_all(self, bodies: Iterable[bytes]) -> Iterator[Picture | Dropped]:
        """One :class:`Picture` or :class:`Dropped` for each of ``bodies``, in their order.

        A few bodies are taken ahead of what was given. What kills the process or takes too much
        memory is tried once more, in a fresh one where nothing came before it, and is Dropped if
        that ends alike (``crashed``, ``memory``); so is what takes too long (``timeout``), at
        once. No other image is.

        Raises UserError where the process can't be started.
        """
        source, under_way = iter(bodies), deque[bytes]()
        try:
            while self._send_ahead(source, under_way):
                made = self._answer(under_way)
                under_way.popleft()
                yield made
        finally:
            if under_way:  # nobody is there for the answers
                self.close()

    def _send_ahead(self, source: Iterator[bytes], under_way: deque[bytes]) -> bool:
        """Sends as many as may be under way; whether there are any."""
        while not under_way or (
            len(under_way) < _AHEAD and sum(map(len, under_way)) < _AHEAD_BYTES
        ):
            body = next(source, None)
            if body is None:
                break
            under_way.append(body)
            self._begun().send(body)
        return bool(under_way)

    def _answer(self, under_way: deque[bytes]) -> Picture | Dropped:
        """The answer to the first of these. The others are sent again where it isn't survived."""
        try:
            return self._begun().receive()
        except _EndedError as ended:
            self.close()
            made = ended.dropped if ended.dropped.reason == "timeout" else self._alone(under_way[0])
            for body in list(under_way)[1:]:
                self._begun().send(body)
            return made

    def _alone(self, body: bytes) -> Picture | Dropped:
        """The answer of a fresh process, so that it depends on this image and on nothing else."""
        self._begun().send(body)
        try:
            return self._begun().receive()
        except _EndedError as ended:
            self.close()
            return ended.dropped

    def _begun(self) -> _Process:
        if self._process is None:
            self._process = _Process(*self._given)
        return self._process


class _Process:
    """The process and the two pipes to it."""

    def __init__(self, options: ImageOptions, memory: int, seconds: float) -> None:
        given = msgspec.json.encode((options, memory, seconds)).decode()
        self._popen = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-c", _START, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._to, self._from = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        for end in (self._to, self._from):
            os.set_blocking(end, False)
            with contextlib.suppress(OSError):  # a user has so many pages of pipes, and no more
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE)
        self._sending: deque[memoryview] = deque()
        self._received = bytearray()
        self._ready = False

    def send(self, body: bytes) -> None:
        """Sends as much as the pipe takes; the rest goes while :meth:`receive` waits."""
        self._sending.append(memoryview(len(body).to_bytes(8, "little")))
        self._sending.append(memoryview(body))
        self._write()

    def receive(self) -> Picture | Dropped:
        """The next answer. Raises _EndedError, and UserError where there never was a process."""
        if not self._ready:
            self._wait_until_ready()
        try:
            made: Picture | Dropped = _answers.decode(self._frame())
        except msgspec.MsgspecError:
            raise _EndedError("crashed", "an answer without sense") from None
        return made

    def _wait_until_ready(self) -> None:
        try:
            self._frame()
        except _EndedError as ended:
            raise UserError(
                f"the process that decodes images can't be started ({ended.dropped.detail})"
            ) from None
        self._ready = True

    def _frame(self) -> bytes:
        while (frame := self._taken()) is None:
            self._wait()
        return frame

    def _taken(self) -> bytes | None:
        """The first frame of what was received, if that is whole."""
        if len(self._received) < 8:
            return None
        length = int.from_bytes(self._received[:8], "little")
        if length > _ANSWER_BYTES:
            raise _EndedError("crashed", "an answer without sense")
        if len(self._received) < 8 + length:
            return None
        with memoryview(self._received) as received:
            frame = bytes(received[8 : 8 + length])
        del self._received[: 8 + length]
        return frame

    def _wait(self) -> None:
        """Waits until something can be written or read, and does that."""
        poll = select.poll()
        poll.register(self._from, select.POLLIN)
        if self._sending:
            poll.register(self._to, select.POLLOUT)
        for end, _ in poll.poll():
            if end == self._to:
                self._write()
            else:
                self._read()

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._sending:
                rest = self._sending[0]
                try:
                    rest = rest[os.write(self._to, rest) :]
                except BrokenPipeError:  # it is gone: reading comes to that, after its last answer
                    self._sending.clear()
                    return
                self._sending.popleft()
                if rest:
                    self._sending.appendleft(rest)

    def _read(self) -> None:
        try:
            piece = os.read(self._from, _PIPE)
        except BlockingIOError:
            return
        if not piece:
            raise self._ended()
        self._received += piece

    def _ended(self) -> _EndedError:
        status = self._popen.wait()
        if status == _NO_MEMORY:
            return _EndedError("memory", "")
        if -status in _TIMERS:
            return _EndedError("timeout", "")
        names = {number.value: number.name for number in signal.Signals}
        said = names.get(-status, f"exit status {status}")
        return _EndedError("crashed", said)

    def close(self) -> None:
        """Ends it, whatever it is doing."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


def _environment() -> dict[str, str]:
    given = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return given | {
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
        # threads take of the address space, and there is a process for every core
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        # memory of one image is kept for the next: 0.65 ms of page faults an image are saved
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    }


# --- in the other process -----------------------------------------------------------------------


def serve() -> None:
    """Answers images from standard input on standard output, until that ends."""
    options, memory, seconds = msgspec.json.decode(
        sys.argv[1], type=tuple[ImageOptions, int, float]
    )
    bodies, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _limit(memory)
    try:
        _answer(answers, b"")
        _quiet()
        while head := bodies.read(8):
            body = bodies.read(int.from_bytes(head, "little"))
            _set_timers(seconds)
            made = _made(body, options)
            _set_timers(0)
            _answer(answers, msgspec.msgpack.encode(made))
    except MemoryError:
        os._exit(_NO_MEMORY)
    except BrokenPipeError:  # the parent is gone
        os._exit(1)


def _made(body: bytes, options: ImageOptions) -> Picture | Dropped:
    try:
        return encode(body, options)
    except MemoryError:
        raise
    except Exception as error:  # a fault of ours, which is to be told and to cost one image
        return Dropped("crashed", f"{type(error).__name__}: {error}")


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # pipes are no files


def _quiet() -> None:
    """Codecs write to standard error what they think of an image; it is told in other words."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for end in (0, 1, 2):
        os.dup2(nowhere, end)
    os.close(nowhere)


def _set_timers(seconds: float) -> None:
    """The kernel ends the process when its time is up, whatever it is doing; 0 for never."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * _BY_THE_CLOCK)


def _answer(answers: IO[bytes], made: bytes) -> None:
    answers.write(len(made).to_bytes(8, "little"))
    answers.write(made)
    answers.flush()
