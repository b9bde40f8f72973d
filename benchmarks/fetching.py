"""Images of one local nginx into shards: `sparqless images fetch` and `pack` beside img2dataset.

Several thousand made photographs of 800×600 (benchmarks/photos.py), each another, become pictures
whose shorter side is 256, in webdataset shards, at JPEG quality 95: by both with their safety and
their records on, on the same cores, in turn. img2dataset runs with the best of several settings.

The limit is what the machine can do at all: our own decoding and encoding of the same files, in as
many processes as cores, with nothing before or after it. How near what both wrote comes to the
photograph is said as PSNR against a full decode and an exact reduction.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from benchmarks import image_sets, img2dataset, nginx, sampling, watch
from benchmarks.image_sets import Web
from benchmarks.img2dataset import Setting
from benchmarks.options import ROOT, Options
from benchmarks.photos import photos_of
from benchmarks.report import megabytes, table

_SIZE: Final = 256  # of a picture's shorter side
_COMPARED: Final = 100  # photographs whose PSNR is taken
_SETTINGS: Final = ((1, 2), (1, 8), (1, 32), (2, 16))  # processes a core, threads of each
_TRIAL: Final = 2  # the settings are tried on one of so many photographs
_PARTS: Final = 2  # of the shards of each img2dataset process, so that cores don't wait long

_START: Final = "start of Python, imports"
_DECODING: Final = """
import sys
from pathlib import Path
from download.pack.image import ImageOptions, encode
for path in sys.argv[1:]:
    encode(Path(path).read_bytes(), ImageOptions(size=256))
"""

#: What a process does, by the modules that are at it; see benchmarks/sampling.py.
_STAGES: Final[tuple[sampling.Rule, ...]] = (
    (_START, "importlib", ""),
    ("likeness", "download/pack/likeness.py", ""),
    ("encode", "PIL/Image.py", "save"),
    ("resize", "download/pack/reduce.py", ""),
    ("decode", "PIL/ImageFile.py", "load"),
    ("decode", "download/pack/image.py", "_quickly"),
    ("other work on the picture", "download/pack/image.py", ""),
    ("other work on the picture", "download/pack/filters.py", ""),
    ("other work on the picture", "download/pack/colours.py", ""),
    ("pipes to the decoder", "download/pack/decoder.py", ""),
    ("manners, robots, addresses", "download/fetch/manners.py", ""),
    ("manners, robots, addresses", "download/fetch/robots.py", ""),
    ("manners, robots, addresses", "download/fetch/addresses.py", ""),
    ("log and store", "download/fetch/bodies.py", ""),
    ("log and store", "download/fetch/log.py", ""),
    ("HTTP", "download/fetch/http.py", ""),
    ("HTTP", "aiohttp/", ""),
    ("HTTP", "asyncio/", ""),
    ("tar", "download/pack/shards.py", ""),
    ("tar", "webdataset/", ""),
    ("queue, plan", "download/fetch", ""),
    ("duplicates", "download/pack/duplicates.py", ""),
    ("tables of what is packed", "download/pack", ""),
)


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    failed = img2dataset.install(options.work) if options.install_peers else None
    notes = [failed] if failed else []
    photos = photos_of(options.work, options.photos, options.seed, options.workers)
    work = options.work / "fetching"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with nginx.serving(photos[0].parent, work / "nginx") as server:
            found = _compare(options, work, photos, server)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not found["setting"]:
        notes.append(f"{img2dataset.NAME} was not measured: `--install-peers` installs it.")
    return {
        "photos": len(photos),
        "bytes": sum(path.stat().st_size for path in photos),
        "cores": os.cpu_count(),
        "workers": options.workers,
        **found,
        "notes": notes,
    }


def _compare(
    options: Options, work: Path, photos: list[Path], server: nginx.Server
) -> dict[str, Any]:
    """One round after the other of ours, theirs and the limit; one more than ``repeat``."""
    urls = [server.url(path.name, number) for number, path in enumerate(photos)]
    theirs = None
    if img2dataset.is_installed(options.work):
        theirs = _best_setting(options, work, urls, server)
    rounds = []
    for _ in range(options.repeat + 1):
        found = {"ours": _ours(options, work, urls, server)}
        if theirs is not None:
            found["theirs"] = _theirs(options, work, urls, theirs, server)
        for name, encode in (("encode", _encode), ("pillow", _plainly)):
            found[name] = _alone(photos, encode, options.workers)
        rounds.append(found)
    quality = {"ours": _psnr(_our_pictures(work), photos)}
    if theirs is not None:
        quality["theirs"] = _psnr(img2dataset.pictures(work / "theirs"), photos)
    return {
        "setting": "" if theirs is None else str(theirs),
        "rounds": rounds,
        "psnr": quality,
        "profile": _profile(options, work, urls, server),
        "decoder": _profile_of_decoding(work, photos),
    }


# --- ours ---------------------------------------------------------------------------------------


def _web(work: Path) -> Web:
    """The hosts are nobody else's: they may be asked as fast as they answer."""
    manners = work / "manners.toml"
    image_sets.write_manners(manners, image_sets.UNLIMITED)
    return Web(allowed=nginx.HOSTS, manners=manners)


