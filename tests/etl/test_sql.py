"""Rows come out of a mysqldump as they were put in, whatever the values, columns and framing."""

from __future__ import annotations

import bz2
import gzip
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from etl import sql
from etl.errors import UserError
from tests.etl.mysqldump import Value, table_of

# --- the slow twin: a character at a time ---------------------------------------------------------

_UNESCAPED = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a"}


def slow_rows(dump: bytes) -> Iterator[list[Value]]:
    """Every row of every INSERT of a dump, by MySQL's rules for literals."""
    text = dump.decode("latin-1")
    for statement in re.finditer(r"^INSERT INTO [^\n]*?VALUES\s", text, re.MULTILINE):
        at = statement.end()
        while True:
            while text[at] in " \r\n,":
                at += 1
            if text[at] == ";":
                break
            assert text[at] == "("
            row: list[Value] = []
            while text[at] != ")":
                value, at = _slow_value(text, at + 1)
                row.append(value)
            yield row
            at += 1


def _slow_value(text: str, at: int) -> tuple[Value, int]:
    if text.startswith("_binary ", at):
        at += len("_binary ")
    if text[at] != "'":
        end = at
        while text[end] not in ",)":
            end += 1
        word = text[at:end]
        if word == "NULL":
            return None, end
        return (int(word) if re.fullmatch(r"-?\d+", word) else float(word)), end
    found = ""
    at += 1
    while True:
        if text[at] == "\\":
            found += _UNESCAPED.get(text[at + 1], text[at + 1])
            at += 2
        elif text.startswith("''", at):
            found += "'"
            at += 2
        elif text[at] == "'":
            return found.encode("latin-1"), at + 1
        else:
            found += text[at]
            at += 1


# --- what is compared -----------------------------------------------------------------------------

NASTY = [
    b"",
    b"'",
    b"\\",
    b"\\'",
    b"),(",
    b"'),(1,0,'Q1',1,'",
    b");\nINSERT INTO `t` VALUES (",
    b"NULL",
]
TEXTS = st.one_of(
    st.sampled_from(NASTY),
    st.binary(max_size=12),
    st.lists(st.sampled_from([b"'", b"\\", b",", b"(", b")", b";", b"\n", b"a", b"_binary "])).map(
        b"".join
    ),
)
NUMBERS = st.one_of(
    st.integers(-(10**17), 10**17), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.one_of(TEXTS, NUMBERS, st.none())


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[Value]], bytes]:
    """Columns in some order, among them key, text and flag; rows; and the dump of them."""
    columns = draw(st.permutations(["key", "text", "flag", "more", "last"]))
    count = draw(st.integers(0, 12))
    rows = [
        [
            {"key": draw(st.integers(0, 10**9)), "flag": draw(st.integers(0, 1))}.get(
                name, draw(TEXTS if name == "text" else VALUES)
            )
            for name in columns
        ]
        for _ in range(count)
    ]
    dump = table_of(
        "t",
        columns,
        rows,
        per_statement=draw(st.integers(1, 5)),
        per_line=draw(st.booleans()),
        complete=draw(st.booleans()),
        end=draw(st.sampled_from(["\n", "\n", "\r\n"])),
        doubled=draw(st.booleans()),
        introduced=draw(st.booleans()),
    )
    return columns, rows, dump


WANTED = sql.Table(
    "t",
    {"key": rb"(?P<key>[0-9]+)", "text": rb"(?P<text>" + sql.STRING + rb")", "flag": b"1"},
    unwanted={"flag": b"0"},
)
IN_BATCHES = replace(WANTED, wanted={**WANTED.wanted, "text": sql.string("text")})


def fast_rows(path: Path, **options: object) -> list[tuple[int, bytes]]:
    """(key, text) of the rows whose flag is 1."""
    found = sql.rows(path, WANTED, lambda _: None)
    return [(int(m["key"]), m["text"]) for m in found]


def batched(path: Path) -> list[tuple[int, bytes]]:
    """The same, the texts as they were before they were quoted."""
    return [
        (int(key), text)
        for batch in sql.batches(path, IN_BATCHES, lambda _: None)
        for key, text in zip(batch["key"], sql.strings(batch, "text"), strict=True)
    ]


