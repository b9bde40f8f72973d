"""The picture of a pack shows what the shards hold, whatever things are called."""

from __future__ import annotations

import io
import math
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from download.figures import FORMATS
from download.pack.picture import SAMPLES, Host, Packed, Root, draw
from download.pack.samples import as_hosts, read, read_jpegs
from etl.errors import UserError

COLUMNS = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("entities", pa.list_(pa.string())),
        ("roots", pa.list_(pa.string())),
    ]
)


def jpeg(colour: str, size: tuple[int, int] = (30, 20)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


@dataclass
class Shards:
    folder: Path
    rows: list[dict[str, Any]]
    jpegs: dict[str, bytes]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """60 images of 25 entities in 5 shards, all of one root, few of another."""
    folder, chance = tmp_path_factory.mktemp("shards"), random.Random(5)
    rows, jpegs = [], {}
    for number in range(60):
        key = f"{number:04x}{chance.getrandbits(112):028x}"
        entities = [f"Q{1 + n}" for n in chance.sample(range(25), chance.randint(1, 3))]
        split = "train" if number % 10 else "val"
        shard = f"{split}-{number // 20:06d}"
        roots = ["Q729", *(["Q756"] if number in (7, 11, 12) else [])]
        width, height = chance.randint(20, 5000), chance.randint(20, 5000)
        values = (key, shard, width, height, entities, roots)
        rows.append(dict(zip(COLUMNS.names, values, strict=True)))
        jpegs[key] = jpeg(f"#{chance.getrandbits(24):06x}")
    pq.write_table(pa.Table.from_pylist(rows, COLUMNS), folder / "images.parquet")
    for shard in {row["shard"] for row in rows}:
        with webdataset.TarWriter(str(folder / f"{shard}.tar")) as tar:
            for row in rows:
                if row["shard"] == shard:
                    files = {"jpg": jpegs[row["key"]], "json": {}, "txt": "a"}
                    tar.write({"__key__": row["key"], **files})
    return Shards(folder, rows, jpegs)


def test_what_is_drawn_is_what_the_shards_hold(shards: Shards) -> None:
    hosts = [Host("a.example", {"ok": 1})]
    found = read(shards.folder, {"Q756": "plant", "Q1": "none", "Q729": None}, hosts, 256)
    assert (found.images, found.shards, found.size) == (60, 6, 256)
    assert found.entities == len({e for row in shards.rows for e in row["entities"]})
    sides = [min(row["original_width"], row["original_height"]) for row in shards.rows]
    assert found.sides == Counter(2 ** math.floor(math.log2(side)) for side in sides)
    assert [(root.id, root.name, root.images) for root in found.roots] == [
        ("Q756", "plant", 3),
        ("Q1", "none", 0),
        ("Q729", None, 60),
    ]
    assert found.hosts == hosts


def test_the_images_of_a_root_are_its_own_and_of_different_entities(shards: Shards) -> None:
    found = read(shards.folder, {}, [], 256)
    by_jpeg = {shards.jpegs[row["key"]]: row for row in shards.rows}
    animals, plants = (next(r for r in found.roots if r.id == id_) for id_ in ("Q729", "Q756"))
    assert len(animals.samples) == SAMPLES
    assert len({by_jpeg[jpeg]["entities"][0] for jpeg in animals.samples}) == SAMPLES
    of_plants = [row for row in shards.rows if "Q756" in row["roots"]]
    first = {row["entities"][0]: row["key"] for row in reversed(of_plants)}
    assert [by_jpeg[jpeg]["key"] for jpeg in plants.samples] == sorted(first.values())
    assert read(shards.folder, {}, [], 256) == found


def test_a_shard_that_lacks_an_image_is_said(shards: Shards, tmp_path: Path) -> None:
    def opened(name: str) -> IO[bytes]:
        return (shards.folder / name).open("rb")

    with pytest.raises(UserError, match=r"train-000000\.tar has no k\.jpg"):
        read_jpegs([("k", "train-000000")], opened)
    with pytest.raises(UserError, match=r"train-000009\.tar can't be read"):
        read_jpegs([("k", "train-000009")], opened)
    with pytest.raises(UserError, match="can't be read"):
        read_jpegs([("k", "train-000000")], lambda _: io.BytesIO(b"no tar" * 200))


def test_shards_may_stand_elsewhere(shards: Shards, tmp_path: Path) -> None:
    (tmp_path / "images.parquet").symlink_to(shards.folder / "images.parquet")
    found = read(tmp_path, {}, [], 256, lambda name: (shards.folder / name).open("rb"))
    assert found == read(shards.folder, {}, [], 256)


def test_hosts_of_a_manifest(tmp_path: Path) -> None:
    (host,) = as_hosts([{"host": "a.example", "ok": 3, "transient": 1, "seconds": 2.5}])
    assert (host.name, host.addresses) == ("a.example", 4)
    assert host.outcomes["refused"] == 0


def packed(**changes: Any) -> Packed:
    hosts = [Host(f"h{n}.example", {"ok": 30 - n, "refused": n}) for n in range(20)]
    hosts.append(Host("$x^2$ <b> & \x1b[31m\x07", {"ok": 90, "permanent": 10}))
    roots = [
        Root("Q729", "a $x^2$ <i>", 1_234, [jpeg("red"), jpeg("green", (20, 300))]),
        Root("Q756", None, 5, [jpeg("blue")]),
        Root("Q1", "nothing of it", 0, []),
    ]
    values = {
        "images": 1_239, "entities": 77, "shards": 2, "hosts": hosts,
        "sides": {64: 3, 256: 1_000}, "size": 256, "roots": roots,
    }  # fmt: skip
    return Packed(**{**values, **changes})


def texts(path: Path) -> str:
    root = ElementTree.parse(path).getroot()
    return "\n".join("".join(e.itertext()) for e in root.iter() if e.tag.endswith("text"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_is_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    first, second = (tmp_path / f"{n}.{suffix}" for n in "ab")
    draw(packed(), first)
    draw(packed(), second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 5_000
    assert len(list(tmp_path.iterdir())) == 2


def test_a_picture_says_names_as_they_are(tmp_path: Path) -> None:
    draw(packed(), tmp_path / "p.svg")
    said = texts(tmp_path / "p.svg")
    assert "1,239 images of 77 entities, in 2 shards" in said
    assert "$x^2$ <b> & \ufffd[31m\ufffd  100" in said
    assert "a $x^2$ <i>  1,234" in said
    assert "Q756  5" in said
    assert "nothing of it" not in said
    assert "9 other hosts" in said  # the twelve largest are named
    assert "h0.example  30" in said
    assert "h19.example" not in said
    assert "128" in said.splitlines()  # between 64 and 256, though there are none


def test_images_are_shown_in_their_colours_and_whole(tmp_path: Path) -> None:
    draw(packed(), tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 24) or []
    seen: Counter[str] = Counter()
    for number, (red, green, blue) in colours:
        for name, near in (("red", (254, 0, 0)), ("green", (0, 128, 1)), ("blue", (0, 0, 254))):
            if max(abs(a - b) for a, b in zip(near, (red, green, blue), strict=True)) < 3:
                seen[name] += number
    assert seen["red"] == seen["blue"] == 30 * 20  # never enlarged
    assert seen["green"] == pytest.approx(96 * 96 * 20 / 300, rel=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"hosts": []},
        {"roots": []},
        {"sides": {}},
        {"hosts": [], "roots": [], "sides": {}, "images": 0, "entities": 0, "shards": 0},
        {"hosts": [Host("a.example", {})]},
    ],
)
def test_where_there_is_nothing_the_rest_is_drawn(tmp_path: Path, changes: dict[str, Any]) -> None:
    draw(packed(**changes), tmp_path / "p.svg")
    assert "shard" in texts(tmp_path / "p.svg")


def test_a_picture_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.svg, \.png, \.jpg or \.pdf"):
        draw(packed(), tmp_path / "p.gif")
