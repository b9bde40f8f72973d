"""What is said of a model and of its data to whoever gets them: from manifests, and nothing else.

What isn't known is left out; nothing is judged, promised or guessed. Of files of this machine only
the names are told, not where they stand. The same manifests give the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from download.licences import licences
from download.pack.splits import SPLITS
from etl.show import counted, in_bytes
from training.markdown import block, code, table, text, yaml

MODEL_CARD: Final = "README.md"
DATASET_CARD: Final = "DATASET.md"
#: As download.pack.tables names it, which isn't imported: it needs torch, and pushing doesn't.
ATTRIBUTION_FILE: Final = "attribution.parquet"

CARDS: Final = frozenset({MODEL_CARD, DATASET_CARD})

#: The step of an export's manifest.
STEP: Final = "model"

#: Names of files that an export may have; which tokenizer it has decides.
EXPORTED: Final = CARDS | {
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
}

#: Libraries whose versions a card names.
_LIBRARIES: Final = ("sparqless", "python", "torch", "open_clip_torch")

_MOST: Final = 50  # rows of a table

#: https://www.wikidata.org/wiki/Wikidata:Licensing
_WIKIDATA: Final = "[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/)"

Map = Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """What cards are made of; an empty map is what isn't known."""

    name: str
    model: Map  # open_clip_config.json
    run: Map = field(default_factory=dict)  # a run's manifest
    config: str = ""  # its config.toml
    evaluations: Mapping[str, Map] = field(default_factory=dict)  # by name
    shards: Map = field(default_factory=dict)  # manifest of shards
    licences: Mapping[str, int] = field(default_factory=dict)  # images by licence, "" for unknown
    graph: Map = field(default_factory=dict)  # manifest of a data set
    licence: str = ""  # of the model, which its maker says
    unsaid: Sequence[str] = ()  # "images", "entities": which they were isn't in the run's manifest

    @property
    def data(self) -> bool:
        return bool(self.shards or self.graph)


def licences_of(shards: Path) -> dict[str, int]:
    """How many images stand under each licence, "" for those of which none is known."""
    found = Counter[str]()
    file = pq.ParquetFile(shards / ATTRIBUTION_FILE, pre_buffer=False)
    for batch in file.iter_batches(columns=["licence"]):
        found.update(licence or "" for licence in batch.column("licence").to_pylist())
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def model_card(known: Known) -> str:
    """README.md of a model, with the front matter that the Hugging Face hub reads."""
    lines = [
        "---",
        "library_name: open_clip",
        "pipeline_tag: zero-shot-image-classification",
        "tags:",
        "- clip",
        "- sparqless",
        *([f"license: {yaml(known.licence)}"] if known.licence else []),
        "---",
        f"# {text(known.name)}",
        "",
        *_summary(known),
        *_use(known),
        *_network(known.model.get("model_cfg", {}), known.model.get("preprocess_cfg", {})),
        *_training(known),
        *_evaluations(known.evaluations),
        *_data(known),
    ]
    return _joined(lines)


def dataset_card(known: Known) -> str:
    """DATASET.md: the data that a model was trained on."""
    lines = [f"# Data of {text(known.name)}", ""]
    if known.graph:
        lines += _snapshot(known.graph)
        lines += _entities(known.graph)
        lines += _recipe(known.graph)
    if known.shards:
        lines += _images(known.shards)
        lines += _licences(known.licences)
    return _joined(lines)


#: Settings of a run that may name files.
_OF_FILES = re.compile(
    r"^(?:name|weights|cache|keep_lists|skip_lists|classes|templates) = .*$", re.M
)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def _without_folders(config: str) -> str:
    """A run's config.toml, with the names alone of the files that it was told of."""

    def name(value: re.Match[str]) -> str:
        return f'"{_file_name(value[1])}"'

    return _OF_FILES.sub(lambda line: _STRING.sub(name, line[0]), config)


def _file_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


# --- of the model -------------------------------------------------------------------------------


def _summary(known: Known) -> Iterator[str]:
    network = _file_name(known.run.get("config", {}).get("model", {}).get("name", ""))
    trained = known.run.get("counts", {})
    yield f"A CLIP model{f' ({code(network)})' if network else ''} in open_clip's layout."
    if trained:
        yield (
            f"It was trained for {trained['steps']:,} steps, in which it saw {trained['images']:,} "
            "images, the same one as often as it was drawn."
        )
    yield ""


