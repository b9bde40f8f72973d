"""A decoding process whose codec dies of what an image says it should."""

from __future__ import annotations

import os
import signal
import sys
import time

from download.pack import decoder
from download.pack.image import Dropped, ImageOptions, Picture, encode

PREFIX = b"do "


def serve() -> None:
    decoder.encode = _encode  # type: ignore[attr-defined]
    decoder.serve()


def _encode(body: bytes, options: ImageOptions) -> Picture | Dropped:
    if not body.startswith(PREFIX):
        return encode(body, options)
    what, _, argument = body[len(PREFIX) :].decode().partition(" ")
    said = ""
    if what.startswith("SIG"):
        signal.raise_signal(signal.Signals[what])
    elif what == "exit":
        os._exit(3)
    elif what == "raise":
        raise ValueError("a fault of ours")
    elif what == "spin":
        while True:
            pass
    elif what == "sleep":
        time.sleep(1_000)
    elif what == "eat":
        said = str(len(bytearray(8 << 30)))
    elif what == "babble":
        os.write(int(argument), b"\xff" * 100)
        os._exit(0)
    elif what == "print":
        print("a codec's word", flush=True)
        os.write(1, b"another")
        os.write(2, b"a warning")
    elif what == "environment":
        said = " ".join(os.environ)
    elif what == "write":
        with open(argument, "wb") as file:
            said = str(_tried(file.fileno()))
    elif what == "once":  # an empty file may be made
        made = os.open(argument, os.O_CREAT | os.O_RDWR)
        if os.path.exists(argument + ".again"):
            return Dropped("broken", "lived")
        os.close(made)
        os.rename(argument, argument + ".again")
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "read":
        said = repr(sys.stdin.buffer.read())
    return Dropped("broken", said)


def _tried(file: int) -> object:
    try:
        return os.write(file, b"x")
    except OSError as error:
        return error.strerror
