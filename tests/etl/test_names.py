"""Names are found as people type them, in every language kept, whatever a dump was cut into."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl import find as find_module
from etl import merge_names as merge_module
from etl.engine import run
from etl.errors import UserError
from etl.find import find, lines
from etl.fold import LONGEST, fold
from etl.ingest import ingest
from etl.kept import Kept
from etl.manifest import read_manifest, write_manifest
from etl.merge_names import NamesJob, merge_names
from etl.names import NameRows, fold_all
from etl.plan import Options
from etl.show import described
from etl.store import EntityStore
from etl.verify import verify
from tests import console
from tests.etl import dumps

KEPT = Kept(("en", "en-gb", "de", "tr", "mul"), {"P31": ()})


# --- folding, against the definitions of Unicode -------------------------------------------------

#: Prepended_Concatenation_Mark, interlinear annotation and Egyptian controls are format
#: characters that are seen (DerivedCoreProperties.txt says so).
SEEN = {0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x600, 0x606)} | {
    *range(0xFFF9, 0xFFFC), *range(0x13430, 0x13440)
}  # fmt: skip
OTHERS = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x3164, 0xFFA0} | {
    *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000), *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)
}  # fmt: skip


def unseen(c: str) -> bool:
    return (unicodedata.category(c) == "Cf" and ord(c) not in SEEN) or ord(c) in OTHERS


def plain_fold(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", "".join(c for c in text if not unseen(c)))
    words: list[str] = [""]
    for c in text:
        if c.isspace():
            words.append("")
        else:
            words[-1] += c
    return " ".join(word for word in words if word)[:256].rstrip(" ")


texts = st.one_of(
    st.text(max_size=12),
    st.text("aA bB\t  \n\x1f\x7f", max_size=8),
    st.text(
        "iIİıßẞﬁſΣσς\u0301\u0323éÉ\u200d\u200e\u00adשّ😀👩\ufe0f한ᄒ１Ⅳ\u3000\u00a0", max_size=8
    ),
    st.sampled_from(["Straße", "STRASSE", "golden  retriever", "Golden Retriever", "x" * 250]),
    st.text("aAéﷺ ", min_size=240, max_size=300),
)


def test_every_character_is_folded_as_unicode_says() -> None:
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    folded = fold_all(pa.array(characters)).to_pylist()
    wrong = [c for c, f in zip(characters, folded, strict=True) if f != plain_fold(c)]
    assert wrong == []
    assert [c for c in folded if fold(c) != c] == []


@given(st.lists(texts, max_size=20), st.integers(0, 3))
@example(["", "a", "", " a", "a  b", "é", ""], 1)
@example(["A" * 300, "É" * 300, "a" * 255 + " b"], 0)
def test_many_names_are_folded_as_one_is(names: list[str], start: int) -> None:
    expected = [plain_fold(name) for name in names]
    assert [fold(name) for name in names] == expected
    assert fold_all(pa.array(names, pa.string()).slice(start)).to_pylist() == expected[start:]


@given(texts)
def test_a_folded_name_finds_itself(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert fold(text.swapcase()) == fold(text) or text.swapcase().swapcase() != text


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("STRASSE", "Straße"), ("ﬁnch", "Finch"), ("café", "Cafe\u0301"), ("ΣΊΣΥΦΟΣ", "Σίσυφος"),
        ("ｗｉｋｉ", "Wiki"), ("a\u00a0 b", "A b"), ("שלום", "\u200fשלום\u200e"), ("❤", "❤\ufe0f"),
    ],
)  # fmt: skip
def test_what_is_typed_finds_what_is_written(typed: str, name: str) -> None:
    assert fold(typed) == fold(name)


def test_accents_and_the_turkish_i_count() -> None:
    assert fold("Gödel") != fold("Godel")
    assert fold("İzmir") == "i\u0307zmir"
    assert fold("ısı") == "ısı"


# --- runs, and what a plain reader makes of the same records -------------------------------------


@dataclass
class Names:
    """What a record has of names."""

    number: int
    revision: int
    labels: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sitelinks(self) -> int:
        return (self.number * 7 + self.revision) % 5

    @property
    def key(self) -> int:
        return (ord("Q" if self.number > 0 else "P") << 56) + abs(self.number)


def write_run(directory: Path, number: int, records: list[Names]) -> str:
    """A run as the worker leaves it: each id once, by key; its names beside it."""
    newest: dict[int, int] = {}
    for n, record in enumerate(records):
        before = newest.get(record.key)
        if before is None or records[before].revision <= record.revision:
            newest[record.key] = n
    order = [newest[key] for key in sorted(newest)]
    new_row = np.full(len(records), -1, np.int64)
    new_row[order] = np.arange(len(order))
    rows = NameRows(KEPT)
    for n, record in enumerate(records):
        rows.add(n, record.labels, record.aliases)
    best = [records[n] for n in order]
    path = directory / f"run-{number:04d}.arrow"
    columns = {
        "key": pa.array([r.key for r in best], pa.uint64()),
        "revision": pa.array([r.revision for r in best], pa.int64()),
    }
    write_arrow(path, columns)
    rows.write(
        path.with_suffix(".names.arrow"),
        new_row,
        np.array([r.number for r in best], np.int64),
        np.array([r.sitelinks for r in best], np.int32),
    )
    return str(path)


def write_arrow(path: Path, columns: dict[str, pa.Array]) -> None:
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def merged(directory: Path, runs: Sequence[list[Names]], **more: Any) -> Path:
    directory.mkdir(parents=True)
    paths = tuple(write_run(directory, n, records) for n, records in enumerate(runs))
    out = directory / "out"
    out.mkdir()
    job = NamesJob(paths, str(out), KEPT.languages, **more)
    told: list[int] = []
    rows = merge_names(job, told.append)
    assert rows == sum(told) == pq.read_metadata(out / "names.parquet").num_rows
    return out / "names.parquet"


def winning(records: list[Names]) -> list[Names]:
    best: dict[int, Names] = {}
    for record in records:
        if record.number not in best or best[record.number].revision <= record.revision:
            best[record.number] = record
    return list(best.values())


def plain_rows(records: list[Names]) -> list[dict[str, Any]]:
    found: dict[tuple[str, int, int, str, str], list[str]] = {}
    for r in winning(records):
        for code in KEPT.languages:
            for kind, names in (("label", [r.labels[code]] if code in r.labels else []),
                                ("alias", r.aliases.get(code, []))):  # fmt: skip
                for name in names:
                    place = (plain_fold(name), -r.sitelinks, r.number, kind, name)
                    if place[0] and code not in found.setdefault(place, []):
                        found[place].append(code)
    rows = sorted(found.items(), key=lambda e: (*e[0][:3], e[0][3] == "alias", e[0][4]))
    return [
        {"folded": f, "name": n, "id": i, "languages": codes, "kind": kind, "sitelinks": -s}
        for (f, s, i, kind, n), codes in rows
    ]


words = st.sampled_from(
    ["Dog", "dog", "DOG ", "Hund", "İt", "köpek", "犬", " ", "", "a", "Ab", "b"]
)
names = st.one_of(words, st.text(max_size=5), st.text("aAbß ", max_size=250))
codes = st.sampled_from(KEPT.languages)
records = st.lists(
    st.builds(
        Names,
        st.one_of(st.integers(1, 6), st.integers(-3, -1), st.just(1 << 50)),
        st.integers(1, 3),
        st.dictionaries(codes, names, max_size=4),
        st.dictionaries(codes, st.lists(names, max_size=3), max_size=2),
    ),
    max_size=25,
)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 200M names there are hundreds of batches; here are some for a few names."""
    monkeypatch.setattr(merge_module, "BATCH_BYTES", 200)
    monkeypatch.setattr(merge_module, "BATCH_KEYS", 2)
    monkeypatch.setattr(merge_module, "NAME_GROUP", 4)
    monkeypatch.setattr(merge_module, "_SAMPLE", 1)


