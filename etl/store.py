"""The store: Wikidata by id in LMDB, written once from sorted runs, read by every later stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lmdb
import msgspec

from etl.entity import Record, decode_record, is_entity_id, key_of
from etl.errors import UserError
from etl.kept import Kept
from etl.manifest import check_whole, read_manifest

if TYPE_CHECKING:
    from qwikidata.entity import WikidataItem

    from etl.full import Decompressor

#: Version of what stands in a store; another one can't be read and is said so.
STORE_FORMAT: Final = 2

DATA: Final = "data.mdb"
LOCK: Final = ".lock"  # held by who writes the store
DICTIONARY: Final = "full.dict"  # zstd's, for what FULL holds
ENTITIES, FULL = b"entities", b"full"  # databases: records, and whole entities where kept
#: Table of the ids that were merged into others, and a database of the same for look-ups.
REDIRECTS: Final = "redirects.parquet"
REDIRECTED = b"redirects"  # key -> id
_MAX_DATABASES = 8
_LONGEST: Final = 1 << 30  # bytes of a whole entity; Wikidata's largest have some 10 MB
_WIKIBASE_DATATYPES = {
    "wikibase-entityid": "wikibase-item",
    "globecoordinate": "globe-coordinate",
}


def open_environment(
    directory: Path, *, map_size: int = 0, readahead: bool = False
) -> lmdb.Environment:
    """LMDB in ``directory``: for reading, or for building where ``map_size`` (bytes) is given.

    ``readahead`` is for a pass from front to back: five times as fast from a cold disk.

    Building syncs once, at its end, and never through a writable map (``writemap``), which on a
    full disk kills the process instead of raising.

    Raises UserError where it can't be opened.
    """
    try:
        if map_size:
            return lmdb.open(
                str(directory),
                map_size=map_size,
                max_dbs=_MAX_DATABASES,
                sync=False,
                metasync=False,
                meminit=False,
            )
        return lmdb.open(
            str(directory), max_dbs=_MAX_DATABASES, readonly=True, lock=False, readahead=readahead
        )
    except lmdb.Error as error:
        raise UserError(
            f"{directory / DATA} can't be opened as LMDB ({error}); build the store again "
            "with `sparqless etl --fresh`."
        ) from error


def open_database(environment: lmdb.Environment, name: bytes, *, create: bool = False) -> Any:
    """A database inside an environment.

    Raises UserError where there is none of that name.
    """
    try:
        return environment.open_db(name, create=create)
    except (lmdb.NotFoundError, lmdb.CorruptedError, lmdb.InvalidError) as error:
        raise UserError(
            f"{environment.path()} holds no {name.decode()} ({error}); build the store again with "
            "`sparqless etl --fresh`."
        ) from error


def open_entities(environment: lmdb.Environment, *, create: bool = False) -> Any:
    """The database of records inside an environment."""
    return open_database(environment, ENTITIES, create=create)


def databases_of(kept: Kept) -> list[bytes]:
    """Databases of a store that keeps that."""
    return [ENTITIES, FULL] if kept.full else [ENTITIES]


def contents_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """What identifies a store's contents, by its manifest: records, and ids that were merged."""
    return {
        "contents": manifest["contents"],
        "redirects": manifest["outputs"].get(REDIRECTS, {}).get("sha256"),
    }


