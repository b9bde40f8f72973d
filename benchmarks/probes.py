"""What a hostile server gets done: by `sparqless images fetch` and `pack`, and by img2dataset.

The server is that of the tests (tests/download/hostile.py); so are the probes, one address each.
Most are fetched together, three tries each; those whose pictures, seconds or memory tell something
alone, those with what only one try can show. Processes are kept on loopback
(benchmarks/only_loopback.py), and where they would have gone is noted.

img2dataset gets no more memory than ``_MEMORY`` and no more time than ``_LIMIT``: it would take
all that a machine has for some of these. It believes the tests' certificates.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from benchmarks import image_sets, img2dataset, only_loopback, watch
from benchmarks.image_sets import Web
from benchmarks.img2dataset import Setting
from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table
from download.fetch.log import FOLDER, RESULTS_FILE
from tests.download.hostile import PROBES, Hostile, Probe, running
from tests.download.hostile_pictures import NAMES, picture, scene

_TRIES: Final = 3
_LIMIT: Final = 60.0  # seconds for img2dataset and one probe
_MEMORY: Final = 6_000_000  # KiB of address space for img2dataset
_OURS: Final = 600.0  # seconds for ours, which bounds itself

#: Of these alone, seconds and memory tell something; each is tried once.
_HEAVY: Final = (
    *("endless", "endless-page", "endless-404", "announced", "bomb20000", "bomb40000"),
    *("drip", "stop", "silent", "slow-head", "flood-1xx", "flood-headers", "endless-head"),
    *("endless-header", "robots-endless", "to-http-endless"),
)

#: Differences of a channel's mean in a thirtieth of a picture that re-encoding may make.
_ALIKE: Final = 12


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    failed = img2dataset.install(options.work) if options.install_peers else None
    notes = [failed] if failed else []
    probes = [p for p in PROBES if not options.probes or p.name in options.probes]
    work = options.work / "probes"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    there = img2dataset.is_installed(options.work)
    if not there:
        notes.append(f"{img2dataset.NAME} was not measured: `--install-peers` installs it.")
    try:
        with running() as server:
            urls = {probe.name: _url(probe, server, work) for probe in probes}
            ours = _ours(work, probes, urls, server)
            theirs = _theirs(options.work, work, probes, urls, server) if there else {}
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {
        "rows": [
            {
                "probe": probe.name,
                "reason": probe.reason,
                "picture": probe.picture,
                "ours": ours[probe.name],
                "theirs": theirs.get(probe.name),
            }
            for probe in probes
        ],
        "outside": ours["outside"],
        "together": ours["together"],
        "notes": notes,
    }


def _url(probe: Probe, server: Hostile, work: Path) -> str:
    """The address of a probe; that of a file is one that is there."""
    if probe.name != "file":
        return server.url(probe)
    secret = work / "secret.jpg"
    secret.write_bytes(picture("jpeg"))
    return secret.resolve().as_uri()


def _is_alone(probe: Probe) -> bool:
    return probe.name in NAMES or probe.name in _HEAVY


# --- ours ---------------------------------------------------------------------------------------


def _ours(
    work: Path, probes: Sequence[Probe], urls: Mapping[str, str], server: Hostile
) -> dict[str, Any]:
    """By probe what became of it; ``together``: memory of all at once; ``outside``: who left."""
    guarded = work / "guard-ours"
    variables = only_loopback.environment(guarded)
    variables["PYTHONPATH"] += f":{ROOT}"
    first = len(server.asked)
    found, memory = _our_run(work, probes, urls, server, variables, _TRIES)
    found["together"] = memory
    found["outside"] = [a.host for a in server.asked[first:] if not a.host.endswith(".test")]
    for probe in filter(_is_alone, probes):
        tries = 1 if probe.name in _HEAVY else _TRIES
        alone, memory = _our_run(work, [probe], urls, server, variables, tries)
        requests = found[probe.name]["requests"]  # of all tries
        found[probe.name] |= alone[probe.name] | {"memory": memory, "requests": requests}
    found["outside"] += [a for a in only_loopback.noted(guarded) if a != "nowhere.invalid"]
    return found


def _our_run(
    work: Path,
    probes: Sequence[Probe],
    urls: Mapping[str, str],
    server: Hostile,
    variables: Mapping[str, str],
    tries: int,
) -> tuple[dict[str, Any], int]:
    """Both commands over some probes: what became of each, and the largest process's memory."""
    images, out = work / "images", work / "shards"
    shutil.rmtree(out, ignore_errors=True)
    image_sets.write(images, [urls[probe.name] for probe in probes])
    web = Web(
        allowed=["*.test"],
        resolved=server.resolve,
        more=["--ca-file", str(server.ca_file), "--tries", str(tries)],
    )
    first = len(server.asked)
    set_ = [f"{name}={value}" for name, value in variables.items()]
    fetch = watch.run(["env", *set_, *image_sets.fetch_command(images, web, 1)], ROOT, _OURS)
    asked = server.asked[first:]
    results = pq.read_table(images / FOLDER / RESULTS_FILE).to_pylist()
    memory, seconds = max(fetch.main_peak, fetch.worker_peak), [fetch.seconds]
    fates: dict[str, str] = {}
    if any(row["outcome"] == "ok" for row in results):
        pack = watch.run(["env", *set_, *image_sets.pack_command(images, out, 1)], ROOT, _OURS)
        memory = max(memory, pack.main_peak, pack.worker_peak)
        seconds.append(pack.seconds)
        fates = _fates(out)
    alone = len(probes) == 1
    found = {}
    for probe, row in zip(probes, results, strict=True):
        host = f"{probe.name}.test"
        fate = fates.get(row["sha256"].hex(), "") if row["sha256"] else ""
        if alone and fate == "kept":
            fate = _judged(probe, [data for _, data in image_sets.packed_pictures(out)])
        found[probe.name] = {
            "outcome": row["outcome"],
            "reason": row["reason"],
            "picture": fate,
            "requests": sum(a.host == host and a.path != "/robots.txt" for a in asked),
            "seconds": seconds if alone else None,
        }
    return found, memory