def cut(items: list[Names], at: list[int]) -> list[list[Names]]:
    bounds = [0, *sorted(n % (len(items) + 1) for n in at), len(items)]
    return [items[a:b] for a, b in pairwise(bounds)]


@pytest.mark.usefixtures("small_batches")
@settings(max_examples=80)
@given(made=records, at=st.lists(st.integers(0, 25), max_size=6))
def test_any_cut_into_runs_gives_the_names_that_a_plain_reader_finds(
    tmp_path_factory: pytest.TempPathFactory, made: list[Names], at: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    whole, pieces = merged(folder / "one", [made]), merged(folder / "cut", cut(made, at))
    assert pq.read_table(whole).to_pylist() == plain_rows(made)
    assert whole.read_bytes() == pieces.read_bytes()


@pytest.mark.usefixtures("small_batches")
@settings(max_examples=80)
@given(before=records, changes=records, data=st.data())
def test_an_update_gives_the_names_of_a_full_build(
    tmp_path_factory: pytest.TempPathFactory, before: list[Names], changes: list[Names], data: Any
) -> None:
    """The new dump: lines that the old store has, newer and older ones, and some are gone."""
    folder = tmp_path_factory.mktemp("update")
    stood = {r.number: r for r in winning(before)}
    old = folder / "old" / "out"
    merged(folder / "old", [before])
    in_order = sorted(stood.values(), key=lambda r: r.key)
    columns = {"id": [r.number for r in in_order], "revision": [r.revision for r in in_order]}
    schema = pa.schema([("id", pa.int64()), ("revision", pa.int64())])
    pq.write_table(pa.table(columns, schema=schema), old / "nodes.parquet", row_group_size=2)

    kept = [r for r in stood.values() if data.draw(st.booleans())]
    changed = [
        r for r in changes if r.number not in stood or stood[r.number].revision != r.revision
    ]
    dump = data.draw(st.permutations([*kept, *kept[:2], *changed]))
    slices = cut(dump, data.draw(st.lists(st.integers(0, 30), max_size=3)))
    unchanged = []
    for n, cut_off in enumerate(slices):
        path = folder / f"unchanged-{n}.arrow"
        known = sorted(r.key for r in cut_off if any(r is k for k in kept))
        write_arrow(path, {"key": pa.array(known, pa.uint64())})
        unchanged.append(str(path))
    parsed = [[r for r in part if not any(r is k for k in kept)] for part in slices]
    updated = merged(folder / "new", parsed, old=str(old), unchanged=tuple(unchanged))
    full = merged(folder / "full", [dump])
    assert updated.read_bytes() == full.read_bytes()


def test_an_older_store_whose_names_are_broken_is_said(tmp_path: Path) -> None:
    made = [Names(n, 1, {"en": f"name {n}"}) for n in range(1, 40)]
    old = built(tmp_path, made)
    write_arrow(tmp_path / "unchanged.arrow", {"key": pa.array([r.key for r in made], pa.uint64())})
    unchanged = (str(tmp_path / "unchanged.arrow"),)
    for name in ("names.parquet", "nodes.parquet"):
        whole = (old / name).read_bytes()
        for cut_at in (len(whole) // 2, 0):
            (old / name).write_bytes(whole[:cut_at] + b"x" * (len(whole) - cut_at))
            with pytest.raises(UserError, match=r"--update-from .*can't be read .*verify"):
                merge_names(NamesJob((), str(tmp_path), KEPT.languages, str(old), unchanged), print)
        (old / name).write_bytes(whole[:4] + b"\xff" * 40 + whole[44:])
        with pytest.raises(UserError, match=r"--update-from .*can't be read .*verify"):
            merge_names(NamesJob((), str(tmp_path), KEPT.languages, str(old), unchanged), print)
        (old / name).write_bytes(whole)
    write_arrow(tmp_path / "unchanged.arrow", {"key": pa.array([Names(50, 1).key], pa.uint64())})
    with pytest.raises(UserError, match="isn't there any more"):
        merge_names(NamesJob((), str(tmp_path), KEPT.languages, str(old), unchanged), print)
    write_arrow(tmp_path / "unchanged.arrow", {"key": pa.array([r.key for r in made], pa.uint64())})
    rows = merge_names(NamesJob((), str(tmp_path), KEPT.languages, str(old), unchanged), [].append)
    assert rows == len(made)
    assert (tmp_path / "names.parquet").read_bytes() == (old / "names.parquet").read_bytes()


def test_one_name_of_many_entities_is_merged_in_pieces(tmp_path: Path) -> None:
    """Nothing that a dump says makes a batch as large as it likes."""
    made = [Names(n + 1, 1, {"en": "same"}) for n in range(3 * 50)]
    sizes: list[int] = []
    paths = [write_run(tmp_path, n, made[n::3]) for n in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge_module, "BATCH_BYTES", 16 * 68)
        patch.setattr(merge_module, "_SAMPLE", 2)
        merge_names(NamesJob(tuple(paths), str(tmp_path), KEPT.languages), sizes.append)
    assert sum(sizes) == 150
    assert max(sizes) <= 32


def test_the_merge_is_a_task_of_the_engine(tmp_path: Path) -> None:
    made = [Names(n, 1, {"en": f"name {n}"}) for n in range(1, 40)]
    job = NamesJob((write_run(tmp_path, 0, made),), str(tmp_path), KEPT.languages)
    told: list[int] = []
    assert [rows for _, rows in run(merge_names, [job], 1, told.append)] == [39]
    assert sum(told) == 39
    assert pq.read_table(tmp_path / "names.parquet").to_pylist() == plain_rows(made)


def test_longer_names_than_wikibase_has_are_cut(tmp_path: Path) -> None:
    made = [Names(1, 1, {"en": "É" * 100_000, "de": "a" * 257})]
    rows = pq.read_table(merged(tmp_path / "runs", [made])).to_pylist()
    assert [r["name"] for r in rows] == ["a" * LONGEST, "É" * LONGEST]


# --- the lookup ----------------------------------------------------------------------------------


def line(r: Names) -> bytes:
    letter = "Q" if r.number > 0 else "P"
    return dumps.as_line(
        {
            "type": "item" if letter == "Q" else "property",
            "id": f"{letter}{abs(r.number)}",
            "labels": {c: {"language": c, "value": v} for c, v in r.labels.items()},
            "descriptions": {"en": {"language": "en", "value": f"described {r.number}"}},
            "aliases": {
                c: [{"language": c, "value": v} for v in names] for c, names in r.aliases.items()
            },
            "claims": {},
            "sitelinks": {f"w{n}": {"site": f"w{n}"} for n in range(r.sitelinks)},
            "lastrevid": r.revision,
            "datatype": "string",
        }
    )


def built(folder: Path, made: list[Names], **more: Any) -> Path:
    path = dumps.write(folder / "dump.gz", [line(r) for r in made])
    options = Options(**{"kept": KEPT, "workers": 0, "quiet": True, **more})
    ingest((str(path),), folder / "store", options)
    return folder / "store"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_ingest_leaves_the_names_of_its_dump(
    tmp_path: Path, animals: list[Names], workers: int
) -> None:
    twice = [replace(r, revision=r.revision - 1, labels={"en": "old"}) for r in animals[::5]]
    made = [*twice[::2], *animals, *twice[1::2], Names(7, 500, {"mul": "newest"})]
    store = built(tmp_path, made, workers=workers, slice_bytes=500)
    assert pq.read_table(store / "names.parquet").to_pylist() == plain_rows(made)
    assert read_manifest(store, "store")["counts"]["names"] == len(plain_rows(made))
    assert all(not check.problem for check in verify(store))


def store_of(folder: Path, made: list[Names], row_group: int = 3) -> Path:
    """A store whose names stand in row groups of ``row_group``, as if there were many."""
    store = built(folder, made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge_module, "NAME_GROUP", row_group)
        merged(folder / "runs", [made]).replace(store / "names.parquet")
    manifest = read_manifest(store, "store")
    manifest["outputs"].pop("names.parquet", None)
    write_manifest(store, manifest)
    return store


def plainly_found(
    made: list[Names], text: str, *, prefix: bool, languages: Sequence[str]
) -> list[tuple[str, str]]:
    """(id, name), best known first; of an entity's names labels first, then as they are folded."""
    wanted = plain_fold(text)
    hits = [
        row for row in plain_rows(made)
        if (row["folded"].startswith(wanted) if prefix else row["folded"] == wanted)
        and (not languages or set(languages) & set(row["languages"]))
    ]  # fmt: skip
    best: dict[int, Any] = {}
    for place, row in enumerate(hits):
        best.setdefault(row["id"], []).append((row["kind"] == "alias", place, row["name"]))
    ids = sorted(best, key=lambda i: (-next(r["sitelinks"] for r in hits if r["id"] == i), i))
    return [(f"Q{i}" if i > 0 else f"P{-i}", min(best[i])[2]) for i in ids]


@pytest.fixture(scope="module")
def animals() -> list[Names]:
    rng = random.Random(4)
    stems = ["dog", "Dog", "Dogma", "doge", "Hund", "Hündin", "köpek", "犬", "Straße", "d", "e"]
    return [
        Names(
            n if n % 9 else -n,
            rng.randint(1, 99),
            {c: rng.choice(stems) for c in KEPT.languages if rng.random() < 0.5},
            {"en": rng.sample(stems, 3)} if rng.random() < 0.5 else {},
        )
        for n in range(1, 90)
    ]


@pytest.fixture(scope="module", params=[1, 3, 1000])
def store(
    request: pytest.FixtureRequest, animals: list[Names], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return store_of(tmp_path_factory.mktemp("store"), animals, request.param)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("languages", [(), ("en",), ("tr", "mul")])
@pytest.mark.parametrize("text", ["DOG", "d", "dogm", "hun", "STRASSE", "犬", "x", "zzz", "HÜ"])
def test_names_are_found_as_a_plain_reader_finds_them(
    store: Path, animals: list[Names], text: str, prefix: bool, languages: tuple[str, ...]
) -> None:
    expected = plainly_found(animals, text, prefix=prefix, languages=languages)
    for limit in (1, 2, 7, 500):
        answer = find(store, text, prefix=prefix, languages=languages, limit=limit)
        assert [(f.id, f.name) for f in answer.found] == expected[:limit]
        assert answer.more == (len(expected) > limit)
        assert not answer.partial
        for found in answer.found:
            assert found.description == f"described {found.id.replace('P', '-').lstrip('Q')}"


def test_what_is_found_says_in_which_languages_and_as_what(tmp_path: Path) -> None:
    same = {"en": "Golden Retriever", "en-gb": "Golden Retriever", "de": "Golden Retriever"}
    made = [
        Names(38686, 5, same, {"en": ["goldie", "Golden retriever"]}),
        Names(2, 9, {"de": "Hund"}, {"tr": ["Goldie"]}),
        Names(3, 9),
    ]
    store = store_of(tmp_path, made)
    (found,) = find(store, "golden retriever").found
    assert (found.id, found.label, found.kind) == ("Q38686", "Golden Retriever", "label")
    assert found.languages == ("en", "en-gb", "de")
    both = find(store, "GOLDIE").found
    assert {(f.id, f.label, f.name, f.kind, f.languages) for f in both} == {
        ("Q38686", "Golden Retriever", "goldie", "alias", ("en",)),
        ("Q2", "Hund", "Goldie", "alias", ("tr",)),
    }
    assert [f.id for f in find(store, "goldie", languages=["tr"]).found] == ["Q2"]
    assert [f.id for f in find(store, "golden ", prefix=True).found] == ["Q38686"]
    assert find(store, "gold ", prefix=True).found == ()


def test_a_short_beginning_reads_few_row_groups_and_says_when_it_left_some_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [Names(n, 1, {"en": f"a {n:04d}"}) for n in range(1, 400)]
    made.append(Names(400, 1, {"de": "a 9999"}))
    store = store_of(tmp_path, made, row_group=5)
    read: list[int] = []
    real = find_module._Search._matching
    monkeypatch.setattr(find_module._Search, "_matching", lambda s, g: read.append(g) or real(s, g))
    answer = find(store, "a", prefix=True, limit=3)
    assert [f.sitelinks for f in answer.found] == [4, 4, 4]
    assert answer.more
    assert len(read) < 10
    monkeypatch.setattr(find_module, "MOST_GROUPS", 20)
    read.clear()
    assert not find(store, "a", prefix=True, limit=3).partial
    assert find(store, "a", prefix=True, languages=["de"], limit=3).partial
    assert len(read) < 10 + 20


def test_a_lookup_that_can_not_be_answered_says_why(tmp_path: Path) -> None:
    store = store_of(tmp_path, [Names(1, 1, {"en": "dog"})])
    for text in ("", "  ", "\u200e"):
        with pytest.raises(UserError, match="no name to look for"):
            find(store, text)
    with pytest.raises(UserError, match="keeps no names in 'fr'; it has en, en-gb, de, tr, mul"):
        find(store, "dog", languages=["en", "fr"])
    assert find(store, "x" * 100_000).found == ()
    assert find(store, "\x1b[31m\x00").found == ()
    with pytest.raises(UserError, match="is no text in UTF-8"):
        find(store, "d\udcff", prefix=True)
    whole = (store / "names.parquet").read_bytes()
    for place in (slice(4, len(whole) // 2), slice(-40, -8)):
        broken = bytearray(whole)
        broken[place] = b"\xff" * len(broken[place])
        (store / "names.parquet").write_bytes(broken)
        with pytest.raises(UserError, match=r"names.parquet can't be read .*verify"):
            find(store, "dog")
    (store / "names.parquet").unlink()
    with pytest.raises(UserError, match="build it again"):
        find(store, "dog")
    with pytest.raises(UserError):
        find(tmp_path / "nowhere", "dog")


def test_what_a_dump_calls_things_can_not_steer_a_terminal(tmp_path: Path) -> None:
    made = [
        Names(1, 9, {"en": "dog\x1b[2J\tdog\n", "mul": "dog"}),
        Names(2, 1, {"en": "犬" * 200}, {"en": ["dog"]}),
        Names(3, 1, {"en": "e\u0301" * 30, "de": "dog"}),
    ]
    answer = find(store_of(tmp_path, made), "dog")
    assert [row.split("\t") for row in lines(answer)] == [
        ["Q3", "e\u0301" * 30, "described 3", "2", "dog"],
        ["Q1", "dog\ufffd[2J\ufffddog\ufffd", "described 1", "1", "dog"],
        ["Q2", "犬" * 200, "described 2", "0", "dog"],
    ]
    for width in (1, 40, 80, 500):
        shown = list(lines(answer, width))
        assert len(shown) == 3
        assert all(row.isprintable() for row in shown)
    before = len("Q3") + 2 + 250 + 2
    assert [columns(row[: row.index("described")]) for row in shown] == [before] * 3


def columns(text: str) -> int:
    return sum(2 if c == "犬" else 0 if c == "\u0301" else 1 for c in text)


def test_a_store_without_any_name_finds_nothing(tmp_path: Path) -> None:
    store = store_of(tmp_path, [Names(1, 1), Names(2, 1, {"en": " "})])
    assert pq.read_metadata(store / "names.parquet").num_rows == 0
    assert find(store, "dog", prefix=True).found == ()


def test_every_property_keeps_its_names_whatever_statements_are_kept(tmp_path: Path) -> None:
    made = [Names(-n, 1, {"en": f"property {n}"}, {"de": ["Eigenschaft"]}) for n in (31, 279, 9999)]
    store = built(tmp_path, [*made, Names(5, 1, {"en": "human"})])
    with EntityStore(store) as opened:
        assert opened.properties == ("P31",)
        for n in (31, 279, 9999):
            record = opened.get(f"P{n}")
            assert record is not None
            assert record.labels == {"en": f"property {n}"}
            assert record.aliases == {"de": ["Eigenschaft"]}
            assert next(described(record, opened)) == f"P{n}  property {n}"
    found = find(store, "eigenschaft").found
    assert {(f.id, f.label) for f in found} == {(f"P{n}", f"property {n}") for n in (31, 279, 9999)}


def test_names_are_found_from_the_command_line(tmp_path: Path) -> None:
    built(tmp_path, [Names(1, 1, {"en": "Dog"}, {"de": ["Hund"]}), Names(2, 1, {"en": "dog"})])
    done = console.run("find DOG --store store", tmp_path)
    assert done.stdout == "Q1\tDog\tdescribed 1\t3\t\nQ2\tdog\tdescribed 2\t0\t\n"
    done = console.run("find hun --prefix --language de --json --store store", tmp_path)
    assert json.loads(done.stdout) == [
        {
            "id": "Q1",
            "label": "Dog",
            "description": "described 1",
            "sitelinks": 3,
            "name": "Hund",
            "kind": "alias",
            "languages": ["de"],
        }
    ]
    done = console.run("find dog --limit 1 --store store", tmp_path)
    assert (done.stdout.count("\n"), "--limit" in done.stderr) == (1, True)
    done = console.run("find cat --store store", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: no name in store is 'cat'")
