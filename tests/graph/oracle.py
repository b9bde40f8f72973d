"""The query service in small: a dump's entities as triples, asked in SPARQL by pyoxigraph.

What the rest of the suite compares `graph/` with.  Nothing here comes from `etl/` or `graph/`:

- the triples follow Wikibase's documentation of its RDF (mediawiki.org, Wikibase/Indexing/RDF Dump
  Format, with its chapter "WDQS data differences"; for somevalue, Wikidata Query Service/Blank Node
  Skolemization);
- the queries say by hand what EntityNet's queries ask: of entities (`subclass-query.txt` and
  `living_download_entities_{animals,plants}.sh` of lmb-freiburg/entitynet), of natural types
  (`world_type_and_classifiy_entities_pregenerate_inputs.py`, `living_generate_natural_types.py`),
  of attribute hints (`world_generate_attributes.py`) and of hierarchies (`*_hierarchy.sh`);
- `best_chains` is a second answer to property paths, with the shortest chain besides: relations
  joined pair by pair until nothing changes, slow and short.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import pyoxigraph as ox

Entity = Mapping[str, Any]  # one line of a dump, read by json

WD = "http://www.wikidata.org/entity/"
WDT = "http://www.wikidata.org/prop/direct/"
P = "http://www.wikidata.org/prop/"
PS = f"{P}statement/"
PQ = f"{P}qualifier/"
WDS = f"{WD}statement/"
WDNO = f"{P}novalue/"
GENID = "http://www.wikidata.org/.well-known/genid/"
WIKIBASE = "http://wikiba.se/ontology#"
FILE_PATH = "http://commons.wikimedia.org/wiki/Special:FilePath/"
RDF_TYPE = ox.NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
LABEL = ox.NamedNode("http://www.w3.org/2000/01/rdf-schema#label")
ALT_LABEL = ox.NamedNode("http://www.w3.org/2004/02/skos/core#altLabel")
DESCRIPTION = ox.NamedNode("http://schema.org/description")
SITELINKS = ox.NamedNode(f"{WIKIBASE}sitelinks")
WKT = ox.NamedNode("http://www.opengis.net/ont/geosparql#wktLiteral")
XSD = "http://www.w3.org/2001/XMLSchema#"

PREFIXES = f"""
PREFIX wd: <{WD}>
PREFIX wdt: <{WDT}>
PREFIX p: <{P}>
PREFIX ps: <{PS}>
PREFIX pq: <{PQ}>
PREFIX wikibase: <{WIKIBASE}>
PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#>
PREFIX skos: <http://www.w3.org/2004/02/skos/core#>
PREFIX schema: <http://schema.org/>
PREFIX xsd: <{XSD}>
"""

# --------------------------------------------------------------------------------------------------
# Entities -> triples
# --------------------------------------------------------------------------------------------------


def triples(entity: Entity) -> Iterator[ox.Triple]:
    """Yield the triples that the query service holds of an item or a property.

    Left out is what no query here asks for: values and references as nodes of their own, sitelinks'
    articles; full statements are apart, in :func:`full_statements`.  `a wikibase:Item` is in the
    dumps; the service drops it.
    """
    is_item = entity["type"] == "item"
    subject = ox.NamedNode(WD + entity["id"])
    kind = "Item" if is_item else "Property"
    yield ox.Triple(subject, RDF_TYPE, ox.NamedNode(WIKIBASE + kind))
    if is_item:
        yield ox.Triple(subject, SITELINKS, ox.Literal(len(entity.get("sitelinks", []))))
    for predicate, key in ((LABEL, "labels"), (DESCRIPTION, "descriptions")):
        for term in _mapping(entity, key).values():
            yield ox.Triple(subject, predicate, _in_language(term["value"], term["language"]))
    for terms in _mapping(entity, "aliases").values():
        for term in terms:
            yield ox.Triple(subject, ALT_LABEL, _in_language(term["value"], term["language"]))
    for property_id, statements in _mapping(entity, "claims").items():
        for number in truthy(statements):
            snak = statements[number]["mainsnak"]
            if snak["snaktype"] == "novalue":
                yield ox.Triple(subject, RDF_TYPE, ox.NamedNode(WDNO + property_id))
                continue
            predicate = ox.NamedNode(WDT + property_id)
            if snak["snaktype"] == "somevalue":
                unknown = f"{GENID}{entity['id']}-{property_id}-{number}"
                yield ox.Triple(subject, predicate, ox.NamedNode(unknown))
            else:
                yield ox.Triple(subject, predicate, _value(snak))


def full_statements(entity: Entity) -> Iterator[ox.Triple]:
    """Yield the triples of statements of every rank, each a node with its value and qualifiers.

    In place of its number such a node has the statement's GUID at the service.
    """
    subject = ox.NamedNode(WD + entity["id"])
    for property_id, statements in _mapping(entity, "claims").items():
        for number, statement in enumerate(statements):
            name = f"{entity['id']}-{property_id}-{number}"
            node = ox.NamedNode(WDS + name)
            yield ox.Triple(subject, ox.NamedNode(P + property_id), node)
            snaks = [(PS, property_id, statement["mainsnak"])]
            for qualifier, values in _mapping(statement, "qualifiers").items():
                snaks += [(PQ, qualifier, snak) for snak in values]
            for place, (prefix, predicate, snak) in enumerate(snaks):
                if snak["snaktype"] == "novalue":
                    yield ox.Triple(node, RDF_TYPE, ox.NamedNode(WDNO + predicate))
                    continue
                unknown = ox.NamedNode(f"{GENID}{name}-{place}")
                value = unknown if snak["snaktype"] == "somevalue" else _value(snak)
                yield ox.Triple(node, ox.NamedNode(prefix + predicate), value)


def truthy(statements: list[Any]) -> list[int]:
    """Return the numbers of a property's best statements: preferred ones, or else normal ones."""
    ranks = [statement["rank"] for statement in statements]
    best = "preferred" if "preferred" in ranks else "normal"
    return [number for number, rank in enumerate(ranks) if rank == best]


