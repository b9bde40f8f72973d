"""The texts of one image, entity or query, for a person: without tables of all the others."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.entity import is_entity_id
from etl.errors import UserError
from etl.manifest import MANIFEST, read_manifest
from etl.show import counted, printable
from graph.read import batches, manifest_of
from training.data_index import IMAGES_FILE
from training.data_index import STEP as SHARDS_STEP
from training.text import Row, Texts
from training.text_build import Only, build_some
from training.text_image import COLUMNS, Image
from training.text_options import TextFilter, TextOptions

#: The folder of shards below a directory of images, as `make images` and the docs name it.
SHARDS: Final = "shards"

Kind = Literal["image", "entity", "query"]


@dataclass(frozen=True)
class Shown:
    """What was asked for, its texts, and those that some epochs draw, where that was asked."""

    key: str
    kind: Kind
    rows: Sequence[Row]
    first_epoch: int
    drawn: Sequence[str | None]


def show(
    key: str,
    graph: Path,
    images: Path | None = None,
    options: TextOptions | None = None,
    *,
    draw: int = 0,
    epoch: int = 0,
    seed: int = 0,
) -> Shown:
    """The texts of what ``key`` names, and what it is told to be in ``draw`` epochs from ``epoch``.

    An id is an entity's, anything else the key of one of ``images`` or the hash of a query. Reads
    the data set's tables once.

    Raises UserError where there is no such thing, or a directory is not what it should be.
    """
    manifest_of(graph)
    kind, image = _find(key, graph, images)
    with tempfile.TemporaryDirectory(prefix="sparqless-texts-") as scratch:
        only = Only(
            frozenset(e.id for e in image.entities), frozenset(q.hash for q in image.queries)
        )
        folder = build_some(graph, Path(scratch), options or TextOptions(), only)
        texts = Texts.open(folder, options, TextFilter())
        drawn = [texts.draw(image, seed, e) for e in range(epoch, epoch + draw)]
        rows = texts.table(image)
    return Shown(key, kind, rows, epoch, drawn)


def _find(key: str, graph: Path, images: Path | None) -> tuple[Kind, Image]:
    if is_entity_id(key):
        _check_entity(key, graph)
        return "entity", Image.of(key, [key])
    if images is not None:
        row = _row(key, images)
        if row is not None:
            return "image", Image.of_row(row)
    if _has(graph, "queries", "query_hash", key):
        return "query", Image.of(key, queries=[key])
    where = f"no image of {images}, " if images is not None else ""
    hint = "" if images is not None else " For an image, give --images."
    raise UserError(
        f"{key!r} is {where}no entity and no query of {graph}: give the key of an image (as in "
        f"{IMAGES_FILE}), an id such as Q144, or a query_hash.{hint}"
    )


def _check_entity(id_: str, graph: Path) -> None:
    if not _has(graph, "entities", "id", id_):
        raise UserError(
            f"{id_} is no entity of {graph}; `sparqless explain {id_} --graph {graph}` says why."
        )


def _has(graph: Path, table: str, column: str, value: str) -> bool:
    return any(
        pc.any(pc.equal(rows.column(column), value)).as_py()
        for rows in batches(graph, table, [column])
    )


def _row(key: str, images: Path) -> dict[str, Any] | None:
    """The row of an image; only row groups that may have it are read, since keys are in order."""
    folder = _shards(images)
    found = pq.read_table(
        folder / IMAGES_FILE, columns=list(COLUMNS), filters=[("key", "=", key)]
    ).to_pylist()
    return found[0] if found else None


def _shards(images: Path) -> Path:
    """The directory of the shards, given that or the directory of images around it."""
    folder = images if (images / IMAGES_FILE).exists() else images / SHARDS
    if not (folder / MANIFEST).exists():
        raise UserError(
            f"{images} holds no finished shards: give a directory of shards, or one that has them "
            f"in {SHARDS}/; `sparqless images pack` writes them."
        )
    read_manifest(folder, SHARDS_STEP)
    return folder


def lines(shown: Shown, limit: int) -> Iterator[str]:
    """What is shown, line by line."""
    if shown.drawn:
        for epoch, text in enumerate(shown.drawn, shown.first_epoch):
            yield f"{epoch}\t{_or_none(text)}"
        return
    if not shown.rows:
        yield f"Nothing is known of the {shown.kind} {shown.key} that it may be told to be."
    for row in shown.rows[:limit]:
        sources = ", ".join(source.replace("_", " ") for source in row.sources)
        yield f"{row.probability:7.2%}  {printable(row.text)}  ({sources})"
    if rest := shown.rows[limit:]:
        share = sum(row.probability for row in rest)
        yield f"{share:7.2%}  in {counted(len(rest), 'more text')}; --limit shows them"


def _or_none(text: str | None) -> str:
    return "(none: nothing is known of it)" if text is None else printable(text)


def as_plain(shown: Shown, limit: int) -> dict[str, Any]:
    """What is shown, for JSON."""
    return {
        "key": shown.key,
        "kind": shown.kind,
        "texts": len(shown.rows),
        "table": [
            {"text": row.text, "probability": row.probability, "sources": list(row.sources)}
            for row in shown.rows[:limit]
        ],
        **(
            {
                "drawn": [
                    {"epoch": e, "text": t} for e, t in enumerate(shown.drawn, shown.first_epoch)
                ]
            }
            if shown.drawn
            else {}
        ),
    }
