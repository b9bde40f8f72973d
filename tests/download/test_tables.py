"""MediaWiki's tables are read as a database would read them, whatever stands in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from download import tables
from etl import sql
from etl.errors import UserError
from tests.download.commons_dumps import dump_of, image_row, page_dump, revision_row

NASTY = [
    b'It\'s_a_"name".jpg',
    b"Back\\slash\\.png",
    b"(a),(b);_c,_d.svg",
    b"'),('x',1,2,3.jpg",
    "Käse_\N{GRINNING FACE}_北京.jpg".encode(),
    b"_binary_'x'.gif",
    b"Bad\xff\xfeutf8.jpg",
    b"NULL",
    b"A",
    b"Line\nfeed\0\x1a\r.jpg",
]


def quiet(_: int) -> None:
    pass


def hashed(names: list[bytes]) -> tables.Ids:
    return np.sort(tables.hashes_of(names))


@pytest.mark.parametrize("how", [{}, {"introduced": True}, {"doubled": True}, {"per_line": True}])
def test_names_are_read_as_they_were_written(tmp_path: Path, how: dict[str, bool]) -> None:
    dump = dump_of(tmp_path, "image", [image_row(name, n) for n, name in enumerate(NASTY)], **how)
    out = tmp_path / "out.parquet"
    wanted = NASTY[::2]
    assert tables.read_image(dump, hashed([*wanted, b"Nowhere.jpg"]), out, quiet) == len(NASTY)
    found = pq.read_table(out)
    assert found["name"].to_pylist() == wanted
    assert found["bytes"].to_pylist() == list(range(0, len(NASTY), 2))


def test_values_that_say_nothing_are_null(tmp_path: Path) -> None:
    rows = [
        image_row(b"A", mime=(None, b"unknown"), sha1=b""),
        image_row(b"B", mime=(b"unknown", b"unknown"), sha1=b"z" * 31),  # over 160 bits
        image_row(b"C", mime=(b"application", b"vnd.ms-office"), sha1=b"not a hash"),
        image_row(b"D", width=0, height=0, mime=(b"audio", b"x'y"), sha1=b"0" * 30 + b"a"),
    ]
    out = tmp_path / "out.parquet"
    tables.read_image(
        dump_of(tmp_path, "image", rows), hashed([b"A", b"B", b"C", b"D"]), out, quiet
    )
    found = pq.read_table(out)
    assert found["mime"].to_pylist() == [None, None, "application/vnd.ms-office", None]
    assert found["sha1"].to_pylist() == [None, None, None, (10).to_bytes(20, "big")]
    assert found["width"].to_pylist() == [640, 640, 640, 0]


@pytest.mark.parametrize("table", ["image", "filerevision"])
def test_a_width_below_zero_is_none(tmp_path: Path, table: str) -> None:
    if table == "image":
        rows = [image_row(b"A", width=-5, height=7), image_row(b"B", width=5, height=-7)]
    else:
        rows = [revision_row(1, 1, width=-5, height=7), revision_row(2, 2, width=5, height=-7)]
    dump, out = dump_of(tmp_path, table, rows), tmp_path / "out.parquet"
    if table == "image":
        tables.read_image(dump, hashed([b"A", b"B"]), out, quiet)
    else:
        tables.read_filerevision(dump, np.array([1, 2]), out, quiet)
    found = pq.read_table(out)
    assert (found["width"].to_pylist(), found["height"].to_pylist()) == ([None, 5], [7, None])


def test_metadata_may_be_megabytes(tmp_path: Path) -> None:
    rows = [image_row(b"A"), image_row(b"B", metadata=b'"\\' * 600_000), image_row(b"C")]
    out = tmp_path / "out.parquet"
    tables.read_image(dump_of(tmp_path, "image", rows), hashed([b"B", b"C"]), out, quiet)
    assert pq.read_table(out)["name"].to_pylist() == [b"B", b"C"]


def test_nothing_is_wanted(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert tables.read_image(dump_of(tmp_path, "image", [image_row(b"A")]), hashed([]), out, quiet)
    assert pq.read_table(out).num_rows == 0


def test_revisions_are_found_by_number(tmp_path: Path) -> None:
    rows = [revision_row(n, n // 2, size=10 * n, archive=b"2020!x.jpg") for n in range(17_000)]
    rows[7][-1] = 5
    dump, out = dump_of(tmp_path, "filerevision", rows), tmp_path / "out.parquet"
    wanted = np.array([7, 10_000, 16_999, 20_000])
    assert tables.read_filerevision(dump, wanted, out, quiet) == 17_000
    found = pq.read_table(out)
    assert found["latest"].to_pylist() == [7, 10_000, 16_999]
    assert found["bytes"].to_pylist() == [70, 100_000, 169_990]
    assert found["hidden"].to_pylist() == [5, 0, 0]


def test_titles_are_those_of_files(tmp_path: Path) -> None:
    pages = [
        (3, 6, b"Foo_bar.jpg", 0),
        (4, 14, b"Foo_bar.jpg", 0),  # a category
        (5, 66, b"Sixty-six.jpg", 0),
        (6, -6, b"Minus.jpg", 0),
        (7, 6, "It's_ü.png".encode(), 1),
        (8, 6, b"Cut\xc3", 0),
        (9, 6, b"Not_wanted.jpg", 0),
    ]
    out = tmp_path / "out.parquet"
    wanted = np.array([1, 3, 4, 5, 6, 7, 8, 10**12])
    assert tables.titles(page_dump(tmp_path, pages), wanted, out, quiet) == 4
    found = pq.read_table(out)
    assert found.schema.equals(tables.TITLES)
    assert found.to_pylist() == [
        {"page": 3, "file": "Foo bar.jpg"},
        {"page": 7, "file": "It's ü.png"},
        {"page": 8, "file": None},
    ]


@pytest.mark.parametrize("table", list(tables.TABLES))
def test_another_table_is_refused_with_the_name_of_the_right_one(
    tmp_path: Path, table: str
) -> None:
    other = dump_of(tmp_path, "filetypes" if table == "image" else "image", [])
    with pytest.raises(UserError, match=rf"commonswiki-…-{table}\.sql\.gz"):
        sql.check_head(other, tables.TABLES[table])


def test_a_dump_that_is_broken_or_cut_off_is_refused(tmp_path: Path) -> None:
    rows = [image_row(b"%d.jpg" % n) for n in range(5000)]
    dump, out = dump_of(tmp_path, "image", rows), tmp_path / "out.parquet"
    whole = dump.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-9], whole[:3000] + b"x" + whole[3001:]):
        dump.write_bytes(broken)
        with pytest.raises(UserError, match=r"can't be inflated|cut off|expected"):
            tables.read_image(dump, hashed([b"7.jpg"]), out, quiet)
