"""Drawn images of eight classes, as folders and as shards with a data set, and a tiny CLIP.

Ids, names and texts are made up.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import torch
from PIL import Image, ImageDraw

import training.vision  # noqa: F401
from download.pack.attribution import attribution
from download.pack.record import Entity, File, Record, Text
from download.pack.shards import write_tar
from download.pack.tables import ATTRIBUTION_FILE, IMAGES, IMAGES_FILE
from etl.manifest import digests, write_manifest
from etl.tables import write_table
from graph.tables import ENTITIES, HIERARCHY

import open_clip  # isort: skip

COLOURS = {"red": (220, 30, 30), "green": (20, 180, 30), "blue": (30, 40, 230), "black": (0, 0, 0)}
LR = 5e-4
SHAPES = ("disc", "bar")

#: Class → its folder's name, and its id: a red disc is a disc, which is a shape.
CLASSES = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
IDS = {name: f"Q{100 + number}" for number, name in enumerate(CLASSES)}
PARENTS = {"disc": "Q10", "bar": "Q11"}

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def drawing(name: str, seed: int) -> Image.Image:
    """48 pixels a side; where, how large and before what is drawn by the seed."""
    rng = random.Random(f"{name} {seed}")
    colour, shape = name.split()
    image = Image.new("RGB", (48, 48), tuple(rng.randint(235, 255) for _ in range(3)))
    x, y, size = rng.randint(2, 14), rng.randint(2, 14), rng.randint(24, 32)
    draw = ImageDraw.Draw(image)
    if shape == "disc":
        draw.ellipse((x, y, x + size, y + size), fill=COLOURS[colour])
    else:
        draw.rectangle((x, y + size // 4, x + size, y + 3 * size // 4), fill=COLOURS[colour])
    return image


def jpeg(name: str, seed: int) -> bytes:
    out = io.BytesIO()
    drawing(name, seed).save(out, "JPEG", quality=95)
    return out.getvalue()


def write_folders(folder: Path, seeds: Iterable[int]) -> Path:
    """``folder/red_disc/0.jpg`` and so on."""
    seeds = list(seeds)
    for name in CLASSES:
        (folder / name.replace(" ", "_")).mkdir(parents=True)
        for seed in seeds:
            (folder / name.replace(" ", "_") / f"{seed}.jpg").write_bytes(jpeg(name, seed))
    return folder


def record(body: bytes, names: Sequence[str], texts: Sequence[str], **more: Any) -> Record:
    sha256 = hashlib.sha256(body).hexdigest()
    entities = [Entity(IDS[n], n, ["Q1"], PARENTS[n.split()[1]], n.split()[1], ["list"], ["P18"])
                for n in names]  # fmt: skip
    written = [Text(text, "en", ["list"]) for text in texts]
    named = [Text(names[0], "", ["name"])]
    values: dict[str, Any] = {
        "key": sha256[:32], "caption": (written or named)[0].text, "url": "https://images.test/1",
        "page_url": "", "file": "", "licence": "CC0 1.0", "creator": "", "width": 48, "height": 48,
        "original_width": 48, "original_height": 48, "format": "jpeg", "sha256": sha256,
        "entities": entities, "queries": [], "texts": written or named,
        "files": [File(sha256, "https://images.test/1", "", "", 48, 48)],
    }  # fmt: skip
    return Record(**(values | more))


def write_shards(folder: Path, splits: dict[str, list[tuple[bytes, Record]]]) -> Path:
    """A shard for each split that has images, the table of images, attribution, the manifest."""
    folder.mkdir(parents=True)
    rows = []
    names = [IMAGES_FILE, ATTRIBUTION_FILE]
    counts = {}
    for split in ("train", "val", "test"):
        samples = sorted(splits.get(split, []), key=lambda sample: sample[1].key)
        counts[split] = {"images": len(samples), "shards": bool(samples), "bytes": 0}
        if not samples:
            continue
        names.append(f"{split}-000000.tar")
        with (folder / names[-1]).open("wb") as file:
            write_tar(file, ({"__key__": r.key, "jpg": body, "json": msgspec.json.encode(r),
                              "txt": r.caption.encode()} for body, r in samples))  # fmt: skip
        for _, r in samples:
            plain = {name: getattr(r, name) for name in IMAGES.names if hasattr(r, name)}
            plain |= {"split": split, "shard": names[-1][:-4], "queries": None}
            plain |= {"entities": [e.id for e in r.entities], "roots": ["Q1"], "texts": [],
                      "files": [msgspec.to_builtins(f) for f in r.files]}  # fmt: skip
            rows.append(plain)
    table = pa.Table.from_pylist(rows, IMAGES)
    write_table(folder / IMAGES_FILE, table)
    write_table(folder / ATTRIBUTION_FILE, attribution(table))
    manifest = {
        "step": "shards",
        "counts": {
            "images": len(rows),
            "splits": counts,
            "roots": [{"root": "Q1", "name": "shape", "images": len(rows)} | {
                split: counts[split]["images"] for split in counts}],
        },
        "outputs": digests(folder, names, quiet=True),
    }  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def held_out(seeds: Iterable[int]) -> list[tuple[bytes, Record]]:
    """An image of each class for each seed, captioned."""
    found = []
    for seed in seeds:
        for name in CLASSES:
            body = jpeg(name, seed)
            found.append((body, record(body, [name], [f"a picture of a {name}"])))
    return found


def write_graph(folder: Path, *more: dict[str, Any]) -> Path:
    """The classes, each below disc or bar, which are below shape; and ``more`` entities."""
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = [
        {"id": "Q1", "name": "shape"},
        {"id": "Q10", "name": "disc"},
        {"id": "Q11", "name": "bar"},
    ]
    edges = [("Q10", "Q1"), ("Q11", "Q1")]
    for name, id_ in IDS.items():
        shape = name.split()[1]
        rows.append({"id": id_, "name": name, "aliases": [f"{name} thing"],
                     "natural_type": PARENTS[shape], "natural_type_name": shape})  # fmt: skip
        edges.append((id_, PARENTS[shape]))
    rows += more
    for row in rows:
        row |= {"sitelinks": 7, "common_names": [], "taxon_names": []}
        row.setdefault("aliases", [])
        row.setdefault("roots", ["Q1"])
    below = [{"child": child, "property": "P279", "parent": parent} for child, parent in edges]
    write_table(folder / "entities.parquet", pa.Table.from_pylist(rows, ENTITIES))
    write_table(folder / "hierarchy.parquet", pa.Table.from_pylist(below, HIERARCHY))
    manifest = {
        "step": "graph",
        "counts": {"roots": [{"root": "Q1", "name": "shape"}], "entities": len(rows)},
        "recipe": {"name": "shapes", "texts": [{"name": "shapes", "text": 'name = "shapes"\n'}]},
        "store": {"inputs": [{"name": "shapes.json.gz", "size": 1000, "digest": "0" * 64}]},
        "outputs": digests(folder, ["entities.parquet", "hierarchy.parquet"], quiet=True),
    }
    write_manifest(folder, manifest)
    return folder


def tiny(folder: Path, *, steps: int, seed: int = 0) -> Path:
    """Trains a tiny CLIP on drawings (seeds from 1000 on); its folder in open_clip's layout."""
    folder.mkdir(parents=True)
    (folder / "tiny-drawn.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-drawn.json")
    torch.manual_seed(seed)
    net, _, preprocess = open_clip.create_model_and_transforms("tiny-drawn")
    tokenize = open_clip.get_tokenizer("tiny-drawn")
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=0.0)
    loss_of = open_clip.ClipLoss()
    tokens = tokenize([f"a photo of a {name}." for name in CLASSES])
    for step in range(steps):
        images = torch.stack([preprocess(drawing(name, 1000 + step)) for name in CLASSES])
        loss = loss_of(*net(images, tokens))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    from safetensors.torch import save_file

    save_file(net.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": TINY, "preprocess_cfg": {"mean": net.visual.image_mean,
                                                    "std": net.visual.image_std}}  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "tiny-drawn.json").unlink()
    return folder
