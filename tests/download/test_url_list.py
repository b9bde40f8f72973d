"""url-list: a list in whatever form gives the same rows, and no row harms the others."""

from __future__ import annotations

import gzip
import json
import math
import re
import string
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from download import url_files
from download.candidates import AVAILABLE, FOUND
from download.sources import MissingInputError, sources
from download.url_files import List
from etl.errors import UserError
from tests.download.lists import (
    FORMS,
    QUERIES,
    WANTED,
    Row,
    found,
    request,
    write_list,
    write_queries,
)

URL = "https://example.org/images/a.jpg"

FULL: list[Row] = [
    {
        "entity": "Q144",
        "url": "https://example.org/1.jpg",
        "text": 'a dog, "Rex"',
        "text_lang": "en",
        "width": 640,
        "height": 480,
        "licence": "Q18199165",
        "creator": "Zoë 🐕",
        "page_url": "https://example.org/page?1",
        "source_id": "key 1",
        "mime": "image/jpeg",
        "score": 0.25,
        "sha1": "0123456789abcdef0123456789abcdef01234567",
        "bytes": 12_345_678_901,
    },
    {"entity": "Q144", "url": "https://example.org/2.jpg", "text": "two\nlines", "score": 0.5},
    {"entity": "Q726", "url": "http://example.org/3.jpg", "text": "[a horse]"},
]


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same_rows(tmp_path: Path, form: str) -> None:
    rows, said = found(tmp_path, write_list(tmp_path / f"list.{form}", FULL))
    assert [(row["entity"], row["url"]) for row in rows] == [
        ("Q144", "https://example.org/2.jpg"),
        ("Q144", "https://example.org/1.jpg"),
        ("Q726", "http://example.org/3.jpg"),
    ]
    assert rows[1] == {
        "entity": "Q144",
        "url": "https://example.org/1.jpg",
        "reasons": ["url-list"],
        "query_hashes": [],
        "fallback_urls": [],
        "file": None,
        "source_id": "key 1",
        "page_url": "https://example.org/page?1",
        "texts": ['a dog, "Rex"'],
        "text_langs": ["en"],
        "width": 640,
        "height": 480,
        "mime": "image/jpeg",
        "bytes": 12_345_678_901,
        "sha1": "0123456789abcdef0123456789abcdef01234567",
        "licence": "Q18199165",
        "creator": "Zoë 🐕",
        "score": 0.5,
    }
    assert [row["texts"] for row in rows] == [["two lines"], ['a dog, "Rex"'], ["[a horse]"]]
    assert [row["score"] for row in rows] == [1.0, 0.5, 1.0]
    assert (said["counts"]["rows"], said["counts"]["candidates"], said["warnings"]) == (3, 3, [])
    assert pq.read_schema(tmp_path / "out" / "candidates.parquet").equals(FOUND)


# --- EntityNet's images_metadata ---


def metadata(key: int, hashes: list[str], links: list[str], **more: Any) -> Row:
    """A row as `entitynet.md`, section 2, lists its columns: lists run over found duplicates."""
    row = {
        "key": f"val{key:09d}",
        "qh": hashes,
        "texts": [],
        "images_link": links,
        "images_contextlink": [f"https://example.org/page/{link[-5:]}" for link in links],
        "images_width": [100 + n for n in range(len(links))],
        "images_height": [200 + n for n in range(len(links))],
    }
    return row | more


