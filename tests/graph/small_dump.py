"""Small dumps made in a test, and the stores that `etl` makes of them."""

from __future__ import annotations

import json
from pathlib import Path

from etl.ingest import ingest
from etl.inverse import inverse_name
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.manifest import digests, read_manifest, write_manifest
from etl.merge_inverse import write_inverses
from etl.merged_ids import Redirects
from etl.plan import Options
from etl.redirects import RedirectJob, build_redirects, read_redirects
from etl.store import DATA, REDIRECTS
from tests.etl.mysqldump import redirect_dumps


def entity(id: str, *, label: str | None = "", links: int = 10, **more) -> dict:
    """Make an entity of the dump's form.

    `label` is the English one (the id itself by default, None for none); `labels`, `descriptions`
    (code -> text), `aliases` (code -> texts) and `claims` (property -> values) come as they are
    short to write.  A value is an id, ("text", language), any other string, None for somevalue, or
    a (value, rank) pair made by `ranked`.
    """
    labels = dict(more.get("labels", {}))
    if label is not None:
        labels.setdefault("en", label or f"the {id}")
    return {
        "type": "item" if id.startswith("Q") else "property",
        "id": id,
        **({"datatype": more["datatype"]} if "datatype" in more else {}),
        "labels": terms(labels),
        "descriptions": terms(more.get("descriptions", {})),
        "aliases": {
            code: [{"language": code, "value": text} for text in texts]
            for code, texts in more.get("aliases", {}).items()
        },
        "claims": {
            p: [statement(p, value) for value in values]
            for p, values in more.get("claims", {}).items()
        },
        "sitelinks": {f"wiki{n}": {"site": f"wiki{n}", "title": id} for n in range(links)},
        "lastrevid": more.get("revision", 1),
    }


def terms(texts: dict[str, str]) -> dict:
    return {code: {"language": code, "value": text} for code, text in texts.items()}


class Ranked(tuple):
    """A value and the rank of its statement."""


def ranked(value: object, rank: str) -> Ranked:
    return Ranked((value, rank))


def statement(property_id: str, value: object) -> dict:
    value, rank = value if isinstance(value, Ranked) else (value, "normal")
    return {"type": "statement", "rank": rank, "mainsnak": snak(property_id, value)}


def snak(property_id: str, value: object) -> dict:
    if value is None:
        return {"snaktype": "somevalue", "property": property_id}
    if value == "novalue":
        return {"snaktype": "novalue", "property": property_id}
    if isinstance(value, tuple):
        kind, value = "monolingualtext", {"text": value[0], "language": value[1]}
    elif isinstance(value, dict):
        kind = "globecoordinate"
    elif value[:1] in "QP" and value[1:].isdigit():
        type_ = "item" if value[0] == "Q" else "property"
        kind, value = "wikibase-entityid", {"entity-type": type_, "id": value}
    else:
        kind = "string"
    return {
        "snaktype": "value",
        "property": property_id,
        "datavalue": {"type": kind, "value": value},
    }


def store_of(
    folder: Path,
    entities: list[dict],
    *,
    properties: tuple[str, ...] | None = None,
    languages: tuple[str, ...] = DEFAULT_LANGUAGES,
) -> Path:
    """Write a dump and make a store of it, with the properties that are kept by default or some."""
    folder.mkdir(parents=True, exist_ok=True)
    dump = folder / "dump.json"
    dump.write_text("[\n" + ",\n".join(json.dumps(e) for e in entities) + "\n]\n", "utf-8")
    kept = Kept(languages, dict.fromkeys(properties, ()) if properties else read_properties())
    ingest((str(dump),), folder / "store", Options(kept, workers=0, quiet=True, fresh=True))
    return folder / "store"


def redirect(store: Path, merged: dict[str, str]) -> Path:
    """Give a store the redirects of a wiki in which ids were merged into others."""
    redirects, pages = redirect_dumps(store.parent, merged)
    pairs = store.parent / "pairs.parquet"
    read_redirects(RedirectJob(str(redirects), str(pages), str(pairs)), lambda _: None)
    manifest = read_manifest(store, "store")
    del manifest["manifest_sha256"]
    manifest["redirects"] = build_redirects(pairs, store)
    listed = [p for p in manifest["kept"]["properties"] if inverse_name(p) in manifest["outputs"]]
    inverses = write_inverses(store, listed, Redirects.load(store, [REDIRECTS]))
    manifest["outputs"] |= digests(store, [DATA, REDIRECTS, *inverses], quiet=True)
    write_manifest(store, manifest)
    return store


def recipe_of(folder: Path, text: str, name: str = "test") -> Path:
    """Write a recipe file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.toml"
    file.write_text(text, "utf-8")
    return file