def _fates(out: Path) -> dict[str, str]:
    """SHA-256 of a file in hexadecimal → ``kept``, or why a pack dropped it."""
    dropped = pq.read_table(out / "dropped.parquet", columns=["sha256", "reason"]).to_pylist()
    found = {_hex(row["sha256"]): row["reason"] for row in dropped}
    for row in pq.read_table(out / "images.parquet", columns=["files"]).to_pylist():
        found |= {_hex(file["sha256"]): "kept" for file in row["files"]}
    return found


def _hex(digest: str | bytes) -> str:
    return digest.hex() if isinstance(digest, bytes) else digest


# --- img2dataset --------------------------------------------------------------------------------


def _theirs(
    home: Path, work: Path, probes: Sequence[Probe], urls: Mapping[str, str], server: Hostile
) -> dict[str, Any]:
    """By probe what became of it. Alone are also those that lead elsewhere: whose requests they
    are is not told otherwise."""
    guard = work / "guard-theirs"
    variables = only_loopback.environment(guard) | {"SSL_CERT_FILE": str(server.ca_file)}
    alone = [p for p in probes if _is_alone(p) or p.name.startswith("to-") or _is_literal(p)]
    together = [probe for probe in probes if probe not in alone]
    found: dict[str, Any] = {}
    if together:
        found |= _their_run(home, work, together, urls, server, variables, guard)
    for probe in alone:
        found |= _their_run(home, work, [probe], urls, server, variables, guard)
    return found


def _is_literal(probe: Probe) -> bool:
    return not probe.address.startswith(("http://{host}", "https://{host}"))


def _their_run(
    home: Path,
    work: Path,
    probes: Sequence[Probe],
    urls: Mapping[str, str],
    server: Hostile,
    variables: Mapping[str, str],
    guard: Path,
) -> dict[str, Any]:
    given, out = work / "urls.parquet", work / "theirs"
    img2dataset.write_list([urls[probe.name] for probe in probes], given)
    tries = 1 if probes[0].name in _HEAVY else _TRIES
    first, noted = len(server.asked), len(only_loopback.noted(guard))
    command = img2dataset.command(
        home, given, out, Setting(1, 32), [f"--retries={tries - 1}", "--timeout=3"], variables
    )
    bounded = ["bash", "-c", f'ulimit -v {_MEMORY}; exec "$@"', "bash", *command]
    limit = _LIMIT if len(probes) == 1 else 10 * _LIMIT
    ended = watch.attempt(bounded, ROOT, limit)
    asked = [one for one in server.asked[first:] if one.path != "/robots.txt"]
    outside = only_loopback.noted(guard)[noted:]
    # what it has begun to write when it is ended can't be read
    rows = {} if ended.late else {row["url"]: row for row in img2dataset.rows(out)}
    made = dict(img2dataset.pictures(out)) if rows else {}
    found = {}
    for probe in probes:
        url, own = urls[probe.name], f"{probe.name}.test"
        alone = len(probes) == 1
        found[probe.name] = {
            "did": _did(probe, rows.get(url), made.get(url), ended),
            "requests": sum(alone or one.host == own for one in asked),
            "outside": outside if alone else [],
            "seconds": [ended.watched.seconds] if alone else None,
            "memory": max(ended.watched.main_peak, ended.watched.worker_peak) if alone else None,
        }
    return found


