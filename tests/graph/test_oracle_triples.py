"""The oracle's triples are those that Wikibase's documentation of its RDF gives as examples."""

from __future__ import annotations

import pytest

from tests.graph.oracle import LABEL, QueryService, full_statements, triples
from tests.graph.worlds import PLACE, entity, none, qualified, statement, unknown

ITEM = entity(
    "Q9000000001",
    [
        statement("P279", "Q9000000002"),
        statement("P279", "Q9000000003", "deprecated"),
        statement("P31", "Q9000000004"),
        statement("P31", "Q9000000005", "preferred"),
        unknown("P171"),
        none("P1582"),
        statement("P18", "Ä b, (1).jpg"),
        statement("P225", "Apis apis"),
        statement("P1843", {"language": "en", "text": "bee"}),
        statement("P625", PLACE),
    ],
    labels={"en": "bee", "mul": "Apis"},
    descriptions={"en-gb": "insect"},
    aliases={"en": ["honey bee"]},
    sitelinks=3,
)

EXPECTED = """
    rdf:type wikibase:Item
    wikibase:sitelinks "3"^^<http://www.w3.org/2001/XMLSchema#integer>
    rdfs:label "bee"@en
    rdfs:label "Apis"@mul
    schema:description "insect"@en-gb
    skos:altLabel "honey bee"@en
    wdt:P279 wd:Q9000000002
    wdt:P31 wd:Q9000000005
    wdt:P171 genid:Q9000000001-P171-0
    rdf:type wdno:P1582
    wdt:P18 <http://commons.wikimedia.org/wiki/Special:FilePath/%C3%84%20b%2C%20%281%29.jpg>
    wdt:P225 "Apis apis"
    wdt:P1843 "bee"@en
    wdt:P625 "Point(-2.25 1.5)"^^<http://www.opengis.net/ont/geosparql#wktLiteral>
"""

PREFIXES = {
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf:",
    "http://www.w3.org/2000/01/rdf-schema#": "rdfs:",
    "http://www.w3.org/2004/02/skos/core#": "skos:",
    "http://schema.org/": "schema:",
    "http://wikiba.se/ontology#": "wikibase:",
    "http://www.wikidata.org/prop/direct/": "wdt:",
    "http://www.wikidata.org/prop/statement/": "ps:",
    "http://www.wikidata.org/prop/qualifier/": "pq:",
    "http://www.wikidata.org/prop/novalue/": "wdno:",
    "http://www.wikidata.org/prop/": "p:",
    "http://www.wikidata.org/.well-known/genid/": "genid:",
    "http://www.wikidata.org/entity/statement/": "wds:",
    "http://www.wikidata.org/entity/": "wd:",
}


def short(term: object) -> str:
    text = str(term)
    for iri, prefix in PREFIXES.items():
        if text.startswith(f"<{iri}"):
            return text.replace(f"<{iri}", prefix).removesuffix(">")
    return text


def test_an_item_with_a_value_of_every_kind() -> None:
    found = [f"{short(t.predicate)} {short(t.object)}" for t in triples(ITEM)]
    assert found == [line.strip() for line in EXPECTED.strip().splitlines()]
    assert {short(triple.subject) for triple in triples(ITEM)} == {"wd:Q9000000001"}


STATEMENTS = """
    wd:Q1 p:P366 wds:Q1-P366-0
    wds:Q1-P366-0 ps:P366 wd:Q2
    wds:Q1-P366-0 pq:P805 wd:Q3
    wds:Q1-P366-0 pq:P805 genid:Q1-P366-0-2
    wds:Q1-P366-0 rdf:type wdno:P5102
    wd:Q1 p:P366 wds:Q1-P366-1
    wds:Q1-P366-1 ps:P366 wd:Q4
    wd:Q1 p:P366 wds:Q1-P366-2
    wds:Q1-P366-2 rdf:type wdno:P366
"""


def test_a_statement_of_any_rank_is_a_node_with_its_value_and_qualifiers() -> None:
    qualifiers = statement("P805", "Q3"), unknown("P805"), none("P5102")
    deprecated = qualified(statement("P366", "Q2", "deprecated"), *qualifiers)
    item = entity("Q1", [deprecated, statement("P366", "Q4"), none("P366")])
    found = [
        " ".join(map(short, (t.subject, t.predicate, t.object))) for t in full_statements(item)
    ]
    assert found == [line.strip() for line in STATEMENTS.strip().splitlines()]


def test_a_property_has_no_number_of_sitelinks() -> None:
    assert [short(t.object) for t in triples(entity("P31", labels={"en": "x"}))] == [
        "wikibase:Property",
        '"x"@en',
    ]


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([("value", "normal"), ("value", "normal")], 2),
        ([("value", "preferred"), ("value", "normal")], 1),
        ([("value", "deprecated")], 0),
        ([("value", "normal"), ("somevalue", "preferred")], 1),
        ([("value", "normal"), ("novalue", "preferred")], 0),
        ([("value", "normal"), ("novalue", "normal")], 1),
        ([("value", "normal"), ("novalue", "deprecated")], 1),
    ],
)
def test_only_the_best_rank_is_true(claims: list[tuple[str, str]], expected: int) -> None:
    statements = [
        statement("P31", f"Q{n}", rank, snaktype) for n, (snaktype, rank) in enumerate(claims, 1)
    ]
    service = QueryService([entity("Q9", statements)])
    assert len([*service.select("SELECT ?y WHERE { wd:Q9 wdt:P31 ?y }")]) == expected
    assert not [*service.store.quads_for_pattern(None, LABEL, None)]
