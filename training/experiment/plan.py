"""The plan of the experiment: everything that may be chosen, in one file, fixed before any run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from etl.errors import UserError

PLAN: Final = Path(__file__).with_name("plan.toml")


class World(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures. Shares are from 0 to 1."""

    seed: int
    pictures: int  # of each thing
    test: float  # share that is held out, by content
    typical_colour: float  # of pictures whose thing has one of its two colours


class Links(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pictures come to entities: as answers to queries, some of them wrong."""

    by_colour: float  # of the pictures with a typical colour: found by "red dune fox"
    wrong: float  # of the pictures in train: the entity is another one
    near: float  # of these: one of the same group


class Alt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people write beside a picture when they write what is to be seen."""

    label: float  # what the thing is called, and else only what its group is called
    colour: float
    place: float
    photo: float  # "a photo of …"
    junk: float  # words of the page


class Level(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the alt texts in train that are another picture's, and that are missing."""

    wrong: float
    missing: float

    @property
    def name(self) -> str:
        """What its directories are called."""
        return f"wrong-{round(100 * self.wrong):02}-missing-{round(100 * self.missing):02}"


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The levels of noise."""

    base: int  # which of the levels the main table is of
    levels: tuple[Level, ...]


class Train(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The runs: every mix at every level with every seed."""

    seeds: tuple[int, ...]
    mixes: dict[str, float]  # name → chance of an alt text
    model: str
    steps: int
    batch: int
    lr: float
    warmup_steps: int


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    world: World
    links: Links
    alt: Alt
    sweep: Sweep
    train: Train
    texts: dict[str, Any]


def load(path: Path = PLAN) -> Plan:
    """Reads a plan. Raises UserError where it is none."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Plan)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UserError(f"{path}: can't be read as a plan of the experiment ({error}).") from error
