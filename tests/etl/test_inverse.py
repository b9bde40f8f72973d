"""Subjects by object: the look-up files of the properties that are walked backward."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import merge_inverse
from etl.inverse import INVERSE, Inverse, inverse_name
from etl.kept import read_properties
from etl.manifest import read_manifest
from etl.merge import EDGES
from etl.merge_inverse import write_inverses
from etl.merged_ids import Redirects
from etl.tables import TRUTHY_ROWS, TableWriter
from etl.verify import verify
from tests.graph.small_dump import entity, ranked, redirect, store_of

NUMBERS = st.integers(-5, 9).filter(bool)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, st.booleans()), max_size=60)


def key_order(number: int) -> tuple[bool, int]:
    return number > 0, abs(number)


def write_edges(file: Path, rows: list[tuple[int, int, bool]]) -> None:
    """Write (subject, object, truthy) rows as a merge does: the truthy first, by subject."""
    rows = sorted(rows, key=lambda row: (not row[2], key_order(row[0])))
    columns = [[row[n] for row in rows] for n in range(3)]
    ranks = pa.array(["normal"] * len(rows)).cast(EDGES.field("rank").type)
    file.parent.mkdir(exist_ok=True)
    with TableWriter(file, EDGES) as writer:
        writer.write(pa.table([columns[0], columns[1], ranks, columns[2]], schema=EDGES))
        writer.close(metadata={TRUTHY_ROWS: str(sum(columns[2]))})


@pytest.mark.parametrize("pairs", [1, 128, 1 << 21])
@settings(max_examples=40, deadline=None)
@given(rows=ROWS, merged=st.dictionaries(NUMBERS, NUMBERS))
def test_every_object_has_its_subjects_once_and_in_key_order(
    pairs: int, rows: list[tuple[int, int, bool]], merged: dict[int, int]
) -> None:
    ids = np.array(sorted(merged), np.int64)
    redirects = Redirects(ids, np.array([merged[n] for n in sorted(merged)], np.int64))
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge_inverse, "PAIRS", pairs)
        patch.setattr(merge_inverse, "_SAMPLE", 1 if pairs == 1 else 64)
        store = Path(directory)
        write_edges(store / "edges" / "P361.parquet", rows)
        assert write_inverses(store, ["P31", "P361"], redirects) == ["edges/P361.inverse.bin"]
        inverse = Inverse(store / inverse_name("P361"))
        for object_ in range(-6, 11):
            subjects = {s for s, o, truthy in rows if truthy and merged.get(o, o) == object_}
            assert inverse.subjects(object_) == sorted(subjects, key=key_order)
        # sorted a range of objects at a time, the bytes are those of sorting all at once
        patch.undo()
        written = (store / inverse_name("P361")).read_bytes()
        write_inverses(store, ["P361"], redirects)
        assert (store / inverse_name("P361")).read_bytes() == written


def test_the_shipped_list_keeps_what_is_walked_backward() -> None:
    assert set(INVERSE) <= set(read_properties())


def test_a_store_lists_its_look_up_files_and_verify_reads_them(tmp_path: Path) -> None:
    entities = [
        entity("Q1", claims={"P361": ["Q3", "Q2"]}),
        entity("Q4", claims={"P361": ["Q2", ranked("Q5", "preferred")], "P1672": [None]}),
        entity("Q7", claims={"P361": ["Q6"]}),
    ]
    store = store_of(tmp_path, entities, properties=("P31", "P361", "P1672"))
    outputs = read_manifest(store, "store")["outputs"]
    assert [name for name in outputs if name.endswith(".bin")] == ["edges/P361.inverse.bin"]
    assert Inverse(store / "edges/P361.inverse.bin").subjects(5) == [4]
    redirect(store, {"Q6": "Q3"})
    assert Inverse(store / "edges/P361.inverse.bin").subjects(3) == [1, 7]
    assert not [check for check in verify(store) if check.problem]
    with (store / "edges/P361.inverse.bin").open("r+b") as file:
        file.write(b"\0")
    (changed,) = [check for check in verify(store) if check.problem]
    assert changed.name == "edges/P361.inverse.bin"


def test_no_edge_is_an_empty_file(tmp_path: Path) -> None:
    write_edges(tmp_path / "edges" / "P1672.parquet", [(1, 2, False)])
    no_redirects = Redirects.load(tmp_path, [])
    (name,) = write_inverses(tmp_path, ["P1672"], no_redirects)
    assert (tmp_path / name).stat().st_size == 0
    assert Inverse(tmp_path / name).subjects(2) == []
