"""Names as they are compared: whatever the case, the compatibility forms and the white space.

Apart from ``etl/names.py``, which folds names by the million with arrays: who compares a few needs
none, and loading those would take longer than the comparing.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

#: Characters of a name that ``names.parquet`` holds. Wikibase allows 250 (Wikidata's own setting
#: of ``string-limits``, ``multilang``); a dump that has longer ones is no reason for huge rows.
LONGEST: Final = 256

#: Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt: soft hyphens, joiners,
#: direction marks, variation selectors. What nobody sees, nobody types.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)


def fold(text: str) -> str:
    """The form in which names are compared: Unicode's NFKC_Casefold, white space collapsed.

    So ``STRASSE`` finds ``Straße``, ``ﬁn`` finds ``Fin``, and marks of direction don't hide a
    name; accents count, ``Gödel`` is not ``Godel``. Cut to :data:`LONGEST` characters.

    The rule is The Unicode Standard's, 3.13, "toNFKC_Casefold".

    >>> fold("  GOLDEN\\u00a0 Retriever ")
    'golden retriever'
    """
    return fold_whole(text)[:LONGEST].rstrip()


def fold_whole(text: str) -> str:
    """The same without a cut, for texts that may differ in their ends only."""
    if text.isascii():
        return " ".join(text.lower().split())
    text = _IGNORABLE.sub("", normalize("NFKC", text).casefold())
    return " ".join(normalize("NFKC", text).split())


def says(text: str, words: str) -> bool:
    """Whether some words stand in a text, whatever their case, and not as a part of others.

    >>> says("White stork", "white"), says("brown bear", "ear")
    (True, False)
    """
    return f" {fold_whole(words)} " in f" {fold_whole(text)} "
