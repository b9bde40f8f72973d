"""The table of candidates: its columns, as one source finds them and as they are merged.

A candidate is an address at which an image of an entity may be. ``width``, ``height``, ``bytes``,
``mime`` and ``sha1`` are of the original file, whatever the size that ``url`` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from graph.ontology import Ids

_STRINGS = pa.list_(pa.string())

#: Where all this stands in a directory of images.
FOLDER: Final = "candidates"
#: What the table of one source is called, in its directory, and the merged one above them.
CANDIDATES_FILE: Final = "candidates.parquet"
#: All pairs of an entity and an image that a source knows, before its cap (columns: AVAILABLE).
AVAILABLE_FILE: Final = "available.parquet"
#: The entities that images were looked for, with or without success (columns: ENTITIES).
ENTITIES_FILE: Final = "entities.parquet"
#: What a source that only knows files says of them (columns: FACTS).
FACTS_FILE: Final = "facts.parquet"

#: What is known of one image, besides how it came to be a candidate.
IMAGE: Final = [
    ("fallback_urls", _STRINGS),  # tried in this order where `url` gives nothing
    ("file", pa.string()),  # name on Wikimedia Commons, with spaces; null for images elsewhere
    ("source_id", pa.string()),  # what the source calls it: M76, or a key of the user's own
    ("page_url", pa.string()),  # the page on which a person sees it, with its licence
    ("texts", _STRINGS),  # captions, alt texts
    ("text_langs", _STRINGS),  # parallel to texts; null where a language isn't known
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("mime", pa.string()),
    ("bytes", pa.int64()),
    ("sha1", pa.string()),  # 40 hexadecimal digits
    ("licence", pa.string()),
    ("creator", pa.string()),
    ("score", pa.float32()),  # 1 / place in the order in which the source prefers it, from 1
]

#: Rows of one source: by the number of the entity, then as the source prefers them. ``url`` is
#: null where there is a ``file``: its addresses follow from what all sources know of it.
FOUND: Final = pa.schema(
    [
        ("entity", pa.string()),
        ("url", pa.string()),
        ("reasons", _STRINGS),  # P18; P180; "P180 preferred"; "P180 via Q25324 1"; url-list
        ("query_hashes", _STRINGS),
        *IMAGE,
    ]
)

#: Merged rows: one for each entity and URL; by the number of the entity, then by score and URL.
CANDIDATES: Final = pa.schema(
    [
        ("entity", pa.string()),
        ("url", pa.string()),
        ("sources", _STRINGS),
        ("reasons", _STRINGS),
        ("query_hashes", _STRINGS),
        *IMAGE,
    ]
)

#: Pairs before the cap, in no order that means anything; ``image`` tells a source's images apart.
AVAILABLE: Final = pa.schema(
    [("entity", pa.int64()), ("image", pa.int64()), ("licence", pa.string())]
)

#: Entities that images were looked for, by number.
ENTITIES: Final = pa.schema([("id", pa.string()), ("name", pa.string()), ("roots", _STRINGS)])

#: What is known of files on Wikimedia Commons, each once; columns as in the candidates.
FACTS: Final = pa.schema(
    [
        *(column for column in IMAGE if column[0] not in ("fallback_urls", "page_url", "score")),
        ("gone", pa.bool_()),  # no such file any more
    ]
)


def filled(schema: pa.Schema, columns: Mapping[str, pa.Array]) -> pa.Table:
    """A table with the columns of a schema, null where none is given."""
    rows = len(next(iter(columns.values())))
    return pa.Table.from_arrays(
        [
            columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def entity_numbers(entities: Path) -> Ids:
    """The numbers of the entities in a table with the columns ENTITIES, ascending."""
    import numpy as np
    import pyarrow.parquet as pq

    from graph.tables import id_numbers

    batches = pq.ParquetFile(entities, pre_buffer=False).iter_batches(columns=["id"])
    pieces = [id_numbers(batch.column(0)) for batch in batches]
    return np.concatenate([np.empty(0, np.int64), *pieces])