def _mapping(entity: Mapping[str, Any], key: str) -> dict[str, Any]:
    return entity.get(key) or {}  # PHP writes an empty map as []


def _in_language(text: str, language: str) -> ox.Literal:
    return ox.Literal(text, language=language)


def _value(snak: Any) -> ox.NamedNode | ox.Literal:
    value = snak["datavalue"]["value"]
    match snak["datavalue"]["type"]:
        case "wikibase-entityid":
            # dumps before 2017 have the number alone
            letter = {"item": "Q", "property": "P"}[value["entity-type"]]
            return ox.NamedNode(WD + (value.get("id") or f"{letter}{value['numeric-id']}"))
        case "monolingualtext":
            return _in_language(value["text"], value["language"])
        case "globecoordinate":
            # longitude first; the globe stands before it where it is not the Earth
            return ox.Literal(f"Point({value['longitude']} {value['latitude']})", datatype=WKT)
        case "string" if snak.get("datatype") == "commonsMedia":
            return ox.NamedNode(FILE_PATH + quote(value, safe="-_.~"))
        case "string":
            return ox.Literal(value)
        case "quantity":
            return ox.Literal(value["amount"], datatype=ox.NamedNode(f"{XSD}decimal"))
        case "time":
            return ox.Literal(value["time"], datatype=ox.NamedNode(f"{XSD}dateTime"))
    raise NotImplementedError(snak["datavalue"]["type"])


# --------------------------------------------------------------------------------------------------
# Queries
# --------------------------------------------------------------------------------------------------

# world_get_entities.py: a subclass of the root or the root itself, with an English label and a
# minimum of sitelinks; everything else is optional.
WORLD = """
    ?ent wdt:P279* wd:%ROOT% .
    ?ent wikibase:sitelinks ?links .
    ?ent rdfs:label ?label .
    FILTER(LANG(?label) = "en")
    FILTER(?links >= 5)
"""

