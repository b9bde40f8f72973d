"""Invented words and names, in the letters of many languages, as a dump escapes them."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import NamedTuple


def split(text: str) -> tuple[str, ...]:
    """Codes of a list that is easier to read without quotes."""
    return tuple(text.split())


_LATIN = split("""
    en nl de fr es it pt pt-br sv pl ca da nb nn fi cs hu ro tr id ast sq ga vi eu gl hr sl sk
    et lt lv eo en-gb en-ca de-ch de-at af an oc la cy br is lb fo nds ms jv su war ceb sw uz az
    bs sh mt gd yo ha ig tl vec scn pms lmo nap fur sc co wa frp ext mul
""")
#: Code point that stands for "a" in the languages of a script; the letters up to "z" follow.
_SCRIPTS = {
    0x430: split("ru uk bg sr mk be kk ky tg tt ba mn be-tarask sr-ec"),
    0x628: split("ar fa ur arz ckb ps sd azb"),
    0x4E10: split("zh ja zh-hans zh-hant zh-cn zh-tw zh-hk yue wuu"),
    0x915: split("hi mr ne sa"),
    0xAC00: ("ko",),
    0x5D0: ("he",),
    0x3B1: ("el",),
    0x995: ("bn",),
    0xB95: ("ta",),
    0xC15: ("te",),
    0xC95: ("kn",),
    0xD15: ("ml",),
    0xE01: ("th",),
    0x10D0: ("ka",),
    0x570: ("hy",),
    0x1000: ("my",),
}
#: Scripts without vowels here, and with many more letters: one for a syllable.
_SYLLABIC = (0x4E10, 0xAC00)

LANGUAGES = (*_LATIN, *(code for codes in _SCRIPTS.values() for code in codes))
#: The most frequent first: en labels are on 77 % of items, nl on 48 %, mul on 13 %
#: (WikiAr/WikiData-Dumps, langs.json, 3 September 2025).
COMMON = split("en nl de fr es ast it sv pt mul ru ca ar bn sq zh uk ga ja sl arz id fa pl cs")

_ONSETS = split("b c d f g h j k l m n p r s t v w z br ch cl dr fl gr pl pr sh st str th tr")
_VOWELS = split("a e i o u a e i o ai ea io ou")
_CODAS = ("", "", "", "", "n", "r", "s", "l", "m", "t", "nd", "st", "ck")
_ACCENTED = ("\\u00e9", "\\u00f6", "\\u00e1", "\\u010d")

_PHRASES = 150  # of each language: descriptions are few and shared by millions of items


def _alphabet(first: int) -> dict[int, str]:
    """Table for ``str.translate`` from Latin letters to the JSON escapes of another script."""
    syllabic = first in _SYLLABIC
    table = {}
    for n in range(26):
        letter = f"\\u{first + n * (97 if syllabic else 1):04x}"
        if syllabic and chr(ord("a") + n) in "aeiou":
            letter = ""
        table[ord("a") + n] = table[ord("A") + n] = letter
    return table


_ALPHABETS = {code: _alphabet(first) for first, codes in _SCRIPTS.items() for code in codes}


class Vocabulary(NamedTuple):
    """What a seed's texts are made of."""

    seed: int
    words: list[str]
    names: list[str]  # capitalized words
    phrases: dict[str, list[str]]  # language → descriptions, escaped


@lru_cache(maxsize=2)
def vocabulary(seed: int) -> Vocabulary:
    """Words, names and phrases of a seed; 0.1 s, once per process."""
    rng = Random(f"vocabulary {seed}")
    words = [_word(rng, rng.choice((1, 2, 2, 3, 3, 4))) for _ in range(12_000)]
    names = [_word(rng, rng.choice((1, 2, 2, 3))).capitalize() for _ in range(9_000)]
    phrases = {
        code: [_phrase(rng, code, words) for _ in range(_PHRASES)]
        for code in LANGUAGES
        if code != "mul"  # Wikibase allows no description for it
    }
    return Vocabulary(seed, words, names, phrases)


def shared_description(rng: Random, words: Vocabulary) -> list[str]:
    """One description in every language, as bots give it to thousands of items: JSON members."""
    codes = rng.sample(list(words.phrases), len(words.phrases))
    return [term(code, words.phrases[code][int(_PHRASES * rng.random())]) for code in codes]


def _word(rng: Random, syllables: int) -> str:
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables)
    )


def _phrase(rng: Random, code: str, words: list[str]) -> str:
    phrase = " ".join(rng.choice(words) for _ in range(rng.choice((2, 3, 3, 4, 5))))
    if code in _ALPHABETS:
        return phrase.translate(_ALPHABETS[code])
    if not code.startswith("en") and rng.random() < 0.4:
        return phrase.replace("e", rng.choice(_ACCENTED), 1)
    return phrase


def term(code: str, escaped: str) -> str:
    """A label or description as the member of an entity's map."""
    return f'"{code}":{{"language":"{code}","value":"{escaped}"}}'


def name_in(code: str, name: str) -> str:
    """``name`` in the letters of a language: most items have one name, transliterated."""
    alphabet = _ALPHABETS.get(code)
    return name.translate(alphabet) if alphabet else name
