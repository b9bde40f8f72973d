"""A model to be asked, whatever made it: open_clip's layout in a folder, a name and its weights.

    model = opened("data/runs/small/model")            # or local-dir:…, or "ViT-B-32", weights
    model.images(batches)                              # (n, d), rows of length 1, on model.device
    model.texts(["a photo of a dog"])

Nothing is fetched from a network, and nothing is unpickled but tensors: whatever a model's config
asks for, no program runs that comes with it, and no hub is asked (what is in its cache will do).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

import training.vision  # noqa: F401  (before open_clip)
from etl.batches import batched
from etl.errors import UserError
from etl.manifest import digest_of_file
from training.checkpoint import STATE
from training.config import FOLDER

CONFIG_FILE: Final = "open_clip_config.json"

#: By our names for them: networks that open_clip doesn't have.
OURS: Final = {"tiny": FOLDER / "sparqless-tiny.json"}

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
    fp32 or bf16 (autocast). ``pixels`` are open_clip's settings of ``preprocess``; ``quick_gelu``:
    OpenAI's activation, x · sigmoid(1.702 x). A wrong one of these costs accuracy and says nothing.
    """

    net: torch.nn.Module
    preprocess: Callable[[Any], Tensor]
    tokenize: Callable[[list[str]], Tensor]
    device: torch.device
    name: str = ""
    weights_sha256: str = ""
    precision: str = "fp32"
    batch: int = 256
    pixels: Mapping[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False
    warnings: Sequence[str] = ()

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
            for some in batched(images, self.batch):
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
    return Opened(
        net,
        preprocess,
        tokenize,
        device,
        precision=precision,
        batch=batch,
        pixels=_plain(options),
        quick_gelu=_has_quick_gelu(net),
    )


#: Of open_clip's settings, those that decide about pixels.
_PIXELS: Final = ("size", "mean", "std", "interpolation", "resize_mode")


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: settings[name] for name in _PIXELS if settings.get(name) is not None}
    return {n: list(value) if isinstance(value, tuple) else value for n, value in kept.items()}


def _has_quick_gelu(net: torch.nn.Module) -> bool:
    from open_clip.transformer import QuickGELU

    return any(isinstance(module, QuickGELU) for module in net.modules())


def opened(
    model: str,
    weights: Path | None = None,
    *,
    tag: str = "",
    device: str = "auto",
    precision: str = "fp32",
    batch: int = 256,
) -> Opened:
    """A model to be asked.

    ``model`` is a folder in open_clip's layout (with or without ``local-dir:``) or, with
    ``weights`` (.safetensors, .pt), one of open_clip's names, tiny, or a file with a network's
    config in its form (.json). Texts are then as long as the weights have places for: a model that
    was trained with 32 tokens isn't stretched to the 77 of its name's config, as open_clip would.

    A file of weights doesn't say how pixels are to be prepared nor which activation it knows:
    ``tag`` (openai, laion2b_s34b_b79k) is the name by which open_clip knows these weights, and so
    that. Without it these are the defaults of open_clip, and where weights of that network want
    others, a warning says so.

    Raises UserError where it can't be found or read, or the weights aren't its own.
    """
    import open_clip

    folder = _folder(model)
    if folder is not None:
        if weights is not None:
            raise UserError(f"{folder} has weights of its own: leave --weights out.")
        if tag:
            raise UserError(
                f"{folder} says itself how it is to be used: leave --pretrained-tag out."
            )
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
    as_tagged = _as_tagged(name, tag) if tag else {}
    try:
        pretrained = None if folder is not None else str(file)
        length = None if folder is not None else _places(file)
        told = safely(name)
        with offline():
            net, preprocess = open_clip.create_model_from_pretrained(
                name, pretrained=pretrained, device=where, force_context_length=length, **as_tagged
            )
            tokenize = open_clip.get_tokenizer(name, context_length=length, **told)
    except _unreadable() as error:
        reason = " ".join(str(error).split())[:300]
        if isinstance(error, AssertionError):
            raise UserError(
                f"{file} can't be loaded as {model} ({reason}): these are another network's "
                "weights; give its name with --model."
            ) from error
        raise UserError(f"{file} can't be loaded as {model} ({reason}).") from error
    pixels, quick_gelu = _plain(net.visual.preprocess_cfg), _has_quick_gelu(net)
    # a checkpoint of our own training was made with the defaults
    is_ours = (file.parent / STATE).is_file()
    known = folder is not None or bool(tag) or is_ours
    return Opened(
        net.eval(),
        preprocess,
        tokenize,
        where,
        name=model,
        weights_sha256=digest_of_file(file, lambda _: None),
        precision=precision,
        batch=batch,
        pixels=pixels,
        quick_gelu=quick_gelu,
        warnings=() if known else tuple(_doubts(name, pixels, quick_gelu)),
    )


