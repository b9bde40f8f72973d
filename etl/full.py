"""Whole entities, as the dump has them: zstd frames with a dictionary trained on the dump.

Entities are small and alike: a dictionary holds what every line repeats and makes them a third
smaller (2,025 real items: 5.0 : 1 without, 6.5 : 1 with one).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import zstandard

from etl.dump import STDIN, Input, Slice
from etl.lines import Line, SliceReader, entity_text
from etl.source import Access, open_source

#: What `zstd --train` takes too: a larger one gains little (facebook/zstd, "Dictionary builder").
DICTIONARY_BYTES: Final = 112_640

_LEVEL = 3
_PLACES = (0.0, 0.4, 0.8)  # of every input
_LINES = 400  # at each place
_LEARNT = 16 << 10  # bytes of a line, or else the few long ones decide

#: Trying other ones takes twenty times as long and gains nothing on real entities; with these the
#: same lines always give the same dictionary.
_FAST_COVER: Final[dict[str, Any]] = {"k": 1024, "d": 8, "f": 20, "accel": 1, "split_point": 1.0}


def sample(inputs: Iterable[Input], access: Access) -> Iterator[bytes]:
    """Lines to train on: the first few hundred at three places of every input.

    They depend on the dump alone. Standard input can't be read twice and gives none.
    """
    for file in inputs:
        if file.path == STDIN:
            return
        for place in _PLACES:
            start = int(file.size * place)
            piece = Slice(0, file.path, file.form, start, file.size, file.size)
            with open_source(file.path, access) as source:
                lines = SliceReader(piece, source=source)
                for _, _, line in islice(lines, _LINES):
                    yield bytes(entity_text(line)[:_LEARNT])


def train(lines: Iterable[bytes]) -> bytes:
    """A dictionary for texts like these; empty where they are too few to learn from."""
    samples: list[Any] = [line for line in lines if len(line) > 1]
    try:
        return zstandard.train_dictionary(
            DICTIONARY_BYTES, samples, level=_LEVEL, **_FAST_COVER
        ).as_bytes()
    except zstandard.ZstdError:
        return b""


class Compressor:
    """Compresses whole entities with one dictionary; b"" for none."""

    def __init__(self, dictionary: bytes) -> None:
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_learnt(dictionary))

    def compress(self, text: Line) -> bytes:
        """A frame that says how long its text is."""
        return self._zstd.compress(text)


class Decompressor:
    """The inverse, for frames that may be anybody's.

    Raises ValueError where the dictionary is none.
    """

    def __init__(self, dictionary: bytes) -> None:
        try:
            self._zstd = zstandard.ZstdDecompressor(dict_data=_learnt(dictionary))
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error

    def decompress(self, frame: Line, longest: int) -> bytes:
        """The text of a frame, of at most ``longest`` bytes.

        Raises ValueError where it is longer, doesn't say how long it is, or is no frame.
        """
        try:
            size = zstandard.frame_content_size(frame)
            if not 0 <= size <= longest:
                raise ValueError(f"its length is given as {size:,} bytes")
            return self._zstd.decompress(frame, max_output_size=longest)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error


def _learnt(dictionary: bytes) -> zstandard.ZstdCompressionDict | None:
    return zstandard.ZstdCompressionDict(dictionary) if dictionary else None
