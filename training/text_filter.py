"""Which queries are blocked by a filter: for each place of the two indexes, a byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import ujson

from etl.errors import UserError
from etl.manifest import digest_of_data
from training.text_files import NONE, Index
from training.text_options import TextFilter

_SHOWN: Final = 10

#: 1 where it is blocked: of queries and of entities.
Blocked = tuple[bytes, bytes]


def blocked(
    filter_: TextFilter, groups: Sequence[Mapping[str, Any]], queries: Index, entities: Index
) -> Blocked:
    """For each query and each entity 1 where it is blocked; an entity as the query for its name.

    Raises UserError where the filter names what no query has, or a list can't be read.
    """
    _check(filter_, groups)
    by_group = np.array([_is_blocked(filter_, group) for group in groups], bool)
    of_queries = by_group[_column(queries, "group")]
    of_entities = by_group[_column(entities, "group")]
    named = _column(entities, "named")
    if filter_.keep_lists or filter_.skip_lists:
        listed = np.zeros(len(queries), bool)
        if filter_.keep_lists:
            listed |= ~_listed(filter_.keep_lists, queries)
        if filter_.skip_lists:
            listed |= _listed(filter_.skip_lists, queries)
        of_queries = of_queries | listed
        # an entity without a query for its name stands in no list
        unnamed = bool(filter_.keep_lists)
        known = named != NONE
        of_entities = of_entities | np.where(known, listed[np.where(known, named, 0)], unnamed)
    return of_queries.tobytes(), of_entities.tobytes()


def _column(index: Index, name: str) -> Any:
    return index.batch.column(name).to_numpy()


def _is_blocked(filter_: TextFilter, group: Mapping[str, Any]) -> bool:
    roots = set(group["roots"])
    return (
        group["type"] in filter_.skip_types
        or group["engine"] in filter_.skip_engines
        or group["source"] in filter_.skip_query_sources
        or not roots.isdisjoint(filter_.skip_roots)
        or (bool(filter_.keep_roots) and roots.isdisjoint(filter_.keep_roots))
    )


def _check(filter_: TextFilter, groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuses what no query has: a slip, which would let everything through or nothing."""
    roots = {root for group in groups for root in group["roots"]}
    sources = {group["source"] for group in groups} - {""}
    for name, known in (("keep_roots", roots), ("skip_roots", roots),
                        ("skip_query_sources", sources)):  # fmt: skip
        for value in getattr(filter_, name):
            if value not in known:
                few = sorted(known)[:_SHOWN]
                raise UserError(
                    f"{name}: no query has {value!r}; there are {', '.join(few) or 'none'}"
                    f"{', …' if len(known) > _SHOWN else ''}."
                )


def as_plain(filter_: TextFilter) -> dict[str, Any]:
    """What a filter does, as plain data: of lists a digest of what they hold, wherever they are.

    Raises UserError where a list can't be read.
    """
    return asdict(filter_) | {
        name: [digest_of_data(sorted({*read_list(Path(file))})) for file in getattr(filter_, name)]
        for name in ("keep_lists", "skip_lists")
    }


def _listed(files: Sequence[str], queries: Index) -> Any:
    """(queries,) whether it stands in one of the lists."""
    found = np.zeros(len(queries), bool)
    for file in files:
        hashes = read_list(Path(file))
        known = [place[2] for hash_ in hashes if (place := queries.find(hash_))]
        if hashes and not known:
            raise UserError(
                f"{file}: none of its {len(hashes):,} hashes is of a query of this data set; it is "
                "a list of another one."
            )
        found[known] = True
    return found


def read_list(path: Path) -> list[str]:
    """Query hashes: a JSON list, as EntityNet's ``query_list-*.json``, or a line for each.

    Raises UserError where the file isn't there, or isn't that.
    """
    try:
        text = path.read_text("utf-8-sig")  # a first byte-order mark is no part of a hash
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a list of query hashes.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as a list of query hashes ({error}).") from None
    if not text.lstrip().startswith("["):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        found = ujson.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): give a list of query hashes.") from None
    if not all(isinstance(hash_, str) for hash_ in found):
        raise UserError(f"{path}: its list holds something else than texts; give query hashes.")
    return list(found)