def _as_tagged(name: str, tag: str) -> dict[str, Any]:
    """What open_clip is told to prepare pixels and activate as weights want that it knows."""
    import open_clip

    found = open_clip.get_pretrained_cfg(name, tag)
    if not found:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UserError(f"--pretrained-tag {tag}: open_clip's for {name} are: {tags}.")
    given = {
        f"image_{key}": found[key]
        for key in ("mean", "std", "interpolation", "resize_mode")
        if key in found
    }
    return {**given, "force_quick_gelu": bool(found.get("quick_gelu"))}


def _doubts(name: str, pixels: Mapping[str, Any], quick_gelu: bool) -> Iterator[str]:
    """Whether open_clip knows weights of a network that want to be used otherwise."""
    import open_clip

    others = []
    for tag in open_clip.list_pretrained_tags_by_model(name):
        found = open_clip.get_pretrained_cfg(name, tag)
        wanted = _plain(found)
        wanted.pop("size", None)  # which is the network's
        differs = any(pixels.get(key) != value for key, value in wanted.items())
        if differs or bool(found.get("quick_gelu")) != quick_gelu:
            others.append(tag)
    quick = f"{name}-quickgelu"
    remedies = ["give --pretrained-tag if yours are some of these"] if others else []
    if quick in open_clip.list_models() and not quick_gelu:
        remedies.append(f"give --model {quick} if yours were trained with QuickGELU")
    if remedies:
        said = f", and its weights {', '.join(others)} want others" if others else ""
        yield (
            f"{name} is used with open_clip's defaults for pixels and activation{said}: "
            f"{', or '.join(remedies)}."
        )


#: What a config may ask of a tokenizer: open_clip's own configs ask for the first two.
_OF_TOKENIZERS: Final = frozenset(
    {"clean", "strip_sep_token", "language", "reduction_mask", "additional_special_tokens"}
)


def safely(name: str) -> dict[str, bool]:
    """What a tokenizer is told besides, so that none of its folder's programs is run.

    Raises UserError where a config asks for more than is known to be harmless.
    """
    import open_clip

    config = open_clip.get_model_config(name)
    texts = config.get("text_cfg") if isinstance(config, dict) else None
    if not isinstance(texts, dict):
        return {}  # which open_clip says
    asked = texts.get("tokenizer_kwargs") or {}
    more = sorted({*asked} - _OF_TOKENIZERS) if isinstance(asked, dict) else ["tokenizer_kwargs"]
    if more:
        raise UserError(
            f"{name}: its config asks for a tokenizer with {', '.join(more)}, which might run what "
            "it brings along: look into text_cfg.tokenizer_kwargs, and remove that if you can."
        )
    if texts.get("hf_tokenizer_name"):
        return {"trust_remote_code": False}
    if "siglip" in name.lower() and not name.startswith(_LOCAL):
        raise UserError(
            f"{name}: open_clip would fetch SigLIP's tokenizer, going by that name: rename the "
            "file, or say which one it has (text_cfg.hf_tokenizer_name)."
        )
    return {}


@contextmanager
def offline() -> Iterator[None]:
    """Meanwhile the hub's client answers from its cache, or not at all."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def registered(model: str) -> str:
    """The name by which open_clip knows a network, which it is told of if it is ours or a file.

    Raises UserError where it is neither, or the file's name is one of open_clip's own networks.
    """
    import open_clip

    path = OURS.get(model, Path(model))
    if path.suffix == ".json" and path.is_file():
        if path.name == CONFIG_FILE:
            raise UserError(f"{path} belongs to the model in {path.parent}: give that folder.")
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
            f"{model!r} is neither a folder with {CONFIG_FILE} nor tiny nor a model that open_clip "
            "knows (`python -c 'import open_clip; print(open_clip.list_models())'`)."
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

    known = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError)
    # open_clip asserts the width of a table of places
    return (*known, AssertionError, pickle.UnpicklingError, SafetensorError)


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
