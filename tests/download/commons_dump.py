"""Small mediainfo dumps made in a test."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.graph.small_dump import statement, terms

Line = dict[str, Any]


def file_line(page: int, name: str | None = "", **more: Any) -> Line:
    """A file of the dump's form: ``claims`` as in small_dump, ``captions`` by language.

    ``name`` None: no title, as before June 2022.
    """
    named = {
        "pageid": page, "ns": 6, "title": f"File:{name or f'Picture {page}.jpg'}",
        "lastrevid": more.get("revision", 1), "modified": "2026-01-01T00:00:00Z",
    } if name is not None else {"lastrevid": more.get("revision", 1)}  # fmt: skip
    return {
        "type": "mediainfo",
        "id": f"M{page}",
        "labels": terms(more.get("captions", {})) or [],
        "descriptions": [],
        "statements": {
            p: [statement(p, value) for value in values]
            for p, values in more.get("claims", {}).items()
            if values
        }
        or [],
        **named,
    }


def write_mediainfo(path: Path, lines: Iterable[Line]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n", "utf-8")
    return path
