"""Which images a split has, shard by shard: from images.parquet, before a shard is opened.

    index = index_of("data/images/living/shards", "train", wanted, cache)
    index.counts         # images of each shard that are wanted: what an epoch's length is made of
    index.keys(3)        # of the images of its fourth shard, in the order of the tar

Kept in a folder of the cache by digest of the table, the split and what is wanted; workers map it.
32 bytes an image, so 1 GB for EntityNet's 33 million.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ujson

from etl.engine import Pool
from etl.errors import UserError
from etl.location import opened, reaching, settled
from etl.manifest import MANIFEST, digest_of_data, flush, misshapen, read_manifest, write_json
from etl.progress import Progress, Tick
from etl.remote import is_http
from etl.source import is_elsewhere
from etl.writing import disk_errors
from training.data_place import asked

#: The table, the step and the length of keys of download.pack, which isn't imported: it needs
#: DuckDB and more, which every worker would wait for.
IMAGES_FILE: Final = "images.parquet"
STEP: Final = "shards"
#: Where they stand in a directory of images.
SHARDS: Final = "shards"
_KEY: Final = 32

_FORMAT: Final = 1
_INDEX: Final = "index.json"  # comes last
_KEYS: Final = "keys"
_ALWAYS: Final = ("key", "split", "shard")
_READ: Final = 1 << 13  # rows as Python objects at once
_ASKED_AT_ONCE: Final = 16  # files of another place, for their sizes
_FIRST_TRIES: Final = 3  # to reach it at all: its address may be wrong


@dataclass(frozen=True)
class Wanted:
    """Which images of a split count: a rule about rows of images.parquet, for other processes too.

    For a filter of texts (training/text.py): those that ``draw`` has a text for.
    """

    #: Whether an image counts, by the columns of its row below; can be pickled.
    keeps: Callable[[Mapping[str, Any]], bool]
    columns: Sequence[str]
    #: Of all that the rule depends on: what was counted by it once isn't counted again.
    digest: str


class _Keys(Sequence[str]):
    """Keys where they are mapped: hundreds of shards are read at once, and each has thousands."""

    def __init__(self, data: Any) -> None:
        self._data = data  # (n,) bytes

    def __len__(self) -> int:
        return len(self._data)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> _Keys: ...
    def __getitem__(self, at: int | slice) -> str | _Keys:
        found = self._data[at]
        return _Keys(found) if isinstance(at, slice) else found.decode()


@dataclass(frozen=True)
class Index:
    """A split's images as they stand in its shards. Pickled as its folder's name."""

    location: str
    folder: Path
    shards: tuple[str, ...]  # train-000000, …
    counts: tuple[int, ...]  # of each, the images that are wanted
    all_images: int  # of the split, wanted or not

    @property
    def images(self) -> int:
        return sum(self.counts)

    def keys(self, number: int) -> Sequence[str]:
        """Of the images of a shard that are wanted, in the order of the tar."""
        return _Keys(self._keys[self._starts[number] : self._starts[number + 1]])

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *np.cumsum(self.counts).tolist()]

    @cached_property
    def _keys(self) -> Any:
        return np.memmap(self.folder / _KEYS, f"S{_KEY}", "r")

    def __reduce__(self) -> tuple[Any, ...]:
        return Index, (self.location, self.folder, self.shards, self.counts, self.all_images)


def default_cache() -> Path:
    """Where indexes are in the cache of the user."""
    return cache_for("index")


def cache_for(what: str, cache: str = "") -> Path:
    """A folder of a cache, without one of the user's: ``$XDG_CACHE_HOME/sparqless/index``."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return (Path(cache) if cache else Path(home) / "sparqless") / what


def index_of(
    location: str,
    split: str,
    wanted: Wanted | None,
    cache: Path,
    *,
    workers: int = 0,
    quiet: bool = False,
) -> Index:
    """The index of a split of shards in a directory or at a place that fsspec knows.

    Counted by so many processes where the cache lacks it; of several that ask for it at once one
    counts. ``location`` may be relative.

    Raises UserError where shards aren't complete, or no image is left.
    """
    location = _settled(location)
    manifest = shards_manifest(location)
    made_of = [
        _FORMAT,
        manifest["outputs"][IMAGES_FILE]["sha256"],
        split,
        "" if wanted is None else wanted.digest,
    ]
    folder = cache / digest_of_data(made_of)[:32]
    with disk_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / _INDEX).exists():
                _write(location, split, wanted, folder, workers, quiet)
    found = ujson.loads((folder / _INDEX).read_bytes())
    index = Index(location, folder, tuple(found["shards"]), tuple(found["counts"]), found["all"])
    if not index.all_images:
        raise UserError(f"{location} has no images in the split {split!r}; choose another.")
    if not index.images:
        raise UserError(
            f"the filter leaves none of the {index.all_images:,} images of {split!r} in "
            f"{location}; let more through."
        )
    return index


def shards_in(images: str) -> str:
    """The directory of the shards, given that or the directory of images around it."""
    inside = Path(images) / SHARDS
    return str(inside) if not is_elsewhere(images) and inside.is_dir() else images


def _settled(location: str) -> str:
    """Raises UserError for an address with a password, which messages and logs would show."""
    return settled(location, "--images")


def shards_manifest(location: str) -> dict[str, Any]:
    """The manifest of shards, here or elsewhere, that are all there, as large as they were written.

    Raises UserError where one isn't: before a run has begun, that is mended easily.
    """
    location = _settled(location)
    if is_elsewhere(location):
        written = _written_elsewhere(location)
        (_check_once if is_http(location) else _check_elsewhere)(location, written)
        manifest: dict[str, Any] = ujson.loads(written)
        return manifest
    manifest = read_manifest(Path(location), STEP)
    _refuse_unless_whole(location, manifest, misshapen(Path(location), manifest))
    return manifest


