"""A store that takes from an older one what a dump hasn't changed is the store of that dump."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.digest import digest_of
from etl.errors import UserError
from etl.ingest import ingest
from etl.kept import Kept
from etl.manifest import read_manifest
from etl.plan import Options
from etl.update import Known, write_known
from etl.verify import verify
from tests.etl import dumps

KEPT = Kept(("en", "mul"), {"P31": (), "P279": (), "P18": (), "P361": ()})
ANY_OF_ITS_OWN = {"seconds", "update", "plan", "manifest_sha256", "outputs"}

Entity = dict[str, Any]


def build(dump: Path, store: Path, **more: Any) -> dict[str, Any]:
    given_ = {"kept": KEPT, "workers": 0, "quiet": True, **more}
    return ingest((str(dump),), store, Options(**given_))


def everything(store: Path) -> dict[str, Any]:
    """All that a build promises: the manifest but for its timings, and every file's digest."""
    manifest = read_manifest(store, "store")
    assert manifest["contents"] == digest_of(store)
    files = {n: d for n, d in manifest["outputs"].items() if n != "data.mdb"}
    return {**{k: v for k, v in manifest.items() if k not in ANY_OF_ITS_OWN}, "files": files}


def line(made: Entity) -> bytes:
    return dumps.as_line(made)


def newer(made: Entity, number: int, rng: random.Random) -> Entity:
    """Another revision of an entity: something in it is different."""
    made = json.loads(json.dumps(made))
    made["labels"] = {"en": {"language": "en", "value": f"changed {number}"}}
    if made["claims"]:
        made["claims"].pop(rng.choice(list(made["claims"])))
    return {**made, "lastrevid": made["lastrevid"] + number}


def in_order(made: Entity) -> Entity:
    """Members in the order in which Wikidata's own dumps have them."""
    first = [k for k in ("type", "datatype", "id") if k in made]
    rest = [k for k in made if k not in {*first, "lastrevid"}]
    return {k: made[k] for k in (*first, *rest, "lastrevid") if k in made}


def world(seed: int, count: int = 60) -> list[Entity]:
    """Entities of an older dump, each id once."""
    found = {e["id"]: in_order(e) for e in dumps.entities(count, seed) if e["type"] != "lexeme"}
    return list(found.values())


# --- the same store


FATES = ("same", "same", "same", "changed", "gone", "twice", "newer first", "newer last",
         "older", "reverted", "without a revision")  # fmt: skip


