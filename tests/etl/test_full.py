"""Whole entities: everything of a line comes back, and nothing that isn't the store's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.digest import digest_of
from etl.dump import find_inputs
from etl.errors import UserError
from etl.full import Compressor, Decompressor, sample, train
from etl.ingest import ingest
from etl.kept import Kept
from etl.manifest import read_manifest
from etl.plan import Options
from etl.source import Access
from etl.store import EntityStore
from etl.verify import verify
from tests.etl import dumps

PROPERTIES: dict[str, tuple[str, ...]] = {"P31": (), "P18": ()}
KEPT = Kept(("en",), PROPERTIES, full=True)

Entity = dict[str, Any]


def build(dump: Path, store: Path, **more: Any) -> dict[str, Any]:
    given_ = {"kept": KEPT, "workers": 0, "quiet": True, **more}
    return ingest((str(dump),), store, Options(**given_))


def whole(made: Entity) -> Entity:
    """An entity with what a store otherwise leaves out: references, badges, page metadata."""
    kind = {k: made.pop(k) for k in ("type", "datatype", "id") if k in made}
    made = {**kind, **made, "pageid": 5, "ns": 0, "title": kind["id"]}
    made["lastrevid"] = made.pop("lastrevid")
    made["modified"] = "2026-01-01T00:00:00Z"
    made["sitelinks"] = {
        "enwiki": {"site": "enwiki", "title": "A \\/ B é", "badges": ["Q17437796"]}
    }
    source = {"snaktype": "value", "property": "P854", "datatype": "url",
              "datavalue": {"value": "https://example.org/", "type": "string"}}  # fmt: skip
    reference = {"hash": "9a", "snaks": {"P854": [source]}, "snaks-order": ["P854"]}
    for statements in made["claims"].values() if isinstance(made["claims"], dict) else ():
        for n, statement in enumerate(statements):
            statement |= {"id": f"{made['id']}${n}", "type": "statement", "rank": "normal"}
            statement["references"] = [reference]
            statement["mainsnak"]["datatype"] = "wikibase-item"
    return made


def newest(made: list[Entity]) -> dict[str, Entity]:
    found: dict[str, Entity] = {}
    for e in made:
        if e["type"] != "lexeme" and e["lastrevid"] >= found.get(e["id"], e)["lastrevid"]:
            found[e["id"]] = e
    return found


@pytest.fixture(scope="module")
def entities() -> list[Entity]:
    return [e if e["type"] == "lexeme" else whole(dict(e)) for e in dumps.entities(400, seed=4)]


@pytest.fixture(scope="module")
def built(entities: list[Entity], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    build(dumps.write(folder / "dump.gz", [dumps.as_line(e) for e in entities]), folder / "store")
    return folder / "store"


def contents(store: Path) -> dict[str, Any]:
    manifest = read_manifest(store, "store")
    assert manifest["contents"] == digest_of(store)
    assert {"records", "full"} <= set(manifest["contents"])
    return {**manifest["contents"], "dictionary": manifest["outputs"]["full.dict"]["sha256"]}


# --- what comes back


def test_every_entity_comes_back_as_its_line_had_it(built: Path, entities: list[Entity]) -> None:
    expected = newest(entities)
    with EntityStore(built) as store:
        assert {i: store.full(i) for i in expected} == expected
        assert store.size == len(expected)
        with pytest.raises(UserError, match=r"Q999999999 is not in"):
            store.full("Q999999999")
        with pytest.raises(UserError, match="not an item or property id"):
            store.full("L1")
    assert not [check for check in verify(built) if check.problem]


def test_an_item_is_qwikidatas_with_everything(built: Path, entities: list[Entity]) -> None:
    made = next(e for e in newest(entities).values() if e["id"][0] == "Q" and "P18" in e["claims"])
    with EntityStore(built) as store:
        item = store.item(made["id"])
        assert item.get_enwiki_title() == "A \\/ B é"
        assert item.get_sitelinks("en")["enwiki"]["badges"] == ["Q17437796"]
        for code, label in made["labels"].items() if made["labels"] else ():
            assert item.get_label(code) == label["value"]
        groups = item.get_truthy_claim_groups()
        assert set(item.get_claim_groups()) == set(made["claims"])
        (reference,) = groups["P18"][0].references
        assert reference.snaks["P854"][0].datavalue.value == "https://example.org/"
        with pytest.raises(UserError, match="is not an item"):
            store.item("P31")


def test_an_item_of_an_old_dump_needs_no_maps_where_there_is_nothing(tmp_path: Path) -> None:
    """PHP wrote empty maps as lists, and partial dumps leave members out."""
    lines = [b'{"type":"item","id":"Q1","labels":[],"claims":[],"sitelinks":[]}',
             b'{"type":"item","id":"Q2"}']  # fmt: skip
    build(dumps.write(tmp_path / "dump.json", lines), tmp_path / "store")
    with EntityStore(tmp_path / "store") as store:
        assert store.full("Q1")["claims"] == []
        for entity_id in ("Q1", "Q2"):
            item = store.item(entity_id)
            assert item.get_claim_groups() == {}
            assert item.get_label() == item.get_enwiki_title() == ""


def test_a_line_that_could_not_be_given_back_whole_is_rejected(tmp_path: Path) -> None:
    """Records don't look at what they leave out."""
    lines = [b'{"type":"item","id":"Q1"}', b'{"type":"item","id":"Q2","x":"\xff"}']
    manifest = build(dumps.write(tmp_path / "dump.json", lines), tmp_path / "store")
    assert manifest["counts"]["rejects"] == 1
    assert "not valid JSON: 'utf-8'" in (tmp_path / "store/rejects.ndjson").read_text()
    with EntityStore(tmp_path / "store") as store:
        assert store.full("Q1") == {"type": "item", "id": "Q1"}
        assert store.get("Q2") is None