def _ours(
    options: Options,
    work: Path,
    urls: Sequence[str],
    server: nginx.Server,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Both commands, one after the other, from a directory of candidates to shards.

    Raises RuntimeError where not every photograph becomes a picture.
    """
    images, out = work / "images", work / "shards"
    shutil.rmtree(out, ignore_errors=True)
    image_sets.write(images, urls)
    cpu = server.cpu_seconds()
    variables = [f"{name}={value}" for name, value in (environment or {}).items()]
    found = {}
    for name, command in (
        ("fetch", image_sets.fetch_command(images, _web(work), options.workers)),
        ("pack", image_sets.pack_command(images, out, options.workers)),
    ):
        watched = watch.run(["env", *variables, *command], ROOT)
        found[name] = _figures(watched, images if name == "fetch" else out)
    packed = pq.read_metadata(out / "images.parquet").num_rows
    if packed != len(urls):
        raise RuntimeError(f"{packed:,} of {len(urls):,} photographs are in our shards")
    return {**found, "server_cpu": server.cpu_seconds() - cpu}


def _figures(watched: watch.Watched, out: Path) -> dict[str, float]:
    return {
        "seconds": watched.seconds,
        "cpu": watched.cpu_seconds,
        "memory": max(watched.main_peak, watched.worker_peak),
        "disk": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }


def _our_pictures(work: Path) -> Iterator[tuple[str, bytes]]:
    """URL and JPEG of every picture in our shards."""
    yield from image_sets.packed_pictures(work / "shards")


def _profile(
    options: Options, work: Path, urls: Sequence[str], server: nginx.Server
) -> dict[str, float]:
    """Processor seconds by stage of both commands, in a run that isn't among the others.

    The processes that decode aren't asked: they write no files.
    """
    folder = work / "sampling"
    _ours(options, work, urls, server, sampling.environment(folder, _STAGES))
    return sampling.read(folder)


def _profile_of_decoding(work: Path, photos: Sequence[Path]) -> dict[str, float]:
    """Processor seconds by stage of what the processes that decode do, in one that is asked."""
    folder = work / "sampling-decoding"
    variables = sampling.environment(folder, _STAGES)
    set_ = [f"{name}={value}" for name, value in variables.items()]
    watch.run(["env", *set_, sys.executable, "-c", _DECODING, *map(str, photos)], ROOT)
    found = sampling.read(folder)
    return {stage: seconds for stage, seconds in found.items() if stage not in (_START, "other")}


# --- img2dataset --------------------------------------------------------------------------------


def _best_setting(
    options: Options, work: Path, urls: Sequence[str], server: nginx.Server
) -> Setting:
    """The fastest of several, on a part of the photographs."""
    part = urls[: max(1, len(urls) // _TRIAL)]
    tried = {}
    for a_core, threads in _SETTINGS:
        setting = _setting(options.workers * a_core, threads, len(part))
        tried[a_core, threads] = _theirs(options, work, part, setting, server)["span"]
    a_core, threads = min(tried, key=lambda key: tried[key])
    return _setting(options.workers * a_core, threads, len(urls))


def _setting(processes: int, threads: int, images: int) -> Setting:
    return Setting(processes, threads, max(1, -(-images // (processes * _PARTS))))


def _theirs(
    options: Options, work: Path, urls: Sequence[str], setting: Setting, server: nginx.Server
) -> dict[str, Any]:
    """The whole command, and the ``span`` from its first shard's beginning to its last's end.

    Raises RuntimeError where not every photograph becomes a picture.
    """
    given, out = work / "urls.parquet", work / "theirs"
    img2dataset.write_list(urls, given)
    cpu = server.cpu_seconds()
    watched = watch.run(img2dataset.command(options.work, given, out, setting), ROOT)
    cpu = server.cpu_seconds() - cpu
    good = sum(row["status"] == "success" for row in img2dataset.rows(out))
    if good != len(urls):
        raise RuntimeError(f"{good:,} of {len(urls):,} photographs are in img2dataset's shards")
    return {**_figures(watched, out), "span": img2dataset.span(out), "server_cpu": cpu}


# --- the limit ----------------------------------------------------------------------------------


def _encode(body: bytes) -> object:
    """What `images pack` does to one image."""
    from download.pack.image import ImageOptions, encode

    return encode(body, ImageOptions(size=_SIZE))


def _plainly(body: bytes) -> object:
    """Decoding, resizing and encoding, with what Pillow offers to do it fast; nothing else."""
    with Image.open(io.BytesIO(body), formats=["JPEG"]) as picture:
        scale = _SIZE / min(picture.size)
        size = round(picture.width * scale), round(picture.height * scale)
        picture.draft("RGB", size)
        small = picture.resize(size, Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=95)
    return encoded


def _alone(
    photos: Sequence[Path], encode: Callable[[bytes], object], workers: int
) -> dict[str, float]:
    """Decoding and encoding in processes that begin at the same moment, files in memory."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(workers)
    with ProcessPoolExecutor(workers, context, _start, (together,)) as pool:
        shares = [photos[n::workers] for n in range(workers)]
        times = list(pool.map(partial(_encode_all, encode=encode), shares))
    begins, ends, cpu = zip(*times, strict=True)
    return {"seconds": max(ends) - min(begins), "cpu": sum(cpu)}


def _start(together: Barrier) -> None:
    together.wait(60)


def _encode_all(
    photos: Sequence[Path], encode: Callable[[bytes], object]
) -> tuple[float, float, float]:
    """Begin, end, processor seconds; what is loaded first isn't counted."""
    bodies = [path.read_bytes() for path in photos]
    encode(bodies[0])
    began, cpu = time.monotonic(), time.process_time()
    for body in bodies:
        encode(body)
    return began, time.monotonic(), time.process_time() - cpu


# --- quality ------------------------------------------------------------------------------------


def _psnr(pictures: Iterator[tuple[str, bytes]], photos: Sequence[Path]) -> dict[str, float]:
    """Mean PSNR in dB against a full decode, reduced by Lanczos' filter and by plain means."""
    wanted = {path.name: path for path in photos[:_COMPARED]}
    found: dict[str, list[float]] = {"lanczos": [], "mean": []}
    for url, data in pictures:
        name = url.rpartition("/")[2]
        if name not in wanted:
            continue
        made = Image.open(io.BytesIO(data)).convert("RGB")
        whole = Image.open(wanted[name]).convert("RGB")
        if abs(made.width / made.height - whole.width / whole.height) > 0.01:
            raise RuntimeError(f"{name} became {made.width}×{made.height}")
        for reduced, how in (
            ("lanczos", Image.Resampling.LANCZOS), ("mean", Image.Resampling.BOX),
        ):  # fmt: skip
            exact = np.asarray(whole.resize(made.size, how), np.float64)
            error = float(np.mean((exact - np.asarray(made, np.float64)) ** 2))
            found[reduced].append(10 * float(np.log10(255**2 / error)))
    return {how: statistics.fmean(values) for how, values in found.items()}


# --- tables -------------------------------------------------------------------------------------


def _median(figures: dict[str, Any], of: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(of(found) for found in figures["rounds"])


def _our_seconds(found: dict[str, Any]) -> float:
    ours = found["ours"]
    return float(ours["fetch"]["seconds"] + ours["pack"]["seconds"])


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    n, cores = figures["photos"], figures["cores"]

    def row(name: str, of: Callable[[dict[str, Any]], dict[str, float]]) -> list[str]:
        seconds = _median(figures, lambda found: of(found)["seconds"])
        cpu = _median(figures, lambda found: of(found)["cpu"])
        memory = _median(figures, lambda found: of(found).get("memory", 0))
        times = _median(figures, lambda found: of(found)["seconds"] / _our_seconds(found))
        return [
            name,
            f"{seconds:.1f}",
            f"{n / seconds:,.0f}",
            f"{1000 * cpu / n:.2f}",
            megabytes(memory) if memory else "",
            f"{times:.2f}",
        ]

    def both(found: dict[str, Any]) -> dict[str, float]:
        fetch, pack = found["ours"]["fetch"], found["ours"]["pack"]
        summed = {name: fetch[name] + pack[name] for name in ("seconds", "cpu")}
        return {**summed, "memory": max(fetch["memory"], pack["memory"])}

    rows = [
        row("`sparqless images fetch`", lambda found: found["ours"]["fetch"]),
        row("`sparqless images pack`", lambda found: found["ours"]["pack"]),
        row("**both**", both),
    ]
    if figures["setting"]:
        rows.append(row(f"{img2dataset.NAME}, the whole command", lambda found: found["theirs"]))
        rows.append(
            row(
                "... from its first shard's beginning to its last's end",
                lambda found: {**found["theirs"], "seconds": found["theirs"]["span"]},
            )
        )
    rows += [
        row("decode + encode alone, as `pack` does it", lambda found: found["encode"]),
        row("decode + encode alone, Pillow and nothing else", lambda found: found["pillow"]),
    ]
    header = ["", "s", "images/s", "processor ms an image", "peak MB", "× our seconds"]
    lines = [
        f"{n:,} photographs of 800×600, {figures['bytes'] / n / 1000:.0f} kB each, to pictures of "
        f"341×256; {figures['workers']} processes on {cores} cores; medians of "
        f"{len(figures['rounds'])} rounds.",
        "",
        table(header, rows),
        "",
        *_bars(figures),
        *(f"- {note}" for note in figures["notes"]),
        "",
        *_quality(figures["psnr"]),
        "",
        _stages(figures, n),
    ]
    return "\n".join(lines)


def _bars(figures: dict[str, Any]) -> Iterator[str]:
    """The ratios that are asked for."""
    cores = figures["cores"]
    if figures["setting"]:
        whole = _median(figures, lambda f: f["theirs"]["seconds"] / _our_seconds(f))
        span = _median(figures, lambda f: f["theirs"]["span"] / _our_seconds(f))
        cpu = _median(
            figures,
            lambda f: f["theirs"]["cpu"] / (f["ours"]["fetch"]["cpu"] + f["ours"]["pack"]["cpu"]),
        )
        yield (
            f"- **{whole:.2f} × img2dataset's images a second** ({figures['setting']}: the best of "
            f"{len(_SETTINGS)} settings), {span:.2f} × without its start and end, which ours has; "
            f"{cpu:.2f} × by processor time. Bar: 2."
        )
    for name, words in (("encode", "as `pack` does it"), ("pillow", "with Pillow alone")):
        share = _median(figures, partial(_share, name, cores))
        yield (
            f"- **{share:.2f} of decode + encode alone** ({words}), the server's processor time "
            "taken off. Bar: 0.5."
        )


def _share(name: str, cores: int, found: dict[str, Any]) -> float:
    """Our images a second over those of the limit, as if another machine were the server."""
    ours = _our_seconds(found) - found["ours"]["server_cpu"] / cores
    return float(found[name]["seconds"] / ours)


def _quality(psnr: dict[str, dict[str, float]]) -> Iterator[str]:
    names = {"ours": "sparqless", "theirs": img2dataset.NAME}
    rows = [
        [names[whose], f"{found['lanczos']:.1f}", f"{found['mean']:.1f}"]
        for whose, found in psnr.items()
    ]
    yield table(["PSNR, dB, against a full decode reduced by", "Lanczos", "plain means"], rows)


def _stages(figures: dict[str, Any], images: int) -> str:
    alone = {f"decoder: {name}": seconds for name, seconds in figures["decoder"].items()}
    profile = figures["profile"] | alone
    total = sum(profile.values())
    rows = [
        [name, f"{1000 * seconds / images:.2f}", f"{seconds / total:.0%}"]
        for name, seconds in sorted(profile.items(), key=lambda found: -found[1])
    ]
    return table(["of our processor time, sampled", "ms an image", "of all"], rows)
