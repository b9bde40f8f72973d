"""What a store keeps of each entity: languages, properties and the qualifiers of a few of them.

The default list ships as ``properties.tsv``: the union of what every later stage reads. A store
records what it kept, and a recipe that needs more is refused with the option to use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from etl.errors import UserError

#: English, its variants and Wikidata's "default for all languages" (``mul``), in the order in
#: which Wikibase falls back (Help:Default values for labels and aliases).
DEFAULT_LANGUAGES = ("en", "en-gb", "en-ca", "en-us", "mul")

_LANGUAGE = re.compile(r"[a-z]{2,}(-[a-z0-9]+)*\Z")
_PROPERTY = re.compile(r"P[1-9][0-9]{0,9}\Z")


_SHOWN = 8  # of the codes or ids by which two lists differ


def changes(before: Iterable[str], now: Iterable[str]) -> str:
    """What one list lacks of another and has beyond it: ``-de, +fr``; "" for the same members."""
    was, is_ = dict.fromkeys(before), dict.fromkeys(now)
    found = [*(f"-{x}" for x in was if x not in is_), *(f"+{x}" for x in is_ if x not in was)]
    return ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")


@dataclass(frozen=True)
class Kept:
    """Languages in label order, and property → qualifiers kept with its statements.

    ``full``: the whole entity as well, as the dump has it.
    """

    languages: tuple[str, ...]
    properties: dict[str, tuple[str, ...]]
    full: bool = False

    def as_json(self) -> dict[str, object]:
        """The form that plans and manifests record."""
        return {
            "languages": list(self.languages),
            "properties": {p: list(q) for p, q in self.properties.items()},
            "full": self.full,
        }

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Kept:
        """The inverse of :meth:`as_json`."""
        languages, properties = data["languages"], data["properties"]
        assert isinstance(languages, list)
        assert isinstance(properties, dict)
        return cls(
            tuple(languages),
            {p: tuple(q) for p, q in properties.items()},
            bool(data.get("full", False)),
        )


def parse_languages(text: str) -> tuple[str, ...]:
    """``"en,en-gb,mul"`` → codes, in the order given, without repeats.

    Raises UserError for something that is not a Wikibase language code.
    """
    codes = tuple(dict.fromkeys(code.strip() for code in text.split(",") if code.strip()))
    for code in codes:
        if not _LANGUAGE.match(code):
            raise UserError(
                f"--languages: {code!r} is not a language code; "
                "give codes as Wikidata writes them, comma-separated, for example en,en-gb,mul."
            )
    if not codes:
        raise UserError("--languages is empty; give at least one code, for example en,mul.")
    return codes


def read_properties(path: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Property → qualifiers from a list file; the shipped list when ``path`` is None.

    A line is ``P2283 <tab> P5102 <tab> why``: a property, the qualifiers to keep with its
    statements (comma-separated, may be empty), and a remark. ``#`` starts a comment.

    Raises UserError with file and line where a line is not of that form.
    """
    if path is None:
        shipped = Path(__file__).with_name("properties.tsv")
        name, text = "etl/properties.tsv", shipped.read_text("utf-8")
    else:
        try:
            name, text = str(path), path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--properties {path}: can't be read ({error}).") from error
    wanted: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split("#", 1)[0].split("\t")
        if not fields[0].strip():
            continue
        qualifiers = fields[1].replace(",", " ").split() if len(fields) > 1 else []
        for name_ in (fields[0].strip(), *qualifiers):
            if not _PROPERTY.match(name_):
                raise UserError(
                    f"{name}, line {number}: {name_!r} is not a property id such as P279; "
                    "a line is a property, a tab, its qualifiers, a tab, a remark."
                )
        wanted[fields[0].strip()] = tuple(qualifiers)
    if not wanted:
        raise UserError(f"{name} names no property; give at least one, for example P279.")
    return wanted