def fated(made: Entity, fate: str, rng: random.Random) -> list[Entity]:
    """What the newer dump has of an entity."""
    return {
        "same": [made],
        "changed": [newer(made, 5, rng)],
        "gone": [],
        "twice": [made, made],
        "newer first": [newer(made, 5, rng), made],
        "newer last": [made, newer(made, 7, rng), made],
        "older": [made, newer(made, -1, rng)],
        "reverted": [newer(made, -1, rng)],
        "without a revision": [{k: v for k, v in made.items() if k != "lastrevid"}],
    }[fate]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_happened_to_the_entities_it_is_what_a_full_build_gives(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("update")
    before = world(data.draw(st.integers(0, 20)))
    rng = random.Random(data.draw(st.integers(0, 1000)))
    fates = data.draw(st.lists(st.sampled_from(FATES), min_size=len(before), max_size=len(before)))
    added = [e for e in world(777, 20) if e["id"] not in {b["id"] for b in before}]
    pieces = [fated(e, fate, rng) for e, fate in zip(before, fates, strict=True)]
    after = [e for piece in [*pieces, *[[e] for e in added]] for e in piece]
    rng.shuffle(after)
    build(dumps.write(folder / "old.json", [line(e) for e in before]), folder / "old")
    dump = dumps.write(folder / "new.gz", [line(e) for e in after], batch=5)
    size = data.draw(st.sampled_from([2_000, 1 << 30]))
    build(dump, folder / "full")
    found = build(dump, folder / "new", update_from=folder / "old", slice_bytes=size)
    assert everything(folder / "new") == everything(folder / "full")
    stays = [f in ("same", "twice", "older") for f in fates]
    assert found["update"]["unchanged"] == sum(stays)
    assert found["update"]["gone"] == fates.count("gone")
    assert found["update"]["added"] == len(added)
    assert found["update"]["changed"] == len(before) - sum(stays) - fates.count("gone")


@pytest.fixture(scope="module")
def dump_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An older and a newer dump of 600 entities, and the older one's store."""
    folder = tmp_path_factory.mktemp("dumps")
    rng = random.Random(1)
    before = world(1, 600)
    after = [e for n, e in enumerate(before) for e in fated(e, FATES[n % len(FATES)], rng)]
    after += [e for e in world(2, 60) if e["id"] not in {b["id"] for b in before}]
    dumps.write(folder / "old.gz", [line(e) for e in before])
    dumps.write(folder / "new.gz", [line(e) for e in after])
    build(folder / "old.gz", folder / "old")
    build(folder / "new.gz", folder / "full")
    return lambda name: folder / name


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_and_small_batches_leave_no_trace(
    tmp_path: Path, dump_of: Callable[[str], Path], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.merge.BATCH_RECORDS", 16)
    monkeypatch.setattr("etl.merge._SAMPLE", 4)
    monkeypatch.setattr("etl.update._ROWS", 50)
    monkeypatch.setattr("etl.update._EDGE_ROWS", 7)
    more = {"update_from": dump_of("old"), "workers": workers, "slice_bytes": 9_000}
    build(dump_of("new.gz"), tmp_path / "new", **more)
    assert everything(tmp_path / "new") == everything(dump_of("full"))
    assert not [check for check in verify(tmp_path / "new") if check.problem]


def test_killed_anywhere_and_resumed_it_is_the_same_store(
    tmp_path: Path, dump_of: Callable[[str], Path]
) -> None:
    store = tmp_path / "new"
    script = tmp_path / "run.py"
    script.write_text(
        "from pathlib import Path; from tests.etl.test_update import build\n"
        "if __name__ == '__main__':\n"
        f"    build(Path({str(dump_of('new.gz'))!r}), Path({str(store)!r}), workers=2,\n"
        f"          slice_bytes=9_000, update_from=Path({str(dump_of('old'))!r}))\n"
    )
    rng = random.Random(3)

    def start() -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        return subprocess.Popen([sys.executable, str(script)], env=environment,
                                start_new_session=True)  # fmt: skip

    for _ in range(2):
        process, pieces = start(), rng.randint(1, 8)
        while process.poll() is None and len(list(store.glob("building/*"))) < pieces:
            os.sched_yield()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start().wait() == 0
    assert everything(store) == everything(dump_of("full"))


def test_an_update_of_an_update_and_of_nothing_new(
    tmp_path: Path, dump_of: Callable[[str], Path]
) -> None:
    first = tmp_path / "first"
    build(dump_of("new.gz"), first, update_from=dump_of("old"))
    again = build(dump_of("new.gz"), tmp_path / "again", update_from=first)
    assert everything(tmp_path / "again") == everything(dump_of("full"))
    assert {again["update"][k] for k in ("added", "gone")} == {0}
    assert again["update"]["from"] == read_manifest(first, "store")["manifest_sha256"]
    same = build(dump_of("old.gz"), tmp_path / "same", update_from=dump_of("old"))
    assert everything(tmp_path / "same") == everything(dump_of("old"))
    assert same["update"]["unchanged"] == same["counts"]["entities"]


# --- what is refused


def test_an_older_store_with_other_options_is_refused_and_says_which(
    tmp_path: Path, dump_of: Callable[[str], Path]
) -> None:
    for kept, said in [
        (Kept(("en", "de"), KEPT.properties), r"other --languages \(-mul, \+de\)"),
        (Kept(("mul", "en"), KEPT.properties), r"--languages in another order"),
        (Kept(KEPT.languages, {"P31": (), "P18": ()}), r"other --properties \(-P279, -P361\)"),
        (Kept(KEPT.languages, {**KEPT.properties, "P31": ("P580",)}), "with other qualifiers"),
        (Kept(KEPT.languages, KEPT.properties, full=True), "no --keep full"),
    ]:
        with pytest.raises(UserError, match=said):
            build(dump_of("new.gz"), tmp_path / "new", kept=kept, update_from=dump_of("old"))
    assert not (tmp_path / "new").exists()


def test_a_store_is_not_updated_from_itself_nor_removed_for_it(
    tmp_path: Path, dump_of: Callable[[str], Path]
) -> None:
    store = tmp_path / "store"
    build(dump_of("old.gz"), store)
    before = everything(store)
    for fresh in (False, True):
        with pytest.raises(UserError, match=r"--update-from and --store are both|another size of"):
            build(dump_of("new.gz"), store, update_from=store, fresh=fresh)
    assert everything(store) == before


def test_a_damaged_older_store_is_refused_before_the_work(
    tmp_path: Path, dump_of: Callable[[str], Path]
) -> None:
    old = tmp_path / "old"
    with pytest.raises(UserError, match=r"^--update-from: .* holds no finished store"):
        build(dump_of("new.gz"), tmp_path / "new", update_from=old)
    build(dump_of("old.gz"), old)
    nodes = (old / "nodes.parquet").read_bytes()
    (old / "nodes.parquet").unlink()
    with pytest.raises(UserError, match=r"damaged: nodes\.parquet"):
        build(dump_of("new.gz"), tmp_path / "new", update_from=old)
    (old / "nodes.parquet").write_bytes(nodes)
    manifest = (old / "manifest.json").read_text()
    (old / "manifest.json").write_text(manifest.replace('"entities": ', '"entities": 1'))
    with pytest.raises(UserError, match="manifest was changed after it was written"):
        build(dump_of("new.gz"), tmp_path / "new", update_from=old)
    (old / "manifest.json").write_text(manifest)
    edges = (old / "edges" / "P31.parquet").read_bytes()
    (old / "edges" / "P31.parquet").write_bytes(bytes(len(edges)))
    with pytest.raises(UserError, match=r"can't be read.*sparqless verify"):
        build(dump_of("new.gz"), tmp_path / "new", update_from=old)


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_older_store_that_changed_between_two_starts_is_noticed(
    tmp_path: Path, dump_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, store = tmp_path / "old", tmp_path / "new"
    build(dump_of("old.gz"), old)
    with monkeypatch.context() as patch:
        patch.setattr("etl.build.merge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(dump_of("new.gz"), store, update_from=old)
    build(dump_of("new.gz"), old, fresh=True)
    with pytest.raises(UserError, match="another --update-from"):
        build(dump_of("new.gz"), store, update_from=old)
    with pytest.raises(UserError, match="another --update-from"):
        build(dump_of("new.gz"), store)


def test_an_older_store_is_not_built_in_while_it_is_read(
    tmp_path: Path, dump_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl import build as module

    old, real = tmp_path / "old", module.write_known
    build(dump_of("old.gz"), old)

    def meanwhile(*paths: Path) -> None:
        with pytest.raises(UserError, match="written by another run"):
            build(dump_of("new.gz"), old, fresh=True)
        real(*paths)

    monkeypatch.setattr(module, "write_known", meanwhile)
    build(dump_of("new.gz"), tmp_path / "new", update_from=old)
    assert everything(tmp_path / "new") == everything(dump_of("full"))


def test_a_finished_store_does_not_ask_for_the_older_one(
    tmp_path: Path, dump_of: Callable[[str], Path]
) -> None:
    build(dump_of("new.gz"), tmp_path / "new", update_from=dump_of("old"))
    manifest = read_manifest(tmp_path / "new", "store")
    assert build(dump_of("new.gz"), tmp_path / "new", update_from=tmp_path / "gone") == manifest
    assert build(dump_of("new.gz"), tmp_path / "new") == manifest


# --- a line's two ends


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """A store of Q1 … Q9 and P1 … P9, whose revisions are ten times their number."""
    folder = tmp_path_factory.mktemp("known")
    made = [{"type": t, "id": f"{t[0]}{n}", "lastrevid": 10 * n}
            for t, letter in (("item", "Q"), ("property", "P")) for n in range(1, 10)
            for t, letter in [(t, letter)]]  # fmt: skip
    lines = [line({**e, "id": ("Q" if e["type"] == "item" else "P") + e["id"][1:]}) for e in made]
    build(dumps.write(folder / "d.json", lines), folder / "store")
    write_known(folder / "store", folder / "known")
    return Known(folder / "known")


def key(entity_id: str) -> int:
    return (ord(entity_id[0]) << 56) + int(entity_id[1:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"item","id":"Q3","labels":{},"lastrevid":30}', "Q3"),
        ('{"type":"item","id":"Q3","lastrevid":30,"modified":"2026-01-02T03:04:05Z"}', "Q3"),
        ('{"type":"property","datatype":"wikibase-item","id":"P4","x":{},"lastrevid":40}', "P4"),
        ('{"type":"property","id":"P4","lastrevid":40,"datatype":"string"}', "P4"),
        ('{"id":"Q3","type":"item","lastrevid":30}', "Q3"),
        ('{"type":"item","id":"Q3","lastrevid":31}', None),
        ('{"type":"item","id":"Q30","lastrevid":30}', None),
        ('{"type":"item","id":"Q0","lastrevid":0}', None),
        ('{"type":"item","id":"P3","lastrevid":30}', None),
        ('{"type":"item","id":"Q3"}', None),
        ('{"type":"item","id":"Q3","labels":{"x":1,"lastrevid":30}}', None),
        ('{"type":"item","id":"Q3","x":",\\"lastrevid\\":30}"}', None),
        ('{"type":"item","id":"Q3","lastrevid":30,"lastrevid":31}', None),
        ('{"x":{"type":"item","id":"Q3","lastrevid":30}', None),
        ('{"type":"item","id":"Q72057594037927939","lastrevid":30}', None),  # Q3 but for 2**56
        ("", None),
        ("{}", None),
    ],
)
def test_what_is_seen_in_a_line(known: Known, text: str, expected: str | None) -> None:
    seen = known.unchanged(text.encode())
    assert seen == (key(expected) if expected else None)
    assert known.unchanged(memoryview(text.encode())) == seen


TRICKS = st.sampled_from(
    ['"lastrevid":30}', ',"lastrevid":30', '"id":"Q3",', '{"type":"item","id":"Q3",', "\\", '"',
     "}", "30", "lastrevid", "modified", '","lastrevid":30,"modified":"2026Z"}']
)  # fmt: skip
TEXTS = st.lists(TRICKS | st.text(max_size=3), max_size=4).map("".join)
NAMES = st.sampled_from(["type", "id", "lastrevid", "modified", "datatype", "labels"]) | TEXTS
REVISIONS = st.sampled_from([0, 10, 20, 30, 31, 40, -30, 30.0, 3e1, "30", None, True])
VALUES = st.recursive(
    REVISIONS | TEXTS | st.sampled_from(["item", "property", "Q1", "Q3", "P4"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=700, deadline=None)
@given(
    members=st.lists(
        st.tuples(st.just("type"), st.sampled_from(["item", "property"]))
        | st.tuples(st.just("id"), st.sampled_from(["Q1", "Q3", "P3", "P4", "Q33"]))
        | st.tuples(st.just("lastrevid"), REVISIONS)
        | st.tuples(NAMES, VALUES),
        max_size=7,
        unique_by=lambda member: member[0],
    ),
    ascii_=st.booleans(),
    typical=st.booleans(),
)
def test_it_never_takes_a_line_for_another_entity_or_revision(
    known: Known, members: list[tuple[str, Any]], ascii_: bool, typical: bool
) -> None:
    """Held against json, over objects in any order whose insides look like their ends."""
    made = dict(members)
    if typical:
        made = {"type": "item", "id": "Q3", **{k: v for k, v in made.items() if k not in
                ("type", "id")}}  # fmt: skip
    text = json.dumps(made, separators=(",", ":"), ensure_ascii=ascii_)
    seen = known.unchanged(text.encode("utf-8", "surrogatepass"))
    if seen is not None:
        read = json.loads(text)
        assert seen == key(read["id"])
        assert type(read["lastrevid"]) is int
        assert read["lastrevid"] == 10 * int(read["id"][1:])
        assert read["type"] == {"Q": "item", "P": "property"}[read["id"][0]]
    elif typical and text.endswith(',"lastrevid":30}'):
        raise AssertionError("Q3 with its revision in Wikidata's own form is unchanged")


def test_nothing_is_known_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "known").write_bytes(b"")
    empty = Known(tmp_path / "known")
    assert empty.unchanged(b'{"type":"item","id":"Q3","lastrevid":30}') is None
