"""Checkpoints: a folder for each, whole or not there.

    checkpoints/step-00003992/
        model.safetensors        the network's weights, by open_clip's names
        optimizer.safetensors    AdamW's two averages of each of them, and its count of steps
        state.json               the step, the config, what it was trained on, versions

Nothing in it is a pickle. It is written beside its place, flushed and renamed; one that can't be
written leaves those before it. The generator's state isn't kept since every step seeds it, by the
run's seed, the step and the process (:mod:`training.train`); nor is the learning rate's, which is
a function of the step.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from etl.errors import UserError
from etl.manifest import DISCARDED, digest_of_file, discard, flush, write_json
from training.config import Config, differing
from training.optimizer import names_of
from training.processes import cant_write

MODEL: Final = "model.safetensors"
OPTIMIZER: Final = "optimizer.safetensors"
STATE: Final = "state.json"

_NAME = re.compile(r"step-(\d{8,})\Z")
_WRITING: Final = ".writing"
_AVERAGES: Final = ("exp_avg", "exp_avg_sq")
_COUNT: Final = "step"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands."""

    #: Steps that are done.
    step: int
    #: Epochs that are done.
    epoch: int
    #: Whether it is an epoch's end.
    is_epoch_end: bool
    config: Config
    #: What decides besides the config: digests of the data, the number of processes.
    inputs: dict[str, Any]
    versions: dict[str, str]
    #: Images so far that couldn't be used.
    damaged: int = 0
    #: SHA-256 of the files beside; none in checkpoints of before.
    files: dict[str, str] = {}


def save(
    folder: Path, net: torch.nn.Module, optimizer: torch.optim.Optimizer, state: State
) -> Path:
    """Writes a checkpoint below ``folder`` and gives its path; one that is there is kept.

    Raises UserError where the disk is full or refuses; what was there stands.
    """
    final = folder / f"step-{state.step:08}"
    if final.is_dir():
        return final
    made = folder / f"{final.name}{_WRITING}"
    try:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        write_tensors(made / MODEL, net.state_dict())
        write_tensors(made / OPTIMIZER, _moments(net, optimizer))
        files = {name: digest_of_file(made / name, _no_tick) for name in (MODEL, OPTIMIZER)}
        write_json(made / STATE, msgspec.to_builtins(msgspec.structs.replace(state, files=files)))
        flush(made, (MODEL, OPTIMIZER, STATE))
        made.rename(final)
        flush(folder, ())
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise cant_write(final, error, before(folder)) from error
    return final


def _no_tick(_: int) -> None:
    return


def before(folder: Path) -> str:
    """What to say of the newest checkpoint where there will be no other."""
    last = newest(folder)
    return f"the checkpoint before stands ({last})" if last else "there is none before it"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """A .safetensors file; raises OSError where it can't be written."""
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    try:
        save_file(plain, path)
    except SafetensorError as error:  # of its own class, with the system's words
        raise OSError(str(error)) from error


def _moments(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    found = {}
    names = names_of(net)
    for number, kept in optimizer.state_dict()["state"].items():
        for part in (*_AVERAGES, _COUNT):
            found[f"{part}/{names[number]}"] = kept[part]
    return found


def newest(folder: Path) -> Path | None:
    """The checkpoint of the most steps below a folder."""
    return max(_all(folder), default=None)


def _all(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.match(path.name))


def read(path: Path) -> State:
    """What a checkpoint says of itself.

    Raises UserError where it can't be read.
    """
    try:
        return msgspec.json.decode((path / STATE).read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(
            f"{path} is no checkpoint that can be read ({error}); remove it, and the run goes on "
            "from the one before."
        ) from error


def load(path: Path, net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts a checkpoint's weights and averages where they were.

    Raises UserError where the files can't be read or are another network's.
    """
    for name, digest in read(path).files.items():
        if (path / name).is_file() and digest_of_file(path / name, _no_tick) != digest:
            raise UserError(
                f"{path / name} isn't what was written: the disk has changed it; remove {path}, "
                "and the run goes on from the one before."
            )
    try:
        net.load_state_dict(load_file(path / MODEL))
        kept = load_file(path / OPTIMIZER)
        whole = optimizer.state_dict()
        whole["state"] = {
            number: {part: kept[f"{part}/{name}"] for part in (*_AVERAGES, _COUNT)}
            for number, name in enumerate(names_of(net))
            if f"{_COUNT}/{name}" in kept
        }
        optimizer.load_state_dict(whole)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} can't be read ({error}); remove it, and the run goes on from the one before."
        ) from error
    except (KeyError, RuntimeError, ValueError) as error:  # names or shapes are others
        said = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path} is whole, but of another network ({said}): go on with the one that it was "
            "begun with, or choose another --out."
        ) from error


def check(state: State, config: Config, inputs: dict[str, Any], where: Path) -> None:
    """Refuses to go on from a checkpoint of another config or other data.

    Raises UserError naming what differs.
    """
    keys = differing(state.config, config)
    keys += [key for key in sorted({*inputs, *state.inputs}) if _differ(state.inputs, inputs, key)]
    if keys:
        raise UserError(
            f"{where} is of another run: {', '.join(keys)} "
            f"{'differs' if len(keys) == 1 else 'differ'}. Go on with what it was begun with, "
            "choose another --out (model.weights takes the weights along), or remove it with "
            "--fresh."
        )


def _differ(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    return bool(one.get(key) != other.get(key))


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which versions are others than they were, for a person; "" where none is."""
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return ", ".join(f"{n} {then.get(n, 'none')} → {now.get(n, 'none')}" for n in names)


def clean(folder: Path, keep_last: int, keep_epochs: int) -> None:
    """Removes what was left half-written or half-removed, and checkpoints that aren't to be kept.

    One that can't be read stands: nothing is known of it.
    """
    for end in (_WRITING, DISCARDED):
        for path in folder.glob(f"*{end}"):
            shutil.rmtree(path)
    for path in _all(folder)[:-keep_last]:
        if not (keep_epochs and _may_stay(path, keep_epochs)):
            discard(path)


def _may_stay(path: Path, keep_epochs: int) -> bool:
    try:
        state = read(path)
    except UserError:
        return True
    return state.is_epoch_end and state.epoch % keep_epochs == 0
