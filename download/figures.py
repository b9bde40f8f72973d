"""What pictures of counts have alike: formats, colours, and how they come to be files.

Drawn by matplotlib without a display. The bytes depend on what is drawn and the versions of
matplotlib and Pillow alone. Colours are those of Okabe and Ito (Color Universal Design, 2008),
which people with any kind of colour vision can tell apart; steps differ by lightness.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etl.errors import UserError
from etl.show import fitted, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What a picture can be written as, by its suffix.
FORMATS: Final = ("svg", "png", "jpg", "pdf")

#: Okabe and Ito's colours, without black and yellow, which is too light for a line.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY, DARK = "#C8C8C8", "#444444"

DPI: Final = 100

_LONGEST_NAME = 28

#: For equal bytes, and so that a name with dollars in it stays a name.
_SETTINGS: Final[dict[str, Any]] = {
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "sparqless",
    "svg.fonttype": "none",  # texts that can be found and copied
    "font.family": "DejaVu Sans",  # which comes with matplotlib
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
}

#: What a format would write of the time and the machine.
_METADATA: Final[dict[str, dict[str, None] | None]] = {
    "svg": {"Date": None},
    "png": {},
    "jpg": None,  # matplotlib takes none for it
    "pdf": {"CreationDate": None},
}


def format_of(path: Path) -> str:
    """One of :data:`FORMATS`, by the suffix.

    Raises UserError for any other suffix, and where the directory isn't there.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise UserError(f"{path}: give a name that ends in .svg, .png, .jpg or .pdf.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no directory {path.parent}; make it first.")
    return suffix


def save(make: Callable[[], Figure], path: Path) -> None:
    """Writes what ``make`` draws, by a temporary file and a rename.

    Raises UserError as :func:`format_of`.
    """
    kind = format_of(path)
    import matplotlib.style

    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with matplotlib.style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # a letter that the font lacks is drawn as a box, or by a browser's own font
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        try:
            make().savefig(temporary, format=kind, dpi=DPI, metadata=_METADATA[kind])
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def shown(text: str, width: int = _LONGEST_NAME) -> str:
    """A name as it is drawn: no longer than ``width``, and nothing that can't be printed."""
    return fitted(printable(text), width).rstrip()