class EntityStore:
    """A finished store, for reading: ``with EntityStore(path) as store: store.get("Q144")``.

    Raises UserError where there is no finished store, it is of another format or lacks a file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path = Path(path)
        self.manifest = read_manifest(path, "store")
        found = self.manifest.get("format")
        if found != STORE_FORMAT:
            raise UserError(
                f"{path} is a store of format {found}, this version reads format {STORE_FORMAT}; "
                "build it again with `sparqless etl --fresh`."
            )
        check_whole(path, self.manifest, "copy it again or build it with `sparqless etl --fresh`")
        self.kept = Kept.from_json(self.manifest["kept"])
        self._environment = open_environment(path)
        # databases are opened first: a transaction doesn't know those opened after it began
        self._full = open_database(self._environment, FULL) if self.kept.full else None
        self._redirects = None
        if REDIRECTS in self.manifest["outputs"]:
            self._redirects = open_database(self._environment, REDIRECTED)
        self._transaction = self._environment.begin(
            db=open_database(self._environment, ENTITIES), buffers=True
        )
        self._decompressor: Decompressor | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages whose labels, descriptions and aliases are kept."""
        return self.kept.languages

    @property
    def properties(self) -> tuple[str, ...]:
        """Ids of the properties whose statements are kept."""
        return tuple(self.kept.properties)

    @property
    def size(self) -> int:
        """Number of items and properties."""
        return int(self.manifest["contents"]["records"])

    def __enter__(self) -> EntityStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the read transaction; records that were read stay valid."""
        self._transaction.abort()
        self._environment.close()

    def get(self, entity_id: str) -> Record | None:
        """The record of an item or property, None where the store has none.

        Raises UserError for something that isn't an item's or property's id, and where what the
        store has of it is no record.
        """
        value = self._transaction.get(_key(entity_id))
        if value is None:
            return None
        try:
            return decode_record(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._damaged(entity_id, error) from error

    def resolve(self, entity_id: str) -> str:
        """The id that an id was merged into; itself where no redirect of it is known.

        Raises UserError for something that isn't an item's or property's id.
        """
        key = _key(entity_id)
        if self._redirects is None:
            return entity_id
        found = self._transaction.get(key, db=self._redirects)
        return entity_id if found is None else bytes(found).decode()

    def get_many(self, entity_ids: Iterable[str]) -> Iterator[Record | None]:
        """Records in the order asked for; ascending ids read the file from front to back."""
        for entity_id in entity_ids:
            yield self.get(entity_id)

    def full(self, entity_id: str) -> dict[str, Any]:
        """Everything that the dump had of an item or property, in the dump's own form.

        Raises UserError where the store keeps no whole entities, hasn't this one or can't read it.
        """
        if self._full is None:
            raise UserError(
                f"{self.path} keeps no whole entities; build a store with "
                "`sparqless etl --keep full`."
            )
        frame = self._transaction.get(_key(entity_id), db=self._full)
        if frame is None:
            raise UserError(f"{entity_id} is not in {self.path}.")
        try:
            entity = msgspec.json.decode(self._text(frame))
            if not isinstance(entity, dict) or entity.get("id") != entity_id:
                raise ValueError("it is another entity's")
        except (ValueError, RecursionError) as error:
            raise self._damaged(entity_id, error) from error
        return entity

    def _text(self, frame: memoryview) -> bytes:
        if self._decompressor is None:
            from etl.full import Decompressor  # what most readers don't need

            self._decompressor = Decompressor((self.path / DICTIONARY).read_bytes())
        return self._decompressor.decompress(frame, _LONGEST)

    def _damaged(self, entity_id: str, error: Exception) -> UserError:
        return UserError(
            f"{self.path}: what it has of {entity_id} can't be read ({error}); see what "
            f"`sparqless verify {self.path}` says."
        )

    def item(self, entity_id: str) -> WikidataItem:
        """qwikidata's view of an item: all of it where the store keeps whole entities, else the
        statements and languages that were kept.

        Raises UserError where the store has no such item.
        """
        from qwikidata.entity import WikidataItem  # half a second that only this needs

        record = self.get(entity_id)
        if record is None or entity_id[0] != "Q":
            raise UserError(f"{entity_id} is not an item of {self.path}.")
        if self._full is None:
            return WikidataItem(_as_entity(record))
        return WikidataItem({**_NOTHING, **_with_maps(self.full(entity_id))})


def _key(entity_id: str) -> bytes:
    if not is_entity_id(entity_id):
        meant = entity_id.strip().upper()
        hint = f"; did you mean {meant}?" if is_entity_id(meant) else "."
        raise UserError(f"{entity_id!r} is not an item or property id such as Q144 or P31{hint}")
    return key_of(entity_id).to_bytes(8, "big")


#: What an item has at the least; dumps leave out what is empty, and some leave out more.
_NOTHING: Final[dict[str, Any]] = {
    "labels": {}, "descriptions": {}, "aliases": {}, "claims": {}, "sitelinks": {},
}  # fmt: skip


def _with_maps(entity: dict[str, Any]) -> dict[str, Any]:
    """Empty maps as maps, which PHP wrote as lists in old dumps (T138104)."""
    return {key: {} if value == [] else value for key, value in entity.items()}


def _as_entity(record: Record) -> dict[str, Any]:
    """A record in the dump's JSON form, with what was kept."""
    return {
        "type": "item",
        "id": record.id,
        "labels": {c: {"language": c, "value": v} for c, v in record.labels.items()},
        "descriptions": {c: {"language": c, "value": v} for c, v in record.descriptions.items()},
        "aliases": {
            c: [{"language": c, "value": v} for v in values] for c, values in record.aliases.items()
        },
        "claims": {
            p: [_as_claim(record.id, p, n, s) for n, s in enumerate(statements)]
            for p, statements in record.claims.items()
        },
        "sitelinks": {},
        "lastrevid": record.revision,
    }


def _as_claim(entity_id: str, property_id: str, number: int, statement: Any) -> dict[str, Any]:
    qualifiers = {
        p: [_as_snak(p, snak) | {"hash": ""} for snak in snaks]
        for p, snaks in statement.qualifiers.items()
    }
    return {
        "mainsnak": _as_snak(property_id, statement.snak),
        "type": "statement",
        "id": f"{entity_id}${property_id}-{number}",
        "rank": statement.rank,
        "qualifiers": qualifiers,
        "qualifiers-order": list(qualifiers),
        "references": [],
    }


def _as_snak(property_id: str, snak: Any) -> dict[str, Any]:
    datatype = _WIKIBASE_DATATYPES.get(snak.kind, snak.kind or "string")
    plain: dict[str, Any] = {
        "snaktype": snak.type,
        "property": property_id,
        "datatype": datatype,
    }
    if snak.type != "value":
        return plain
    value = snak.value
    if snak.kind == "wikibase-entityid":
        value = {
            "entity-type": {"Q": "item", "P": "property"}.get(value[0], "other"),
            "id": value,
        }
        if value["entity-type"] != "other":
            value["numeric-id"] = int(value["id"][1:])
    plain["datavalue"] = {"value": value, "type": snak.kind}
    return plain