def _use(known: Known) -> Iterator[str]:
    yield from ("## Use", "")
    yield from block(
        "import open_clip\n"
        "\n"
        'where = "local-dir:PATH"  # this folder; or hf-hub:USER/NAME\n'
        "model, preprocess = open_clip.create_model_from_pretrained(where)\n"
        "tokenizer = open_clip.get_tokenizer(where)\n",
        "python",
    )


def _network(config: Map, preprocess: Map) -> Iterator[str]:
    vision, texts = config.get("vision_cfg", {}), config.get("text_cfg", {})
    rows = [
        ("embedding", config.get("embed_dim"), "dimensions"),
        ("images", vision.get("image_size"), "pixels a side"),
        ("texts", texts.get("context_length"), "tokens at most, beginning and end included"),
        ("vocabulary", texts.get("vocab_size"), "tokens"),
        ("mean", preprocess.get("mean"), "that channels (RGB, 0 to 1) are normalised by"),
        ("standard deviation", preprocess.get("std"), "likewise"),
        ("resized by", preprocess.get("interpolation"), ""),
    ]
    kept = [(n, text(_plain(v)), what) for n, v, what in rows if v is not None]
    if kept:
        yield from ("## Network", "")
        yield from table(["", "", ""], kept)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f"{one:.6g}" for one in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _training(known: Known) -> Iterator[str]:
    run = known.run
    if not run and not known.config:
        return
    yield from ("## Training", "")
    counts, last = run.get("counts", {}), run.get("metrics", {})
    versions = run.get("versions", {})
    rows = [(name, f"{counts[name]:,}") for name in ("parameters", "steps", "images")
            if name in counts]  # fmt: skip
    if "macs" in last:
        rows.append(("multiply–adds", f"{last['macs']:.3g}"))
    if "macs_77" in last:
        rows.append(("multiply–adds with a context of 77", f"{last['macs_77']:.3g}"))
    if "loss" in last:
        rows.append(("last loss", f"{last['loss']:.4g}"))
    rows += [(text(name), text(versions[name])) for name in _LIBRARIES if name in versions]
    if rows:
        yield from table(["", ">"], rows)
    if known.config:
        yield from ("All that the run was told:", "")
        yield from block(_without_folders(known.config), "toml")


def _evaluations(found: Mapping[str, Map]) -> Iterator[str]:
    rows = [row for name, data in found.items() for row in _evaluation(name, data)]
    if not rows:
        return
    yield from ("## Evaluation", "")
    yield (
        "Shares in per cent. acc1: the first answer is one of the right classes; by class: its "
        "mean over classes. R@1: the nearest is right. Ties count as wrong. Names of classes were "
        "put into the templates that are named: the first name, all of them, or the other ones "
        "(synonyms), with the natural type where that is said."
    )
    yield ""
    headers = ["evaluation", "set", "templates", "names", ">images", ">classes", ">acc1", ">acc5",
               ">by class", ">a guess", ">image to text R@1", ">text to image R@1"]  # fmt: skip
    yield from table(headers, rows)


def _evaluation(name: str, data: Map) -> Iterator[list[str]]:
    for one in data["sets"]:
        options = data["options"]
        names = f"{options['names']}, types" if options["types"] else options["names"]
        row = [text(name), text(one["name"]), text(options["templates"]), text(names)]
        found, retrieved = one["classification"], one["retrieval"]
        if found:
            score = found["score"]
            row += [f"{score['images']:,}", f"{found['choices']:,}"]
            shares = ("acc1", "acc5", "macro_acc1", "chance")
            row += [f"{100 * score[share]:.1f}" for share in shares]
        else:
            row += [f"{one['images']:,}", "", "", "", "", ""]
        ways = ("i2t", "t2i")
        row += [f"{100 * retrieved[way]['R@1']:.1f}" if retrieved else "" for way in ways]
        yield row


