"""A model to be asked, whatever made it: open_clip's layout in a folder, a name and its weights.

    model = opened("data/runs/small/model")            # or local-dir:…, or "ViT-B-32", weights
    model.images(batches)                              # (n, d), rows of length 1, on model.device
    model.texts(["a photo of a dog"])

Nothing is fetched from a network, and nothing is unpickled but tensors.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

import training.vision  # noqa: F401  (before open_clip)
from etl.errors import UserError
from etl.manifest import digest_of_file

CONFIG_FILE: Final = "open_clip_config.json"

_LOCAL: Final = "local-dir:"
_HUB: Final = "hf-hub:"
#: What the config of a network has at least.
_NETWORK: Final = ("embed_dim", "vision_cfg", "text_cfg")

#: Makes an image that is to be prepared; called in a thread, so files are read there.
Load = Callable[[], Any]


@dataclass(frozen=True)
class Opened:
    """A network, how images and texts become its input, and how it works.

    ``net`` is open_clip's CLIP or what has its ``encode_image`` and ``encode_text``; ``preprocess``
    makes a (3, S, S) tensor of a PIL image, ``tokenize`` (n, L) int64 of texts. ``precision`` is
    fp32 or bf16 (autocast).
    """

    net: torch.nn.Module
    preprocess: Callable[[Any], Tensor]
    tokenize: Callable[[list[str]], Tensor]
    device: torch.device
    name: str = ""
    weights_sha256: str = ""
    precision: str = "fp32"
    batch: int = 256

    def images(
        self,
        images: Iterable[Load],
        threads: int = 1,
        tick: Callable[[int], None] = lambda _: None,
    ) -> Tensor:
        """Their embeddings, (n, d) float32 of length 1, in their order.

        ``threads`` read, decode and prepare; two batches at most wait.

        Raises UserError where the model makes what is no number of one.
        """
        parts = []
        with torch.inference_mode():
            for batch in self._prepared(images, threads):
                with self._casting():
                    found = self.net.encode_image(batch.to(self.device))  # type: ignore[operator]
                parts.append(self._normal(found, "an image"))
                tick(len(batch))
        return torch.cat(parts) if parts else torch.empty(0, 0, device=self.device)

    def texts(self, texts: Sequence[str], tick: Callable[[int], None] = lambda _: None) -> Tensor:
        """Their embeddings, (n, d) float32 of length 1.

        Raises UserError where the model makes what is no number of one.
        """
        parts = []
        with torch.inference_mode():
            for first in range(0, len(texts), self.batch):
                some = list(texts[first : first + self.batch])
                with self._casting():
                    tokens = self.tokenize(some).to(self.device)
                    found = self.net.encode_text(tokens)  # type: ignore[operator]
                parts.append(self._normal(found, "a text"))
                tick(len(some))
        return torch.cat(parts) if parts else torch.empty(0, 0, device=self.device)

    def _prepared(self, images: Iterable[Load], threads: int) -> Iterator[Tensor]:
        def tensor(load: Load) -> Tensor:
            return self.preprocess(load())

        waiting: list[list[Future[Tensor]]] = []
        with ThreadPoolExecutor(threads) as pool:
            for some in _batched(images, self.batch):
                waiting.append([pool.submit(tensor, load) for load in some])
                if len(waiting) > 2:
                    yield torch.stack([future.result() for future in waiting.pop(0)])
            for left in waiting:
                yield torch.stack([future.result() for future in left])

    def _casting(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _normal(self, found: Tensor, what: str) -> Tensor:
        made = torch.nn.functional.normalize(found.float(), dim=-1)
        if not bool(made.isfinite().all()):
            raise UserError(
                f"{self.name or 'the model'} makes of {what} what is no number: its weights are "
                "damaged, or its training had gone wrong; take an earlier checkpoint."
            )
        return made


def _batched(items: Iterable[Load], size: int) -> Iterator[list[Load]]:
    held: list[Load] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def device_of(name: str) -> torch.device:
    """``auto``: a GPU where there is one; else as torch names it.

    Raises UserError for one that isn't there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--device {name} can't be used here ({reason}).") from error
    return device


def of_network(
    net: torch.nn.Module,
    tokenize: Callable[[list[str]], Tensor],
    *,
    device: torch.device,
    precision: str = "fp32",
    batch: int = 256,
) -> Opened:
    """A network of open_clip that is here already, such as one in training.

    It is left in the mode in which it is: who trains puts it into ``eval()`` meanwhile.
    """
    import open_clip

    options = open_clip.get_model_preprocess_cfg(net)
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**options), is_train=False
    )
    return Opened(net, preprocess, tokenize, device, precision=precision, batch=batch)


