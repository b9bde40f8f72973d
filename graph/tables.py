"""The Parquet tables of a graph data set: their columns, and ids as they are written there."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from graph.ontology import Ids

_STRINGS = pa.list_(pa.string())

ENTITIES: Final = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("name_lang", pa.string()),  # the label's language, or the property that gave the name
        ("description", pa.string()),
        ("aliases", _STRINGS),
        ("common_names", _STRINGS),  # P1843
        ("taxon_names", _STRINGS),  # P225
        ("sitelinks", pa.int32()),
        ("images", _STRINGS),  # P18
        ("roots", _STRINGS),
        ("depths", pa.list_(pa.int32())),
        ("parents", _STRINGS),
        ("recipe", pa.string()),  # the part of the recipe that keeps it, the first of several
        ("natural_type", pa.string()),
        ("natural_type_name", pa.string()),
        ("natural_type_reason", pa.string()),
        ("visual", pa.bool_()),
        ("visual_reason", pa.string()),
        ("revision", pa.int64()),
    ]
)

MEMBERSHIPS: Final = pa.schema(
    [
        ("root", pa.string()),
        ("entity", pa.string()),
        ("depth", pa.int32()),
        ("via", pa.string()),
        ("path", _STRINGS),
    ]
)

HIERARCHY: Final = pa.schema(
    [("child", pa.string()), ("property", pa.string()), ("parent", pa.string())]
)

ATTRIBUTES: Final = pa.schema(
    [
        ("entity", pa.string()),
        ("property", pa.string()),  # ^P361 for a statement of the value about the entity
        ("property_name", pa.string()),
        ("category", pa.string()),
        ("value_id", pa.string()),
        ("value", pa.string()),
        ("qualifier", pa.string()),
        ("inherited_from", pa.string()),
        ("distance", pa.int32()),
        ("source", pa.string()),  # wikidata, or llm:<model>
        ("query", pa.string()),
    ]
)

QUERIES: Final = pa.schema(
    [
        ("query_hash", pa.string()),
        ("query", pa.string()),
        ("query_type", pa.string()),  # name, alias, attribute_type, attribute_name
        ("entity", pa.string()),  # null for attribute_type, which is about a type
        ("attribute", pa.string()),
        ("attribute_category", pa.string()),
        ("entity_type", pa.string()),
        ("or_terms", _STRINGS),
        ("exclude", _STRINGS),
        ("engine", pa.string()),
        ("ambiguous_with", _STRINGS),
        ("source", pa.string()),
    ]
)

#: Ordered by kind, then by the number of `id`; what is about no one item in an order of its own.
QUALITY: Final = pa.schema(
    [
        ("kind", pa.string()),
        ("id", pa.string()),  # the item that it is about; null where it is about none
        ("name", pa.string()),
        ("property", pa.string()),  # of the statements that are wrong; null where none is
        ("related", _STRINGS),  # ids: what the kind says, bounded
        ("count", pa.int64()),  # what the kind counts, without a bound
        ("in_data_set", pa.bool_()),  # it is an entity, or stands above one in the hierarchy
        ("detail", pa.string()),  # a sentence
    ]
)

# In a written walk, numbers from here on are steps, everything below is an id.
_STEP = 1 << 60


def id_strings(ids: Ids) -> pa.StringArray:
    """Write ids as text: 144 -> Q144, -31 -> P31."""
    return _prefixed(np.where(ids < 0, 0, 1), np.abs(ids))


def id_numbers(ids: pa.Array | pa.ChunkedArray) -> Ids:
    """Read ids back: Q144 -> 144, P31 -> -31; the inverse of :func:`id_strings`."""
    number = _numbers(pc.utf8_slice_codeunits(ids, 1))
    return np.where(_are(pc.starts_with(ids, "P")), -number, number)


def step_column(properties: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Read a column of properties as steps sort: P279 -> 558, ^P279 -> 559."""
    inverse = _are(pc.starts_with(properties, "^"))
    return _numbers(pc.utf8_ltrim(properties, "^P")) * 2 + inverse


def _numbers(digits: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False))


def _are(mask: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(mask.to_numpy(zero_copy_only=False))


def step_numbers(property_id: str, inverse: bool) -> int:
    """Return the number that stands for a step in a walk; steps sort by property, direct first."""
    return _STEP + int(property_id[1:]) * 2 + inverse


def walk_strings(walk: npt.NDArray[np.int64]) -> pa.StringArray:
    """Write a walk of ids and steps as text: Q144, P279, Q39201, ^P1672, ..."""
    is_step = walk >= _STEP
    step = walk - _STEP
    prefix = np.where(is_step, np.where(step % 2 == 1, 2, 0), np.where(walk < 0, 0, 1))
    return _prefixed(prefix, np.where(is_step, step // 2, np.abs(walk)))


def _prefixed(prefix: npt.NDArray[np.int_], number: npt.NDArray[np.int64]) -> pa.StringArray:
    prefixes = pa.array(["P", "Q", "^P"]).take(pa.array(prefix))
    return pc.binary_join_element_wise(prefixes, pa.array(number).cast(pa.string()), "")


def lists(start: npt.NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    """Make a list column: row i holds `values` from start[i] to start[i + 1]."""
    return pa.ListArray.from_arrays(pa.array(start.astype(np.int32)), values)


def grouped(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return where each of `count` rows begins in a column of ascending row numbers."""
    return np.searchsorted(rows, np.arange(count + 1))
