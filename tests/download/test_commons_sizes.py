"""commons-sizes says of each file what a database with the same rows says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from download import tables
from download.candidates import FACTS
from download.commons import load
from download.sources import MissingInputError, Request, sources
from etl.errors import UserError
from tests.download.commons_dumps import (
    SHA1,
    SHA1_HEX,
    database,
    dump_of,
    image_row,
    revision_row,
)
from tests.etl.mysqldump import Value

SIZES = sources()["commons-sizes"]


def request_of(folder: Path, files: list[str | None], **dumps: Path) -> Request:
    found = {}
    for n, name in enumerate(("commons-p18", "url-list")):
        found[name] = folder / f"{name}.parquet"
        rows = files[n::2] + files[: n * 2]  # some in both
        pq.write_table(pa.table({"file": pa.array(rows, pa.string())}), found[name])
    for name in ("out", "scratch"):
        (folder / name).mkdir(exist_ok=True)
    none = cast(Any, None)
    return Request(
        graph=folder, recipe=none, entities=folder, settings=none, commons=load(), store=None,
        given={name: (str(path),) for name, path in dumps.items()},
        out=folder / "out", images=folder, scratch=folder / "scratch", found=found, quiet=True,
    )  # fmt: skip


def facts(request: Request) -> tuple[list[dict[str, Any]], dict[str, int]]:
    said = SIZES.find(request)
    assert not list(request.scratch.iterdir())
    table = pq.read_table(request.out / "facts.parquet")
    assert table.schema.equals(FACTS)
    known = ("file", "width", "height", "mime", "bytes", "sha1", "gone")
    for name in set(FACTS.names) - set(known):
        assert table[name].null_count == len(table)
    return table.select(known).to_pylist(), dict(said["counts"])


def row(file: str, **other: Any) -> dict[str, Any]:
    return {
        "file": file, "width": 640, "height": 480, "mime": "image/jpeg", "bytes": 1000,
        "sha1": SHA1_HEX, "gone": False, **other,
    }  # fmt: skip


def gone(file: str) -> dict[str, Any]:
    return row(file) | dict.fromkeys(("width", "height", "mime", "bytes", "sha1")) | {"gone": True}


def test_a_file_gets_what_its_row_says(tmp_path: Path) -> None:
    rows = [
        image_row(b"A_b_(c),_d'e.jpg"),
        image_row(b"Not_wanted.jpg"),
        image_row(b"Sound.ogg", 5, 0, 0, mime=(b"application", b"ogg"), sha1=b""),
        image_row("Ünï_\N{SNOWMAN}.jpg".encode(), 2**40, 2**31, 7),
        image_row(b"Below_zero.jpg", width=-5),
    ]
    wanted = ["Ünï \N{SNOWMAN}.jpg", "A b (c), d'e.jpg", None, "Sound.ogg", "Nowhere.jpg",
              "Below zero.jpg"]  # fmt: skip
    found, counts = facts(request_of(tmp_path, wanted, image=dump_of(tmp_path, "image", rows)))
    assert found == [
        row("A b (c), d'e.jpg"),
        row("Below zero.jpg", width=None, height=None),
        gone("Nowhere.jpg"),
        row("Sound.ogg", width=None, height=None, mime="application/ogg", bytes=5, sha1=None),
        row("Ünï \N{SNOWMAN}.jpg", width=None, height=None, bytes=2**40),
    ]
    assert counts == {
        "wanted": 5, "found": 4, "deleted": 0, "sizeless": 3, "unknown": 1, "rows": 5,
    }  # fmt: skip


def test_of_a_file_its_current_revision_counts(tmp_path: Path) -> None:
    file: list[list[Value]] = [
        [1, b"A_a.jpg", 12, 3, 0],
        [2, b"Gone.jpg", 0, 3, 1],
        [3, b"Hidden.jpg", 14, 3, 0],
        [4, b"Typeless.bin", 15, 99, 0],
        [5, b"Without_revision.jpg", 999, 3, 0],
        [6, b"Not_wanted.jpg", 16, 3, 0],
        [7, b"Author_hidden.jpg", 17, 3, 0],
        [8, b"Gone_with_a_revision.jpg", 13, 3, 1],
    ]
    revisions = [
        revision_row(10, 1, width=1, archive=b"20190101000000!A_a.jpg"),
        revision_row(11, 1, width=2, archive=b"20190102000000!A_a.jpg"),
        revision_row(12, 1, width=3),
        revision_row(13, 8),
        revision_row(14, 3, deleted=1 | 8),
        revision_row(15, 4),
        revision_row(16, 6),
        revision_row(17, 7, deleted=4),
    ]
    types: list[list[Value]] = [[3, b"BITMAP", b"image", b"jpeg"], [4, b"UNKNOWN", None, b"x"]]
    dumps = {
        "file": dump_of(tmp_path, "file", file),
        "filerevision": dump_of(tmp_path, "filerevision", revisions),
        "filetypes": dump_of(tmp_path, "filetypes", types),
    }
    wanted = [cast(bytes, r[1]).decode().replace("_", " ") for r in file if r[0] != 6]
    found, counts = facts(request_of(tmp_path, [*wanted, "Nowhere.jpg"], **dumps))
    nothing = dict.fromkeys(("width", "height", "bytes", "sha1"))
    assert found == [
        row("A a.jpg", width=3),
        row("Author hidden.jpg"),
        gone("Gone with a revision.jpg"),
        gone("Gone.jpg"),
        gone("Hidden.jpg"),
        gone("Nowhere.jpg"),
        row("Typeless.bin", mime=None),
        row("Without revision.jpg", **nothing),  # its dumps are of two moments: it is there
    ]
    assert counts == {
        "wanted": 8, "found": 4, "deleted": 3, "sizeless": 1, "unknown": 1,
        "rows": len(file) + len(revisions) + len(types),
    }  # fmt: skip


# --- against SQLite -------------------------------------------------------------------------------

LETTERS = st.sampled_from(
    ["a", "B", "_", "'", '"', "\\", ",", "(", ")", ";", "é", "\N{DROMEDARY CAMEL}"]
)
NAMES = st.text(LETTERS, min_size=1, max_size=4)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[str], dict[str, list[list[Value]]]]:
    """Files that are wanted, and rows of all four tables that say the same in two ways."""
    names = draw(st.lists(NAMES, unique=True, max_size=12))
    types: list[list[Value]] = [
        [1, b"BITMAP", b"image", b"jpeg"], [2, b"AUDIO", b"audio", b"midi"],
        [3, b"UNKNOWN", b"unknown", b"unknown"],
    ]  # fmt: skip
    image, file, revisions = [], [], []
    for n, name in enumerate(names):
        size, width, height = (draw(st.sampled_from([0, 1, 640, 2**31 - 1])) for _ in range(3))
        sha1, kind = draw(st.sampled_from([SHA1, b""])), draw(st.sampled_from(types))
        for old in range(draw(st.integers(0, 2))):
            revisions.append(revision_row(100 * n + old, n, 77, archive=b"old"))
        revisions.append(revision_row(100 * n + 50, n, size, width, height, sha1))
        image.append(image_row(name.encode(), size, width, height, sha1=sha1, mime=tuple(kind[2:])))
        file.append([n, name.encode(), 100 * n + 50, kind[0], 0])
    wanted = draw(st.lists(st.one_of(NAMES, st.sampled_from(names or ["x"])), max_size=12))
    tables_ = {"image": image, "file": file, "filerevision": revisions, "filetypes": types}
    return [name.replace("_", " ") for name in wanted], tables_


@settings(max_examples=30, deadline=None)
@given(worlds(), st.integers(0, 3))
def test_is_what_a_database_says(tmp_path_factory, world, bits: int) -> None:
    """Also where hashes collide all the time: with a bit of hash there are two of them."""
    wanted, rows = world
    folder = tmp_path_factory.mktemp("sizes")
    dumps = {name: dump_of(folder, name, rows[name]) for name in rows}
    image = dumps.pop("image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_hash", lambda name: hash(name) & ((1 << bits) - 1))
        by_image, _ = facts(request_of(folder, list(wanted), image=image))
        by_file, counts = facts(request_of(folder, list(wanted), **dumps))
    assert by_image == by_file
    answer = database(rows).execute(
        "SELECT img_name, img_width, img_height, img_major_mime || '/' || img_minor_mime, "
        "img_size, img_sha1 FROM image"
    )
    known = {}
    for name, width, height, mime, size, sha1 in answer:
        file = name.decode().replace("_", " ")
        sized = width > 0 and height > 0
        text = mime.decode() if isinstance(mime, bytes) else mime
        known[file] = {
            "file": file,
            "width": width if sized else None,
            "height": height if sized else None,
            "mime": None if text == "unknown/unknown" else text,
            "bytes": size,
            "sha1": SHA1_HEX if sha1 else None,
            "gone": False,
        }
    there, missing = set(wanted) & set(known), set(wanted) - set(known)
    expected = there | missing if len(missing) <= len(there) else there
    assert by_image == [known.get(f) or gone(f) for f in sorted(expected, key=str.encode)]
    assert counts["wanted"] == len(set(wanted))
    assert counts["unknown"] == len(missing)


# --- what is refused ------------------------------------------------------------------------------


def test_without_a_dump_it_says_which_and_where_it_is_published(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as raised:
        SIZES.inputs(request_of(tmp_path, []))
    assert "--image" in str(raised.value)
    assert "commonswiki-latest-image.sql.gz" in str(raised.value)
    assert "https://dumps.wikimedia.org/commonswiki/" in str(raised.value)


@pytest.mark.parametrize("given_", ["file", "filerevision", "filetypes", "file filerevision"])
def test_one_of_the_three_needs_the_others(tmp_path: Path, given_: str) -> None:
    dumps = {name: dump_of(tmp_path, name, []) for name in given_.split()}
    missing = next(n for n in ("file", "filerevision", "filetypes") if n not in dumps)
    with pytest.raises(MissingInputError, match=rf"wants --{missing} FILE.*-{missing}\.sql\.gz"):
        SIZES.inputs(request_of(tmp_path, [], **dumps))


def test_both_ways_at_once_are_refused(tmp_path: Path) -> None:
    dumps = {name: dump_of(tmp_path, name, []) for name in ("image", "file")}
    with pytest.raises(UserError, match="leave one of the two out"):
        SIZES.inputs(request_of(tmp_path, [], **dumps))


def test_a_wrong_file_is_refused_before_the_work(tmp_path: Path) -> None:
    wrong = dump_of(tmp_path, "filetypes", [])
    with pytest.raises(UserError, match="holds the table `filetypes`, not `image`"):
        SIZES.inputs(request_of(tmp_path, [], image=wrong))
    with pytest.raises(UserError, match="no such file"):
        SIZES.inputs(request_of(tmp_path, [], image=tmp_path / "none.sql.gz"))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    rows = [image_row(b"A.jpg"), image_row(b"B.jpg"), image_row(b"A.jpg", 7)]
    request = request_of(tmp_path, ["A.jpg"], image=dump_of(tmp_path, "image", rows))
    with pytest.raises(UserError, match=r"two rows of the file 'A\.jpg'"):
        SIZES.find(request)
    assert not list(request.scratch.iterdir())


def test_inputs_are_the_same_wherever_the_dump_lies(tmp_path: Path) -> None:
    described = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        dump = dump_of(tmp_path / name, "image", [image_row(b"A.jpg")])
        described.append(SIZES.inputs(request_of(tmp_path / name, [], image=dump)))
    assert described[0] == described[1]
    assert str(tmp_path) not in repr(described)


def test_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    rows = [image_row(b"%d_x.jpg" % (n * 7919 % 20_000), n) for n in range(20_000)]
    dump = dump_of(tmp_path, "image", rows)
    request = request_of(tmp_path, [f"{n} x.jpg" for n in range(0, 25_000, 2)], image=dump)
    written = []
    for _ in range(2):
        _, counts = facts(request)
        written.append((request.out / "facts.parquet").read_bytes())
    assert written[0] == written[1]
    assert (counts["found"], counts["unknown"]) == (10_000, 2_500)


def test_files_that_are_gone_are_warned_of(tmp_path: Path) -> None:
    request = request_of(
        tmp_path, ["A.jpg", "B.jpg", "C.jpg"],
        image=dump_of(tmp_path, "image", [image_row(b"A.jpg"), image_row(b"C.jpg")]),
    )  # fmt: skip
    assert SIZES.find(request)["warnings"] == [
        "1 file is not in the tables (renamed or deleted since): left out."
    ]


@pytest.mark.parametrize("known", [[], ["A.jpg"]])
def test_tables_of_another_wiki_are_warned_of_and_make_nothing_gone(
    tmp_path: Path, known: list[str]
) -> None:
    dump = dump_of(tmp_path, "image", [image_row(name.encode()) for name in [*known, "X.jpg"]])
    request = request_of(tmp_path, ["A.jpg", "B.jpg", "C.jpg"], image=dump)
    (warning,) = SIZES.find(request)["warnings"]
    assert f"know {len(known)} of the 3 files" in warning
    assert "commonswiki" in warning
    found, counts = facts(request)
    assert (found, counts["unknown"]) == ([row(name) for name in known], 3 - len(known))
