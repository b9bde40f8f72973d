"""From what was fetched to shards: what a user finds in them, and that all of it adds up."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from PIL import Image

import download.pack.record
import download.pack.run
from download.pack.record import Record
from download.pack.report import rows
from download.pack.run import Options, pack
from etl.errors import UserError
from tests.download.fetched import Got, encoded, picture, pixels, write

QUICK = Options(val=0.2, test=0.2, workers=0, per_task=9, shard_count=6, quiet=True)


def options(**changed: Any) -> Options:
    return replace(QUICK, **changed)


def candidates() -> list[Got]:
    """Of everything something: dogs with texts, duplicates, failures, what is no picture."""
    alike = pixels(1)
    return [
        *(Got("Q144", picture(n), texts=[(f"Dog {n}", "en")] * (n % 2)) for n in range(1, 19)),
        Got("Q144", None),
        Got("Q146", encoded(alike, "PNG"), texts=[("Eine Katze", "de")], query_hashes=["h1"]),
        Got("Q146", encoded(alike, "WEBP", lossless=True), sources=["url-list"]),
        Got("Q756", picture(3), licence="CC BY 4.0", creator="Ann", query_hashes=["h2", "h1"]),
        Got("Q756", b"<html>not an image</html>"),
        Got("Q756", picture(40)[:2000]),
        Got("Q756", encoded(Image.new("RGB", (300, 300), "white"), "PNG")),
    ]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of images with its shards; not to be written into."""
    folder = write(tmp_path_factory.mktemp("packed"), candidates())
    pack(folder, str(folder / "shards"), QUICK)
    return folder


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "shards" / "manifest.json").read_text())
    return found


def rows_of(folder: Path, name: str = "images") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "shards" / f"{name}.parquet").to_pylist()
    return found


