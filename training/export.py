"""A run's model in open_clip's layout, with cards: a folder that others can load, or push.

    open_clip_config.json           network and preprocessing
    open_clip_model.safetensors     weights
    vocab.json, merges.txt, …       the tokenizer, as transformers reads it; open_clip has its own
    README.md, DATASET.md           what is known of the model and of its data
    manifest.json                   digests of all of it: `sparqless verify` checks them

Written by open_clip's own functions. The same run gives the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from download.pack.tables import ATTRIBUTION_FILE
from etl.errors import UserError
from etl.manifest import (
    MANIFEST,
    digest_of_file,
    digest_of_outputs,
    digests,
    discard,
    read_manifest,
    settle,
    tool_versions,
)
from etl.writing import disk_errors
from graph.read import manifest_of
from training.cards import (
    DATASET_CARD,
    MODEL_CARD,
    STEP,
    Known,
    dataset_card,
    licences_of,
    model_card,
)
from training.data_index import IMAGES_FILE, shards_in, shards_manifest
from training.evaluation_report import MODEL, kept, model_of
from training.opened import CONFIG_FILE, opened

RUN_STEP: Final = "run"

#: Names by which transformers knows the two special tokens of CLIP's tokenizer.
_SPECIAL: Final = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}

_WRITING: Final = ".writing"


def export_model(
    run: Path,
    out: Path,
    *,
    name: str = "",
    shards: Path | None = None,
    graph: Path | None = None,
    licence: str = "",
) -> dict[str, Any]:
    """Writes the model of a finished run into the folder ``out``; its manifest.

    ``name``: what the card calls it, the folder's name if empty. ``shards`` and ``graph`` are what
    it was trained on; ``licence``: the one that it is given, as the hub spells it (apache-2.0).

    Raises UserError where the run isn't finished, something can't be read, or ``out`` isn't ours to
    write into.
    """
    _check_out(run, out)
    shards = None if shards is None else Path(shards_in(str(shards)))
    known = _known(run, name or out.resolve().name, shards, graph, licence)
    out.parent.mkdir(parents=True, exist_ok=True)
    made = out.with_name(f"{out.name}{_WRITING}")
    with disk_errors(out.parent):
        discard(made)
        made.mkdir()
        try:
            write_model(model_of(run), made)
            (made / MODEL_CARD).write_text(model_card(known), "utf-8")
            if known.data:
                (made / DATASET_CARD).write_text(dataset_card(known), "utf-8")
            names = [path.name for path in made.iterdir()]
            manifest = {
                "step": STEP,
                "versions": tool_versions(),
                "run": {"manifest_sha256": known.run["manifest_sha256"]},
                "outputs": digests(made, names, quiet=True),
            }
            settle(made, out, manifest)
        finally:
            discard(made)
    return read_manifest(out, STEP)


def _check_out(run: Path, out: Path) -> None:
    if out.resolve() == run.resolve() or run.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{out} holds the run itself: name another directory.")
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file: name a directory.")
    known = set[str]()
    if (out / MANIFEST).exists():  # another step's is refused
        known = {MANIFEST, *read_manifest(out, STEP)["outputs"]}
    foreign = sorted({path.name for path in out.iterdir()} - known)
    if foreign:
        raise UserError(
            f"{out} holds {foreign[0]!r}, which no export of sparqless wrote there: name a new "
            "directory or that of an earlier export."
        )


def _known(run: Path, name: str, shards: Path | None, graph: Path | None, licence: str) -> Known:
    manifest = read_manifest(run, RUN_STEP)
    model = model_of(run)
    _check_model(run, manifest)
    of_shards = shards_manifest(str(shards)) if shards else {}
    of_graph = manifest_of(graph) if graph else {}
    unsaid = []
    # as training.inputs.Shards names its inputs
    for what, key, given, digest in (
        ("images", "shards", shards, of_shards and of_shards["outputs"][IMAGES_FILE]["sha256"]),
        ("entities", "graph", graph, of_graph and digest_of_outputs(of_graph)),
    ):
        recorded = manifest.get("inputs", {}).get(key)
        if given is not None and recorded is None:
            unsaid.append(what)
        elif given is not None and recorded != digest:
            raise UserError(
                f"{given} is not what {run} was trained on: give that, or leave it out."
            )
    config = run / "config.toml"
    return Known(
        name=name,
        model=json.loads((model / CONFIG_FILE).read_bytes()),
        run=manifest,
        config=config.read_text("utf-8") if config.is_file() else "",
        evaluations=_of_these_weights(run, manifest),
        shards=of_shards,
        licences=licences_of(shards) if shards and (shards / ATTRIBUTION_FILE).is_file() else {},
        graph=of_graph,
        licence=licence,
        unsaid=unsaid,
    )


def _check_model(run: Path, manifest: dict[str, Any]) -> None:
    """Refuses a model that isn't the one that the run's figures and cards are about."""
    for name, made in manifest["outputs"].items():
        if name.startswith(f"{MODEL}/") and (
            not (run / name).is_file()
            or digest_of_file(run / name, lambda _: None) != made["sha256"]
        ):
            raise UserError(
                f"{run / name} is not what the run wrote there: put that back, or train again; "
                "`sparqless verify` says what else was changed."
            )


def _of_these_weights(run: Path, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Evaluations of the run, but for those of other weights than it ended with."""
    digests_ = {one["sha256"] for one in manifest["outputs"].values()}
    return {
        name: found
        for name, found in kept(run).items()
        if found["model"]["weights_sha256"] in digests_
    }


def write_model(model: Path, out: Path) -> None:
    """Writes a model in open_clip's layout anew, with its tokenizer, by open_clip's functions.

    Raises UserError where it can't be loaded, OSError where it can't be written.
    """
    from open_clip.push_to_hf_hub import save_for_hf
    from safetensors import SafetensorError

    found = opened(str(model), device="cpu")
    config = json.loads((model / CONFIG_FILE).read_bytes())["model_cfg"]
    tokenizer: Any = found.tokenize
    if not hasattr(tokenizer, "save_pretrained"):
        tokenizer = _Files(tokenizer)
    try:
        save_for_hf(found.net, tokenizer, config, str(out), safe_serialization=True)
    except SafetensorError as error:  # of its own class, with the system's words
        raise OSError(str(error)) from error


class _Files:
    """CLIP's tokenizer as the files that transformers reads, of which open_clip needs none."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def save_pretrained(self, folder: Path) -> None:
        """The files of transformers' CLIPTokenizer: it gives the same ids."""
        words = {_SPECIAL.get(word, word): id_ for word, id_ in self._tokenizer.encoder.items()}
        ranks = self._tokenizer.bpe_ranks
        pairs = (" ".join(pair) for pair in sorted(ranks, key=ranks.__getitem__))
        special = {"bos_token": "<|startoftext|>"}
        special |= dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "do_lower_case": True,
            "model_max_length": self._tokenizer.context_length,
            **special,
        }
        (folder / "vocab.json").write_bytes(msgspec.json.encode(words))
        (folder / "merges.txt").write_text(
            "\n".join(["#version: 0.2", *pairs, ""]), "utf-8", newline="\n"
        )
        for name, data in (("tokenizer_config", config), ("special_tokens_map", special)):
            text = json.dumps(data, indent=1)
            (folder / f"{name}.json").write_text(f"{text}\n", "utf-8")
