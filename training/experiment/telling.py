"""What is said of a picture: the entity and the query that found it, and what stands beside it.

Both sides are wrong at times, in ways of their own. A search engine takes a picture for another
thing, mostly a similar one. People write what they see, but often only roughly ("a fungus"), with
words of the page around it; and some alt texts are another picture's, or missing. All is drawn from
the key and the seed, and from one level of noise to the next as much as can be stays as it was: an
alt text that is wrong at 20 % is wrong at 40 %.

What is held out is told as it is: it is there to measure with.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from training.experiment.plan import Alt, Level, Links
from training.experiment.world import Shot, Thing

#: What pages say besides; in none of them is a word that tells things apart.
_JUNK: Final = (
    "{} - stock photo",
    "{} | free download",
    "IMG_{number}.jpg {}",
    "{}, photo no. {number}",
    "best price: {}",
    "{} (2 of 5)",
)


class Link(NamedTuple):
    """How a picture came to be one of an entity: as an answer to a query."""

    thing: Thing
    colour: str  # "" where it was found by the name alone


def link_of(shot: Shot, things: Sequence[Thing], links: Links, seed: int, held_out: bool) -> Link:
    """What found a picture; of those that are held out, what is to be seen."""
    chance = random.Random(f"link {seed} {shot.key}")
    wrong, near = chance.random() < links.wrong, chance.random() < links.near
    by_colour = chance.random() < links.by_colour
    thing = shot.thing
    if wrong and not held_out:
        others = [one for one in things if one.id != thing.id]
        if near:
            others = [one for one in others if one.group == thing.group]
        thing = chance.choice(others)
    colour = shot.scene.colour
    return Link(thing, colour if by_colour and colour in thing.colours else "")


def written(shot: Shot, alt: Alt, seed: int) -> str:
    """What somebody writes who sees the picture."""
    chance = random.Random(f"alt {seed} {shot.key}")
    name = shot.thing.name if chance.random() < alt.label else shot.thing.group_name
    colour = shot.scene.colour if chance.random() < alt.colour else ""
    place = shot.scene.place if chance.random() < alt.place else ""
    photo, junk = chance.random() < alt.photo, chance.random() < alt.junk
    text = _phrase(name, colour, place)
    if photo:
        text = f"a photo of {_article(text)}{text}"
    if junk:
        text = chance.choice(_JUNK).format(text, number=chance.randrange(1000, 10_000))
    return text


def described(shot: Shot) -> str:
    """All that there is to say, for retrieval among pictures that are held out."""
    return _phrase(shot.thing.name, shot.scene.colour, shot.scene.place)


def alt_text(
    shot: Shot, shots: Sequence[Shot], alt: Alt, level: Level, seed: int
) -> tuple[str, bool]:
    """The alt text of a picture in train at a level of noise, and whether it is another's.

    "" where it is missing. Each picture has a fraction by its key: those with the lowest have alt
    texts of others, those with the highest none.
    """
    chance = random.Random(f"noise {seed} {shot.key}")
    fraction, other = chance.random(), chance.choice(shots)
    while other.key == shot.key:
        other = chance.choice(shots)
    if fraction < level.wrong:
        return written(other, alt, seed), True
    return "" if fraction >= 1 - level.missing else written(shot, alt, seed), False


def _phrase(name: str, colour: str, place: str) -> str:
    on = f" {_ON[place]}" if place else ""
    return f"{colour} {name}{on}".strip()


_ON: Final[Mapping[str, str]] = {
    "sand": "on sand",
    "snow": "in the snow",
    "grass": "on grass",
    "water": "by the water",
    "night": "at night",
    "brick": "before bricks",
}


def _article(text: str) -> str:
    return "an " if text[:1].lower() in "aeiou" else "a "