@given(tables(), st.integers(1, 200))
def test_rows_are_what_was_written(tmp_path_factory, table, block) -> None:
    columns, rows, dump = table
    key, text, flag = (columns.index(name) for name in ("key", "text", "flag"))
    expected = [(row[key], row[text]) for row in rows if row[flag] == 1]
    assert list(slow_rows(dump)) == rows  # the twin reads all that the writer writes
    path = tmp_path_factory.mktemp("sql") / "t.sql"
    path.write_bytes(dump)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "_BLOCK", block)
        patch.setattr(sql, "_FIRST_WINDOW", block // 3 + 1)
        found = fast_rows(path)
        assert batched(path) == expected
    assert [(number, _slow_value(text.decode("latin-1"), 0)[0]) for number, text in found] == (
        expected
    )


ROWS: list[list[Value]] = [
    [n, f"it's {n}".encode() * (n % 50), int(n % 3 == 0)] for n in range(3000)
]
DUMP = table_of("t", ["key", "text", "flag"], ROWS)
EXPECTED = [row[0] for row in ROWS if row[2]]


@pytest.mark.parametrize(
    ("suffix", "compressed"),
    [
        (".sql", DUMP),
        (".gz", gzip.compress(DUMP[:70_000]) + gzip.compress(DUMP[70_000:])),
        (".bz2", bz2.compress(DUMP[:70_000]) + bz2.compress(DUMP[70_000:])),
        (".zst", zstandard.compress(DUMP[:70_000]) + zstandard.compress(DUMP[70_000:])),
    ],
)
def test_the_form_is_seen_and_progress_counts_compressed_bytes(
    tmp_path: Path, suffix: str, compressed: bytes
) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(compressed)
    ticks: list[int] = []
    found = sql.rows(path, WANTED, ticks.append)
    assert [int(m["key"]) for m in found] == EXPECTED
    assert sum(ticks) == len(compressed)


def test_rows_and_statements_may_be_long(tmp_path: Path) -> None:
    rows: list[list[Value]] = [[n, b"'" * 20_000, 1] for n in range(200)]
    path = tmp_path / "t.sql"
    path.write_bytes(table_of("t", ["key", "text", "flag"], rows))  # 8 MB in one statement
    assert [key for key, _ in fast_rows(path)] == list(range(200))
    assert batched(path) == [(n, b"'" * 20_000) for n in range(200)]


def test_a_row_may_be_as_long_as_its_table_says(tmp_path: Path) -> None:
    rows: list[list[Value]] = [[n, b"\\" * 100_000, 1] for n in range(3)]
    path = tmp_path / "t.sql"
    path.write_bytes(table_of("t", ["key", "text", "flag"], rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "_BLOCK", 1000)
        with pytest.raises(UserError, match="where a row of `t` is expected"):
            batched(path)
        longer = replace(IN_BATCHES, longest_row=1 << 18)
        found = list(sql.batches(path, longer, lambda _: None))
    assert sum((batch["key"] for batch in found), ()) == (b"0", b"1", b"2")


def refused(path: Path, dump: bytes) -> str:
    path.write_bytes(dump)
    with pytest.raises(UserError) as raised:
        fast_rows(path)
    with pytest.raises(UserError) as also:
        batched(path)
    assert str(also.value) == str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("dump", "sentence"),
    [
        (b"", "no CREATE TABLE `t`"),
        (b"\0" * 3_000_000, "where SQL as mysqldump writes it is expected"),
        (b"[\n" + b'{"type":"item"},\n' * 100_000, "no CREATE TABLE `t`"),
        (b"CREATE TABLE `t` (\n" + b"  `c` int,\n" * 200_000, "no CREATE TABLE `t`"),
        (table_of("u", ["key", "text", "flag"], ROWS), "holds the table `u`, not `t`"),
        (DUMP[DUMP.index(b"INSERT") :], "no CREATE TABLE `t`"),
        (DUMP.replace(b"INSERT INTO `t`", b"INSERT INTO `u`"), "holds the table `u`, not `t`"),
        (table_of("t", ["key", "text"], [[1, b"a"]]), "has no column flag"),
        (DUMP[: DUMP.index(b"/*!40000 ALTER TABLE `t` ENABLE")], "cut off"),
        (DUMP[: DUMP.index(b"/*!40000 ALTER TABLE `t` DISABLE")], "cut off"),
        (DUMP.replace(b"(1500,", b"(1500;"), "where a row of `t` is expected"),
        (DUMP.replace(b",1),(1501", b",2),(1501"), "where a row of `t` is expected"),
        (DUMP.replace(b"VALUES (0", b"VALUES(0"), "list of values"),
        (DUMP.replace(b"VALUES (0", b"VALUES " + b" " * 4_000_000), "a row of `t` is expected"),
        (DUMP.replace(b"VALUES (0,'", b"VALUES (0,'" + b"a" * 4_000_000), "a row of `t` is"),
        (b"INSERT INTO `" + b"t" * 4_000_000, "a list of values"),
    ],
)  # fmt: skip
def test_what_is_not_a_dump_of_the_table_is_refused(
    tmp_path: Path, dump: bytes, sentence: str
) -> None:
    message = refused(tmp_path / "t.sql", dump)
    assert str(tmp_path / "t.sql") in message
    assert sentence in message


def test_the_place_of_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    broken = DUMP.replace(b"(1500,", b"(1500;")
    message = refused(tmp_path / "t.sql", broken)
    assert f"at byte {broken.index(b'(1500;'):,} of its text" in message


@given(st.integers(0, len(DUMP) - 1))
def test_a_dump_that_is_cut_off_anywhere_is_refused(tmp_path_factory, end: int) -> None:
    whole = DUMP.index(b"ENABLE KEYS") + len(b"ENABLE KEYS")
    path = tmp_path_factory.mktemp("cut") / "t.sql"
    path.write_bytes(DUMP[:end])
    if end >= whole:
        assert [key for key, _ in fast_rows(path)] == EXPECTED
    else:
        with pytest.raises(UserError):
            fast_rows(path)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, zstandard.compress])
def test_a_compressed_file_that_is_broken_or_cut_off_is_refused(tmp_path: Path, compress) -> None:
    whole = compress(DUMP)
    for name, broken in {
        "cut": whole[: len(whole) // 2],
        "end": whole[:-3],
        "changed": whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:],
    }.items():
        message = refused(tmp_path / name, broken)
        assert "can't be inflated at byte" in message or "cut off" in message