def _data(known: Known) -> Iterator[str]:
    if not known.data:
        return
    yield from ("## Data", "")
    if known.shards:
        splits = known.shards["counts"]["splits"]
        parts = ", ".join(f"{splits[s]['images']:,} in {s}" for s in SPLITS if s in splits)
        yield f"{known.shards['counts']['images']:,} images: {parts}."
    if known.graph:
        name = text(known.graph["recipe"]["name"])
        yield f"Entities of the recipe {name}: {known.graph['counts']['entities']:,}."
    if known.unsaid:
        yield (
            f"Which {' and '.join(known.unsaid)} it was trained on isn't recorded by its run: that "
            "it were these is the word of whoever exported it."
        )
    yield from (f"[{DATASET_CARD}]({DATASET_CARD}) says where all of it came from.", "")


# --- of the data --------------------------------------------------------------------------------


def _snapshot(graph: Map) -> Iterator[str]:
    """The dump: what of it is known."""
    store = graph.get("store", {})
    inputs = store.get("inputs", [])
    if not inputs:
        return
    yield from ("## Wikidata", "")
    yield f"Names, statements and the hierarchy are Wikidata's, which are under {_WIKIDATA}."
    yield ""
    rows = []
    for one in inputs:
        size = in_bytes(one["size"]) if isinstance(one.get("size"), int) else ""
        rows.append([code(one.get("name", "")), size, code(one.get("digest", ""))])
    yield from table(["dump", ">", "digest"], rows[:_MOST])
    if len(rows) > _MOST:
        yield from (f"… and {len(rows) - _MOST:,} more files.", "")
    if store.get("limit"):
        yield from (f"Only its first {counted(store['limit'], 'entity', 'entities')}.", "")
    if store.get("damage"):
        yield from (
            f"{counted(len(store['damage']), 'part')} of it couldn't be read and is missing.",
            "",
        )


def _entities(graph: Map) -> Iterator[str]:
    counts = graph["counts"]
    yield from ("## Entities", "", f"{counts['entities']:,} entities.", "")
    rows = [
        [
            text(one.get("name") or one["root"]),
            text(one["root"]),
            text(one.get("recipe", "")),
            f"{one['kept']:,}",
        ]
        for one in counts.get("roots", [])
        if "kept" in one
    ]
    if rows:
        yield from table(["root", "id", "recipe", ">entities"], rows[:_MOST])


def _recipe(graph: Map) -> Iterator[str]:
    recipe = graph["recipe"]
    yield from ("## Recipe", "", f"{text(recipe['name'])}, all of it:", "")
    for one in recipe.get("texts", []):
        yield from block(one["text"], "toml")


def _images(shards: Map) -> Iterator[str]:
    counts = shards["counts"]
    yield from ("## Images", "")
    rows = [
        [split, f"{counts['splits'][split]['images']:,}"]
        for split in SPLITS
        if split in counts["splits"]
    ]
    yield from table(["split", ">images"], [*rows, ["all", f"{counts['images']:,}"]])
    yield "Which split an image belongs to was decided by the digest of its file."
    if counts.get("against"):
        references = counted(counts["against"]["references"], "image")
        yield f"Images like one of {references} of evaluation sets were left out."
    yield ""
    roots = [
        [text(one.get("name") or one["root"]), text(one["root"]), f"{one['images']:,}"]
        for one in counts.get("roots", [])
    ]
    if roots:
        yield from table(["root", "id", ">images"], roots[:_MOST])
    dropped = sorted(counts.get("dropped", {}).items())
    if dropped:
        yield from ("Files that were fetched and left out:", "")
        yield from table(["why", ">files"], [[text(why), f"{n['files']:,}"] for why, n in dropped])


def _licences(found: Mapping[str, int]) -> Iterator[str]:
    if not found:
        return
    yield from ("## Licences of the images", "")
    addresses = {one.name: one.url for one in licences().values() if one.url}
    rows = []
    for name, images in list(found.items())[:_MOST]:
        shown = text(name) if name else "not known"
        if name in addresses:
            shown = f"[{shown}]({addresses[name]})"
        rows.append([shown, f"{images:,}"])
    yield from table(["licence", ">images"], rows)
    if len(found) > _MOST:
        more = sum(list(found.values())[_MOST:])
        yield from (f"… and {len(found) - _MOST:,} more, of {counted(more, 'image')}.", "")
    yield (
        "The images aren't part of this. The creator, licence and page of each, as far as they are "
        f"known, stand in {code(ATTRIBUTION_FILE)} beside the shards that the model was trained "
        "on: ask whoever made it."
    )