def test_the_layout_of_entitynet_is_read_as_it_is(tmp_path: Path) -> None:
    links = ["https://example.org/a.jpg", "https://example.org/b.jpg", "https://example.org/c.jpg"]
    listed = [
        metadata(0, ["dog-name", "horse-name", "dog-alias"], links, texts=["one", "two"]),
        metadata(1, ["horse-name"], ["ftp://example.org/d.jpg", links[1]]),
        metadata(2, ["brown-mammal"], [links[2]]),
        metadata(3, ["never-asked"], [links[2]]),
        metadata(4, ["lake-name"], [links[2]]),
    ]
    folder = tmp_path / "images_metadata"
    folder.mkdir()
    for number, rows in enumerate((listed[:2], listed[2:])):
        write_list(folder / f"val-{number:05d}-of-00002.parquet", rows)
    rows, said = found(tmp_path, folder)
    assert [(row["entity"], row["source_id"], row["query_hashes"]) for row in rows] == [
        ("Q144", "val000000000", ["dog-name", "dog-alias"]),
        ("Q726", "val000000000", ["horse-name"]),
        ("Q726", "val000000001", ["horse-name"]),
    ]
    first, _, last = rows
    assert (first["url"], first["fallback_urls"]) == (links[0], links[1:])
    assert (first["texts"], first["text_langs"]) == (["one", "two"], [None, None])
    assert (first["width"], first["height"]) == (100, 200)
    assert first["page_url"] == "https://example.org/page/a.jpg"
    # The first link can't be used: what is said of the second one counts.
    assert (last["url"], last["fallback_urls"], last["width"]) == (links[1], [], 101)
    assert last["page_url"] == "https://example.org/page/b.jpg"
    counts = said["counts"]
    assert (counts["hashes_without_entity"], counts["unknown_hashes"]) == (1, 1)
    assert (counts["not_wanted"], counts["bad"]) == (1, 0)


def test_queries_of_the_list_s_own_lead_to_entities(tmp_path: Path) -> None:
    queries = write_queries(
        tmp_path / "entitynet-queries.parquet",
        {"r1": "Q23413", "r2": "wordnet:dog.n.01", "r3": None, "dog-name": "Q726"},
    )
    hashes = [["r1"], ["r2"], ["r3"], ["dog-name"], ["dog-alias"]]
    listed = [metadata(n, one, [f"{URL}?{n}"]) for n, one in enumerate(hashes)]
    rows, said = found(tmp_path, write_list(tmp_path / "a.parquet", listed), queries=queries)
    assert [(row["entity"], row["query_hashes"]) for row in rows] == [
        ("Q726", ["dog-name"]),
        ("Q23413", ["r1"]),
    ]
    counts = said["counts"]
    assert (counts["not_wanted"], counts["hashes_without_entity"], counts["unknown_hashes"]) == (
        1, 1, 1,
    )  # fmt: skip


def test_a_row_s_own_entity_counts_more_than_its_query(tmp_path: Path) -> None:
    listed = [{"entity": "Q726", "query_hash": "dog-name", "url": URL}]
    (row,), _ = found(tmp_path, write_list(tmp_path / "a.csv", listed))
    assert (row["entity"], row["query_hashes"]) == ("Q726", ["dog-name"])


# --- one image, order, cap ---


def test_rows_of_one_image_are_united(tmp_path: Path) -> None:
    listed = [
        {"query_hash": "dog-name", "url": URL, "text": "a dog", "score": 0.1, "creator": "A"},
        {"query_hash": "dog-alias", "url": f"{URL}#top", "text": "Rex", "score": 0.9},
        {"query_hash": "dog-alias", "url": URL, "text": "a dog", "score": 0.2},
        {"query_hash": "horse-name", "url": URL, "text": "a horse"},
    ]
    rows, said = found(tmp_path, write_list(tmp_path / "a.jsonl", listed))
    assert [row["entity"] for row in rows] == ["Q144", "Q726"]
    assert rows[0]["query_hashes"] == ["dog-alias", "dog-name"]
    assert rows[0]["texts"] == ["Rex", "a dog"]
    assert rows[0]["text_langs"] == [None, None]
    assert rows[0]["creator"] is None  # of the best row, which says nothing
    assert said["counts"]["repeated"] == 2


def test_the_best_come_first_and_the_cap_leaves_the_others_to_be_counted(tmp_path: Path) -> None:
    scores = [None, 0.5, 0.9, None, 0.5, float("nan"), -1.0]
    listed = [
        {"entity": "Q144", "url": f"https://example.org/{n}.jpg", "score": score, "licence": "L"}
        for n, score in enumerate(scores)
    ]
    rows, said = found(tmp_path, write_list(tmp_path / "a.parquet", listed), per_entity=4)
    assert [row["url"][-5] for row in rows] == ["2", "1", "4", "6"]
    assert [row["score"] for row in rows] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert (said["counts"]["over_cap"], said["counts"]["images"]) == (3, 7)
    available = pq.read_table(tmp_path / "out" / "available.parquet")
    assert available.schema.equals(AVAILABLE)
    assert len(set(available.column("image").to_pylist())) == 7
    assert set(available.column("licence").to_pylist()) == {"L"}
    assert available.column("entity").to_pylist() == [144] * 7


