"""Look a name up in a store: exact or by its beginning, in any kept language.

names.parquet is sorted by the folded name, and its footer tells between which names each row
group lies: a lookup reads the one or two row groups where the name begins and ends. Between them
all rows match, and only the best known of them are wanted, so row groups are read in the order
of their highest number of sitelinks, until no other can hold a better one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.entity import entity_id
from etl.errors import UserError
from etl.fold import fold
from etl.names import KINDS, NAMES, NAMES_SCHEMA
from etl.show import cells, fitted, name_of, printable
from etl.store import EntityStore

#: Row groups that one lookup reads at most, 2 to 10 ms each. Without --language it never comes
#: to that many; a rare language and a short beginning do.
MOST_GROUPS: Final = 200

_NARROWEST = 16  # columns of a terminal for a name or description


@dataclass(frozen=True)
class Found:
    """One entity, and the name by which it was found.

    ``kind`` is ``label`` or ``alias``; ``languages`` are those in which it has this very name.
    ``label`` and ``description`` are in the first kept language that has one, else ``""``.
    """

    id: str
    label: str
    description: str
    sitelinks: int
    name: str
    kind: str
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """``found``, by sitelinks, best known first; ``more`` where the limit left some out.

    ``partial`` where so many names match that not all were looked at: a better known entity may
    be missing.
    """

    found: tuple[Found, ...]
    more: bool
    partial: bool


def find(
    store: Path,
    text: str,
    *,
    prefix: bool = False,
    languages: Sequence[str] = (),
    limit: int = 20,
) -> Answer:
    """Entities that are called ``text``, or with ``prefix`` have a name that begins with it.

    Case, compatibility forms and white space don't count (:func:`etl.names.fold`). Of several
    matching names of an entity a label comes before an alias. ``languages`` () is all.

    Raises UserError where there is nothing to look for, a language isn't kept, or the store has
    no names that can be read.
    """
    if any("\ud800" <= c <= "\udfff" for c in text):  # what a terminal sent and UTF-8 hasn't
        raise UserError(f"{text!r} is no text in UTF-8; set the terminal's locale to UTF-8.")
    wanted = fold(text)
    if not wanted:
        raise UserError("there is no name to look for; give a text, for example dog.")
    if prefix and text[-1:].isspace():
        wanted += " "  # a word that has ended
    with EntityStore(store) as opened:
        for code in languages:
            if code not in opened.languages:
                raise UserError(
                    f"{store} keeps no names in {code!r}; it has {', '.join(opened.languages)}."
                )
        if not (store / NAMES).exists():
            raise UserError(
                f"{store} was built by a version that didn't write {NAMES}; build it again with "
                "`sparqless etl --fresh`."
            )
        try:
            with pq.ParquetFile(store / NAMES) as file:
                search = _Search(file, wanted, prefix, languages, limit)
                rows = search.rows()
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{store / NAMES} can't be read ({reason}); see what `sparqless verify {store}` "
                "says."
            ) from error
        found = tuple(_found(row, opened) for row in rows[:limit])
    return Answer(found, len(rows) > limit, search.partial)


def lines(answer: Answer, width: int = 0) -> Iterator[str]:
    """For people: id, label, description, sitelinks, and the name where the label is another.

    In columns that fit a terminal of ``width``, or separated by tabs where that is 0.
    """
    rows = [
        (f.id, f.label, f.description, str(f.sitelinks), "" if f.name == f.label else f.name)
        for f in answer.found
    ]
    shown = [tuple(map(printable, row)) for row in rows]
    if not width:
        yield from map("\t".join, shown)
        return
    named = [(i, _named(label, name), d, n) for i, label, d, n, name in shown]
    ids, names, descriptions, sitelinks = (
        max((cells(row[n]) for row in named), default=0) for n in range(4)
    )
    names = min(names, max(width // 2, _NARROWEST))
    descriptions = min(descriptions, max(width - ids - names - sitelinks - 6, _NARROWEST))
    for i, name, description, number in named:
        texts = f"{fitted(name, names)}  {fitted(description, descriptions)}"
        yield f"{i:<{ids}}  {texts}  {number:>{sitelinks}}"


def _named(label: str, name: str) -> str:
    return f"{label} ({name})" if label and name else label or name


def note(answer: Answer) -> str:
    """What a reader of ``answer`` should know of what it leaves out, ``""`` for nothing."""
    if answer.partial:
        return (
            "so many names begin like this that not all were looked at, and better known ones may "
            "be missing; give more letters."
        )
    return "there are more; --limit shows them." if answer.more else ""


def _found(row: dict[str, Any], store: EntityStore) -> Found:
    id_ = entity_id(row["id"])
    record = store.get(id_)
    label = name_of(record) if record else ""
    description = next(iter(record.descriptions.values()), "") if record else ""
    return Found(
        id_,
        label,
        description,
        row["sitelinks"],
        row["name"],
        row["kind"],
        tuple(row["languages"]),
    )


#: Matching rows, one an entity, best known first; ``group`` and ``row`` say where one stands.
_ROW = np.dtype([("sitelinks", "i4"), ("id", "i8"), ("alias", "?"), ("group", "i4"), ("row", "i4")])
_Rows = npt.NDArray[np.void]


def _best(rows: _Rows, limit: int) -> _Rows:
    """Of every entity its first label, or else its first alias; the ``limit`` best known."""
    by = ("row", "group", "alias", "id")
    rows = rows[np.lexsort([*(rows[column] for column in by), -rows["sitelinks"]])]
    first = np.ones(len(rows), bool)
    first[1:] = rows["id"][1:] != rows["id"][:-1]
    return rows[first][:limit]


class _Search:
    """One lookup in names.parquet."""

    def __init__(
        self, file: pq.ParquetFile, wanted: str, prefix: bool, languages: Sequence[str], limit: int
    ) -> None:
        self._file = file
        self._wanted = wanted
        self._prefix = prefix
        self._languages = pa.array(languages, pa.string())
        self._limit = limit + 1  # one more tells that there are more
        self.partial = False

    def rows(self) -> list[dict[str, Any]]:
        """Rows of names.parquet, one an entity, best known first; one over the limit at most."""
        best = self._best()
        rows: list[dict[str, Any]] = [{}] * len(best)
        for group in np.unique(best["group"]):
            places = np.flatnonzero(best["group"] == group)
            table = self._file.read_row_group(int(group), ["name", "languages"])
            texts = table.take(pa.array(best["row"][places])).to_pylist()
            for place, text in zip(places, texts, strict=True):
                sitelinks, id_, alias = best[place].item()[:3]
                rows[place] = {"id": id_, "sitelinks": sitelinks, "kind": KINDS[alias], **text}
        return rows

    def _best(self) -> _Rows:
        """Reads row groups in the order of what they may hold, while they may hold a better one."""
        best = np.empty(0, _ROW)
        waiting: list[_Rows] = []
        for read, (most, lowest_id, group) in enumerate(self._by_promise()):
            worst = int(best[-1]["sitelinks"]) if len(best) == self._limit else -1
            if worst >= 0 and (-most, lowest_id) > (-worst, best[-1]["id"]):
                break
            if read == MOST_GROUPS:
                self.partial = most > worst
                break
            rows = self._matching(group)
            waiting.append(rows[rows["sitelinks"] >= worst])
            if sum(map(len, waiting)) >= self._limit:  # sorting costs more than reading
                best, waiting = _best(np.concatenate([best, *waiting]), self._limit), []
        return _best(np.concatenate([best, *waiting]), self._limit)

    def _by_promise(self) -> list[tuple[int, int, int]]:
        """Row groups that may match: most sitelinks, lowest id, number."""
        found = [
            (self._statistics(n, "sitelinks").max, self._statistics(n, "id").min, n)
            for n in self._groups()
        ]
        return sorted(found, key=lambda group: (-group[0], *group[1:]))

    def _groups(self) -> range:
        """The row groups that may hold what is wanted."""
        groups = range(self._file.num_row_groups)
        first = bisect_left(groups, self._wanted, key=lambda g: self._statistics(g, "folded").max)
        end = bisect_right(
            groups, self._wanted, first, key=lambda g: self._head(self._statistics(g, "folded").min)
        )
        return range(first, end)

    def _head(self, folded: str) -> str:
        """The part of a name that has to equal what is wanted."""
        return folded[: len(self._wanted)] if self._prefix else folded

    def _statistics(self, group: int, column: str) -> Any:
        return self._file.metadata.row_group(group).column(_COLUMNS[column]).statistics

    def _matching(self, group: int) -> _Rows:
        names = self._statistics(group, "folded")
        whole = self._head(names.min) == self._wanted == self._head(names.max)
        columns = ["sitelinks", "id", "kind"]
        columns += [] if whole else ["folded"]
        columns += ["languages"] if len(self._languages) else []
        table = self._file.read_row_group(group, columns)
        matches = np.ones(len(table), bool)
        if not whole:
            test = pc.starts_with if self._prefix else pc.equal
            matches &= test(table["folded"], self._wanted).to_numpy()
        if len(self._languages):
            lists = table["languages"].combine_chunks()
            wanted = pc.is_in(lists.flatten(), self._languages).to_numpy(zero_copy_only=False)
            spoken = np.zeros(len(table), bool)
            spoken[pc.list_parent_indices(lists).to_numpy()[wanted]] = True
            matches &= spoken
        where = np.flatnonzero(matches)
        rows = np.empty(len(where), _ROW)
        rows["sitelinks"] = table["sitelinks"].to_numpy()[where]
        rows["id"] = table["id"].to_numpy()[where]
        rows["alias"] = pc.equal(table["kind"].cast(pa.string()), KINDS[1]).to_numpy()[where]
        rows["group"], rows["row"] = group, where
        return rows


#: Where a column stands in the footer: ``languages`` is a list, of one column.
_COLUMNS = {name: n for n, name in enumerate(NAMES_SCHEMA.names)}
