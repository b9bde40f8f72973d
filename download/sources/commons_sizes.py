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
from download.sources import MissingInputError, Option, Request, Source, local_file
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
    given = {option: local_file(option, names[-1]) for option, names in files.items() if names}
    if "image" in given and len(given) > 1:
        raise UserError(
            "--image says the same as --file, --filerevision and --filetypes: leave one of the two "
            "out."
        )
    if not given:
        raise MissingInputError(
            "table `image` of Wikimedia Commons is missing: give --image FILE, "
            f"commonswiki-latest-image.sql.gz from {_PUBLISHED} (18 GB)."
        )
    if missing := [o for o in _OPTIONS[1:] if o not in given] if "image" not in given else []:
        first = next(iter(given))
        raise MissingInputError(
            f"--{first} wants --{missing[0]} FILE beside it: "
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
    from etl.show import counted

    if not counts["wanted"]:
        return ["no other source names a file of Commons, and this one finds none by itself."]
    known = counts["found"] + counts["deleted"]
    if counts["unknown"] > known:
        return [
            f"the tables know {known:,} of the {counts['wanted']:,} files that the other sources "
            "name: are these the tables of commonswiki, of our days? None is left out."
        ]
    if gone := counts["unknown"] + counts["deleted"]:
        files = counted(gone, "file is", "files are")
        return [f"{files} not in the tables (renamed or deleted since): left out."]
    return []


SOURCE: Final = Source(
    name="commons-sizes",
    what="Width, height, type and hash of files that other sources name, from MediaWiki's tables.",
    inputs=_inputs,
    find=_find,
    options=(
        Option("image", "Dump of MediaWiki's table image: commonswiki-…-image.sql.gz."),
        Option("file", "Dump of table file, with the next two in place of --image."),
        Option("filerevision", "Dump of table filerevision."),
        Option("filetypes", "Dump of table filetypes."),
    ),
    kind="facts",
)
