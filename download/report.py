"""What `sparqless images find` and `images sources` print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from download.sources import Source
from etl.show import counted


def rows(out: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, figure and remark of every line of the table after a run."""
    counts = manifest["counts"]
    yield "entities", f"{counts['entities']:,}", "that images were looked for"
    for name, found in counts["by_source"].items():
        if "candidates" in found:
            yield (
                name,
                f"{found['candidates']:,}",
                f"candidates of {counted(found['with_images'], 'entity', 'entities')}",
            )
        else:
            yield name, f"{found['found']:,}", f"of {found['wanted']:,} files known"
    yield (
        "candidates",
        f"{counts['candidates']:,}",
        f"of {counted(counts['with_images'], 'entity', 'entities')}, in {out}",
    )
    if counts["no_picture"]:
        yield "no picture", f"{counts['no_picture']:,}", "files of sound and the like, left out"
    if counts["gone"]:
        yield "gone", f"{counts['gone']:,}", "files that Commons has no more, left out"
    for name in manifest["left_out"]:
        yield "left out", "", f"{name} stands in {out} and is not in --source"
    yield "seconds", f"{manifest['seconds']['all']:.1f}", ""


def described_sources(sources: Iterable[Source]) -> Iterator[str]:
    """Lines about sources: each with what it does, then its options."""
    for source in sources:
        yield f"{source.name}: {source.what}"
        for option in source.options:
            yield f"    --{option.name} FILE  {option.what}"
