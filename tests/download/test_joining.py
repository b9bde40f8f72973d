"""What a join is promised: a limit of memory, a place to spill, and nothing left there."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from download.joining import connect, record_batches
from etl.errors import UserError


def size(path: Path) -> int:
    """Of a file that DuckDB may take away at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_an_answer_larger_than_the_memory_comes_in_order_and_leaves_nothing(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).permutation(1_000_000)
    wanted = pa.table({"number": numbers})
    with connect(tmp_path, "64MB") as database:
        database.register("wanted", wanted)
        query = "SELECT number, repeat('x', $times) || number AS x FROM wanted ORDER BY number"
        at, spilt = 0, 0
        for batch in record_batches(database, query, {"times": 40}, rows=5000):
            assert len(batch) <= 5000
            expected = np.arange(at, at + len(batch))
            assert (batch.column("number").to_numpy() == expected).all()
            at += len(batch)
            spilt = max(spilt, sum(map(size, tmp_path.rglob("*.*"))))
    assert at == 1_000_000
    assert spilt > 10_000_000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("max_temp_directory_size = '1MB'", r"can't be written .* free\): make room and run"),
        ("temp_directory = ''", "needs more memory than its limit, 32MB"),
    ],
)
def test_want_of_room_is_said_in_a_sentence(setting: str, sentence: str, tmp_path: Path) -> None:
    def sort_much() -> None:
        with connect(tmp_path, "32MB") as database:
            database.execute(f"SET {setting}")
            many = "SELECT md5(range::VARCHAR) AS x FROM range(3000000)"
            list(record_batches(database, f"{many} ORDER BY x"))

    with pytest.raises(UserError, match=sentence):
        sort_much()
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_where_a_join_fails(tmp_path: Path) -> None:
    with pytest.raises(duckdb.CatalogException), connect(tmp_path) as database:
        list(record_batches(database, "SELECT * FROM nowhere"))
    assert not list(tmp_path.iterdir())


def test_a_variable_is_no_table(tmp_path: Path) -> None:
    some_variable = pa.table({"x": [1]})
    with connect(tmp_path) as database, pytest.raises(duckdb.CatalogException):
        database.sql("SELECT * FROM some_variable")
    assert len(some_variable) == 1
