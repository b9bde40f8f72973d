"""What is known of an image that bears on its texts: from KEY.json, or a row of images.parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from download.pack.record import NAME
from etl.errors import UserError


class Image(msgspec.Struct, frozen=True):
    """What is known of an image that bears on its texts."""

    key: str
    entities: Sequence[str] = ()  # Q144
    queries: Sequence[str] = ()  # hashes of those that found it
    alts: Sequence[str] = ()  # alt texts and captions, each once
    #: Who found each entity and wrote each alt text, parallel to these; ``sources`` are those of
    #: the image, where no more is known.
    entity_sources: Sequence[Sequence[str]] = ()
    alt_sources: Sequence[Sequence[str]] = ()
    sources: Sequence[str] = ()

    @classmethod
    def of_json(cls, data: bytes) -> Image:
        """Reads KEY.json of a shard.

        Raises UserError where it is no record of an image.
        """
        try:
            record = _decode(data)
        except msgspec.MsgspecError as error:
            raise UserError(
                f"a KEY.json can't be read ({error}): it is none that `sparqless images pack` "
                f"wrote: {data[:80]!r}."
            ) from None
        written = [text for text in record.texts if text.sources != _NAME_ALONE]
        return cls(
            record.key,
            [entity.id for entity in record.entities],
            [query.hash for query in record.queries if query.found and query.hash],
            [text.text for text in written],
            [entity.sources for entity in record.entities],
            [text.sources for text in written],
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Image:
        """Takes a row of images.parquet, which has no more than the sources of all."""
        return cls(
            row["key"],
            row["entities"] or (),
            row["query_hashes"] or (),
            row["texts"] or (),
            sources=row.get("sources") or (),
        )


class _Entity(msgspec.Struct):
    id: str
    sources: list[str]


class _Query(msgspec.Struct):
    hash: str
    found: bool


class _Text(msgspec.Struct):
    text: str
    sources: list[str]


class _Record(msgspec.Struct):
    """What is read of :class:`download.pack.record.Record`: a third of its size."""

    key: str
    entities: list[_Entity]
    queries: list[_Query]
    texts: list[_Text]


_decode: Final = msgspec.json.Decoder(_Record).decode
_NAME_ALONE: Final = [NAME]