def samples(folder: Path) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """(shard, key, members) as plain tarfile has them."""
    for path in sorted((folder / "shards").glob("*.tar")):
        found: dict[str, dict[str, bytes]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[ending] = file.read()
        for key, members in found.items():
            yield path.stem, key, members


def bytes_of(out: Path) -> dict[str, bytes]:
    """All files but the manifest, which has seconds, and the lock."""
    return {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if path.is_file() and path.name not in ("manifest.json", ".lock")
    }


# --- what is in them ----------------------------------------------------------------------------


def test_tables_and_tars_tell_of_the_same_images(packed: Path) -> None:
    rows = {row["key"]: row for row in rows_of(packed)}
    found = {key: (shard, members) for shard, key, members in samples(packed)}
    assert found.keys() == rows.keys()
    for key, (shard, members) in found.items():
        assert rows[key]["shard"] == shard
        assert shard.startswith(rows[key]["split"])
        made = msgspec.json.decode(members["json"], type=Record)
        assert [made.key, made.caption] == [key, members["txt"].decode()]
        assert rows[key]["entities"] == [entity.id for entity in made.entities]
        with Image.open(io.BytesIO(members["jpg"])) as image:
            assert image.size == (made.width, made.height)
            assert image.format == "JPEG"
    assert [row["key"] for row in rows_of(packed)] == sorted(rows)


def test_a_key_is_that_of_the_file_that_was_fetched(packed: Path) -> None:
    bodies = {hashlib.sha256(got.body).hexdigest() for got in candidates() if got.body}
    for row in rows_of(packed):
        assert row["sha256"] in bodies
        assert row["sha256"].startswith(row["key"])
        assert len(row["key"]) == 32


def test_every_candidate_is_in_an_image_or_dropped_for_a_reason(packed: Path) -> None:
    """Counted again by loops over the rows."""
    fate: Counter[str] = Counter()
    images = {file["url"]: row for row in rows_of(packed) for file in row["files"]}
    dropped = {row["sha256"]: row for row in rows_of(packed, "dropped")}
    for number, got in enumerate(candidates()):
        if got.body is None:
            fate["nothing"] += 1
        elif (row := images.get(f"https://images.test/{number}.jpg")) is not None:
            assert hashlib.sha256(got.body).hexdigest() in {f["sha256"] for f in row["files"]}
            assert got.entity in row["entities"]
            fate["image"] += 1
        else:
            fate[dropped[hashlib.sha256(got.body).hexdigest()]["reason"]] += 1
    counts = manifest_of(packed)["counts"]
    assert counts["candidates"]["all"] - counts["candidates"]["with_file"] == fate.pop("nothing")
    assert counts["candidates"]["in_images"] == fate.pop("image")
    assert {why: found["candidates"] for why, found in counts["dropped"].items()} == fate
    assert fate.keys() == {"not_an_image", "broken", "blank"}
    assert (
        counts["images"]
        == len(rows_of(packed))
        == sum(split["images"] for split in counts["splits"].values())
    )
    files = counts["files"]
    assert files["all"] == files["in_images"] + files["dropped"]
    assert files["in_images"] == counts["images"] + sum(counts["merged"].values())


def test_counts_by_split_and_root_are_those_of_the_rows(packed: Path) -> None:
    counts, rows = manifest_of(packed)["counts"], rows_of(packed)
    by_split = Counter(row["split"] for row in rows)
    assert {name: split["images"] for name, split in counts["splits"].items()} == {
        "train": by_split["train"], "val": by_split["val"], "test": by_split["test"]
    }  # fmt: skip
    for root in counts["roots"]:
        of_root = Counter(row["split"] for row in rows if root["root"] in row["roots"])
        assert root["images"] == of_root.total()
        assert all(root[split] == of_root[split] for split in ("train", "val", "test"))
    assert counts["licensed"] == sum(row["licence"] is not None for row in rows)


def test_shards_are_as_large_as_was_asked_for(packed: Path) -> None:
    found = Counter(shard for shard, _, _ in samples(packed))
    assert max(found.values()) == 6
    last = {name.partition("-")[0]: name for name in sorted(found)}
    assert all(count == 6 for name, count in found.items() if name not in last.values())


def test_the_manifest_has_digests_of_all_that_stands_there(packed: Path) -> None:
    out = packed / "shards"
    said = {name: file["sha256"] for name, file in manifest_of(packed)["outputs"].items()}
    assert said == {name: hashlib.sha256(data).hexdigest() for name, data in bytes_of(out).items()}
    assert not (out / ".packing").exists()


def test_what_shows_the_same_is_one_image_with_all_that_is_known(packed: Path) -> None:
    """The PNG and the WebP of a picture, and its JPEG, have the same pixels or look alike."""
    (row,) = [row for row in rows_of(packed) if "h1" in row["query_hashes"] and "Q146" in
              row["entities"]]  # fmt: skip
    bodies = [got.body for got in candidates()]
    same = {hashlib.sha256(bodies[at] or b"").hexdigest() for at in (0, 19, 20)}
    assert {file["sha256"] for file in row["files"]} == same
    assert row["entities"] == ["Q144", "Q146"]
    assert row["texts"] == ["Dog 1", "Eine Katze"]
    assert row["text_langs"] == ["en", "de"]
    assert row["sources"] == ["commons-p18", "url-list"]
    assert row["caption"] == "Dog 1"


def test_one_file_of_several_candidates_has_what_all_say(packed: Path) -> None:
    sha256 = hashlib.sha256(picture(3)).hexdigest()
    (row,) = [row for row in rows_of(packed) if row["sha256"] == sha256]
    assert row["entities"] == ["Q144", "Q756"]
    assert row["roots"] == ["Q729", "Q756"]
    assert row["query_hashes"] == ["h2", "h1"]
    assert [row["licence"], row["creator"]] == ["CC BY 4.0", "Ann"]
    credit = {row["key"]: row for row in rows_of(packed, "attribution")}[row["key"]]
    assert credit["creator"] == "Ann"
    assert credit["licence_urls"] == ["https://creativecommons.org/licenses/by/4.0/"]


def test_the_largest_original_stands_for_those_that_look_alike(tmp_path: Path) -> None:
    large = pixels(5, (900, 675))
    small = large.resize((400, 300))
    bodies = [encoded(small, quality=80), encoded(large, quality=80), encoded(small, "PNG")]
    write(tmp_path, [Got("Q144", body) for body in bodies])
    manifest = pack(tmp_path, str(tmp_path / "shards"), QUICK)
    (row,) = rows_of(tmp_path)
    assert row["sha256"] == hashlib.sha256(bodies[1]).hexdigest()
    assert [row["original_width"], row["original_height"]] == [900, 675]
    assert {file["width"] for file in row["files"]} == {400, 900}
    assert manifest["counts"]["merged"] == {"pixels": 0, "alike": 2}


# --- the same, whatever happens -----------------------------------------------------------------


@pytest.mark.parametrize(("workers", "per_task"), [(2, 4), (0, 1000)])
def test_workers_and_tasks_leave_no_trace(
    packed: Path, tmp_path: Path, workers: int, per_task: int
) -> None:
    write(tmp_path, candidates())
    pack(tmp_path, str(tmp_path / "shards"), options(workers=workers, per_task=per_task))
    assert bytes_of(tmp_path / "shards") == bytes_of(packed / "shards")


def test_a_second_call_has_nothing_to_do(tmp_path: Path) -> None:
    write(tmp_path, candidates()[:4])
    out = tmp_path / "shards"
    first = pack(tmp_path, str(out), QUICK)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = pack(tmp_path, str(out), QUICK)
    assert again["key"] == first["key"]
    assert ("seconds", "0", "the shards stood already") in [*rows(str(out), again)]
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir() if p.name != ".lock"} == {
        name: at for name, at in before.items() if name != ".lock"
    }


