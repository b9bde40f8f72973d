"""What `sparqless train` says in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training.finished import MODEL
from training.train import Ended

_HOW: Final = {
    "finished": "",
    "stood": "it was finished before",
    "stopped": "stopped; run the same command again to go on",
}


def rows(out: Path, ended: Ended) -> Iterator[tuple[str, str, str]]:
    """Name, figure and remark of each line."""
    yield "steps", f"{ended.step:,}", _HOW[ended.how] or f"of {ended.steps:,}"
    figures = ended.metrics
    if figures:
        yield "images", f"{figures['images']:,}", f"{figures['epoch']:.2f} epochs"
        yield "loss", f"{figures['loss']:.4f}", ""
        if figures.get("damaged"):
            yield "damaged", f"{figures['damaged']:,}", "images that couldn't be used"
        yield "images/s", f"{figures['images_per_second']:,.0f}", ""
    for name, value in figures.items():
        if name.endswith(("_acc1", "_acc5", "_R@1")):
            yield name, f"{100 * value:.1f}%", "held out" * name.startswith(("val", "test"))
    if "macs" in figures:
        yield "MACs", f"{figures['macs']:.3g}", f"{figures['macs_77']:.3g} with a context of 77"
    if ended.how == "stopped":
        yield "checkpoint", "", str(ended.checkpoint)
    else:
        yield "model", "", str(out / MODEL)
