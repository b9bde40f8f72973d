"""Where candidates come from: one module a source, found by its name.

A source is a module of this package with a :class:`Source` called ``SOURCE``. Nothing else has to
know it: ``sparqless images find`` shows its options, runs it, writes its manifest and merges what
it finds. So adding one is adding a file. A module imports what is heavy inside its functions:
all are loaded for the help of the command.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from etl.errors import UserError

if TYPE_CHECKING:
    from download.commons import Commons
    from graph.recipe import Recipe
    from graph.settings import ImageSettings


class MissingInputError(UserError):
    """A source lacks a file: which one, and where it is published. Other sources go on."""


@dataclass(frozen=True)
class Option:
    """A file that a source reads: ``--NAME FILE``."""

    name: str  # as on the command line, without dashes in front
    what: str  # a line of help
    several: bool = False


@dataclass(frozen=True)
class Request:
    """What a source is given.

    ``out`` is an empty directory that becomes the source's own when ``find`` returns, ``scratch``
    one that is removed then. What takes hours and may be killed keeps its state below ``images``,
    in a directory of its own with a plan and a manifest.
    """

    graph: Path  # a finished data set
    recipe: Recipe  # the one that it was built from
    entities: Path  # parquet with the columns ENTITIES: those that images are wanted of
    settings: ImageSettings  # the recipe's table [images]
    commons: Commons  # hosts and widths
    given: Mapping[str, tuple[str, ...]]  # option → what was given, () for nothing
    store: Path | None  # of the data set, where it was named: subclasses, merged ids, names
    images: Path  # --out
    out: Path
    scratch: Path
    found: Mapping[str, Path] = field(default_factory=dict)  # source → its table, for "facts"
    workers: int = 1
    max_rejects: int = 100  # unreadable lines of a dump to put up with
    allow_damage: bool = False
    fresh: bool = False
    quiet: bool = False
    shared: dict[str, Any] = field(default_factory=dict)  # what sources of one run tell each other


def local_file(option: str, name: str) -> Path:
    """A file that an option names.

    Raises UserError for an address and for standard input.
    """
    from etl.dump import STDIN
    from etl.remote import public
    from etl.source import is_elsewhere

    if is_elsewhere(name):
        raise UserError(
            f"--{option} {public(name)}: sources read files and ask no server; fetch it first "
            "(`curl -C - -O ADDRESS` goes on where it was cut off) and name the file."
        )
    if name == STDIN:
        raise UserError(f"--{option} -: write standard input to a file first, and name that.")
    return Path(name)


@dataclass(frozen=True)
class Source:
    """One way in.

    ``inputs`` gives, as plain data, all that decides about the rows besides the data set, the
    recipe's ``[images]`` and the code, and raises :class:`MissingInputError` where something is
    missing. ``find`` writes candidates.parquet (columns FOUND), or for ``kind`` "facts"
    facts.parquet (columns FACTS) about the files that the other sources name, and returns plain
    data for the manifest: ``counts``, ``warnings`` (sentences), whatever else there is to say.
    """

    name: str
    what: str  # a line of help
    inputs: Callable[[Request], Mapping[str, Any]]
    find: Callable[[Request], Mapping[str, Any]]
    options: tuple[Option, ...] = ()
    kind: Literal["candidates", "facts"] = "candidates"


def sources() -> dict[str, Source]:
    """Every source by its name, in alphabetical order: commons-p18 is ``commons_p18.py``."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = (importlib.import_module(f"{__name__}.{name}").SOURCE for name in modules)
    return {source.name: source for source in found}


def options() -> list[tuple[Option, list[str]]]:
    """The options of all sources, each once, with the sources that have it."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for source in sources().values():
        for option in source.options:
            found.setdefault(option.name, (option, []))[1].append(source.name)
    return list(found.values())
