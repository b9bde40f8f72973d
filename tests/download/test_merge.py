"""Tables of several sources become one: checked against a merge by plain dicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import download.merge
from download.candidates import CANDIDATES, ENTITIES, FACTS, FOUND
from download.commons import addresses, load, page_url
from download.merge import Part, merge
from etl.errors import UserError

COMMONS = load()
NOTHING: dict[str, Any] = dict.fromkeys(FOUND.names)


def row(entity: int, **more: Any) -> dict[str, Any]:
    return {**NOTHING, "entity": f"Q{entity}", **more}


def write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema = FOUND) -> Path:
    """With small row groups, as large files have several."""
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=7)
    return path


def merged(
    folder: Path, entities: list[int], sources: dict[str, Any], facts: dict[str, Any] | None = None
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    named = [{"id": f"Q{n}", "name": None, "roots": []} for n in entities]
    parts = [Part(name, write(folder / name, rows)) for name, rows in sources.items()]
    parts += [
        Part(name, write(folder / name, rows, FACTS), facts=True)
        for name, rows in (facts or {}).items()
    ]
    out = folder / "out.parquet"
    counts = merge(write(folder / "entities", named, ENTITIES), parts, COMMONS, out, folder)
    table = pq.read_table(out)
    assert table.schema.equals(CANDIDATES)
    return table.to_pylist(), counts


def test_one_file_from_two_sources_is_one_row_with_both_reasons(tmp_path: Path) -> None:
    rows, counts = merged(
        tmp_path,
        [3],
        {
            "a": [row(3, file="Cat.jpg", reasons=["P18"], score=1.0)],
            "b": [
                row(3, file="Dog.jpg", reasons=["P180"], score=1.0, licence="CC0"),
                row(3, file="Cat.jpg", reasons=["P180 preferred"], score=0.5, width=4000,
                    texts=["a cat"], text_langs=["en"]),
            ],
        },
    )  # fmt: skip
    assert counts == {"candidates": 2, "no_picture": 0, "gone": 0, "with_images": 1}
    both = next(r for r in rows if r["file"] == "Cat.jpg")
    assert both["sources"] == ["a", "b"]
    assert both["reasons"] == ["P18", "P180 preferred"]
    assert (both["score"], both["width"], both["texts"]) == (1.0, 4000, ["a cat"])
    found = addresses(COMMONS, "Cat.jpg", 4000)
    assert found is not None
    assert both["url"] == found.url
    assert both["fallback_urls"] == list(found.fallback_urls) == []  # the width is known
    assert both["page_url"] == page_url("Cat.jpg")


def test_addresses_wait_for_what_a_facts_source_knows(tmp_path: Path) -> None:
    facts = {
        "file": "Small.jpg", "width": 200, "height": 100, "texts": ["small"], "text_langs": ["en"],
    }  # fmt: skip
    rows, _ = merged(
        tmp_path,
        [1, 2],
        {"a": [row(1, file="Small.jpg", width=9), row(2, file="Unknown.jpg")]},
        {"sizes": [{**dict.fromkeys(FACTS.names), **facts}]},
    )
    small, unknown = rows
    assert (small["width"], small["height"]) == (200, 100)  # facts count more than a statement
    assert small["texts"] == ["small"]
    assert "/thumb/" not in small["url"]  # a thumbnail that isn't narrower is refused
    assert "/thumb/" in unknown["url"]
    assert "/thumb/" not in unknown["fallback_urls"][0]


def test_texts_of_a_source_are_not_replaced(tmp_path: Path) -> None:
    facts = {"file": "A.jpg", "texts": ["theirs"], "text_langs": ["en"]}
    rows, _ = merged(
        tmp_path,
        [1],
        {"a": [row(1, file="A.jpg", texts=["ours"], text_langs=[None])]},
        {"credits": [{**dict.fromkeys(FACTS.names), **facts}]},
    )
    assert (rows[0]["texts"], rows[0]["text_langs"]) == (["ours"], [None])


def test_sound_has_no_picture(tmp_path: Path) -> None:
    rows, counts = merged(tmp_path, [1], {"a": [row(1, file="Song.ogg")]})
    assert rows == []
    assert counts == {"candidates": 0, "no_picture": 1, "gone": 0, "with_images": 0}


def test_a_file_that_is_no_more_is_left_out(tmp_path: Path) -> None:
    facts = [{**dict.fromkeys(FACTS.names), "file": "Gone.jpg", "gone": True}]
    rows, counts = merged(
        tmp_path, [1], {"a": [row(1, file="Gone.jpg"), row(1, file="Here.jpg")]}, {"sizes": facts}
    )
    assert [r["file"] for r in rows] == ["Here.jpg"]
    assert counts["gone"] == 1


def test_other_addresses_of_a_file_are_tried_behind_its_own(tmp_path: Path) -> None:
    mirror = "https://mirror.example/a.jpg"
    rows, _ = merged(tmp_path, [1], {"a": [row(1, file="A.jpg", fallback_urls=[mirror])]})
    own = addresses(COMMONS, "A.jpg")
    assert own is not None
    assert rows[0]["fallback_urls"] == [*own.fallback_urls, mirror]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([row(3, url="https://x.org/a"), row(2, url="https://x.org/b")], "not ordered by entity"),
        ([row(2)], "with both a file and a url, or with neither"),
        ([row(2, file="A.jpg", url="https://x.org/a")], "with both a file and a url"),
        ([row(2, file="A.jpg", texts=["a"])], "other languages than texts"),
        ([row(99, file="A.jpg")], "entities that images are not wanted of"),
    ],
)
def test_a_source_that_writes_something_else_is_named(
    tmp_path: Path, rows: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(UserError, match=f"the source mine wrote a table that .*{sentence}"):
        merged(tmp_path, [2, 3], {"mine": rows})


FILES = st.sampled_from(["A.jpg", "B b.png", "C.svg", "D.ogg"])
TEXT = st.none() | st.text(max_size=3)


@st.composite
def candidate(draw: st.DrawFn) -> dict[str, Any]:
    texts = draw(st.none() | st.lists(st.text(max_size=2), max_size=2))
    image = draw(
        st.one_of(
            FILES.map(lambda file: {"file": file}),
            st.sampled_from("xyz").map(lambda name: {"url": f"https://x.org/{name}"}),
        )
    )
    return row(
        draw(st.integers(1, 9)),
        **image,
        reasons=draw(st.none() | st.lists(st.sampled_from("pqr"), max_size=2)),
        query_hashes=draw(st.none() | st.lists(st.sampled_from("hk"), max_size=2)),
        texts=texts,
        text_langs=texts and [draw(st.sampled_from(["en", None])) for _ in texts],
        licence=draw(TEXT),
        width=draw(st.none() | st.integers(1, 5000)),
        height=draw(st.none() | st.integers(1, 5000)),
        source_id=draw(TEXT),
        score=draw(st.none() | st.sampled_from([1.0, 0.5])),
    )


FACT = st.fixed_dictionaries(
    {name: st.none() for name in FACTS.names}
    | {
        "file": FILES,
        "width": st.none() | st.integers(1, 5000),
        "height": st.none() | st.integers(1, 5000),
        "licence": TEXT,
        "source_id": TEXT,
        "texts": st.sampled_from([[], ["t", "u"]]),
        "text_langs": st.just([]),
        "gone": st.sampled_from([None, False, False, True]),
    }
).map(lambda fact: {**fact, "text_langs": ["en"] * len(fact["texts"])})


def first(rows: list[dict[str, Any]], *names: str) -> list[Any]:
    """Some values of the first row that has any of them."""
    return next(
        ([r[n] for n in names] for r in rows if any(r[n] is not None for n in names)),
        [None] * len(names),
    )


def slowly(
    sources: dict[str, list[dict[str, Any]]], facts: dict[str, list[dict[str, Any]]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """By entity and URL: what is to come out, of the columns that the test draws."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for source, rows in sources.items():
        for one in rows:
            made = {**one, "source": source}
            groups.setdefault((one["entity"], one["file"] or one["url"]), []).append(made)
    found = {}
    for (entity, image), rows in groups.items():
        about = [f for some in facts.values() for f in some if f["file"] == rows[0]["file"]]
        if any(fact["gone"] for fact in about):
            continue
        told = next((f for f in about if f["texts"]), {"texts": [], "text_langs": []})
        pairs = [
            pair
            for r in rows
            for pair in zip(
                r["texts"] or told["texts"],
                r["text_langs"] if r["texts"] else told["text_langs"],
                strict=True,
            )
        ]
        width, height = first([*about, *rows], "width", "height")
        if rows[0]["file"]:
            there = addresses(COMMONS, image, width, height)
            if there is None:
                continue
            image = there.url
        found[entity, image] = {
            "sources": list(dict.fromkeys(r["source"] for r in rows)),
            "reasons": list(dict.fromkeys(x for r in rows for x in r["reasons"] or [])),
            "query_hashes": list(dict.fromkeys(x for r in rows for x in r["query_hashes"] or [])),
            "pairs": list(dict.fromkeys(pairs)),
            "width": width,
            "height": height,
            "licence": first([*about, *rows], "licence")[0],
            "source_id": first([*about, *rows], "source_id")[0],
            "score": max((r["score"] for r in rows if r["score"] is not None), default=None),
        }
        if len(rows) == 1:  # which stands as it is, repeats and all
            only = rows[0]
            found[entity, image] |= {n: only[n] or [] for n in ("reasons", "query_hashes")}
            found[entity, image]["pairs"] = pairs
    return found


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from(["one", "two", "three"]), st.lists(candidate(), max_size=20)),
    st.dictionaries(st.sampled_from(["sizes", "credits"]), st.lists(FACT, max_size=4)),
)
def test_it_is_what_a_merge_by_dicts_gives(
    tmp_path_factory: pytest.TempPathFactory,
    sources: dict[str, list[dict[str, Any]]],
    facts: dict[str, list[dict[str, Any]]],
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    for rows in sources.values():
        rows.sort(key=lambda r: int(r["entity"][1:]))  # a source's table has this order
    facts = {name: list({r["file"]: r for r in rows}.values()) for name, rows in facts.items()}
    with pytest.MonkeyPatch().context() as patched:
        patched.setattr(download.merge, "_ENTITIES", 3)
        patched.setattr(download.merge, "_READ", 2)
        patched.setattr(download.merge, "_PIECE", 2)
        rows, counts = merged(folder, list(range(1, 10)), sources, facts)
    expected = slowly(sources, facts)
    assert counts["candidates"] == len(rows)
    assert counts["with_images"] == len({r["entity"] for r in rows})
    made = {}
    for one in rows:
        made[one["entity"], one["url"]] = {
            "pairs": list(zip(one["texts"], one["text_langs"], strict=True)),
            **{
                name: one[name]
                for name in (
                    "sources", "reasons", "query_hashes", "width", "height", "licence",
                    "source_id", "score",
                )
            },
        }  # fmt: skip
    assert made == expected
    order = [(int(r["entity"][1:]), -(r["score"] or 0), r["url"]) for r in rows]
    assert order == sorted(order)
