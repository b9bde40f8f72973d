"""The network: made by open_clip, from scratch or from a checkpoint that is on this disk.

    model = created(ModelOptions(name="ViT-B-32"))
    model.net(images, tokens)       # (B, 3, S, S) float, (B, L) int64 → features and logit scale

Texts of a checkpoint with a longer context are cut: CLIP's text network looks back only, so the
first 32 places of one that was made for 77 give what they gave there. (open_clip stretches the
table of places instead, as is right for images, and no text means then what it meant.)
"""

from __future__ import annotations

import json
import logging
import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import training.vision  # noqa: F401  # first: see there

import open_clip  # isort: skip
import torch
from open_clip.factory import load_checkpoint, load_state_dict

from etl.errors import UserError
from etl.manifest import digest_of_data
from training.config import ModelOptions
from training.opened import CONFIG_FILE, OURS, PLACES, offline, registered, safely, weights_in

WEIGHTS: Final = "open_clip_model.safetensors"

#: Where SigLIP begins: logits of 10 cos - 10 (Zhai et al. 2023, 3.2).
_SIGLIP: Final = {"init_logit_scale": math.log(10), "init_logit_bias": -10.0}


@dataclass(frozen=True)
class Model:
    """A network and what belongs to it."""

    net: torch.nn.Module
    #: Pixels of a side of the images that it takes.
    size: int
    #: What channels (RGB, 0 to 1) are normalised by.
    mean: tuple[float, ...]
    std: tuple[float, ...]
    #: n texts → (n, context_length) int64.
    tokenize: Callable[[list[str]], torch.Tensor]
    context_length: int
    #: What open_clip_config.json holds: ``model_cfg`` and ``preprocess_cfg``.
    config: dict[str, Any]


def created(options: ModelOptions, *, seed: int = 0, siglip: bool = False) -> Model:
    """The network of ``options``, on the CPU, in float32, in training mode.

    From scratch it depends on ``seed`` alone. ``siglip`` gives it a bias of the logits.

    Raises UserError where open_clip knows no such network, or the checkpoint isn't there, can't be
    read or is another network's.
    """
    name = _known(options.name)
    file = _weights(options)
    kept = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with _told(f"model.name = {options.name!r}"), offline():
            net = _made(name, options.context_length, options, siglip)
        if file is not None:
            with _told(f"the checkpoint {file}"):
                _load(net, file, name, options, siglip)
    finally:
        torch.set_rng_state(kept)
    net.train()
    with _told(f"the tokenizer of model.name = {options.name!r}"), offline():
        length = options.context_length
        tokenize = open_clip.get_tokenizer(name, context_length=length, **safely(name))
    visual: Any = net.visual
    size = visual.image_size
    return Model(
        net=net,
        size=size[0] if isinstance(size, tuple) else size,
        mean=tuple(visual.image_mean),
        std=tuple(visual.image_std),
        tokenize=tokenize,
        context_length=options.context_length,
        config=_hub_config(name, net, options, siglip),
    )


def _known(name: str) -> str:
    """The name by which open_clip knows a network, which it is told of if it must be."""
    if name.startswith("hf-hub:"):
        raise UserError(
            f"model.name = {name!r} is read from the network; download it "
            "(`hf download`) and give local-dir:FOLDER."
        )
    if name in OURS:
        return registered(name)
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise UserError(f"model.name: there is no file {name}.")
        return registered(name)
    if name.startswith("local-dir:"):
        if not Path(name.removeprefix("local-dir:"), CONFIG_FILE).is_file():
            raise UserError(f"model.name = {name!r}: the folder has no {CONFIG_FILE}.")
        return name
    if name not in open_clip.list_models():
        raise UserError(
            f"model.name: open_clip has no network {name!r}; it is one of "
            "`open_clip.list_models()`, tiny, a JSON file or local-dir:FOLDER."
        )
    return name


