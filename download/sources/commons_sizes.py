"""Sizes, types and hashes of the files that other sources name, from MediaWiki's tables.

    sparqless images find … --source commons-p18,commons-sizes --image commonswiki-…-image.sql.gz

The mediainfo dump says them of some files only, and a thumbnail that is wider than its original
is an error (T414805): who knows the widths asks for what there is. Table ``image`` knows them all,
and so do ``file``, ``filerevision`` and ``filetypes``, which follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from download.candidates import FACTS_FILE
from download.sources import MissingInputError, Option, Request, Source
from etl.errors import UserError

_PUBLISHED: Final = "https://dumps.wikimedia.org/commonswiki/latest/"
_OPTIONS: Final = ("image", "file", "filerevision", "filetypes")


def _inputs(request: Request) -> Mapping[str, Any]:
    from download.tables import TABLES
    from etl.sql import check_head, describe

    given = _given(request)
    described = {option: describe(path) for option, path in given.items()}
    for option, path in given.items():
        check_head(path, TABLES[option])
    return {
        option: {"name": given[option].name, "size": file.size, "digest": file.digest}
        for option, file in described.items()
    }


def _given(request: Request) -> dict[str, Path]:
    """Option → dump.

    Raises MissingInputError where what is given isn't one of the two ways.
    """
    files = {option: request.given.get(option, ()) for option in _OPTIONS}
    given = {option: Path(names[-1]) for option, names in files.items() if names}
    if "image" in given and len(given) > 1:
        raise UserError(
            "commons-sizes reads either --image or --file, --filerevision and --filetypes, which "
            "say the same: leave one of the two out."
        )
    if not given:
        raise MissingInputError(
            "commons-sizes needs --image FILE, table `image` of Wikimedia Commons: "
            f"commonswiki-latest-image.sql.gz from {_PUBLISHED} (18 GB)."
        )
    if missing := [o for o in _OPTIONS[1:] if o not in given] if "image" not in given else []:
        first = next(iter(given))
        raise MissingInputError(
            f"commons-sizes needs --{missing[0]} FILE beside --{first}: "
            f"commonswiki-latest-{missing[0]}.sql.gz from {_PUBLISHED}."
        )
    return given


def _find(request: Request) -> Mapping[str, Any]:
    from download.sizes import write_sizes
    from etl.progress import Progress

    given, found = _given(request), list(request.found.values())
    total = sum(path.stat().st_size for path in given.values())
    with Progress("sizes", total, quiet=request.quiet) as progress:
        counts = write_sizes(given, found, request.scratch, request.out / FACTS_FILE, progress.add)
    return {"counts": counts, "warnings": _warnings(counts)}


def _warnings(counts: Mapping[str, int]) -> list[str]:
    if counts["wanted"] and not counts["found"]:
        return [
            f"commons-sizes knows none of the {counts['wanted']:,} files that the other sources "
            "name: are these the tables of commonswiki?"
        ]
    return []


SOURCE: Final = Source(
    name="commons-sizes",
    what="widths, heights, types and hashes of files on Commons, from MediaWiki's tables",
    inputs=_inputs,
    find=_find,
    options=(
        Option("image", "commonswiki-…-image.sql.gz"),
        Option("file", "commonswiki-…-file.sql.gz, with the next two instead of --image"),
        Option("filerevision", "commonswiki-…-filerevision.sql.gz"),
        Option("filetypes", "commonswiki-…-filetypes.sql.gz"),
    ),
    kind="facts",
)