def test_other_splits_do_not_decode_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, candidates())
    out = tmp_path / "shards"

    def fail(*_: object) -> None:
        raise UserError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(download.pack.run, "write_rows", fail)
        with pytest.raises(UserError, match="stopped"):
            pack(tmp_path, str(out), QUICK)
    with monkeypatch.context() as patched:
        patched.setattr(download.pack.run, "decode", fail)
        pack(tmp_path, str(out), options(val=0.5))
    whole = tmp_path / "whole"
    pack(tmp_path, str(whole), options(val=0.5))
    assert bytes_of(out) == bytes_of(whole)


def test_what_killed_runs_were_writing_does_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, candidates()[:4])
    left = [
        tmp_path / "shards" / ".packing" / name
        for name in ("decoded/000000.jpegs.7.tmp", "shards/train-000000.tar.7.tmp", "spill-7/a",
                     "codes-7/entries-0")
    ]  # fmt: skip

    def fail(*_: object) -> None:
        raise UserError("stopped")

    monkeypatch.setattr(download.pack.run, "write_rows", fail)
    for _ in range(2):
        with pytest.raises(UserError, match="stopped"):
            pack(tmp_path, str(tmp_path / "shards"), QUICK)
        assert not any(path.exists() for path in left)
        for path in left:
            path.parent.mkdir(exist_ok=True)
            path.touch()


def test_fewer_shards_than_before_leave_none_of_the_old(tmp_path: Path) -> None:
    write(tmp_path, candidates())
    out = tmp_path / "shards"
    pack(tmp_path, str(out), options(shard_count=1))
    manifest = pack(tmp_path, str(out), QUICK)
    assert {*bytes_of(out)} == {*manifest["outputs"]}


# --- splits -------------------------------------------------------------------------------------