# living_download_entities_animals.sh: (instances of subclasses, subclasses, or taxa below) minus
# humans, mythical animals and individuals; an English label and an image.
ANY_ANIMAL = """
    { ?ent (wdt:P31/wdt:P279*)|wdt:P279+ wd:Q729 } UNION { ?ent wdt:P171+ wd:Q729 }
"""
NO_ANIMAL = """
    MINUS { ?ent (wdt:P31/wdt:P279*)|wdt:P279+ wd:Q5 }
    MINUS { ?ent (wdt:P31/wdt:P279*)|wdt:P279+ wd:Q24334299 }
    MINUS { ?ent (wdt:P31/wdt:P279*)|wdt:P279+ wd:Q795052 }
"""
# living_download_entities_plants.sh: as above, and what a plant yields (P1582, or P1672 the other
# way round) if it is of a class of fruit; minus cultivars, individuals and what has coordinates.
ANY_PLANT = """
    { ?ent (wdt:P31/wdt:P279*)|wdt:P279+ wd:Q756 }
    UNION { ?ent wdt:P171+ wd:Q756 }
    UNION {
        { ?taxon (wdt:P31/wdt:P279*)|wdt:P279+ wd:Q756 } UNION { ?taxon wdt:P171+ wd:Q756 }
        { ?ent wdt:P1582 ?taxon } UNION { ?taxon wdt:P1672 ?ent }
        ?ent wdt:P31|wdt:P279 ?fruit .
        VALUES ?fruit { wd:Q3314483 wd:Q1364 }
    }
"""
NO_PLANT = """
    MINUS { ?ent (wdt:P31/wdt:P279*)|wdt:P279+ wd:Q4886 }
    MINUS { ?ent (wdt:P31/wdt:P279*)|wdt:P279+ wd:Q795052 }
    MINUS { ?ent wdt:P625 ?coordinates }
"""
NAMED_AND_PICTURED = """
    ?ent rdfs:label ?label .
    FILTER(LANG(?label) = "en")
    ?ent wdt:P18 ?required .
    OPTIONAL { ?ent wikibase:sitelinks ?links }
"""
ANIMALS = ANY_ANIMAL + NO_ANIMAL + NAMED_AND_PICTURED
PLANTS = ANY_PLANT + NO_PLANT + NAMED_AND_PICTURED

# The optional columns of all three.  They multiply out to one solution for each combination, which
# `QueryService.rows` gathers.  A data set's entities are items, so properties stay out here.
ROWS = """
SELECT ?ent ?label ?links ?desc ?alias ?common ?taxon ?image WHERE {
    { SELECT DISTINCT ?ent ?label ?links WHERE { %MEMBERS% ?ent a wikibase:Item }
      ORDER BY DESC(?links) ASC(xsd:integer(SUBSTR(STRAFTER(STR(?ent), STR(wd:)), 2)))
      %LIMIT% }
    OPTIONAL { ?ent schema:description ?desc . FILTER(LANG(?desc) = "en") }
    OPTIONAL { ?ent skos:altLabel ?alias . FILTER(LANG(?alias) = "en") }
    OPTIONAL { ?ent wdt:P1843 ?common . FILTER(LANG(?common) = "en") }
    OPTIONAL { ?ent wdt:P225 ?taxon }
    OPTIONAL { ?ent wdt:P18 ?image }
}
"""


# world_type_and_classifiy_entities_pregenerate_inputs.py: what P279 leads to in exactly one, two or
# three steps, less four classes, with an English label and a row of sitelinks.
THREE_STEPS = """
SELECT DISTINCT ?ent ?type ?label ?links WHERE {
    ?ent wdt:P279|(wdt:P279/wdt:P279)|(wdt:P279/wdt:P279/wdt:P279) ?type .
    MINUS { VALUES ?type { wd:Q223557 wd:Q488383 wd:Q35120 wd:Q4406616 } }
    ?type wikibase:sitelinks ?links .
    ?type rdfs:label ?label .
    FILTER(LANG(?label) = "en")
}
"""
TOP = 10  # its --top_k, by sitelinks; of equals, which it leaves to the service, the lowest ids
# living_generate_natural_types.py: all classes above that are within the root, which counts itself.
WITHIN_ROOT = """
SELECT DISTINCT ?ent ?type ?label WHERE {
    ?ent (wdt:P31/wdt:P279*)|wdt:P279+ ?type .
    ?type wdt:P279* wd:%ROOT% .
    ?type a wikibase:Item .
    ?type rdfs:label ?label .
    FILTER(LANG(?label) = "en")
}
"""

# world_generate_attributes.py: values of 17 properties, and of three by their statements, with the
# label of a qualifier where there is one.
DIRECT_HINTS = (
    "P462", "P1672", "P1552", "P1535", "P4733", "P1034", "P3095", "P361", "P527", "P1542", "P1963",
    "P136", "P793", "P1056", "P186", "P2079", "P137",
)  # fmt: skip
QUALIFIED_HINTS = {"P2283": "P5102", "P366": "P805", "P5869": "P11527"}
_DIRECT = """
SELECT DISTINCT ?ent ?property ?value ?label WHERE {
    VALUES ?property { %PROPERTIES% }
    ?ent ?property ?value .
    ?value rdfs:label ?label .
    FILTER(LANG(?label) = "en")
}
"""
_QUALIFIED = """
SELECT DISTINCT ?ent ?value ?label ?qualifier WHERE {
    ?ent p:%PROPERTY% ?statement .
    ?statement ps:%PROPERTY% ?value .
    ?value rdfs:label ?label .
    FILTER(LANG(?label) = "en")
    OPTIONAL {
        ?statement pq:%QUALIFIER% ?named .
        ?named rdfs:label ?qualifier .
        FILTER(LANG(?qualifier) = "en")
    }
}
"""

