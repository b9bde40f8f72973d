"""What a record calls its entity: a label in a language, or the text of a property.

Apart from `graph/facts.py`, which asks the same of millions of entities: who reads a few records
needs no arrays, and loading those would take longer than the reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from etl.entity import Record
from etl.errors import UserError
from etl.store import EntityStore

TAXON_NAME: Final = "P225"
COMMON_NAME: Final = "P1843"

# Datatypes of a property whose values are texts (Wikibase's names for them).
_TEXTS = (
    "string", "monolingualtext", "external-id", "url", "commonsMedia", "localMedia", "math",
    "musical-notation", "geo-shape", "tabular-data",
)  # fmt: skip


def check_naming(properties: Iterable[str], store: EntityStore) -> None:
    """Refuse properties as labels that have no texts for values, where the store knows.

    They would name nothing, and everything would be left out.

    Raises
    ------
    UserError : names the first such property and its datatype.
    """
    for property_id in properties:
        record = store.get(property_id)
        if record is not None and record.datatype and record.datatype not in _TEXTS:
            raise UserError(
                f"`labels` has {property_id}, which can't name anything: its values are of "
                f"datatype {record.datatype!r}, not texts."
            )


def name_of(record: Record, labels: Sequence[str]) -> tuple[str, str] | None:
    """Return an entity's name and the label it came from: the first of `labels` that exists.

    A language code asks for the label in exactly that language; a property for the text of its
    first truthy statement that has one (a string, as P225, or monolingual text, as P1705).
    """
    for label in labels:
        if not label.startswith("P"):
            if label in record.labels:
                return record.labels[label], label
        elif texts := texts_of(record, label):
            return texts[0], label
    return None


def texts_of(record: Record, property_id: str, languages: Sequence[str] | None = None) -> list[str]:
    """Return the texts of a property's truthy statements, each once, in the dump's order.

    Of monolingual texts, only those in `languages` if that is given.  Two statements may say the
    same, with other references or qualifiers; the query service holds that as one triple.
    """
    texts = []
    for statement in record.truthy(property_id):
        snak = statement.snak
        if snak.kind == "string":
            texts.append(str(snak.value))
        elif (
            snak.kind == "monolingualtext"
            and isinstance(snak.value, dict)
            and (languages is None or snak.value.get("language") in languages)
        ):
            texts.append(str(snak.value.get("text", "")))
    return list(dict.fromkeys(texts))


@dataclass(frozen=True, slots=True)
class Names:
    """All that a record calls its entity, by a list of labels; lists are in the dump's order."""

    name: str | None
    name_lang: str | None
    aliases: Sequence[str]  # in the first language of the list that has any
    common_names: Sequence[str]  # P1843, in any language of the list
    taxon_names: Sequence[str]  # P225


def names_of(record: Record, labels: Sequence[str]) -> Names:
    """Return the names that a row of `entities.parquet` has."""
    languages = [label for label in labels if not label.startswith("P")]
    name, name_lang = name_of(record, labels) or (None, None)
    return Names(
        name,
        name_lang,
        next((record.aliases[code] for code in languages if record.aliases.get(code)), []),
        texts_of(record, COMMON_NAME, languages),
        texts_of(record, TAXON_NAME),
    )