def test_splits_of_before_are_kept_when_images_come_and_go(tmp_path: Path) -> None:
    before = write(tmp_path / "before", [Got("Q144", picture(n, 60)) for n in range(30)])
    pack(before, str(before / "shards"), QUICK)
    got = [Got("Q144", picture(n, 90 if n % 3 else 60)) for n in range(5, 40)]
    got += [Got("Q144", picture(n, 60)) for n in range(5, 30, 2)]  # some of these look alike
    after = write(tmp_path / "after", got)
    shards = before / "shards"
    manifest = pack(after, str(after / "shards"), options(splits_from=shards))
    stood = {file["sha256"]: row["split"] for row in rows_of(before) for file in row["files"]}
    stands = {file["sha256"]: row["split"] for row in rows_of(after) for file in row["files"]}
    both = stood.keys() & stands.keys()
    assert len(both) > 15
    assert {sha: stood[sha] for sha in both} == {sha: stands[sha] for sha in both}
    assert manifest["options"]["splits_from"] == str(shards)


def test_an_image_that_was_away_for_a_while_comes_back_to_its_split(tmp_path: Path) -> None:
    """First all, then half of them, then all again; nothing but what is said of then is held out
    the third time."""
    every = [Got("Q144", picture(n)) for n in range(12)]
    before: Path | None = None
    folders = []
    for number, (got, share) in enumerate([(every, 0.4), (every[::2], 0.4), (every, 0)]):
        folder = write(tmp_path / str(number), got)
        made = options(val=share, test=share, splits_from=before)
        pack(folder, str(folder / "shards"), made)
        before = folder / "shards"
        folders.append(folder)
    first, _, third = ({row["key"]: row["split"] for row in rows_of(folder)} for folder in folders)
    assert {*first.values()} == {"train", "val", "test"}
    assert third == first


def test_every_file_of_an_image_is_remembered_however_many_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.pack.record, "MOST_LISTED", 2)
    bodies = [picture(7, quality) for quality in (80, 82, 84, 86, 88)]
    write(tmp_path, [Got("Q144", body) for body in bodies])
    pack(tmp_path, str(tmp_path / "shards"), options(test=0.7, val=0.1))
    (row,) = rows_of(tmp_path)
    assert len(row["files"]) == 2
    assert {(one["sha256"], one["split"]) for one in rows_of(tmp_path, "splits")} == {
        (hashlib.sha256(body).hexdigest(), row["split"]) for body in bodies
    }


def test_the_shards_that_stand_there_may_say_the_splits(tmp_path: Path) -> None:
    write(tmp_path, candidates())
    out = tmp_path / "shards"
    pack(tmp_path, str(out), QUICK)
    splits = {row["sha256"]: row["split"] for row in rows_of(tmp_path)}
    other = options(val=0, test=0, splits_from=out)
    pack(tmp_path, str(out), other)
    assert {row["sha256"]: row["split"] for row in rows_of(tmp_path)} == splits
    at = (out / "manifest.json").stat().st_mtime_ns
    pack(tmp_path, str(out), other)
    assert (out / "manifest.json").stat().st_mtime_ns == at


def test_images_that_would_move_are_told_of(tmp_path: Path) -> None:
    write(tmp_path, candidates())
    out = tmp_path / "shards"
    pack(tmp_path, str(out), QUICK)
    held_out = sum(len(row["files"]) for row in rows_of(tmp_path) if row["split"] != "train")
    manifest = pack(tmp_path, str(out), options(val=0, test=0))
    assert any("--splits-from" in w and w.startswith(f"{held_out} ") for w in manifest["warnings"])


# --- what is refused ----------------------------------------------------------------------------


