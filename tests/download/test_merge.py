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
    assert counts == {"candidates": 2, "no_picture": 0, "with_images": 1}
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
    assert counts == {"candidates": 0, "no_picture": 1, "with_images": 0}


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
        source_id=draw(TEXT),
        score=draw(st.none() | st.sampled_from([1.0, 0.5])),
    )


FACT = st.fixed_dictionaries(
    {name: st.none() for name in FACTS.names if name not in ("file", "width", "licence")}
    | {"file": FILES, "width": st.none() | st.integers(1, 5000), "licence": TEXT}
)


def slowly(
    sources: dict[str, list[dict[str, Any]]], facts: dict[str, list[dict[str, Any]]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """By entity and URL: what is to come out, of the columns that the test draws."""
    known: dict[str, dict[str, Any]] = {}
    for rows in facts.values():
        for one in rows:
            for name in ("width", "licence"):
                if known.setdefault(one["file"], {}).get(name) is None:
                    known[one["file"]][name] = one[name]
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for source, rows in sources.items():
        for one in rows:
            image = one["file"] or one["url"]
            made = groups.setdefault(
                (one["entity"], image),
                {"sources": [], "reasons": [], "query_hashes": [], "texts": [], "licence": None,
                 "width": None, "source_id": None, "score": None, "file": one["file"]},
            )  # fmt: skip
            pairs = list(zip(one["texts"] or [], one["text_langs"] or [], strict=True))
            for name, values in (
                ("sources", [source]), ("reasons", one["reasons"]), ("texts", pairs),
                ("query_hashes", one["query_hashes"]),
            ):  # fmt: skip
                made[name] += [v for v in dict.fromkeys(values or []) if v not in made[name]]
            for name in ("licence", "width", "source_id"):
                better = known.get(one["file"] or "", {}).get(name)
                value = better if better is not None else one[name]
                made[name] = value if made[name] is None else made[name]
            scores = [s for s in (made["score"], one["score"]) if s is not None]
            made["score"] = max(scores, default=None)
    found = {}
    for (entity, image), made in groups.items():
        if made["file"]:
            there = addresses(COMMONS, made["file"], made["width"])
            if there is None:
                continue
            image = there.url
        found[entity, image] = made
    return found


@settings(max_examples=30)
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
        kept = {(r["entity"], r["file"] or r["url"]): r for r in reversed(rows)}
        rows[:] = [r for r in rows if kept[r["entity"], r["file"] or r["url"]] is r]
    facts = {name: list({r["file"]: r for r in rows}.values()) for name, rows in facts.items()}
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(download.merge, "_ENTITIES", 3)
        patched.setattr(download.merge, "_READ", 2)
        rows, counts = merged(folder, list(range(1, 10)), sources, facts)
    expected = slowly(sources, facts)
    assert counts["candidates"] == len(rows)
    assert {(r["entity"], r["url"]) for r in rows} == set(expected)
    assert counts["with_images"] == len({r["entity"] for r in rows})
    for one in rows:
        wanted = expected[one["entity"], one["url"]]
        pairs = list(zip(one["texts"] or [], one["text_langs"] or [], strict=True))
        assert set(pairs) == set(wanted["texts"])
        for name in ("sources", "reasons", "query_hashes"):
            assert list(dict.fromkeys(one[name] or [])) == wanted[name]
        for name in ("licence", "width", "source_id", "score"):
            assert one[name] == wanted[name]
    order = [(int(r["entity"][1:]), -(r["score"] or 0), r["url"]) for r in rows]
    assert order == sorted(order)
