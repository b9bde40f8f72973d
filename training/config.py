"""What a training run is told: a TOML file, one of the shipped ones or a user's own.

    config = load("vit-b-32", ["train.lr=1e-3", "data.workers=8"])

Tables and their keys are the structs below; an unknown key is refused by its name. ``[text]`` and
``[data]`` also take the options of :class:`training.text_options.TextOptions` (``[text.filter]``:
of ``TextFilter``) and of the loader, which :mod:`training.inputs` checks.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

import msgspec

from etl.errors import UserError

FOLDER: Final = Path(__file__).with_name("configs")

_UNKNOWN = re.compile(r"unknown field `(.+?)`")
_AT = re.compile(r" - at `\$(?:\.(.+))?`$")


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[model]``: which network, and what it begins with."""

    #: One of open_clip's, `tiny`, a JSON file in open_clip's form, or `local-dir:FOLDER`.
    name: str = "ViT-B-32"
    #: A checkpoint on disk to go on from (.safetensors, .pt, a folder in open_clip's layout or a
    #: checkpoint of another run); "": from scratch, and for `local-dir:` what is in the folder.
    weights: str = ""
    #: Tokens of a text, beginning and end included. 32 is the reference's, 77 CLIP's own.
    context_length: int = 32
    #: Pixels of a side; 0: the model's own.
    image_size: int = 0


class TrainOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[train]``: the reference's recipe, and how the machine is to do it."""

    #: Images of a step, over all processes: the contrastive batch.
    batch: int = 8192
    #: Images that a process has in its network at a time, at most; 0: its whole share of the
    #: batch. Fewer cost a second forward pass and give the same gradients (training/step.py).
    micro_batch: int = 0
    epochs: int = 18
    warmup_epochs: float = 2.0
    #: Ends the schedule after so many steps, whatever the epochs; 0: with the last epoch.
    steps: int = 0
    lr: float = 5e-4
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-8
    weight_decay: float = 0.2
    #: The norm that gradients are cut to; 0: they aren't, as in the reference.
    clip_grad_norm: float = 0.0
    loss: Literal["clip", "siglip"] = "clip"
    #: What the factor of the logits is kept below (CLIP's 100); 0: no limit, as in the reference.
    max_logit_scale: float = 100.0
    precision: Literal["fp32", "bf16"] = "bf16"
    #: torch.set_float32_matmul_precision: highest, high (TF32) or medium.
    matmul: Literal["highest", "high", "medium"] = "medium"
    activation_checkpointing: bool = False
    compile: bool = False
    seed: int = 0
    #: Steps between two lines of metrics.
    log_steps: int = 10
    #: Whether TensorBoard's files are written, too.
    tensorboard: bool = True
    #: Steps between two checkpoints; 0: at ends of epochs alone, so that a process that is killed
    #: loses up to an epoch ...
    checkpoint_steps: int = 0
    #: ... of which every so-manieth has one, and the last.
    checkpoint_epochs: int = 1
    #: So many of the newest checkpoints are kept, ...
    keep_last: int = 2
    #: ... and that of every so-manieth epoch; 0: none for good.
    keep_epochs: int = 0


class EvaluateOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[evaluate]``: what is looked at meanwhile; nothing that is learned depends on it."""

    #: Ends of every so-manieth epoch, and of the run; 0: never.
    epochs: int = 1
    #: Of the shards that are trained on; where it is empty nothing is evaluated.
    split: str = "val"
    #: The first so many images of it.
    limit: int = 10_000
    #: As of `sparqless evaluate`: what to choose from, ...
    classes: str = "shown"
    #: ... the sentences for a name (one, where `openai` are 80) ...
    templates: str = "none"
    #: ... and texts of an image for retrieval; 0: no retrieval.
    texts: int = 1


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    model: ModelOptions = ModelOptions()
    #: ``split``, ``workers`` and the loader's options.
    data: dict[str, Any] = {}
    #: ``per_image`` (texts an image), ``filter`` and the options of texts.
    text: dict[str, Any] = {}
    train: TrainOptions = TrainOptions()
    evaluate: EvaluateOptions = EvaluateOptions()


#: Keys that say how a run is done and recorded, not what comes out: they may change on the way.
#: (``micro_batch``, ``compile`` and ``as_bytes`` on a GPU change float noise.)
FREE: Final = frozenset({
    "data.workers", "data.prefetch", "data.cache", "data.as_bytes", "data.most_damaged",
    "train.log_steps", "train.checkpoint_steps", "train.checkpoint_epochs", "train.keep_last",
    "train.keep_epochs", "train.micro_batch", "train.activation_checkpointing", "train.compile",
    "train.tensorboard", *(f"evaluate.{name}" for name in EvaluateOptions.__struct_fields__),
})  # fmt: skip


_TABLES: Final[dict[str, type[msgspec.Struct]]] = {
    "model": ModelOptions, "train": TrainOptions, "evaluate": EvaluateOptions,
}  # fmt: skip


def names() -> list[str]:
    """The shipped configs."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str | Path, changes: Sequence[str] = ()) -> Config:
    """Reads a shipped config by its name or a ``.toml`` file; ``changes`` are ``table.key=value``.

    Values of changes are TOML; what isn't any is a string.

    Raises UserError where the file isn't there or isn't TOML, a key is unknown, or a value is none
    that its key may have.
    """
    path = _path(str(name))
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: can't be read as a config ({error}).") from error
    for change in changes:
        _change(data, change)
    return of(data, f"{path} with --set" if changes else str(path))