def opened(
    model: str,
    weights: Path | None = None,
    *,
    device: str = "auto",
    precision: str = "fp32",
    batch: int = 256,
) -> Opened:
    """A model to be asked.

    ``model`` is a folder in open_clip's layout (with or without ``local-dir:``) or, with
    ``weights`` (.safetensors, .pt), one of open_clip's names or a file with a network's config in
    its form (.json). Texts are then as long as the weights have places for: a model that was
    trained with 32 tokens isn't stretched to the 77 of its name's config, as open_clip would.

    Raises UserError where it can't be found or read, or the weights aren't its own.
    """
    import open_clip

    folder = _folder(model)
    if folder is not None:
        if weights is not None:
            raise UserError(f"{folder} has weights of its own: leave --weights out.")
        name, file = f"{_LOCAL}{folder}", weights_in(folder)
    elif model.startswith(_HUB):
        raise UserError(
            f"{model}: models are read from this machine's disk; download it (`hf download "
            f"{model.removeprefix(_HUB)} --local-dir DIR`) and give DIR."
        )
    else:
        name = registered(model)
        if weights is None or not weights.is_file():
            said = f"{weights} isn't there" if weights else "it has none here"
            raise UserError(f"{model} needs weights, and {said}: give a file with --weights.")
        file = weights
    where = device_of(device)
    try:
        pretrained = None if folder is not None else str(file)
        length = None if folder is not None else _places(file)
        net, preprocess = open_clip.create_model_from_pretrained(
            name, pretrained=pretrained, device=where, force_context_length=length
        )
        tokenize = open_clip.get_tokenizer(name, context_length=length)
    except _unreadable() as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{file} can't be loaded as {model} ({reason}).") from error
    return Opened(
        net.eval(),
        preprocess,
        tokenize,
        where,
        name=model,
        weights_sha256=digest_of_file(file, lambda _: None),
        precision=precision,
        batch=batch,
    )


def registered(model: str) -> str:
    """The name by which open_clip knows a network, which it is told of if it is a file.

    Raises UserError where it is neither, or the file's name is one of open_clip's own networks.
    """
    import open_clip

    path = Path(model)
    if path.suffix == ".json" and path.is_file():
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} can't be read as a network's config ({error}).") from error
        if not isinstance(found, dict) or any(name not in found for name in _NETWORK):
            raise UserError(f"{path} is no network's config: it needs {', '.join(_NETWORK)}.")
        if Path(open_clip.__file__).with_name("model_configs").joinpath(path.name).is_file():
            raise UserError(
                f"{path} has the name of one of open_clip's networks, {path.stem}: rename the file."
            )
        open_clip.add_model_config(path)  # again if it was: it may have changed
        return path.stem
    if model not in open_clip.list_models():
        raise UserError(
            f"{model!r} is neither a folder with {CONFIG_FILE} nor a model that open_clip knows "
            "(`python -c 'import open_clip; print(open_clip.list_models())'`)."
        )
    return model


#: Tables of places of texts, as an open_clip network without and with a tower for texts has them.
PLACES: Final = ("positional_embedding", "text.positional_embedding")


def _places(weights: Path) -> int | None:
    """How many tokens a text may have by some weights; None where they don't say."""
    if weights.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(weights, "pt") as file:
            found = [file.get_slice(n).get_shape()[0] for n in PLACES if n in file.keys()]  # noqa: SIM118
    else:
        from open_clip.factory import load_state_dict

        state = load_state_dict(str(weights))
        found = [len(state[name]) for name in PLACES if name in state]
    return found[0] if found else None


def _unreadable() -> tuple[type[Exception], ...]:
    from safetensors import SafetensorError

    known = (OSError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError)
    return (*known, ImportError, SafetensorError)


def _folder(model: str) -> Path | None:
    """The folder that is meant, where one is.

    Raises UserError for one that isn't there or has no model.
    """
    path = Path(model.removeprefix(_LOCAL))
    if not model.startswith(_LOCAL) and not path.is_dir():
        return None
    if not path.is_dir():
        raise UserError(f"{path} is no folder: give one with {CONFIG_FILE}.")
    if not (path / CONFIG_FILE).is_file():
        raise UserError(f"{path} has no {CONFIG_FILE}: it is no model in open_clip's layout.")
    return path


def weights_in(folder: Path) -> Path:
    """The file that open_clip takes in a folder."""
    from open_clip.factory import _find_checkpoint_in_dir

    found = _find_checkpoint_in_dir(folder)
    if found is None:
        raise UserError(f"{folder} has no weights: it lacks open_clip_model.safetensors.")
    return Path(found)
