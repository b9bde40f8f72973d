"""The classes that a model chooses from: their names, and what is known of them.

From a file:

- ``.txt``: a name a line, which is its key, too;
- ``.csv`` with a header: ``name``; and, where there are, ``key`` (else the name), ``synonyms``
  (divided by ``|``), ``type``;
- ``.json``: ``{"n01440764": "tench", "n01443537": ["goldfish", "Carassius auratus"]}``, or a list
  of names.

A key is what labels an image: the name of its folder, the id of its entity. From a data set: its
entities, with all their names, natural types and roots.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow.compute as pc

from etl.errors import UserError
from etl.fold import fold
from graph.read import batches, manifest_of

#: Columns of an entity that hold names, in the order in which they are taken.
_NAMES: Final = ("aliases", "common_names", "taxon_names")
_COLUMNS: Final = ["id", "name", *_NAMES, "sitelinks", "natural_type_name", "roots"]


class Class(msgspec.Struct, frozen=True):
    """Something that an image may show."""

    key: str
    names: tuple[str, ...]  # its name first, then synonyms
    natural_type: str = ""  # "mammal"; "" where it isn't known or wanted
    roots: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0]


def from_file(path: Path) -> list[Class]:
    """The classes of a file.

    Raises UserError where it can't be read, has none, or has a key twice.
    """
    read = {".txt": _from_text, ".csv": _from_csv, ".json": _from_json}.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path}: give a file of class names that ends in .txt, .csv or .json.")
    try:
        found = list(read(path))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: can't be read as class names ({error}).") from error
    if not found:
        raise UserError(f"{path} has no class: give at least one name.")
    seen = set[str]()
    for one in found:
        if one.key in seen:
            raise UserError(f"{path} has the class {one.key!r} twice; leave one out.")
        seen.add(one.key)
    return found


def _from_text(path: Path) -> Iterator[Class]:
    for line in path.read_text("utf-8-sig").splitlines():
        if line.strip():
            yield _made(line.strip(), [line])


def _from_csv(path: Path) -> Iterator[Class]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        if "name" not in (rows.fieldnames or ()):
            raise UserError(f"{path} has no column {'name'!r}: begin it with a line of headers.")
        for row in rows:
            synonyms = (row.get("synonyms") or "").split("|")
            key = (row.get("key") or row["name"] or "").strip()
            yield _made(key, [row["name"] or "", *synonyms], (row.get("type") or "").strip())


def _from_json(path: Path) -> Iterator[Class]:
    data = msgspec.json.decode(path.read_bytes(), type=dict[str, str | list[str]] | list[str])
    if isinstance(data, list):
        data = {name: name for name in data} if len({*data}) == len(data) else _twice(path, data)
    for key, names in data.items():
        yield _made(key, [names] if isinstance(names, str) else names)


def _twice(path: Path, names: Sequence[str]) -> Any:
    (name, *_) = (name for name in names if names.count(name) > 1)
    raise UserError(f"{path} has the class {name!r} twice; leave one out.")


def _made(key: str, names: Iterable[str], natural_type: str = "") -> Class:
    kept = distinct(names)
    if not key or not kept:
        raise ValueError(f"the class {key or kept} has no {'name' if key else 'key'}")
    return Class(key, kept, natural_type)


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Names, each once whatever its case, white space collapsed, the empty ones left out."""
    found: dict[str, str] = {}
    for name in names:
        text = " ".join(name.split())
        if text:
            found.setdefault(fold(text), text)
    return tuple(found.values())


def from_graph(graph: Path, wanted: Collection[str] | None = None) -> list[Class]:
    """Entities of a data set, those that are wanted or all, in its order.

    Raises UserError where the data set isn't whole.
    """
    manifest_of(graph)
    return [_entity(row) for row in _rows(graph, wanted)]


def _rows(graph: Path, wanted: Collection[str] | None) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa

    ids = None if wanted is None else pa.array(sorted(wanted), pa.string())
    for rows in batches(graph, "entities", _COLUMNS):
        if ids is not None:
            rows = rows.filter(pc.is_in(rows.column("id"), ids))
        yield from rows.to_pylist()


def _entity(row: Mapping[str, Any]) -> Class:
    more = (name for column in _NAMES for name in row.get(column) or ())
    return Class(
        row["id"],
        distinct([row["name"] or row["id"], *more]),
        row.get("natural_type_name") or "",
        tuple(row["roots"] or ()),
    )


class Matched(msgspec.Struct, frozen=True):
    """Which class a folder is; ``alone`` are folders that a data set has no entity for."""

    classes: list[Class]
    label: dict[str, str]  # folder → key of a class
    alone: list[str]


def match_file(folders: Sequence[str], classes: Sequence[Class], where: Path) -> Matched:
    """Folders by the keys of a file, or by its names.

    Where nothing fits and there are as many lines as folders, the lines are in the order of the
    folders' names, as torchvision's ImageFolder numbers them.

    Raises UserError where a folder has no class.
    """
    by_key = {one.key: one.key for one in classes}
    by_name = {fold(name): one.key for one in reversed(classes) for name in reversed(one.names)}
    label = {f: by_key.get(f) or by_name.get(fold(_spaced(f))) for f in folders}
    missing = [folder for folder, key in label.items() if key is None]
    if len(missing) == len(folders) == len(classes):
        label = dict(zip(sorted(folders), (one.key for one in classes), strict=True))
        missing = []
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"{where} has no class for the folder{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing[:3]))}{more}: give {'them' if more else 'it'} as key."
        )
    return Matched(list(classes), {f: key for f, key in label.items() if key is not None}, [])


def match_graph(folders: Sequence[str], graph: Path) -> Matched:
    """Folders by entities' ids, else by their names, then by other names.

    Of several entities of one name that with the most sitelinks, then the lowest id. A folder that
    fits none is a class by itself, named as the folder is.
    """
    named: list[dict[str, tuple[int, Class]]] = [{}, {}]  # by its name; by any
    keys: dict[str, Class] = {}
    names = {fold(_spaced(folder)) for folder in folders}
    ids = {*folders}
    manifest_of(graph)
    for row in _rows(graph, None):
        one = _entity(row)
        if one.key in ids:
            keys[one.key] = one
        for place, name in enumerate(one.names):
            known = named[min(place, 1)]
            folded = fold(name)
            links = row["sitelinks"] or 0
            if folded in names and (folded not in known or known[folded][0] < links):
                known[folded] = (links, one)
    label, classes, alone = dict[str, str](), dict[str, Class](), []
    for folder in folders:
        folded = fold(_spaced(folder))
        hits = (known[folded][1] for known in named if folded in known)
        one = keys.get(folder) or next(hits, None) or _made(folder, [_spaced(folder)])
        if one.key == folder and folder not in keys:
            alone.append(folder)
        label[folder] = one.key
        classes[one.key] = one
    return Matched(list(classes.values()), label, alone)


def match_alone(folders: Sequence[str]) -> Matched:
    """Folders that are named as what they show."""
    return Matched(
        [_made(folder, [_spaced(folder)]) for folder in folders], {f: f for f in folders}, []
    )


def _spaced(folder: str) -> str:
    """A folder's name as one writes it: ``snow_leopard`` → ``snow leopard``."""
    return " ".join(folder.replace("_", " ").split()) or folder
