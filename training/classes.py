"""The classes that a model chooses from: their names, and what is known of them.

From a file:

- ``.txt``: a name a line, which is its key, too; or ``1 001.Black_footed_Albatross``, as CUB's
  ``classes.txt`` has it;
- ``.csv`` with a header: ``name``; and, where there are, ``key`` (else the name), ``synonyms``
  (divided by ``|``), ``type``;
- ``.json``: ``{"n01440764": "tench", "n01443537": ["goldfish", "Carassius auratus"]}``, a list of
  names, or ``{"0": ["n01440764", "tench"]}``, as ``imagenet_class_index.json`` has it.

A key is what labels an image: the name of its folder, the id of its entity. From a data set: its
entities, with all their names, natural types and roots.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
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

_FIRST: Final = re.compile(r"\d{3}\.(?=\D)", re.ASCII)  # of a folder's name
_OF_CUB: Final = re.compile(r"\d+ (?P<folder>\d{3}\.\S+)", re.ASCII)
_WORDNET: Final = re.compile(r"n\d{8}", re.ASCII)


#: How a folder's name gets into a file where that isn't as a key.
_ADDED: Final = {
    ".txt": "add {}, a name a line",
    ".json": "give {} as {}, or add the name where it is a list",
}


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
    _check_once(path, (one.key for one in found))
    return found


def _check_once(path: Path, keys: Iterable[str]) -> None:
    twice = next((key for key, times in Counter(keys).items() if times > 1), None)
    if twice is not None:
        other = ", or give a .csv that has a key for each" * (path.suffix.lower() == ".txt")
        raise UserError(f"{path} has the class {twice!r} twice; leave one out{other}.")


def _from_text(path: Path) -> Iterator[Class]:
    lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    numbered = [_OF_CUB.fullmatch(line) for line in lines]
    for line, parts in zip(lines, numbered, strict=True):
        if parts is not None and all(numbered):
            yield _made(parts["folder"], [_spaced(parts["folder"])])
        else:
            yield _made(line, [line])


def _from_csv(path: Path) -> Iterator[Class]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        header = rows.fieldnames or ()
        if len(header) == 1 and ";" in header[0]:
            raise UserError(f"{path}: columns are to be divided by commas, not semicolons.")
        if "name" not in header:
            raise UserError(f"{path} has no column {'name'!r}: begin it with a line of headers.")
        for row in rows:
            synonyms = (row.get("synonyms") or "").split("|")
            key = (row.get("key") or row["name"] or "").strip()
            yield _made(key, [row["name"] or "", *synonyms], (row.get("type") or "").strip())


def _from_json(path: Path) -> Iterator[Class]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_once(path, (key for key, _ in pairs))
        return dict(pairs)

    read = json.loads(path.read_bytes(), object_pairs_hook=once)
    data = msgspec.convert(read, dict[str, str | list[str]] | list[str])
    if isinstance(data, list):
        yield from (_made(name, [name]) for name in data)
    elif all(_is_of_imagenet(key, value) for key, value in data.items()):
        yield from (_made(value[0], [value[1].replace("_", " ")]) for value in data.values())
    else:
        for key, names in data.items():
            yield _made(key, [names] if isinstance(names, str) else names)


def _is_of_imagenet(key: str, value: str | list[str]) -> bool:
    """Whether a number has an id of WordNet, which is the folder's name, and a name."""
    pair = isinstance(value, list) and len(value) == 2
    return pair and key.isdecimal() and _WORDNET.fullmatch(value[0]) is not None


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
    by_order: bool = False  # by nothing but their places in the file

    @property
    def united(self) -> list[list[str]]:
        """Folders that are one class."""
        of_class = defaultdict[str, list[str]](list)
        for folder, key in self.label.items():
            of_class[key].append(folder)
        return [folders for folders in of_class.values() if len(folders) > 1]


def match_file(folders: Sequence[str], classes: Sequence[Class], where: Path) -> Matched:
    """Folders by the keys of a file, else by its names, then by its synonyms.

    Where nothing fits and there are as many lines as folders, the lines are in the order of the
    folders' names, as torchvision's ImageFolder numbers them; of numbers in that of numbers.

    Raises UserError where a folder has no class.
    """
    by_key = {one.key: one.key for one in classes}
    by_name = {fold(one.name): one.key for one in reversed(classes)}
    synonyms = {fold(name): one.key for one in reversed(classes) for name in one.names[1:]}
    label: dict[str, str | None] = {}
    for folder in folders:
        name = fold(_spaced(folder))
        label[folder] = by_key.get(folder) or by_name.get(name) or synonyms.get(name)
    missing = [folder for folder, key in label.items() if key is None]
    by_order = len(missing) == len(folders) == len(classes)
    if by_order:
        numbers = all(folder.isdecimal() for folder in folders)
        ordered = sorted(folders, key=lambda folder: (int(folder) if numbers else 0, folder))
        label = dict(zip(ordered, (one.key for one in classes), strict=True))
        missing = []
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        several = len(missing) > 1
        how = _ADDED.get(where.suffix.lower(), "give {} as {}").format(
            "them" if several else "it", "keys" if several else "key"
        )
        raise UserError(
            f"{where} has no class for the folder{'s' if several else ''} "
            f"{', '.join(map(repr, missing[:3]))}{more}: {how}."
        )
    found = {folder: key for folder, key in label.items() if key is not None}
    return Matched(list(classes), found, [], by_order)


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
    """A folder's name as one writes it: ``snow_leopard`` → ``snow leopard``.

    Without the number that CUB and Caltech-256 put before it (``001.ak47``).
    """
    return " ".join(_FIRST.sub("", folder).replace("_", " ").split()) or folder