def test_an_image_s_number_is_the_same_in_every_list(tmp_path: Path) -> None:
    file = "https://commons.wikimedia.org/wiki/File:Foo_bar.jpg"
    thumb = (
        "https://upload.wikimedia.org/wikipedia/commons/thumb/c/c3/Foo_bar.jpg/250px-Foo_bar.jpg"
    )
    numbers = []
    for name, urls in (("a", [URL, file]), ("b", [thumb, "https://example.org/other.jpg", URL])):
        (tmp_path / name).mkdir()
        listed = [{"entity": "Q144", "url": url} for url in urls]
        found(tmp_path / name, write_list(tmp_path / name / "l.csv", listed))
        table = pq.read_table(tmp_path / name / "out" / "available.parquet")
        numbers.append(set(table.column("image").to_pylist()))
    assert len(numbers[0] & numbers[1]) == 2


def test_files_of_commons_are_named_as_such(tmp_path: Path) -> None:
    listed = [
        {"entity": "Q144", "url": "https://commons.wikimedia.org/wiki/File:Foo_bar.jpg"},
        {
            "entity": "Q144",
            "url": "https://commons.wikimedia.org/wiki/Special:FilePath/foo%20bar.jpg",
        },
        {"entity": "Q726", "url": "https://commons.wikimedia.org/wiki/File:Barking.ogg"},
        {"entity": "Q726", "url": "https://commons.wikimedia.org/static/logo.png"},
    ]
    rows, said = found(tmp_path, write_list(tmp_path / "a.csv", listed))
    assert [(row["entity"], row["file"], row["url"]) for row in rows] == [
        ("Q144", "Foo bar.jpg", None),
        ("Q726", None, "https://commons.wikimedia.org/static/logo.png"),
    ]
    assert (said["counts"]["no_pictures"], said["counts"]["repeated"]) == (1, 1)


def test_the_bytes_depend_on_the_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [
        {
            "entity": WANTED[n % 3],
            "url": f"https://example.org/{n % 700}.jpg",
            "text": f"text {n}",
            "score": n % 5 / 4,
        }
        for n in range(1_000)
    ]
    written = []
    for number, (group, batch) in enumerate(((None, 1 << 15), (7, 64), (333, 10))):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.setattr(url_files, "BATCH_ROWS", batch)
        monkeypatch.setattr("download.sources.url_list._ROWS_AT_ONCE", batch)
        half = [write_list(folder / f"{i}.parquet", listed[i * 500 :][:500], group) for i in (0, 1)]
        found(folder, *half, per_entity=100)
        written.append(
            [(folder / "out" / f"{t}.parquet").read_bytes() for t in ("candidates", "available")]
        )
    assert written[0] == written[1] == written[2]


# --- rows and files that are no good ---

GOOD: list[Row] = [{"entity": "Q144", "url": f"https://example.org/good/{n}.jpg"} for n in range(3)]

BAD_URLS = {
    "ftp://example.org/a.jpg": "begins neither with http",
    "file:///etc/passwd": "begins neither with http",
    "javascript:alert(1)": "begins neither with http",
    "//example.org/a.jpg": "begins neither with http",
    "data:image/png;base64,AAAA": "begins neither with http",
    "https://user:secret@example.org/a.jpg": "user's name or password",
    "https://token@example.org/a.jpg": "user's name or password",
    "https://example.org\\@evil.example/a.jpg": "user's name or password",
    "https://evil.example\\.example.org/a.jpg": "without a host",
    "https://exam ple.org/a.jpg": "without a host",
    "https:///a.jpg": "without a host",
    "https://": "without a host",
    "https://:80/a.jpg": "without a host",
    "https://example.org/a\tb.jpg": "control characters",
    "https://example.org/a\x00.jpg": "control characters",
    "https://example.org/a\r\nHost: x": "control characters",
    "https://example.org/a\x9b.jpg": "control characters",
    "https://example.org/" + "a" * 8_000: "more than 8,000 bytes",
    "   ": "no address",
}


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: repr(url[:30]))
def test_an_address_that_is_no_good_is_counted_with_its_place(
    tmp_path: Path, form: str, url: str
) -> None:
    listed = [GOOD[0], {"entity": "Q144", "url": url}, *GOOD[1:]]
    rows, said = found(tmp_path, write_list(tmp_path / f"list.{form}", listed))
    assert len(rows) == 3
    assert said["counts"]["bad"] == 1
    ((reason, number),) = said["reasons"].items()
    assert (BAD_URLS[url] in reason, number) == (True, 1)
    place = {"parquet": "row 2", "csv": "line 3", "jsonl": "line 2"}[form]
    (warning,) = said["warnings"]
    assert warning.endswith(f", first in list.{form}, {place}.")
    assert "secret" not in str(said)


