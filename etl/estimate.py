"""What a run will take, from a look into the dump at a few places."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from etl.dump import STDIN, Input, Slice, find_inputs
from etl.entity import OtherEntity, RejectedLineError
from etl.errors import UserError
from etl.lines import Line, SliceReader
from etl.plan import Options
from etl.reader import EntityReader
from etl.show import in_bytes
from etl.source import Access, open_source, reach

_PLACES = (0.0, 0.4, 0.8)  # of the largest file
_PROBE_TEXT = 8 << 20  # inflated bytes read at each of three places
_PROBE_BYTES = 256 << 20  # of the compressed file, at most, at each place

#: Peak of disk in a build over the bytes of encoded records: runs, LMDB with its pages' slack,
#: Parquet. Measured by `make bench`, docs/performance.md.
_DISK_PER_RECORD_BYTE = 4.2
#: The same with --update-from: little goes into runs.
_DISK_PER_UPDATED_BYTE = 2.4
#: The same over the compressed bytes of whole entities: they stand in runs and in LMDB.
_DISK_PER_FULL_BYTE = 2.3
_FULL_RATIO = 6  # JSON over its compressed form, with a dictionary (docs/performance.md)


class Estimate(msgspec.Struct, frozen=True):
    """What a run is expected to take, from a probe of its inputs."""

    input_bytes: int
    json_bytes: int
    entities: int
    disk_bytes: int
    free_bytes: int
    seconds: float


def estimate(names: tuple[str, ...], store: Path, options: Options) -> Estimate | None:
    """Probes the dump at three places; None for standard input, which can't be read twice."""
    names, access = reach(
        names, options.contact, options.keep_dump, may_fetch=False, quiet=options.quiet
    )
    return _estimate(find_inputs(names, access), access, store, options)


def _estimate(
    inputs: list[Input], access: Access, store: Path, options: Options
) -> Estimate | None:
    if inputs[0].path == STDIN:
        return None
    total = sum(file.size for file in inputs)
    largest = max(inputs, key=lambda file: file.size)
    reader = EntityReader(options.kept)
    started = time.perf_counter()
    read = text = entities = record_bytes = full_bytes = 0
    found = 0  # places with text: a file of one member has it at its beginning only
    for place in _PLACES:
        start = int(largest.size * place)
        compressed = 0

        def tick(amount: int) -> None:
            nonlocal compressed
            compressed += amount

        end = min(largest.size, start + _PROBE_BYTES) if start else largest.size
        piece = Slice(0, largest.path, largest.form, start, end, largest.size)
        with open_source(piece.path, access) as source:
            lines = SliceReader(piece, options.max_line, tick, source=source)
            for offset, _, line in lines:
                size = _record_size(reader, line)
                entities += size > 0
                record_bytes += size
                full_bytes += len(line) // _FULL_RATIO
                if offset > _PROBE_TEXT:
                    break
        read += compressed
        text += lines.extent.text
        found += lines.extent.text > 0
    seconds = time.perf_counter() - started
    scale = total / max(read, 1)
    if options.limit:
        scale = min(scale, options.limit / max(entities, 1))
    each = _DISK_PER_UPDATED_BYTE if options.update_from else _DISK_PER_RECORD_BYTE
    disk = record_bytes * each
    disk += full_bytes * _DISK_PER_FULL_BYTE if options.kept.full else 0
    existing = next(p for p in (store, *store.absolute().parents) if p.exists())
    return Estimate(
        total,
        int(text * scale),
        int(entities * scale),
        int(disk * scale) + (1 << 20),
        shutil.disk_usage(existing).free,
        seconds * scale / (max(options.workers, 1) if found > 1 else 1),
    )


def _record_size(reader: EntityReader, line: Line) -> int:
    """Bytes of a line's record, 0 where it makes none."""
    try:
        entry = reader.read(bytes(line).strip(b", \t\r[]"))
        return 0 if isinstance(entry, OtherEntity) else len(entry.value)
    except RejectedLineError:
        return 0


def check_disk(
    store: Path,
    inputs: list[Input],
    access: Access,
    options: Options,
    announce: Callable[[Estimate], None],
) -> None:
    """Tells ``announce`` what a build will take.

    Raises UserError where the disk has no room for it.
    """
    expected = _estimate(inputs, access, store, options)
    if expected is None:
        return
    announce(expected)
    if expected.disk_bytes > expected.free_bytes:
        raise UserError(
            f"{store} needs about {in_bytes(expected.disk_bytes)} while it is built and the "
            f"disk has {in_bytes(expected.free_bytes)} free; choose another --store, or keep "
            "less (--languages, --properties, --keep)."
        )