def _did(probe: Probe, row: dict[str, Any] | None, data: bytes | None, ended: watch.Ended) -> str:
    if ended.late:
        return f"not done after {_LIMIT:.0f} s"
    if row is None:
        return "ended without a word of it"
    if row["status"] == "success" and data is not None:
        return _judged(probe, [data])
    said = str(row["error_message"] or row["status"]).removeprefix("<urlopen error ")
    return " ".join(said.split())[:50].rstrip(">")


# --- pictures -----------------------------------------------------------------------------------


def _judged(probe: Probe, made: Sequence[bytes]) -> str:
    """``kept``, or what is wrong with the picture that was made of a probe's."""
    truth = _truth(probe.name)
    if truth is None or len(made) != 1:
        return "kept"
    got = Image.open(io.BytesIO(made[0])).convert("RGB")
    if (got.width > got.height) != (truth.width > truth.height) and truth.width != truth.height:
        return "kept, not turned upright"
    small = (30, 30)
    shown, wanted = (
        np.asarray(one.resize(small, Image.Resampling.BOX), np.float64) for one in (got, truth)
    )
    if np.abs(shown - wanted).mean() < _ALIKE:
        return "kept"
    return "kept, all white" if shown.mean() > 250 else "kept, of other colours"


def _truth(name: str) -> Image.Image | None:
    """What one of the server's pictures shows, as it should look; None for what should not be."""
    if name in ("truncated", "bomb20000", "bomb40000") or name not in NAMES:
        return None
    if name == "exif6":
        return scene().transpose(Image.Transpose.ROTATE_270)
    if name == "png16":
        ramp = np.linspace(0, 255, scene().width).astype(np.uint8)
        return Image.fromarray(np.tile(ramp, (scene().height, 1))).convert("RGB")
    if name == "gray":
        return scene().convert("L").convert("RGB")
    if name == "alpha":
        shown = Image.open(io.BytesIO(picture(name)))
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    if name == "large":
        return Image.open(io.BytesIO(picture(name))).convert("RGB")
    return scene()


# --- tables -------------------------------------------------------------------------------------


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown; probes at which the same happens are one row."""
    rows = figures["rows"]
    wrong = list(_wrong(figures))
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_what(row), []).append(row)
    base = next((row for row in rows if row["probe"] == "jpeg"), None)
    header = ["sparqless", "requests", "s", "MB"]
    if rows[0]["theirs"]:
        header += [img2dataset.NAME, "requests ", "s ", "MB "]
    header.append("probes")
    return "\n".join(
        [
            f"{len(rows)} probes; all of them at once took sparqless "
            f"{megabytes(figures['together'])} MB in its largest process. What isn't as it must "
            f"be: **{'; '.join(wrong) or 'nothing'}**. Requests to what is refused: "
            f"**{len(figures['outside'])}**.",
            "",
            *(f"- {note}" for note in figures["notes"]),
            "",
            table(header, [_row(what, same, base) for what, same in groups.items()]),
        ]
    )


def _wrong(figures: dict[str, Any]) -> Iterator[str]:
    for row in figures["rows"]:
        found = row["ours"]
        if (found["reason"], found["picture"]) != (row["reason"], row["picture"]):
            yield f"{row['probe']}: {found['reason']} {found['picture']}".strip()


def _what(row: dict[str, Any]) -> tuple[str, ...]:
    """What happened, in the words of a row: ours, its requests, theirs, its requests."""
    ours, theirs = row["ours"], row["theirs"]
    fate = ours["picture"]
    did = fate if fate.startswith("kept") else f"dropped: {fate}" if fate else ours["outcome"]
    if theirs is None:
        return did, f"{ours['requests']}"
    words = theirs["did"]
    if not words.startswith(("kept", "not done")):
        words = "goes elsewhere" if theirs["outside"] else "fails"
    return did, f"{ours['requests']}", words, f"{theirs['requests']}"


def _row(
    what: tuple[str, ...], same: Sequence[dict[str, Any]], base: dict[str, Any] | None
) -> list[str]:
    did, requests, *their = what
    cells = [did, requests, *_cost(same, base, "ours")]
    if their:
        cells += [*their, *_cost(same, base, "theirs")]
    return [*cells, ", ".join(f"`{row['probe']}`" for row in same)]


def _cost(rows: Sequence[dict[str, Any]], base: dict[str, Any] | None, whose: str) -> list[str]:
    """The most seconds beyond those of a harmless image, and the most memory."""
    alone = [row[whose] for row in rows if row[whose]["seconds"] is not None]
    if not alone:
        return ["", ""]
    less = (base[whose]["seconds"] if base else None) or [0.0, 0.0]
    beyond = (sum(found["seconds"]) - sum(less[: len(found["seconds"])]) for found in alone)
    return [f"{max(0.0, *beyond):.0f}", megabytes(max(found["memory"] for found in alone))]