# *_hierarchy.sh: of what is in a root, the parents that are in it as well.
_HIERARCHY = """
SELECT DISTINCT ?ent ?property ?parent WHERE {
    { ?ent wdt:P31 ?parent . ?parent wdt:P279* wd:%ROOT% . BIND("P31" AS ?property) }
    UNION { ?ent wdt:P279 ?parent . ?parent wdt:P279* wd:%ROOT% . BIND("P279" AS ?property) }
    UNION { ?ent wdt:P171 ?parent . ?parent wdt:P171* wd:%ROOT% . BIND("P171" AS ?property) }
    %MINUS%
    ?ent a wikibase:Item .
    FILTER(STRSTARTS(STR(?parent), CONCAT(STR(wd:), "Q")))
    ?ent rdfs:label ?label .
    FILTER(LANG(?label) = "en")
}
"""


@dataclass(frozen=True)
class Row:
    """An entity as EntityNet's queries give it; of several values, those that are no somevalue."""

    label: str
    sitelinks: int
    description: str | None
    aliases: frozenset[str]
    common_names: frozenset[str]
    taxon_names: frozenset[str]
    images: frozenset[str]


class QueryService:
    """The triples of some entities, and SPARQL over them.

    If told so, without unknown values, or with the nodes of full statements.
    """

    def __init__(
        self, entities: Iterable[Entity], somevalues: bool = True, statements: bool = False
    ) -> None:
        self.store = ox.Store()
        for entity in entities:
            nodes = full_statements(entity) if statements else ()
            for triple in itertools.chain(triples(entity), nodes):
                if somevalues or not _is_unknown(triple.object):
                    self.store.add(ox.Quad(*triple))

    def select(self, query: str) -> Iterator[ox.QuerySolution]:
        """Run a SELECT query; the prefixes of the query service are there."""
        solutions = self.store.query(f"{PREFIXES}{query}")
        assert isinstance(solutions, ox.QuerySolutions)
        yield from solutions

    def closure(self, path: str, target: str) -> set[str]:
        """Return the ids of all x with `x path target`; the path has `wdt:` before properties."""
        query = f"SELECT DISTINCT ?x WHERE {{ ?x {path} wd:{target} }}"
        return {id for x in self.select(query) if (id := _id_of(x["x"])) is not None}

    def items(self, pattern: str) -> set[str]:
        """Return the items that a pattern binds `?ent` to."""
        query = f"SELECT DISTINCT ?ent WHERE {{ {pattern} ?ent a wikibase:Item }}"
        return {id for x in self.select(query) if (id := _id_of(x["ent"])) is not None}

    def rows(self, members: str, root: str = "", limit: int | None = None) -> dict[str, Row]:
        """Return id -> row of WORLD, ANIMALS or PLANTS; with a limit, of the most linked."""
        query = ROWS.replace("%MEMBERS%", members).replace("%ROOT%", root)
        query = query.replace("%LIMIT%", "" if limit is None else f"LIMIT {limit}")
        solutions: dict[str, list[ox.QuerySolution]] = {}
        for solution in self.select(query):
            id = _id_of(solution["ent"])
            assert id is not None
            solutions.setdefault(id, []).append(solution)
        return {id: _row(of_entity) for id, of_entity in solutions.items()}

    def three_steps(self) -> dict[str, list[Type]]:
        """Return what each entity may be by the rule for the world, the most linked first."""
        found: dict[str, list[tuple[int, int, Type]]] = {}
        for solution in self.select(THREE_STEPS):
            type, links = _type(solution), int(solution["links"].value)
            found.setdefault(_entity(solution["ent"]), []).append((-links, number(type[0]), type))
        return {id: [type for *_, type in sorted(types)[:TOP]] for id, types in found.items()}

    def within(self, root: str) -> dict[str, set[Type]]:
        """Return what each entity may be by the rule for the living, as one of a root."""
        found: dict[str, set[Type]] = {}
        for solution in self.select(WITHIN_ROOT.replace("%ROOT%", root)):
            found.setdefault(_entity(solution["ent"]), set()).add(_type(solution))
        return found

    def hints(self) -> set[Hint]:
        """Return the attribute hints of all entities; `statements` must be there."""
        direct = " ".join(f"wdt:{property_id}" for property_id in DIRECT_HINTS)
        found = {
            _hint(solution, solution["property"].value.removeprefix(WDT), None)
            for solution in self.select(_DIRECT.replace("%PROPERTIES%", direct))
        }
        for property_id, qualifier in QUALIFIED_HINTS.items():
            query = _QUALIFIED.replace("%PROPERTY%", property_id).replace("%QUALIFIER%", qualifier)
            for solution in self.select(query):
                named = solution["qualifier"]
                found.add(_hint(solution, property_id, named.value if named else None))
        return found

    def hierarchy(self, root: str, minus: str) -> set[tuple[str, str, str]]:
        """Return child, property and parent of a root's hierarchy; `minus` is a pattern of it."""
        query = _HIERARCHY.replace("%ROOT%", root).replace("%MINUS%", minus)
        return {
            (_entity(solution["ent"]), solution["property"].value, _entity(solution["parent"]))
            for solution in self.select(query)
        }

    def mentions(self, id: str) -> bool:
        """Say whether any triple begins or ends with an entity."""
        node = ox.NamedNode(WD + id)
        return any(
            next(iter(self.store.quads_for_pattern(*pattern)), None) is not None
            for pattern in ((node, None, None), (None, None, node))
        )

    def edges(self) -> Edges:
        """Return property -> pairs of ids that a truthy statement of it links."""
        found: dict[str, set[tuple[str, str]]] = {}
        for quad in self.store:
            if quad.predicate.value.startswith(WDT):
                subject, object = _id_of(quad.subject), _id_of(quad.object)
                if subject is not None and object is not None:
                    pairs = found.setdefault(quad.predicate.value.removeprefix(WDT), set())
                    pairs.add((subject, object))
        return found


