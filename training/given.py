"""What is given in tables of a config, as the options that they are; without torch.

given = text_table(load("vit-b-32").text)
given.options.alt_text_chance, given.filter.op, given.per_image
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from etl.errors import UserError
from training.text_options import AttributeChances, TextFilter, TextOptions

Options = TypeVar("Options")

_TEXT: Final = ("per_image", "pair", "filter", *(f.name for f in dataclasses.fields(TextOptions)))
_CHANCES: Final = ("attribute_type", "attribute_name")


class TextTable(NamedTuple):
    """``[text]``."""

    #: Texts an image.
    per_image: int
    #: Two texts: an alt text and one of the graph's.
    pair: bool
    filter: TextFilter
    options: TextOptions


def text_table(given: Mapping[str, Any]) -> TextTable:
    """Reads ``[text]``.

    Raises UserError for a key that isn't known and a value that it can't have.
    """
    text = dict(given)
    check_keys("text", text, _TEXT)
    pair = typed("text.pair", text.pop("pair", False), bool)
    number = typed("text.per_image", text.pop("per_image", 2 if pair else 1), int)
    if number < 1 or (pair and number != 2):
        wanted = "2 with text.pair" if pair else "1 or more"
        raise UserError(f"text.per_image is {number}; it must be {wanted}.")
    filter_ = options_of(TextFilter, "text.filter", text.pop("filter", {}))
    for name in _CHANCES:
        if name in text:
            text[name] = options_of(AttributeChances, f"text.{name}", text[name])
    return TextTable(number, pair, filter_, options_of(TextOptions, "text", text))


def check_keys(table: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises UserError for a key that isn't known."""
    for key in given:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
            raise UserError(f"unknown key {table}.{key}; {meant}")


def typed(name: str, value: Any, type_: type[Options]) -> Options:
    """A value that must be of a type; raises UserError where it isn't."""
    if type(value) is not type_:
        raise UserError(f"{name} is {value!r}; it must be of the type {type_.__name__}.")
    return value


def options_of(type_: type[Options], table: str, given: Any) -> Options:
    """A struct or dataclass of options, of the values that are given in a table.

    Raises UserError for a key that isn't known and a value that it can't have.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{table} is {given!r}; it must be a table.")
    fields = msgspec.inspect.type_info(type_)
    assert isinstance(fields, msgspec.inspect.StructType | msgspec.inspect.DataclassType)
    check_keys(table, given, [field.name for field in fields.fields])
    try:
        return msgspec.convert(given, type_)
    except msgspec.ValidationError as error:
        # an options' own check comes so, too, with its sentence
        if isinstance(error.__cause__, UserError):
            raise UserError(f"{table}: {error.__cause__}") from None
        raise UserError(f"{table}: {str(error).replace('`$.', '`').rstrip('.')}.") from None
    except UserError as error:
        raise UserError(f"{table}: {error}") from None
