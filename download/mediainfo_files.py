"""A reading of Commons' mediainfo dump in DuckDB: its files, with titles, and what they depict.

The views ``files`` and ``depicts`` have the columns of the reading's tables
(``download/reading.py``). In ``files`` no name comes twice and each is one (or null):
``download/file_names.py`` says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from download.sources import MissingInputError, Option, Request, local_file

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from download.file_names import Names

#: Where a dump is read to, in the directory of images, unless an earlier reading is given.
READING: Final = "mediainfo"

OPTIONS: Final = (
    Option("mediainfo", "Commons' mediainfo dump, or a directory that one was read into.", True),
    Option("pages", "Dump of MediaWiki's table page: names for mediainfo of before June 2022."),
)

_PUBLISHED: Final = (
    "commons-YYYYMMDD-mediainfo.json.bz2 (or .gz) from "
    "https://dumps.wikimedia.org/other/wikibase/commonswiki/"
)


def inputs(request: Request) -> Mapping[str, Any]:
    """What a source that reads the mediainfo dump is made from: its reading, which this begins.

    Raises MissingInputError where no dump is given, and none was read before; UserError for all
    that can be wrong with a dump.
    """
    from download.reading import DEPICTS_FILE, FILES_FILE
    from etl.manifest import read_manifest
    from etl.store import contents_of

    _, manifest = _reading(request)
    tables = (FILES_FILE, DEPICTS_FILE)
    made_from: dict[str, Any] = {
        "mediainfo": {name: manifest["outputs"][name]["sha256"] for name in tables}
    }
    if manifest["counts"]["untitled"]:
        made_from["pages"] = _pages(request)
    if request.store is not None:
        made_from["store"] = contents_of(read_manifest(request.store, "store"))
    return made_from


def _pages(request: Request) -> dict[str, Any] | None:
    """Size and digest of the dump of table page: disks move and files are renamed."""
    from etl.sql import describe

    given = request.given["pages"]
    if not given:
        return None
    dump = describe(local_file("pages", given[0]))
    return {"size": dump.size, "digest": dump.digest}


def _dumps(request: Request) -> tuple[str, ...]:
    return tuple(str(local_file("mediainfo", name)) for name in request.given["mediainfo"])


def _earlier(request: Request) -> tuple[Path, dict[str, Any]] | None:
    """The reading that is given in place of a dump, or stands where no dump is given.

    With its manifest; None where there is a dump to read.
    """
    from download.reading import standing
    from etl.manifest import MANIFEST

    dumps = _dumps(request)
    directory = Path(dumps[0]) if dumps else request.images / READING
    if len(dumps) > 1 or not (directory / MANIFEST).is_file():
        return None
    return directory, standing(directory)


@dataclass
class Files:
    """A reading that is open."""

    database: duckdb.DuckDBPyConnection
    manifest: dict[str, Any]  # of the reading: what of it another manifest is to tell
    warnings: list[str] = field(default_factory=list)

    def register_licences(self, pairs: str) -> None:
        """Makes a table ``licence``: what the licences and statuses of files mean.

        ``pairs`` is a table of this module's callers with a column ``page``: of whose files.
        """
        import pyarrow as pa

        from download.licences import licence_of

        found = self.database.sql(
            f"SELECT DISTINCT licences, statuses FROM files SEMI JOIN {pairs} USING (page)"  # noqa: S608 - a name of ours
        ).to_arrow_table()
        both = zip(found["licences"].to_pylist(), found["statuses"].to_pylist(), strict=True)
        names = pa.array([licence_of(ids or (), status or ()) for ids, status in both], pa.string())
        self.database.register("licence", found.append_column("licence", names))


@contextmanager
def opened(request: Request) -> Iterator[Files]:
    """Reads the dump, where that isn't done, and opens the reading.

    Raises UserError for all that can be wrong with a dump.
    """
    from download.file_names import names_of
    from download.joining import connect, view
    from download.reading import DEPICTS_FILE, FILES_FILE

    directory, manifest = _reading(request)
    names = names_of(request, directory, manifest, _pages(request))
    with connect(request.scratch) as database:
        view(database, "read", directory / FILES_FILE)
        view(database, "depicts", directory / DEPICTS_FILE)
        names.create_view(database)
        told = {key: manifest[key] for key in ("plan", "counts", "damage")}
        warnings = _warnings(directory, manifest, names)
        yield Files(database, {**told, "names": dict(names.counts)}, warnings)


def _reading(request: Request) -> tuple[Path, dict[str, Any]]:
    """The directory of the reading, and its manifest; the first source of a run reads the dump."""
    from download.reading import Options, read

    if READING not in request.shared:
        directory = request.images / READING
        options = Options(
            workers=request.workers,
            max_rejects=request.max_rejects,
            allow_damage=request.allow_damage,
            fresh=request.fresh,
            quiet=request.quiet,
        )
        dumps = _dumps(request)
        found = _earlier(request)
        if found is None and not dumps:
            raise MissingInputError(
                f"Commons' mediainfo dump is missing: give --mediainfo FILE, {_PUBLISHED}."
            )
        request.shared[READING] = found or (directory, read(dumps, directory, options))
    directory, manifest = request.shared[READING]
    return directory, manifest


def _warnings(directory: Path, manifest: Mapping[str, Any], names: Names) -> list[str]:
    """What of the dump is not in the reading or not in ``files``, though it should be."""
    from etl.dump import Damage
    from etl.losses import REJECTS, told
    from etl.show import counted

    counts = manifest["counts"]
    found = [f"{told(Damage(**lost))}." for lost in manifest["damage"]]
    if rejects := counts["rejects"]:
        lines = counted(rejects, "line")
        found.insert(0, f"{lines} of the dump can't be read: see {directory / REJECTS}.")
    if counts["untitled"] and not names.counts["named"]:
        found.append(_untitled(counts["untitled"], counts["files"]))
    if wrong := names.counts["not_names"]:
        files = counted(wrong, "file was", "files were")
        found.append(f"{files} left out: what the dump calls them can't be the name of a file.")
    return found


def _untitled(untitled: int, files: int) -> str:
    said = f"{untitled:,} of {files:,} files of the dump have no title and were left out"
    if 2 * untitled < files:
        return f"{said}."
    return (
        f"{said}, as in dumps of before June 2022: give --pages commonswiki-YYYYMMDD-page.sql.gz "
        "of the same days, from https://dumps.wikimedia.org/commonswiki/."
    )


_LISTS: Final = ("captions", "caption_langs", "licences", "statuses", "creators")
_REMEMBERED: Final = 1 << 16  # names of creators


class Describer:
    """Turns rows of ``files`` into what a table of candidates or facts says of them."""

    def __init__(self, request: Request) -> None:
        from etl.store import EntityStore

        self._languages = request.recipe.languages()
        self._store = None if request.store is None else EntityStore(request.store)
        self._names: dict[str, str] = {}

    def __enter__(self) -> Describer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()

    def facts(self, batch: pa.RecordBatch) -> pa.Table:
        """Rows of the columns FACTS."""
        from download.candidates import FACTS, filled

        return filled(FACTS, self._columns(batch))

    def found(self, batch: pa.RecordBatch) -> pa.Table:
        """Rows of the columns FOUND, of a batch that has ``entity``, ``place`` and ``reasons``."""
        import numpy as np
        import pyarrow as pa

        from download.candidates import FOUND, filled
        from graph.tables import id_strings

        place = batch.column("place").to_numpy()
        columns = {
            **self._columns(batch),
            "entity": id_strings(batch.column("entity").to_numpy()),
            "reasons": batch.column("reasons"),
            "score": pa.array((1 / place).astype(np.float32)),
        }
        return filled(FOUND, columns)

    def _columns(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        import pyarrow as pa

        from download.licences import licence_of

        columns = {name: batch.column(name).to_pylist() for name in _LISTS}
        texts, langs = self._captions(columns["captions"], columns["caption_langs"])
        both = zip(columns["licences"], columns["statuses"], strict=True)
        creators = [self._credit(creators or ()) for creators in columns["creators"]]
        pages = batch.column("page").to_pylist()
        return {
            "file": batch.column("file"),
            "source_id": pa.array([f"M{page}" for page in pages], pa.string()),
            "texts": texts,
            "text_langs": langs,
            **{name: batch.column(name) for name in ("width", "height", "mime", "bytes", "sha1")},
            "licence": pa.array([licence_of(a or (), b or ()) for a, b in both], pa.string()),
            "creator": pa.array(creators, pa.string()),
        }

    def _captions(
        self, captions: Sequence[list[str] | None], langs: Sequence[list[str] | None]
    ) -> tuple[pa.Array, pa.Array]:
        """Captions in the recipe's languages, in its order."""
        import pyarrow as pa

        texts, codes = [], []
        for some, of in zip(captions, langs, strict=True):
            by_code = dict(zip(of or (), some or (), strict=True))
            chosen = [code for code in self._languages if code in by_code]
            texts.append([by_code[code] for code in chosen])
            codes.append(chosen)
        strings = pa.list_(pa.string())
        return pa.array(texts, strings), pa.array(codes, strings)

    def _credit(self, creators: Sequence[str]) -> str | None:
        return ", ".join(dict.fromkeys(map(self._name, creators))) or None

    def _name(self, creator: str) -> str:
        """What a creator is called: an item by its label, where there is a store that has it."""
        from etl.entity import is_entity_id

        if self._store is None or not is_entity_id(creator):
            return creator
        if creator not in self._names:
            if len(self._names) >= _REMEMBERED:
                self._names.clear()
            record = self._store.get(creator)
            labels = {} if record is None else record.labels
            found = (labels[code] for code in self._languages if code in labels)
            self._names[creator] = next(found, creator)
        return self._names[creator]