def _refuse_unless_whole(location: str, manifest: dict[str, Any], wrong: Sequence[str]) -> None:
    if IMAGES_FILE not in manifest["outputs"]:
        raise UserError(f"{location}/{MANIFEST} lists no {IMAGES_FILE}; pack the images again.")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{location} is damaged: {', '.join(wrong[:3])}{more} "
            f"{'is' if len(wrong) == 1 else 'are'} missing or cut off; copy the shards again, or "
            "run `sparqless images pack` again."
        )


def _written_elsewhere(location: str) -> bytes:
    """The manifest at another place, as it is written there."""
    import fsspec

    with reaching(location):
        files, root = fsspec.url_to_fs(location)
        read = partial(files.cat_file, f"{root}/{MANIFEST}")
        try:
            written: bytes = asked(location, read, tries=_FIRST_TRIES)
        except FileNotFoundError:
            raise UserError(
                f"{location} holds no finished shards: it has no {MANIFEST}; run `sparqless images "
                "pack` to its end first."
            ) from None
        manifest = ujson.loads(written)
        if not isinstance(manifest, dict) or manifest.get("step") != STEP:
            raise UserError(f"{location}/{MANIFEST} is not of shards.")
    return written


def _check_elsewhere(location: str, written: bytes) -> None:
    """Raises UserError where outputs at another place are missing or of another size."""
    manifest = ujson.loads(written)
    with reaching(location):
        outputs = manifest["outputs"]
        there = _sizes(location, outputs)
    wrong = [name for name in outputs if there.get(name) != outputs[name]["bytes"]]
    _refuse_unless_whole(location, manifest, wrong)


#: What was found whole isn't looked at again by the same process, as long as its manifest is the
#: same: of a web server that is a request for each shard, and several ask for the manifest.
_check_once: Final = lru_cache(maxsize=4)(_check_elsewhere)


def _sizes(location: str, names: Iterable[str]) -> dict[str, int | None]:
    """Bytes of files at another place; nothing, or None, of what isn't there.

    A web server lists no sizes, or nothing at all: it is asked for each file.
    """
    import fsspec

    files, root = fsspec.url_to_fs(location)
    entries: Sequence[dict[str, Any]] = ()
    if not is_http(location):
        entries = asked(location, partial(files.ls, root, detail=True))
    found = {entry["name"].rstrip("/").rpartition("/")[2]: entry.get("size") for entry in entries}
    unknown = [name for name in names if found.get(name) is None]

    def size(name: str) -> int | None:
        try:
            told: dict[str, Any] = asked(location, partial(files.info, f"{root}/{name}"))
        except FileNotFoundError:
            return None
        return told.get("size")

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return {**found, **dict(zip(unknown, pool.map(size, unknown), strict=True))}


# --- counting -----------------------------------------------------------------------------------


def _write(
    location: str, split: str, wanted: Wanted | None, folder: Path, workers: int, quiet: bool
) -> None:
    """Writes an index by a temporary folder and rename."""
    made = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    try:
        with opened(location, IMAGES_FILE) as file:
            known = pq.read_metadata(file)
        groups = range(known.num_row_groups)
        pieces = [(location, split, wanted, group, made) for group in groups]
        parts: dict[int, tuple[int, list[tuple[str, int]]]] = {}
        with (
            Pool(min(workers, len(groups)) if len(groups) > 1 else 0) as pool,
            Progress("counting images", known.num_rows, unit=" images", quiet=quiet) as progress,
        ):
            for (*_, group, _made), found in pool.run(_counted, pieces, progress.add):
                parts[group] = found
        shards: dict[str, int] = {}
        with (made / _KEYS).open("wb") as out:
            for group in groups:
                for shard, images in parts[group][1]:
                    shards[shard] = shards.get(shard, 0) + images
                part = _part(made, group)
                out.write(part.read_bytes())
                part.unlink()
        told = {
            "split": split,
            "all": sum(seen for seen, _ in parts.values()),
            "shards": list(shards),
            "counts": list(shards.values()),
        }
        flush(made, [_KEYS])
        write_json(made / _INDEX, told)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _part(made: Path, group: int) -> Path:
    return made / f"{_KEYS}-{group:06d}"


def _counted(
    piece: tuple[str, str, Wanted | None, int, Path], tick: Tick
) -> tuple[int, list[tuple[str, int]]]:
    """A row group: images of the split, and how many of each shard in turn are wanted.

    Their keys go into a file. Rows are in the order of keys, as the shards of a split are.
    """
    location, split, wanted, group, made = piece
    columns = dict.fromkeys([*_ALWAYS, *(() if wanted is None else wanted.columns)])
    with opened(location, IMAGES_FILE) as file:
        table = pq.ParquetFile(file).read_row_group(group, columns=list(columns))
    rows = table.num_rows
    table = table.filter(pc.equal(table["split"], split))
    seen = table.num_rows
    if wanted is not None:
        table = table.filter(pa.array([wanted.keeps(row) for row in _rows(table)], pa.bool_()))
    if not pc.all(pc.equal(pc.binary_length(table["key"]), _KEY), min_count=0).as_py():
        raise UserError(
            f"{location}/{IMAGES_FILE} has keys that aren't those of `sparqless images pack`; pack "
            "the images with it."
        )
    _part(made, group).write_bytes("".join(table["key"].to_pylist()).encode())
    tick(rows)
    shards = pc.value_counts(table["shard"]).to_pylist()  # in the order of the rows
    return seen, [(one["values"], one["counts"]) for one in shards]


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=_READ):
        yield from batch.to_pylist()
