"""What is known of an image that bears on its texts: from KEY.json, or a row of images.parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

import msgspec

from download.pack.record import NAME
from etl.errors import UserError

#: Columns of images.parquet that an image is made of.
COLUMNS: Final = ("key", "entities", "query_hashes", "texts", "text_langs", "sources")


class Entity(msgspec.Struct, frozen=True, gc=False):
    """Something that an image shows, and who found that."""

    id: str
    sources: Sequence[str] = ()


class Query(msgspec.Struct, frozen=True, gc=False):
    """A query by its hash; not ``found`` is that for the name of an entity that no query found."""

    hash: str
    found: bool = True


class AltText(msgspec.Struct, frozen=True, gc=False):
    """An alt text or caption, and who wrote it; ``lang`` is "" where it isn't known."""

    text: str
    lang: str = ""
    sources: Sequence[str] = ()


class Image(msgspec.Struct, frozen=True):
    """An image as texts are drawn for it: some fields of :class:`download.pack.record.Record`.

    So that KEY.json is read into it without a step in between, at 1.5 µs; its other fields are
    skipped.
    """

    key: str
    entities: Sequence[Entity] = ()
    queries: Sequence[Query] = ()
    texts: Sequence[AltText] = ()
    #: Whether sources are those of the image, for each entity and text the same.
    united: bool = False

    @classmethod
    def of(
        cls,
        key: str,
        entities: Iterable[str] = (),
        queries: Iterable[str] = (),
        alts: Iterable[str] = (),
        langs: Iterable[str] = (),
        sources: Sequence[str] = (),
    ) -> Image:
        """Makes one of ids, hashes and alt texts, each once; ``langs`` are parallel to these.

        ``sources`` are those of all of it.
        """
        written: dict[str, str] = {}
        for text, lang in zip_longest(alts, langs, fillvalue=""):
            written.setdefault(text, lang or "")
        return cls(
            key,
            [Entity(id_, sources) for id_ in entities],
            [Query(hash_) for hash_ in queries],
            [AltText(text, lang, sources) for text, lang in written.items()],
            united=True,
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Image:
        """Takes a row of images.parquet."""
        return cls.of(
            row["key"],
            row["entities"] or (),
            row["query_hashes"] or (),
            row["texts"] or (),
            row["text_langs"] or (),
            row.get("sources") or (),
        )

    @classmethod
    def of_json(cls, data: bytes) -> Image:
        """Reads KEY.json of a shard.

        Raises UserError where it is no record of an image.
        """
        try:
            return _decode(data)
        except msgspec.MsgspecError as error:
            raise UserError(
                f"a KEY.json can't be read ({error}): it begins {data[:80]!r} and is none that "
                "`sparqless images pack` wrote; pack the images again."
            ) from None

    def alts(self) -> Sequence[AltText]:
        """The texts that somebody wrote for it; a record that has none holds a name instead."""
        texts = self.texts
        if len(texts) == 1 and texts[0].sources == _NAME_ALONE:
            return ()
        return texts


_decode: Final = msgspec.json.Decoder(Image).decode
_NAME_ALONE: Final = [NAME]
