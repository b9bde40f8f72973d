"""What decides about a store's bytes, written down before the work and compared on a resume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import ujson

from etl.cluster import Cluster
from etl.dump import DEFAULT_MAX_LINE, Input, Slice, plan_slices
from etl.errors import UserError
from etl.kept import Kept, changes
from etl.manifest import tool_versions
from etl.members import Form
from etl.remote import public
from etl.source import is_elsewhere
from etl.store import STORE_FORMAT

DEFAULT_MAX_REJECTS: Final = 100

_SLICES = 512  # few enough for three open files each in the merge

#: Bytes of a slice, at least and at most: enough work to pay for a slice's files, little enough
#: to share out a small dump, and to lose when a run is killed. bz2 takes twenty times as long.
_SLICE_BYTES: Final[dict[Form, tuple[int, int]]] = {
    "gz": (16 << 20, 256 << 20),
    "zst": (16 << 20, 256 << 20),
    "bz2": (4 << 20, 256 << 20),
    "json": (64 << 20, 4 << 30),
}


class Options(msgspec.Struct, frozen=True):
    """What a user may set; those that decide about the store's bytes make the plan.

    ``workers`` 0 reads in this process. ``limit``: entities to read, 0 for all. ``max_line`` and
    ``slice_bytes`` in bytes, 0 for a slice size that follows from the inputs. ``keep_dump`` is the
    directory in which a dump that is fetched is kept, ``contact`` what its server is told,
    ``update_from`` a store whose records are taken where the dump still has their revision,
    ``redirects`` and ``pages`` are dumps of MediaWiki's tables. ``cluster``: where slices are
    read, in place of ``workers`` processes of this machine.
    """

    kept: Kept
    workers: int = 1
    limit: int = 0
    max_line: int = DEFAULT_MAX_LINE
    max_rejects: int = DEFAULT_MAX_REJECTS
    allow_damage: bool = False
    fresh: bool = False
    slice_bytes: int = 0
    keep_dump: Path | None = None
    update_from: Path | None = None
    redirects: Path | None = None
    pages: Path | None = None
    contact: str | None = None
    cluster: Cluster | None = None
    quiet: bool = False


class Plan(msgspec.Struct, frozen=True):
    """What decides about the store's bytes, and how the work is cut.

    A resume with another plan is refused; a finished store doesn't remember the cutting.
    """

    format: int
    version: str
    inputs: list[Input]
    kept: Kept
    max_line: int
    limit: int
    slice_bytes: int
    tables: list[Input]
    update_from: str  # digest of the manifest of the older store, "" for none


#: Fields of a plan that leave no trace in a finished store.
OF_THE_WORK: Final = ("version", "slice_bytes", "update_from")


def slice_size(inputs: list[Input], wanted: int = 0) -> int:
    """Bytes of a slice: as ``wanted``, else by the inputs, never by the machine."""
    total = sum(file.size for file in inputs)
    least, most = _SLICE_BYTES[max(inputs, key=lambda file: file.size).form]
    return wanted or min(max(total // _SLICES, least), most)


def make_plan(
    inputs: list[Input], options: Options, tables: Sequence[Input] = (), update_from: str = ""
) -> Plan:
    """The plan of a run."""
    return Plan(
        STORE_FORMAT,
        tool_versions()["sparqless"],
        inputs,
        options.kept,
        options.max_line,
        options.limit,
        slice_size(inputs, options.slice_bytes),
        list(tables),
        update_from,
    )


def slices_of(plan: Plan) -> list[Slice]:
    """The slices of a plan, in the order of the dump."""
    if plan.limit:  # one slice a file: the first entities are at the front
        return plan_slices(plan.inputs, max(file.size for file in plan.inputs) + 1)
    return plan_slices(plan.inputs, plan.slice_bytes)


def as_json(plan: msgspec.Struct) -> Any:
    """A plan as it comes back from a file; of a path the name, since disks move.

    A plan has ``inputs``, and may have ``tables``.
    """
    made = msgspec.json.decode(msgspec.json.encode(plan))
    for file in made["inputs"] + made.get("tables", []):
        path = file.pop("path")
        if is_elsewhere(path):
            file["address"] = path = public(path)
        file["name"] = os.path.basename(path)
    return made


def check_same(
    directory: Path, standing: Any, wanted: Any, what: str, option: str = "--store"
) -> None:
    """Refuses to go on with what was made from another dump or with other options.

    ``what`` the directory holds, which ``option`` names.

    Raises UserError that names every difference.
    """
    differences = [_difference(key, standing.get(key), wanted[key]) for key in wanted]
    found = [text for text in differences if text]
    if found:
        raise UserError(
            f"{directory} {what} made with {'; '.join(found)}; give the same dump and options, "
            f"choose another {option}, or start over with --fresh."
        )


def _difference(key: str, was: Any, is_: Any) -> str:
    if was == is_:
        return ""
    if key in ("inputs", "tables") and isinstance(was, list) and len(was) == len(is_):
        for old, new in zip(was, is_, strict=True):
            for field in ("form", "size", "digest"):
                if old[field] != new[field]:
                    return f"another {field} of {new['name']} ({old[field]}, now {new[field]})"
        return ""  # renamed, copied or touched: the same bytes all the same
    if key == "inputs" and isinstance(was, list):
        return (
            f"other files ({', '.join(file['name'] for file in was[:4])}{', …' * (len(was) > 4)})"
        )
    if key == "kept" and isinstance(was, dict):
        part = next(p for p in is_ if was.get(p) != is_[p])
        if part == "full":
            return "--keep full" if was.get(part) else "only the listed properties (no --keep full)"
        found = changes(was.get(part, ()), is_[part])
        return f"other --{part} ({found or 'in another order, or with other qualifiers'})"
    if key == "tables" and bool(was) != bool(is_):
        return "--redirects and --pages" if was else "no --redirects and --pages"
    name = {
        "max_line": "--max-line, in bytes",
        "limit": "--limit",
        "update_from": "--update-from",
    }.get(key, key)
    return f"another {name} ({_short(was)}, now {_short(is_)})"


def _short(value: Any) -> str:
    text = ujson.dumps(value, escape_forward_slashes=False)
    return text if len(text) < 120 else f"{text[:117]}…"