def emptied(service: QueryService) -> set[str]:
    """Return those roots of the living that have candidates, all of which MINUS takes away."""
    patterns = {"Q729": (ANY_ANIMAL, NO_ANIMAL), "Q756": (ANY_PLANT, NO_PLANT)}
    return {
        root
        for root, (some, minus) in patterns.items()
        if service.items(some) and not service.items(some + minus)
    }


def _id_of(term: object) -> str | None:
    """Return an entity's id; None for a somevalue node or a literal."""
    if isinstance(term, ox.NamedNode) and term.value.startswith(WD):
        return term.value.removeprefix(WD)
    return None


def _entity(term: object) -> str:
    id = _id_of(term)
    assert id is not None, term
    return id


Type = tuple[str, str]  # id, label
Hint = tuple[str, str, str, str, str | None]  # entity, property, value, its label, qualifier's


def _type(solution: ox.QuerySolution) -> Type:
    return _entity(solution["type"]), solution["label"].value


def _hint(solution: ox.QuerySolution, property_id: str, qualifier: str | None) -> Hint:
    value, label = _entity(solution["value"]), solution["label"].value
    return _entity(solution["ent"]), property_id, value, label, qualifier


def _is_unknown(term: object) -> bool:
    return isinstance(term, ox.NamedNode) and term.value.startswith(GENID)


def _row(solutions: list[ox.QuerySolution]) -> Row:
    return Row(
        label=solutions[0]["label"].value,
        sitelinks=int(solutions[0]["links"].value),
        description=min(_literals(solutions, "desc"), default=None),
        aliases=frozenset(_literals(solutions, "alias")),
        common_names=frozenset(_literals(solutions, "common")),
        taxon_names=frozenset(_literals(solutions, "taxon")),
        images=frozenset(
            unquote(image.value.removeprefix(FILE_PATH))
            for solution in solutions
            if (image := solution["image"]) and image.value.startswith(FILE_PATH)
        ),
    )


def _literals(solutions: list[ox.QuerySolution], variable: str) -> set[str]:
    terms = (solution[variable] for solution in solutions)
    return {term.value for term in terms if isinstance(term, ox.Literal)}


# --------------------------------------------------------------------------------------------------
# Paths as relations
# --------------------------------------------------------------------------------------------------

Edges = Mapping[str, set[tuple[str, str]]]

# ("P31",) · ("^", path) · ("*", path) · ("+", path) · ("?", path) · ("/", path, ...) · ("|", ...)
PathTree = tuple[Any, ...]

