"""Small graph data sets and directories of shards, written without a dump: what texts are made of.

Everything in them is made up but for the ids of roots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from download.pack.tables import IMAGES
from etl.manifest import digests, write_manifest
from etl.tables import write_table
from graph.tables import ENTITIES, HIERARCHY, QUERIES

Rows = Iterable[Mapping[str, Any]]


def entity(id_: str, name: str, **more: Any) -> dict[str, Any]:
    """A row of entities.parquet: well known, of the root animal, with nothing else."""
    lists: dict[str, Any] = {name: [] for name in ("aliases", "common_names", "taxon_names")}
    return {"id": id_, "name": name, "sitelinks": 100, "roots": ["Q729"], **lists, **more}


def query(hash_: str, text: str, kind: str = "name", about: str | None = None, **more: Any) -> Any:
    """A row of queries.parquet."""
    row = {"query_hash": hash_, "query": text, "query_type": kind, "entity": about}
    return {**row, "source": "wikidata", **more}


def edges(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    """Rows of hierarchy.parquet."""
    return [{"child": child, "property": "P279", "parent": parent} for child, parent in pairs]


def write_graph(folder: Path, entities: Rows, queries: Rows = (), hierarchy: Rows = ()) -> Path:
    """A finished data set of these rows, in the order of the entities as `sparqless graph` has."""
    entities = sorted(entities, key=lambda row: int(row["id"][1:]))
    queries = sorted(queries, key=lambda row: int((row["entity"] or "Q9" + 15 * "9")[1:]))
    folder.mkdir(parents=True)
    for name, rows, schema in (
        ("entities", entities, ENTITIES),
        ("queries", queries, QUERIES),
        ("hierarchy", hierarchy, HIERARCHY),
    ):
        table = pa.Table.from_pylist(list(map(dict, rows)), schema)
        write_table(folder / f"{name}.parquet", table)
    names = [f"{name}.parquet" for name in ("entities", "queries", "hierarchy")]
    roots = sorted({root for row in entities for root in row["roots"]})
    manifest = {
        "step": "graph",
        "counts": {"roots": [{"root": root, "name": None} for root in roots]},
        "outputs": digests(folder, names, quiet=True),
    }
    write_manifest(folder, manifest)
    return folder


def write_shards(folder: Path, rows: Rows) -> Path:
    """A finished directory of shards with these rows of images.parquet, without the tars."""
    folder.mkdir(parents=True)
    filled = [{"split": "train", "shard": "train-000000", **row} for row in rows]
    write_table(folder / "images.parquet", pa.Table.from_pylist(filled, IMAGES))
    outputs = digests(folder, ["images.parquet"], quiet=True)
    write_manifest(folder, {"step": "shards", "outputs": outputs})
    return folder


def animals(folder: Path) -> Path:
    """Dogs and cats with queries of all types: a data set on which most tests look."""
    entities = [
        entity(
            "Q144",
            "dog",
            aliases=["hound", "domestic dog"],
            common_names=["doggo"],
            taxon_names=["Canis familiaris"],
            description="an animal that barks",
            natural_type="Q729",
            natural_type_name="animal",
        ),
        entity("Q146", "cat", natural_type="Q39201", natural_type_name="pet"),
        entity("Q729", "animal", aliases=["beast"], description="a thing that lives and moves"),
        entity("Q756", "plant", roots=["Q756"], aliases=["herb"]),
        entity("Q7377", "mammal", natural_type="Q729", natural_type_name="animal"),
        entity("Q25324", "canine", aliases=["canid"], description="a member of the dogs' family"),
        entity("Q8314", "orchid", roots=["Q756"], natural_type="Q756", natural_type_name="plant"),
    ]
    queries = [
        query("name-dog", "dog", about="Q144"),
        query("name-dog-bing", "dog", about="Q144", engine="bing"),
        query("alias-dog", "hound", "alias", "Q144"),
        query("brown-dog", "brown dog", "attribute_name", "Q144", attribute="brown"),
        query("llm-dog", "dog at play", "attribute_name", "Q144", attribute="play",
              source="llm:some"),
        query("name-cat", "cat pet", about="Q146"),
        query("name-orchid", "orchid", about="Q8314"),
        query("lost", "unheard of", about="Q9000000001"),
        query("brown-animal", "brown animal", "attribute_type", attribute="brown",
              entity_type="Q729"),
        query("soft-pet", "soft pet", "attribute_type", attribute="soft", entity_type="Q39201"),
    ]  # fmt: skip
    above = edges(("Q144", "Q25324"), ("Q25324", "Q7377"), ("Q7377", "Q729"), ("Q146", "Q7377"))
    return write_graph(folder, entities, queries, above)