@pytest.mark.parametrize("entity", ["", "dog", "q144", "Q0", "Q144 ", "P31", "Q" + "9" * 30, "144"])
def test_an_entity_must_be_an_id(tmp_path: Path, entity: str) -> None:
    listed = [*GOOD, {"entity": entity, "url": URL}]
    rows, said = found(tmp_path, write_list(tmp_path / "a.csv", listed))
    assert (len(rows), said["counts"]["bad"]) == ((4, 0) if entity == "Q144 " else (3, 1))


@pytest.mark.parametrize(
    "entity",
    ["wd:Q144", "http://www.wikidata.org/entity/Q144", "<https://www.wikidata.org/entity/Q144>"],
)
def test_an_entity_may_be_written_as_in_rdf(tmp_path: Path, entity: str) -> None:
    (row,), _ = found(tmp_path, write_list(tmp_path / "a.csv", [{"entity": entity, "url": URL}]))
    assert row["entity"] == "Q144"


def test_lines_that_cannot_be_read_are_counted_and_the_others_stay(tmp_path: Path) -> None:
    good = json.dumps(GOOD[0])
    others = [json.dumps(row) for row in GOOD[1:]] * 4
    lines = [
        good, "", "{", "[1]", "null", '{"entity":"Q144","url":"https://\\ud800"}', '{"a":' * 5000,
        *others,
    ]  # fmt: skip
    content = "\n".join(lines).encode() + b'\n{"entity":"Q144","url":"\xff"}\n' + b" " * (1 << 20)
    (tmp_path / "a.jsonl").write_bytes(content + b'x"}\n' + good.encode())
    rows, said = found(tmp_path, tmp_path / "a.jsonl")
    assert len(rows) == 3
    assert said["reasons"] == {"a line of more than 1,048,576 bytes": 1, "no JSON object": 6}
    assert any("first in a.jsonl, line 3." in warning for warning in said["warnings"])


def test_rows_of_a_csv_that_cannot_be_read_are_counted_and_the_others_stay(tmp_path: Path) -> None:
    good = "".join(f"Q144,https://example.org/{n}.jpg,t\r\n" for n in range(9)).encode()
    (tmp_path / "a.csv").write_bytes(
        b"\xef\xbb\xbfentity, url ,text\r\n" + good + b"\r\n"
        b"Q144,https://example.org/x.jpg\r\n"
        b"Q144,https://example.org/x.jpg,a,b\r\n"
        b"Q144,https://example.org/\xff.jpg,t\r\n"
        b'Q144,https://example.org/two.jpg,"two\nlines, ""quoted"""\r\n'
        b"Q144,ftp://x,t\r\n"
        b"Q144,https://example.org/y.jpg," + b"x" * 200_000 + b"\r\n"
        b"Q144,https://example.org/z.jpg," + b"x" * 2_000_000 + b"\r\n"
        b"Q144,https://example.org/last.jpg,NUL \0 is a space"
    )  # fmt: skip
    rows, said = found(tmp_path, tmp_path / "a.csv")
    assert len(rows) == 11
    assert rows[9]["texts"] == ['two lines, "quoted"']
    assert rows[10]["texts"] == ["NUL   is a space"]
    assert said["reasons"] == {
        "a cell of more than 131,072 characters": 1,
        "a line of more than 1,048,576 bytes": 1,
        "an address that begins neither with http:// nor with https://": 1,
        "another number of cells than the header has": 2,
        "text that is not UTF-8": 1,
    }
    places = " ".join(said["warnings"])
    for line in (12, 14, 17, 18, 19):
        assert f"first in a.csv, line {line}." in places