def of(data: Mapping[str, Any], where: str = "config") -> Config:
    """A config of plain data; ``where`` it came from, for messages.

    Raises UserError as :func:`load`.
    """
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_said(str(error))}") from None
    _check(config, where)
    return config


def _path(name: str) -> Path:
    shipped = FOLDER / f"{name}.toml"
    if "/" not in name and shipped.is_file():
        return shipped
    if not name.endswith(".toml"):
        raise UserError(
            f"{name!r} is neither a shipped config ({', '.join(names())}) nor a .toml file."
        )
    return Path(name)


def _change(data: dict[str, Any], change: str) -> None:
    place, equals, written = change.partition("=")
    *tables, key = place.strip().split(".")
    if not equals or not tables or not all([*tables, key]):
        raise UserError(f"--set {change!r}: it is to be TABLE.KEY=VALUE, such as train.lr=1e-3.")
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise UserError(f"--set {change!r}: {table} is no table but a value.")
    try:
        data[key] = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        data[key] = written.strip()


def _said(error: str) -> str:
    """msgspec's message with the key's full name first."""
    found = _AT.search(error)
    place = (found[1] if found else None) or ""
    unknown = _UNKNOWN.search(error)
    if not unknown:
        return f"{place}: {_AT.sub('', error)}{_hint(place, error)}."
    table = _TABLES.get(place, Config)
    known = table.__struct_fields__
    close = get_close_matches(unknown[1], known, n=1)
    meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
    return f"unknown key {'.'.join(filter(None, (place, unknown[1])))}; {meant}"


def _hint(place: str, error: str) -> str:
    """What would be right."""
    table, _, key = place.partition(".")
    if "enum" in error and table in _TABLES:
        allowed = get_args(get_type_hints(_TABLES[table])[key])
        return f"; it is one of {', '.join(allowed)}"
    return '; a list is written ["a", "b"]' if "Expected `array`" in error else ""


def _check(config: Config, where: str) -> None:
    """Refuses values that no run can be done with."""
    train = config.train
    for key in ("batch", "epochs", "log_steps", "keep_last", "checkpoint_epochs"):
        if getattr(train, key) < 1:
            raise _wrong(where, f"train.{key}", getattr(train, key), "1 or more")
    for key in ("micro_batch", "steps", "checkpoint_steps", "keep_epochs", "seed"):
        if getattr(train, key) < 0:
            raise _wrong(where, f"train.{key}", getattr(train, key), "0 or more")
    if train.seed >= 2**63:
        raise _wrong(where, "train.seed", train.seed, "below 2**63")
    for key in ("lr", "warmup_epochs", "weight_decay", "clip_grad_norm", "max_logit_scale"):
        value = getattr(train, key)
        if not (value >= 0 and math.isfinite(value)):
            raise _wrong(where, f"train.{key}", value, "a number of 0 or more")
    if not (train.eps > 0 and math.isfinite(train.eps)):
        raise _wrong(where, "train.eps", train.eps, "a number above 0")
    if 0 < train.max_logit_scale < 1:
        raise _wrong(where, "train.max_logit_scale", train.max_logit_scale, "1 or more, or 0")
    for key in ("beta1", "beta2"):
        if not 0 <= getattr(train, key) < 1:
            raise _wrong(where, f"train.{key}", getattr(train, key), "from 0 to below 1")
    if config.model.context_length < 3:  # the beginning, one token and the end
        length = config.model.context_length
        raise _wrong(where, "model.context_length", length, "3 tokens or more")
    for key in ("epochs", "texts"):
        if getattr(config.evaluate, key) < 0:
            raise _wrong(where, f"evaluate.{key}", getattr(config.evaluate, key), "0 or more")
    if config.evaluate.limit < 1:
        raise _wrong(where, "evaluate.limit", config.evaluate.limit, "1 or more")
    if config.model.image_size < 0:
        raise _wrong(where, "model.image_size", config.model.image_size, "0 or more")


def _wrong(where: str, key: str, value: object, wanted: str) -> UserError:
    return UserError(f"{where}: {key} is {value!r}; it must be {wanted}.")


def flat(config: Config) -> dict[str, Any]:
    """``table.key`` → value."""
    return dict(_flat(msgspec.to_builtins(config), ""))


def _flat(data: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in data.items():
        below = isinstance(value, dict)
        found += _flat(value, f"{prefix}{key}.") if below else [(f"{prefix}{key}", value)]
    return found


def differing(one: Config, other: Config) -> list[str]:
    """The keys in which two configs differ that decide about what comes out."""
    a, b = flat(one), flat(other)
    return sorted(key for key in {*a, *b} - FREE if a.get(key) != b.get(key))


def as_toml(config: Config) -> str:
    """The config as a file that :func:`load` reads."""
    return "\n".join(_toml(msgspec.to_builtins(config), "")).strip() + "\n"


def _toml(table: Mapping[str, Any], name: str) -> list[str]:
    lines = [f"\n[{name}]"] if name else []
    lines += [f"{_key(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _toml(value, f"{name}.{_key(key)}" if name else _key(key))
    return lines


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which must be one here
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