def test_a_store_without_whole_entities_says_how_to_get_them(tmp_path: Path) -> None:
    lines = [dumps.as_line(e) for e in dumps.entities(5)]
    manifest = build(
        dumps.write(tmp_path / "d.json", lines), tmp_path / "s", kept=Kept(("en",), PROPERTIES)
    )
    assert "full" not in manifest["contents"]
    assert not (tmp_path / "s" / "full.dict").exists()
    with EntityStore(tmp_path / "s") as store, pytest.raises(UserError, match="--keep full"):
        store.full("Q1")


# --- the same bytes


@pytest.mark.parametrize("workers", [0, 2])
def test_slices_workers_and_batches_leave_no_trace(
    tmp_path: Path, built: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.merge.BATCH_RECORDS", 30)
    monkeypatch.setattr("etl.merge._SAMPLE", 4)
    monkeypatch.setattr("etl.runs.RUN_BYTES", 20_000)
    dump = built.parent / "dump.gz"
    build(dump, tmp_path / "store", workers=workers, slice_bytes=8_000)
    assert contents(tmp_path / "store") == contents(built)


def test_an_update_takes_the_older_dictionary_over_and_is_the_full_build_with_it(
    tmp_path: Path, built: Path, entities: list[Entity], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = [
        {**e, "labels": {"de": {"language": "de", "value": "neu"}}, "lastrevid": 2 * 10**9}
        if n % 7 == 0 and e["type"] != "lexeme" else e for n, e in enumerate(entities)
    ]  # fmt: skip
    dump = dumps.write(tmp_path / "later.gz", [dumps.as_line(e) for e in later])
    manifest = build(dump, tmp_path / "new", update_from=built, slice_bytes=9_000)
    assert manifest["update"]["unchanged"] > 200
    assert (tmp_path / "new/full.dict").read_bytes() == (built / "full.dict").read_bytes()
    with EntityStore(tmp_path / "new") as store:
        assert {i: store.full(i) for i in newest(later)} == newest(later)
    monkeypatch.setattr("etl.build.train", lambda _: (built / "full.dict").read_bytes())
    build(dump, tmp_path / "full")
    assert contents(tmp_path / "new") == contents(tmp_path / "full")


def test_the_dictionary_depends_on_the_dump_alone(
    tmp_path: Path, built: Path, entities: list[Entity]
) -> None:
    dictionary = (built / "full.dict").read_bytes()
    assert zstandard.ZstdCompressionDict(dictionary).dict_id()
    inputs = find_inputs((str(built.parent / "dump.gz"),), Access())
    assert train(sample(inputs, Access())) == dictionary
    text = dumps.as_line(entities[0])
    assert len(Compressor(dictionary).compress(text)) < len(Compressor(b"").compress(text)) * 0.7
    assert train([b"too", b"little"]) == train([]) == b""


@settings(max_examples=100, deadline=None)
@given(text=st.binary(max_size=2000), longest=st.integers(0, 2000))
def test_a_frame_gives_its_text_back_unless_it_is_too_long(text: bytes, longest: int) -> None:
    for dictionary in (b"", b'{"type":"item","id":"Q' * 30):
        frame = Compressor(dictionary).compress(memoryview(text))
        if len(text) <= longest:
            assert Decompressor(dictionary).decompress(frame, longest) == text
        else:
            with pytest.raises(ValueError, match="its length is given as"):
                Decompressor(dictionary).decompress(frame, longest)


# --- bytes that aren't the store's


def bomb() -> bytes:
    """40 kB that say, truly, to hold 1.25 GB."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj(size=1_250_000_000)
    piece = bytes(50_000_000)
    return b"".join([*(compressor.compress(piece) for _ in range(25)), compressor.flush()])


def streamed() -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(b'{"id":"Q1"}') + compressor.flush()


HOSTILE: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("nothing", lambda frame: b"", "."),
    ("no frame", lambda frame: b"\x00" * 40, "."),
    ("cut off", lambda frame: frame[: len(frame) // 2], "."),
    ("of no stated length", lambda frame: streamed(), "length"),
    ("a bomb", lambda frame: bomb(), "length is given as 1,250,000,000"),
    ("no JSON", lambda frame: zstandard.compress(b"{"), "."),
    ("no map", lambda frame: zstandard.compress(b"[]"), "another entity"),
    ("another's", lambda frame: zstandard.compress(b'{"id":"Q999"}'), "another entity"),
    ("too deep", lambda frame: zstandard.compress(b'{"id":' + b"[" * 10**6), "."),
]


@pytest.mark.parametrize(("name", "change", "said"), HOSTILE, ids=[name for name, *_ in HOSTILE])
def test_a_damaged_entity_is_said_and_bounded(
    tmp_path: Path, built: Path, name: str, change: Callable[[bytes], bytes], said: str
) -> None:
    store = tmp_path / "store"
    shutil.copytree(built, store)
    key = first_key(store)
    changed_in_place(store, key, change)
    assert read_manifest(store, "store")["contents"] != digest_of(store)
    with EntityStore(store) as opened, pytest.raises(UserError, match=f"can't be read.*{said}"):
        opened.full(f"Q{int.from_bytes(key[1:], 'big')}")


def first_key(store: Path) -> bytes:
    with lmdb.open(str(store), readonly=True, lock=False, max_dbs=8) as environment:
        database = environment.open_db(b"full", create=False)
        with environment.begin(db=database) as transaction:
            keys = list(transaction.cursor().iternext(values=False))
    return next(key for key in keys if key[:1] == b"Q")


def changed_in_place(store: Path, key: bytes, change: Callable[[bytes], bytes]) -> None:
    """Changes one value, and the manifest so that the store looks whole."""
    with lmdb.open(str(store), max_dbs=8, map_size=1 << 30) as environment:
        database = environment.open_db(b"full", create=False)
        with environment.begin(db=database, write=True) as transaction:
            transaction.put(key, change(transaction.get(key)))
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["outputs"]["data.mdb"]["bytes"] = (store / "data.mdb").stat().st_size
    (store / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("dictionary", [b"", b"\x37\xa4\x30\xec" + b"\xff" * 100, b"x" * 50])
def test_another_dictionary_is_said(tmp_path: Path, built: Path, dictionary: bytes) -> None:
    store = tmp_path / "store"
    shutil.copytree(built, store)
    size = (store / "full.dict").stat().st_size
    (store / "full.dict").write_bytes(dictionary.ljust(size, b"\0") if dictionary else bytes(size))
    number = int.from_bytes(first_key(store)[1:], "big")
    with EntityStore(store) as opened, pytest.raises(UserError, match="can't be read"):
        opened.full(f"Q{number}")
    assert [c.name for c in verify(store) if c.problem] == ["full.dict"]
    with pytest.raises(UserError, match=r"damaged: full\.dict"):
        build(built.parent / "dump.gz", tmp_path / "new", update_from=store)


def test_a_store_whose_database_is_missing_is_said(tmp_path: Path, built: Path) -> None:
    plain = tmp_path / "plain"
    build(built.parent / "dump.gz", plain, kept=Kept(("en",), PROPERTIES))
    store = tmp_path / "store"
    shutil.copytree(built, store)
    shutil.copy(plain / "data.mdb", store / "data.mdb")
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["outputs"]["data.mdb"]["bytes"] = (store / "data.mdb").stat().st_size
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="holds no full"):
        EntityStore(store)