def test_a_quote_that_is_never_closed_ends_within_bounds(tmp_path: Path) -> None:
    good = "".join(f"Q144,https://example.org/{n}.jpg\n" for n in range(20_000))
    (tmp_path / "a.csv").write_text(f'entity,url\nQ144,"https://example.org/open.jpg\n{good}')
    rows, said = found(tmp_path, tmp_path / "a.csv")
    assert len(rows) > 15_000
    assert said["counts"]["bad"] == said["reasons"]["a cell of more than 131,072 characters"] == 1


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_batch_is_bounded_in_rows_and_in_bytes(tmp_path: Path, form: str) -> None:
    short = [{"entity": "Q144", "url": f"https://example.org/{n}.jpg"} for n in range(70_000)]
    texts = [[f"{n} {i} {'x' * 20_000}" for i in range(5)] for n in range(400)]
    long = [{"entity": "Q144", "url": URL, "texts": some} for some in texts]
    for rows in (short, long):
        found_in = List(write_list(tmp_path / f"a.{form}", rows)).batches()
        sizes = [
            (len(batch.places), sum(column.nbytes for column in batch.columns.values()))
            for batch in found_in
        ]
        assert sum(rows for rows, _ in sizes) == len(rows)
        assert len(sizes) >= 2
        assert max(rows for rows, _ in sizes) <= 1 << 15
        assert max(size for _, size in sizes) < 40_000_000


def test_a_list_that_is_mostly_bad_is_refused(tmp_path: Path) -> None:
    listed = [GOOD[0], *({"entity": "Q144", "url": f"C:\\pictures\\{n}.jpg"} for n in range(2))]
    with pytest.raises(UserError, match=r"2 of 3 rows .*\(2, first in a\.csv, line 3\)"):
        found(tmp_path, write_list(tmp_path / "a.csv", listed))


def test_what_is_said_of_an_image_is_left_out_where_it_is_no_good(tmp_path: Path) -> None:
    bad: Row = {
        "width": "wide",
        "height": "-3",
        "bytes": "1e99",
        "score": "high",
        "sha1": "abc",
        "mime": "jpeg",
        "page_url": "javascript:alert(1)",
        "text_lang": "in the language of dogs",
        "text": "fine",
    }
    fine = {"width": "640.0", "height": "0", "sha1": "A" * 40, "mime": "Image/PNG", "score": "1e-3"}
    listed = [{**GOOD[0], **bad}, {**GOOD[1], **fine}]
    rows, said = found(tmp_path, write_list(tmp_path / "a.csv", listed))
    scored, plain = rows
    assert (scored["width"], scored["height"], scored["sha1"]) == (640, None, "a" * 40)
    assert scored["mime"] == "image/png"
    for name in ("width", "height", "bytes", "sha1", "mime", "page_url"):
        assert plain[name] is None
        assert f"1 value of {name} " in " ".join(said["warnings"]) or name == "text_lang"
    assert (plain["texts"], plain["text_langs"]) == (["fine"], [None])