def _weights(options: ModelOptions) -> Path | None:
    """The file that weights are to be read from."""
    given = options.weights
    if not given and options.name.startswith("local-dir:"):
        given = options.name.removeprefix("local-dir:")
    if not given:
        return None
    path = Path(given)
    if path.is_dir():
        return weights_in(path)
    if not path.is_file():
        raise UserError(f"model.weights: there is no file or folder {path}.")
    return path


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turns what open_clip, torch and safetensors raise into a sentence."""
    try:
        yield
    except UserError:
        raise
    except (
        RuntimeError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        more = f" (and {len(said) - 3} more lines)" if len(said) > 3 else ""
        raise UserError(f"{what} can't be used: {' '.join(said[:3])}{more}") from error
    except Exception as error:  # safetensors raises errors of a class of its own
        raise UserError(f"{what} can't be used: {error}") from error


def _made(name: str, context_length: int, options: ModelOptions, siglip: bool) -> torch.nn.Module:
    more = dict(_SIGLIP) if siglip else {}
    logging.disable(logging.WARNING)  # it warns of a network that begins at random
    try:
        net: torch.nn.Module = open_clip.create_model(
            name,
            load_weights=False,
            pretrained_text=False,
            force_context_length=context_length,
            force_image_size=options.image_size or None,
            output_dict=True,
            **more,
        )
    finally:
        logging.disable(logging.NOTSET)
    return net


def _load(net: torch.nn.Module, file: Path, name: str, options: ModelOptions, siglip: bool) -> None:
    """Puts the weights of a checkpoint into a network, texts cut to its context."""
    state = load_state_dict(str(file))
    length = next((len(state[key]) for key in PLACES if key in state), options.context_length)
    if length < options.context_length:
        raise UserError(
            f"the checkpoint {file} has {length} places for tokens; set "
            f"model.context_length = {length} or less."
        )
    first = _made(name, length, options, siglip=siglip and "logit_bias" in state)
    load_checkpoint(first, str(file))
    found = {
        key: value[: options.context_length] if key in PLACES else value
        for key, value in first.state_dict().items()
    }
    net.load_state_dict({**net.state_dict(), **found})


def identity(options: ModelOptions, *, siglip: bool = False) -> str:
    """Digest of what the network of ``options`` is, whatever its weights.

    Raises UserError where there is no such network.
    """
    name = _known(options.name)
    with _told(f"model.name = {options.name!r}"):
        made_of = {"model_cfg": _network(name, options, siglip)}
        if name.startswith("local-dir:"):
            file = Path(name.removeprefix("local-dir:"), CONFIG_FILE)
            made_of["preprocess_cfg"] = json.loads(file.read_bytes()).get("preprocess_cfg", {})
    return digest_of_data(made_of)


def _network(name: str, options: ModelOptions, siglip: bool) -> dict[str, Any]:
    """The ``model_cfg`` of a network as it is made."""
    config: dict[str, Any] | None = open_clip.get_model_config(name)
    if config is None:
        raise ValueError("open_clip finds no config of it")
    config["text_cfg"]["context_length"] = options.context_length
    if options.image_size:
        config["vision_cfg"]["image_size"] = options.image_size
    return {**config, **(_SIGLIP if siglip else {})}


def _hub_config(
    name: str, net: torch.nn.Module, options: ModelOptions, siglip: bool
) -> dict[str, Any]:
    config = _network(name, options, siglip)
    preprocess = open_clip.get_model_preprocess_cfg(net)
    kept = ("mean", "std", "interpolation", "resize_mode")
    chosen = {key: preprocess[key] for key in kept if key in preprocess}
    return {"model_cfg": config, "preprocess_cfg": json.loads(json.dumps(chosen))}


def is_counted(config: Mapping[str, Any]) -> bool:
    """Whether :func:`macs_per_image` and :func:`flops_per_image` can count a ``model_cfg``.

    They count CLIP's ViT beside CLIP's text network, as EntityNet does; a ResNet, or a tower of
    timm's or of transformers', has no such numbers.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    is_vit = isinstance(vision.get("layers"), int) and "patch_size" in vision
    return is_vit and "timm_model_name" not in vision and "hf_model_name" not in text


def macs_per_image(
    config: Mapping[str, Any],
    *,
    batch: int,
    context_length: int | None = None,
    texts: int = 1,
    siglip: bool = False,
) -> int:
    """Multiply–adds of a training step for each image, as EntityNet counts them.

    Three times those of the forward pass (its ``mac_calculator.py``): 22.32 G for ViT-B-32 and
    61.07 G for ViT-B-16, at a batch of 8,192 and a context of 77 whatever the real one is "for fair
    comparison". ``config`` is open_clip's ``model_cfg``; ``context_length`` its own if None.

    Two things it counts low or high, which are kept so that figures compare: attention's weighted
    sum once a token instead of once a pair of tokens, and texts projected at every token.
    """
    vision, text, dim = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    width, patch = vision["width"], vision["patch_size"]
    patches = ((vision["image_size"] - patch) // patch + 1) ** 2
    length = context_length or text["context_length"]
    ratio = vision.get("mlp_ratio", 4), text.get("mlp_ratio", 4)
    seen = patches * patch * patch * 3 * width + _norm(patches, width)
    seen += vision["layers"] * _block(patches + 1, width, round(width * ratio[0]))
    seen += _norm(patches + 1, width)
    read = text["layers"] * _block(length, text["width"], round(text["width"] * ratio[1]))
    read += _norm(text["layers"], text["width"]) + length * (text["width"] + 1) * dim
    loss = batch * (dim + 6) if siglip else 6 * batch * dim + 2 * dim + 2
    return int(3 * (seen + texts * (read + loss)))


def _norm(tokens: int, width: int) -> int:
    return tokens * (5 * width + 2)


def _block(tokens: int, width: int, hidden: int) -> int:
    """One layer of a transformer."""
    projections = 4 * tokens * width * (width + 1)
    attention = tokens * tokens * width + 3 * tokens * width + 2 * tokens * tokens
    mlp = tokens * (2 * width * hidden + hidden + width) + 12 * tokens * hidden
    return 2 * _norm(tokens, width) + projections + attention + mlp


def flops_per_image(config: Mapping[str, Any], *, batch: int, texts: int = 1) -> int:
    """Floating-point operations of a training step for each image: matrix products alone.

    What a model's FLOPs utilisation is reckoned by: each multiply–add is two, forward and
    backward are three forward passes, and what is done again to save memory doesn't count.
    """
    vision, text, dim = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    width, patch = vision["width"], vision["patch_size"]
    patches = (vision["image_size"] // patch) ** 2
    seen = patches * patch * patch * 3 * width + width * dim
    seen += vision["layers"] * _products(patches + 1, width, vision.get("mlp_ratio", 4))
    read = text["width"] * dim
    read += text["layers"] * _products(
        text["context_length"], text["width"], text.get("mlp_ratio", 4)
    )
    return int(6 * (seen + texts * (read + 2 * batch * dim)))


def _products(tokens: int, width: int, ratio: float) -> float:
    return tokens * width * (width * (4 + 2 * ratio) + 2 * tokens)
