"""What a run leaves when it is done: the model for others, and the manifest."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from etl.manifest import digests, discard, flush, tool_versions, write_json, write_manifest
from training.checkpoint import write_tensors
from training.config import Config
from training.model import WEIGHTS, Model
from training.opened import CONFIG_FILE

STEP: Final = "run"
MODEL: Final = "model"
CONFIG: Final = "config.toml"

_LIBRARIES: Final = ("torch", "torchvision", "open_clip_torch", "safetensors")


def versions() -> dict[str, str]:
    """Versions of what decides about the weights."""
    return tool_versions() | {name: version(name) for name in _LIBRARIES}


def write_model(model: Model, folder: Path) -> None:
    """Weights and config in open_clip's layout, whole or not there."""
    made = folder.with_name(f"{folder.name}.writing")
    discard(made)
    made.mkdir()
    write_tensors(made / WEIGHTS, model.net.state_dict())
    write_json(made / CONFIG_FILE, model.config)
    flush(made, (WEIGHTS, CONFIG_FILE))
    discard(folder)
    made.rename(folder)


def write_end(
    out: Path,
    config: Config,
    *,
    inputs: dict[str, Any],
    counts: dict[str, int],
    last: dict[str, Any],
) -> None:
    """The manifest of a run in ``out``; ``last`` are its last figures."""
    names = [CONFIG, f"{MODEL}/{CONFIG_FILE}", f"{MODEL}/{WEIGHTS}"]
    flush(out, names)
    write_manifest(
        out,
        {
            "step": STEP,
            "versions": versions(),
            "config": msgspec.to_builtins(config),
            "inputs": inputs,
            "counts": counts,
            "metrics": last,
            "outputs": digests(out, names, quiet=True),
        },
    )