def test_numbers_of_parquet_may_be_of_any_type(tmp_path: Path) -> None:
    table = pa.table(
        {
            "entity": pa.array(["Q144", "Q144", "Q726"]).dictionary_encode(),
            "url": pa.array([f"{URL}?{n}" for n in range(3)], pa.large_string()),
            "width": pa.array([640.0, math.nan, 1.5], pa.float32()),
            "height": pa.array([480, 0, 2**63], pa.uint64()),
            "text": pa.array([b"a", b"b", None], pa.binary()),
            "licence": pa.nulls(3),
            "bytes": pa.array([7, -7, None], pa.int16()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows, _ = found(tmp_path, tmp_path / "a.parquet")
    assert [row["width"] for row in rows] == [640, None, None]
    assert [row["height"] for row in rows] == [480, None, None]
    assert [row["bytes"] for row in rows] == [7, None, None]
    assert [row["texts"] for row in rows] == [["a"], ["b"], []]


def test_texts_and_addresses_are_bounded(tmp_path: Path) -> None:
    listed = [
        {
            "entity": "Q144",
            "urls": [f"https://example.org/{n}.jpg" for n in range(100)],
            "texts": ["x" * 100_000, "", *map(str, range(500))],
            "text_langs": ["en", "fr", *["de"] * 500],
            "creator": "y" * 100_000,
        }
    ]
    (row,), _ = found(tmp_path, write_list(tmp_path / "a.jsonl", listed))
    assert len(row["fallback_urls"]) == 19
    assert len(row["texts"]) == len(row["text_langs"]) == 99
    assert (len(row["texts"][0]), len(row["creator"])) == (5_000, 1_000)
    assert row["text_langs"][:2] == ["en", "de"]


def test_unknown_columns_are_named_once(tmp_path: Path) -> None:
    listed = [{**row, "alt": "x", "NSFW": 1} for row in GOOD]
    for form in ("parquet", "csv", "jsonl"):
        _, said = found(tmp_path / form, _written(tmp_path / form / f"a.{form}", listed))
        assert said["warnings"] == [f"a.{form}: unknown columns were left out: alt, NSFW."]


def _written(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir()
    return write_list(path, rows)


def test_without_a_list_one_sentence_shows_what_it_looks_like(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"--urls FILE.*url and entity.*query_hash"):
        sources()["url-list"].inputs(request(tmp_path, []))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv", b"", "has no column url; its columns are: none"),
        ("a.csv", b"url,alt\nx,y\n", "no column entity or query_hash; its columns are: url, alt"),
        ("a.csv", "entity,url\n".encode("utf-16"), "is written in UTF-16"),
        ("a.parquet", b"PAR1", "can't be read as Parquet"),
        ("a.xlsx", b"", "End it in .parquet"),
        ("a.parquet.gz", b"", "End it in .parquet"),
        ("a.csv.gz", b"entity,url\n", "can't be read after line 0"),
        ("a.jsonl.zst", b"nothing", "can't be read after line 0"),
        ("a.csv.gz", gzip.compress(b"entity,url\n" * 9, mtime=0)[:-9], "cut off"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_list_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(what)) as refused:
        found(tmp_path, tmp_path / name)
    assert name in str(refused.value)


def test_what_is_not_there_and_columns_of_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv is not there"):
        found(tmp_path, tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no list"):
        found(tmp_path, tmp_path / "empty")
    for value in ({"a": 1}, True, [["x"]]):
        listed = write_list(tmp_path / "a.parquet", [{"entity": "Q144", "url": value}])
        with pytest.raises(UserError, match="the column url holds"):
            found(tmp_path, listed)
    queries = write_list(tmp_path / "q.parquet", [{"hash": "x"}])
    with pytest.raises(UserError, match="has no column query_hash"):
        found(tmp_path, write_list(tmp_path / "a.csv", GOOD), queries=queries)


def test_text_of_parquet_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(1, *pa.array([b"https://x/\xff"]).buffers()[1:])
    pq.write_table(pa.table({"entity": ["Q144"], "url": bad}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet can't be read as Parquet from row 1 on"):
        found(tmp_path, tmp_path / "a.parquet")


def test_a_folder_whose_name_is_a_pattern_is_just_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "odd [x]*?"
    folder.mkdir()
    rows, _ = found(folder, write_list(folder / "a.csv", [{"query_hash": "dog-name", "url": URL}]))
    assert [row["entity"] for row in rows] == ["Q144"]


def test_a_list_is_told_by_its_contents(tmp_path: Path) -> None:
    """A person edits a line: the size stays, and the rows are to be read again."""
    source = sources()["url-list"]
    path = write_list(tmp_path / "a.csv", GOOD)
    before = source.inputs(request(tmp_path, [path]))
    path.write_text(path.read_text().replace("/1.jpg", "/9.jpg"))
    assert source.inputs(request(tmp_path, [path])) != before


# --- any rows at all, against a plain reading of them ---

WORDS = st.text(st.sampled_from(string.ascii_letters + " ,;\"'\n\t|[]{}\\é犬🐕"), max_size=12)
URLS = st.builds("https://example.org/{}.jpg".format, st.integers(0, 12)) | st.sampled_from(
    [*BAD_URLS, "HTTP://EXAMPLE.org/Ä ö.jpg", "https://[::1]/x.jpg", "https://example.org?q=a@b"]
)
ROWS = st.fixed_dictionaries(
    {
        "entity": st.sampled_from([*WANTED, "Q1", None, None, "dog"]),
        "query_hash": st.sampled_from([*QUERIES, "unknown", None, None]),
        "urls": st.lists(URLS, max_size=4),
        "texts": st.lists(WORDS, max_size=3),
        "score": st.none() | st.sampled_from([0.25, 0.5, 2.0]),
        "width": st.none() | st.integers(1, 9_999),
    }
)


def plainly(rows: list[Row], cap: int) -> list[tuple[Any, ...]]:
    """What should come out: (entity, url, fallbacks, hashes, texts, width), by loops alone."""
    images: dict[tuple[int, str], list[tuple[float, int, Row, list[str]]]] = defaultdict(list)
    for number, row in enumerate(rows):
        urls = [u.strip().partition("#")[0] for u in row["urls"]]
        urls = [u for u in urls if u and not any(u == bad.strip() for bad in BAD_URLS)]
        urls = [u.replace(" ", "%20") for u in urls]
        hash_ = row["query_hash"]
        entity = row["entity"] if row["entity"] is not None else QUERIES.get(hash_)
        if urls and entity in WANTED:
            order = (-(row["score"] if row["score"] is not None else -math.inf), number)
            images[int(entity[1:]), urls[0]].append((*order, row, urls))
    out: list[tuple[Any, ...]] = []
    taken: dict[int, int] = defaultdict(int)
    for copies in images.values():
        copies.sort(key=lambda copy: copy[:2])
    for (entity, url), copies in sorted(images.items(), key=lambda p: (p[0][0], p[1][0][:2])):
        taken[entity] += 1
        if taken[entity] > cap:
            continue
        hashes = [c[2]["query_hash"] for c in copies if c[2]["query_hash"]]
        texts = [re.sub(r"[\x00-\x1f]+", " ", t.strip()) for c in copies for t in c[2]["texts"]]
        named = [*dict.fromkeys(hashes)], [*dict.fromkeys(filter(None, texts))]
        _, _, best, urls = copies[0]
        out.append((f"Q{entity}", url, urls[1:], *named, best["width"]))
    return out


@settings(max_examples=30)
@given(st.lists(ROWS, max_size=12), st.sampled_from(FORMS), st.integers(1, 5))
def test_any_rows_in_any_form_give_what_a_plain_reading_gives(
    rows: list[Row], form: str, cap: int
) -> None:
    padding = [{**dict.fromkeys(ROWS_KEYS), "entity": "Q1", "urls": [URL], "texts": []}] * 13
    listed = [*rows, *padding]  # so that most rows are good
    with TemporaryDirectory() as name:
        folder = Path(name)
        written, _ = found(folder, write_list(folder / f"a.{form}", listed), per_entity=cap)
    got = [
        (r["entity"], r["url"], r["fallback_urls"], r["query_hashes"], r["texts"], r["width"])
        for r in written
    ]
    assert got == plainly(rows, cap)


ROWS_KEYS = ("entity", "query_hash", "urls", "texts", "score", "width")


def test_an_image_of_several_entities_is_a_row_each(tmp_path: Path) -> None:
    """One row with a list of entities is refused, lest all but the first be lost in silence."""
    listed = [*GOOD, {"entity": ["Q144", "Q726"], "url": "https://example.org/both.jpg"}]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in listed), "utf-8")
    rows, said = found(tmp_path, file)
    assert not any(row["url"].endswith("both.jpg") for row in rows)
    assert any("several entities in one row" in warning for warning in said["warnings"])


def test_a_list_that_is_about_nothing_says_so(tmp_path: Path) -> None:
    listed = [{"entity": "Q999", "url": "https://example.org/a.jpg"},
              {"query_hash": "nobody-knows", "url": "https://example.org/b.jpg"}]  # fmt: skip
    rows, said = found(tmp_path, write_list(tmp_path / "a.csv", listed))
    assert rows == []
    warnings = " ".join(said["warnings"])
    assert "1 hash of queries are not the data set's (--url-queries FILE knows others)" in warnings
    assert "1 row was left out: no images are wanted of their entities" in warnings