def test_an_unfinished_fetch_is_refused_unless_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, candidates()[:4], finished=False)
    results = tmp_path / "fetches" / "results.parquet"
    looked_up = results.rename(tmp_path / "looked-up.parquet")
    monkeypatch.setattr(
        download.pack.run, "write_results", lambda _, out: shutil.copy(looked_up, out)
    )
    out = tmp_path / "shards"
    with pytest.raises(UserError, match="not come to its end"):
        pack(tmp_path, str(out), QUICK)
    assert not out.exists()
    assert pack(tmp_path, str(out), options(unfinished=True))["counts"]["images"] == 4
    got_since = write(tmp_path / "other", candidates()[:4])  # nothing new, but the fetch is done
    shutil.copy(got_since / "fetches" / "results.parquet", results)
    shutil.copy(got_since / "fetches" / "manifest.json", tmp_path / "fetches" / "manifest.json")
    before = (out / "manifest.json").stat().st_mtime_ns
    pack(tmp_path, str(out), QUICK)
    assert (out / "manifest.json").stat().st_mtime_ns == before


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, candidates()[:3])
    out = tmp_path / "shards"
    out.mkdir()
    (out / "train-000000.tar").write_text("mine")
    with pytest.raises(UserError, match=r"holds 'train-000000\.tar'"):
        pack(tmp_path, str(out), QUICK)
    assert (out / "train-000000.tar").read_text() == "mine"


@pytest.mark.parametrize("where", ["candidates/shards", "fetches/store/shards"])
def test_shards_do_not_stand_among_what_they_are_made_from(tmp_path: Path, where: str) -> None:
    write(tmp_path, candidates()[:3])
    with pytest.raises(UserError, match="made from; choose another --out"):
        pack(tmp_path, str(tmp_path / where), QUICK)
    assert not (tmp_path / where).exists()


def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, candidates()[:3])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file; choose another --out"):
        pack(tmp_path, str(tmp_path / "file" / "shards"), QUICK)


def test_a_store_that_holds_something_else_is_found_out(tmp_path: Path) -> None:
    write(tmp_path, candidates()[:3])
    part = tmp_path / "fetches" / "store" / "00001-000-000000.bodies"
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    with pytest.raises(UserError, match=r"00001-000-000000.* at byte 0 .*changed or damaged"):
        pack(tmp_path, str(tmp_path / "shards"), QUICK)


def test_nothing_that_was_fetched_is_nothing_to_pack(tmp_path: Path) -> None:
    write(tmp_path, [Got("Q144", None)])
    with pytest.raises(UserError, match="no image that was fetched"):
        pack(tmp_path, str(tmp_path / "shards"), QUICK)


def test_candidates_that_were_looked_for_again_are_fetched_first(tmp_path: Path) -> None:
    write(tmp_path, candidates()[:3])
    shutil.rmtree(tmp_path / "candidates")
    other = write(tmp_path / "other", candidates()[:2])
    (other / "candidates").rename(tmp_path / "candidates")
    with pytest.raises(UserError, match="looked for again since they were fetched"):
        pack(tmp_path, str(tmp_path / "shards"), QUICK)


# --- evaluation sets ----------------------------------------------------------------------------


def test_what_stands_in_an_evaluation_set_is_left_out_with_all_that_shows_the_same(
    tmp_path: Path,
) -> None:
    images = write(tmp_path / "images", candidates())
    held = tmp_path / "held"
    held.mkdir()
    (held / "one.jpg").write_bytes(picture(2))  # the very file
    (held / "two.png").write_bytes(encoded(pixels(1), "PNG"))  # of three files one
    (held / "three.jpg").write_bytes(picture(4, quality=50))
    (held / "four.jpg").write_bytes(picture(99))
    (held / "five.jpg").write_bytes(b"no picture")
    manifest = pack(images, str(images / "shards"), options(against=(held,)))
    dropped = {row["sha256"]: row for row in rows_of(images, "dropped")}
    bodies = [got.body or b"" for got in candidates()]
    found = {at: dropped[hashlib.sha256(bodies[at]).hexdigest()] for at in (0, 1, 3, 19, 20)}
    assert {row["reason"] for row in found.values()} == {"against"}
    assert [Path(found[at]["matched"]).name for at in found] == [
        "two.png", "one.jpg", "three.jpg", "two.png", "two.png"
    ]  # fmt: skip
    assert [found[1]["detail"], found[19]["detail"]] == ["sha256", "sha256"]
    assert found[20]["detail"] == "pixels"
    assert found[3]["detail"].startswith("likeness ")
    assert manifest["counts"]["against"] == {"references": 5, "unread": 1}
    assert manifest["counts"]["dropped"]["against"] == {"files": 5, "candidates": 5}
    assert not {f["sha256"] for row in rows_of(images) for f in row["files"]} & dropped.keys()


