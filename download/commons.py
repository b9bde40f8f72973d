"""Files of Wikimedia Commons: from a name to the addresses of the file and of its thumbnails."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Hosts and widths that ship.
SHIPPED: Final = Path(__file__).with_name("commons.toml")

#: Pixels that an image's shorter side should have: what img2dataset's users take by default.
SHORTER_SIDE: Final = 256


@dataclass(frozen=True)
class Commons:
    """Where files are and which thumbnails there are; ``commons.toml`` says more."""

    originals: str
    thumbnails: str
    widths: tuple[int, ...]
    abbreviate_over: int
    shorter_side: int = SHORTER_SIDE


def load(path: Path | None = None, shorter_side: int = SHORTER_SIDE) -> Commons:
    """The shipped hosts and widths, or those of a file."""
    data = tomllib.loads((path or SHIPPED).read_text("utf-8"))
    return Commons(**{**data, "widths": tuple(data["widths"])}, shorter_side=shorter_side)