# (number of steps, numeric ids from end to end, steps as (property's number, inverse)): compared as
# tuples, the least is the evidence that a data set shows.
Chain = tuple[int, tuple[int, ...], tuple[tuple[int, bool], ...]]
Relation = dict[tuple[str, str], Chain]


def best_chains(tree: PathTree, edges: Edges, nodes: Iterable[str]) -> Relation:
    """Return for every pair (x, y) with `x path y` the least of the chains between them.

    A chain of length zero links each of `nodes` to itself where the path allows it.
    """
    every = frozenset(nodes) | {id for pairs in edges.values() for pair in pairs for id in pair}
    return _relation(tree, edges, {(x, x): (0, (number(x),), ()) for x in every}, inverse=False)


def _relation(tree: PathTree, edges: Edges, same: Relation, inverse: bool) -> Relation:
    match tree:
        case (str(property_id),):
            pairs = edges.get(property_id, set())
            if inverse:
                pairs = {(y, x) for x, y in pairs}
            step = (int(property_id[1:]), inverse)
            return {(x, y): (1, (number(x), number(y)), (step,)) for x, y in pairs}
        case ("^", inner):
            return _relation(inner, edges, same, not inverse)
        case ("?", inner):
            return _either(same, _relation(inner, edges, same, inverse))
        case ("*" | "+" as sign, inner):
            once = _relation(inner, edges, same, inverse)
            found, more = once, _either(once, _after(once, once))
            while more != found:
                found, more = more, _either(more, _after(more, once))
            return _either(found, same) if sign == "*" else found
        case ("/", *parts):
            relations = [_relation(part, edges, same, inverse) for part in parts]
            if inverse:
                relations.reverse()
            whole = relations[0]
            for relation in relations[1:]:
                whole = _after(whole, relation)
            return whole
        case ("|", *parts):
            whole = {}
            for part in parts:
                whole = _either(whole, _relation(part, edges, same, inverse))
            return whole
    raise NotImplementedError(tree)


def _either(one: Relation, other: Relation) -> Relation:
    chosen = dict(one)
    for pair, chain in other.items():
        if pair not in chosen or chain < chosen[pair]:
            chosen[pair] = chain
    return chosen


def _after(one: Relation, other: Relation) -> Relation:
    onward: dict[str, list[tuple[str, Chain]]] = {}
    for (y, z), chain in other.items():
        onward.setdefault(y, []).append((z, chain))
    joined: Relation = {}
    for (x, y), (hops, ids, steps) in one.items():
        for z, (more, further, last) in onward.get(y, ()):
            chain = (hops + more, ids + further[1:], steps + last)
            if (x, z) not in joined or chain < joined[x, z]:
                joined[x, z] = chain
    return joined


def number(id: str) -> int:
    """Return an id as data sets order it: 144 for Q144, -31 for P31."""
    return int(id[1:]) if id.startswith("Q") else -int(id[1:])


def written(chain: Chain) -> list[str]:
    """Return a chain as a data set writes it: ids and steps alternating, `^` for inverse ones."""
    _, ids, steps = chain
    names = [f"Q{n}" if n > 0 else f"P{-n}" for n in ids]
    signs = [f"{'^' if inverse else ''}P{n}" for n, inverse in steps]
    return [word for pair in itertools.zip_longest(names, signs) for word in pair if word]


def may_be_empty(tree: PathTree) -> bool:
    """Say whether a path matches the chain of length zero."""
    match tree:
        case (str(),):
            return False
        case ("*" | "?", _):
            return True
        case ("^" | "+", inner):
            return may_be_empty(inner)
        case ("/", *parts):
            return all(may_be_empty(part) for part in parts)
        case ("|", *parts):
            return any(may_be_empty(part) for part in parts)
    raise NotImplementedError(tree)


def as_text(tree: PathTree, prefix: str = "") -> str:
    """Write a path as SPARQL does, with no more brackets than its grammar needs."""
    match tree:
        case (str(property_id),):
            return prefix + property_id
        case ("^", inner):
            return f"^{_inside(inner, prefix, '*+?')}"
        case ("*" | "+" | "?" as sign, inner):
            return f"{_inside(inner, prefix, '')}{sign}"
        case ("/", *parts):
            return "/".join(_inside(part, prefix, "^*+?") for part in parts)
        case ("|", *parts):
            return "|".join(_inside(part, prefix, "^*+?/") for part in parts)
    raise NotImplementedError(tree)


def _inside(tree: PathTree, prefix: str, bare: str) -> str:
    text = as_text(tree, prefix)
    return text if len(tree) == 1 or tree[0] in bare else f"({text})"