def test_evaluation_sets_that_are_not_there_are_refused_before_any_work(tmp_path: Path) -> None:
    write(tmp_path, candidates()[:3])
    with pytest.raises(UserError, match="no such file"):
        pack(tmp_path, str(tmp_path / "shards"), options(against=(tmp_path / "held",)))
    assert not (tmp_path / "shards").exists()


# --- elsewhere ----------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """An object store in memory, empty before and after; ``memory://pack/shards`` is in it."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    yield files
    if files.exists("/pack"):
        files.rm("/pack", recursive=True)


ELSEWHERE = "memory://pack/shards"


def names_at(files: Any) -> set[str]:
    return {path.rsplit("/", 1)[-1] for path in files.ls("/pack/shards", detail=False)}


def test_shards_can_be_put_into_any_storage(packed: Path, tmp_path: Path, elsewhere: Any) -> None:
    write(tmp_path, candidates())
    pack(tmp_path, ELSEWHERE, options(shard_count=1))
    manifest = pack(tmp_path, ELSEWHERE, QUICK)
    there = {name: elsewhere.cat_file(f"/pack/shards/{name}") for name in names_at(elsewhere)}
    assert json.loads(there.pop("manifest.json"))["key"] == manifest["key"]
    assert there == bytes_of(packed / "shards")
    assert pack(tmp_path, ELSEWHERE, QUICK)["key"] == manifest["key"]
    assert not list(tmp_path.glob(".packing*"))


def test_what_a_run_that_was_given_up_has_put_elsewhere_goes(
    tmp_path: Path, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over finished shards one with more of them stops, and the next has other images: they stand
    under names that it doesn't write."""
    write(tmp_path, candidates())
    pack(tmp_path, ELSEWHERE, options(shard_count=4))

    def stop(*_: object, **__: object) -> None:
        raise UserError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(download.pack.run, "_manifest", stop)
        with pytest.raises(UserError, match="stopped"):
            pack(tmp_path, ELSEWHERE, options(shard_count=1))
    assert "manifest.json" not in names_at(elsewhere)
    other = msgspec.structs.replace(QUICK.image, size=100)
    manifest = pack(tmp_path, ELSEWHERE, options(image=other, shard_count=50))
    assert names_at(elsewhere) == {"manifest.json", *manifest["outputs"]}


def test_what_is_not_ours_elsewhere_is_left_alone(tmp_path: Path, elsewhere: Any) -> None:
    write(tmp_path, candidates()[:3])
    elsewhere.pipe_file("/pack/shards/train-000000.tar", b"mine")
    with pytest.raises(UserError, match=r"holds 'train-000000\.tar'"):
        pack(tmp_path, ELSEWHERE, QUICK)
    assert elsewhere.cat_file("/pack/shards/train-000000.tar") == b"mine"


def test_a_folder_is_made_where_the_storage_has_folders(packed: Path, tmp_path: Path) -> None:
    write(tmp_path / "images", candidates())
    out = tmp_path / "some" / "where"
    pack(tmp_path / "images", f"file://{out}", QUICK)
    assert bytes_of(out) == bytes_of(packed / "shards")


def test_a_password_in_the_address_is_refused_by_the_name_of_its_option(tmp_path: Path) -> None:
    write(tmp_path, candidates()[:3])
    with pytest.raises(UserError, match=r"^--out holds a password"):
        pack(tmp_path, "s3://me:secret@bucket/shards", QUICK)
