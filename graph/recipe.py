"""Recipes: which entities a graph data set holds, said in TOML and SPARQL property paths.

A recipe replaces the queries that EntityNet ran against an endpoint.  Its language is complete:

==================  ================================================================================
top level
``name``            name of the recipe; the file's name without ``.toml`` when left out
``description``     a sentence for people
``labels``          language codes and properties in the order in which an entity's name is looked
                    for; an entity with none of them is left out
``min_sitelinks``   entities with fewer sitelinks are left out
``require``         properties that an entity must have (a truthy statement, not novalue)
``limit``           per root, the entities with the most sitelinks, ties by the lower id
``include``         other recipes, by name or file, united with this one's own roots
``rules``           how natural types are found for the roots of this file: `sparqless`, or
                    `reference-world`, `reference-living` for EntityNet's own candidates
``[attributes]``    ⎫ how attributes and queries are made and images are found
``[queries]``       ⎬ (graph/settings.py); those of the recipe that a data set is built from hold,
``[images]``        ⎭ not those of what it includes
``[[root]]``        one root, as often as needed
in a root
``id``              the root's item
``any``             conditions, one of which an entity must meet; ``of`` is the root if left out
``minus``           conditions, none of which an entity may meet
``min_sitelinks``   ⎫
``require``         ⎬ in place of the recipe's, for this root
``limit``           ⎭
a condition
``path``, ``of``    entity ``path`` one of the items ``of``, as in SPARQL
``and``             conditions that must hold besides ``path``
``has``             instead of all that: a property that the entity has
==================  ================================================================================

Settings belong to the roots of their own file: what a recipe includes keeps its own labels,
minimum and limits.  Everything is checked, with file and place, before any work starts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from etl.entity import is_entity_id
from etl.errors import UserError
from etl.kept import Kept
from graph import paths
from graph.settings import (
    ENGINES,
    RECIPES,
    RULES,
    AttributeSettings,
    ImageSettings,
    QuerySettings,
    Rules,
)

#: Names of an entity in the order in which Wikibase falls back from English (Help:Default values
#: for labels and aliases), then the taxon name and the native label, which are no language's.
DEFAULT_LABELS = ("en", "en-gb", "en-ca", "en-us", "mul", "P225", "P1705")

_LANGUAGE = re.compile(r"[a-z]{2,}(-[a-z0-9]+)*\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")

_RECIPE_KEYS = (
    "name", "description", "labels", "min_sitelinks", "require", "limit", "include", "rules",
    "attributes", "queries", "images", "root",
)  # fmt: skip
_ROOT_KEYS = ("id", "any", "minus", "min_sitelinks", "require", "limit")
_CONDITION_KEYS = ("path", "of", "and", "has")


Word = TypeVar("Word", bound=str)


@dataclass(frozen=True)
class Has:
    """The entity has a truthy statement of a property, with a value or an unknown one."""

    property: str


@dataclass(frozen=True)
class Match:
    """The entity is linked by `path` to one of `of`, and meets all of `conditions`."""

    text: str  # the path as written
    path: paths.Path
    of: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()


Condition = Match | Has


@dataclass(frozen=True)
class Root:
    """One root with the settings that hold for it."""

    id: str
    any: tuple[Match, ...]
    minus: tuple[Condition, ...]
    labels: tuple[str, ...]
    min_sitelinks: int
    require: tuple[str, ...]
    limit: int | None


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; `roots` are its own, `include` the recipes united with it."""

    name: str
    description: str
    source: str  # the file's name, for messages
    text: str
    labels: tuple[str, ...]
    roots: tuple[Root, ...]
    include: tuple[Recipe, ...] = ()
    rules: Rules = "sparqless"  # of its own roots' natural types and attributes
    attributes: AttributeSettings = field(default_factory=AttributeSettings)
    queries: QuerySettings = field(default_factory=QuerySettings)
    images: ImageSettings = field(default_factory=ImageSettings)

    def __hash__(self) -> int:
        """Hash what the rest follows from: `parts` needs it at every call."""
        return hash((self.name, self.text))

    def parts(self) -> list[Recipe]:
        """Return the recipes that have roots, each once: the included ones, then this one."""
        below = [part for recipe in self.include for part in recipe.parts()]
        return list(dict.fromkeys([*below, self] if self.roots else below))

    def all_roots(self) -> list[Root]:
        """Return every root of every part; one id may come once per part."""
        return [root for part in self.parts() for root in part.roots]

    def root_ids(self) -> list[str]:
        """Return the ids of the roots, each once, in the order in which they are first named."""
        return list(dict.fromkeys(root.id for root in self.all_roots()))

    def languages(self) -> list[str]:
        """Return the language codes that labels are looked for in, in order of first use."""
        return [label for label in self._labels() if not _is_property(label)]

    def naming(self) -> list[str]:
        """Return the properties that stand in for labels, in order of first use."""
        return [label for label in self._labels() if _is_property(label)]

    def walked(self) -> list[str]:
        """Return the properties that the paths walk, by number."""
        found = {
            p for root in self.all_roots() for match, _ in matches(root) for p in _walked(match)
        }
        return sorted(found, key=_number)

    def properties(self) -> list[str]:
        """Return every property that a path, `has`, `require` or label needs, by number."""
        found = {*self.walked(), *self.naming()}
        for root in self.all_roots():
            found.update(root.require)
            found.update(c.property for c, _ in conditions(root) if isinstance(c, Has))
        return sorted(found, key=_number)

    def texts(self) -> list[dict[str, str]]:
        """Return name and text of this recipe's file, then of those that it includes."""
        below = [text for recipe in self.include for text in recipe.texts()]
        return [{"name": self.name, "text": self.text}, *below]

    def _labels(self) -> list[str]:
        return list(dict.fromkeys(label for part in self.parts() for label in part.labels))


def _is_property(label: str) -> bool:
    return label.startswith("P")


def _number(property_id: str) -> int:
    return int(property_id[1:])


def conditions(root: Root) -> Iterator[tuple[Condition, str]]:
    """Yield every condition of a root and the key it stands under: any, minus or and."""
    todo: list[tuple[Condition, str]] = [(match, "any") for match in root.any]
    todo += [(condition, "minus") for condition in root.minus]
    for condition, key in todo:
        yield condition, key
        if isinstance(condition, Match):
            todo.extend((inner, "and") for inner in condition.conditions)


def matches(root: Root) -> Iterator[tuple[Match, str]]:
    """Yield the conditions of a root that have a path, with the key they stand under."""
    return ((c, key) for c, key in conditions(root) if isinstance(c, Match))


@dataclass(frozen=True)
class Branch:
    """One way into a root: a branch of a condition of `any`, split at its path's top-level `|`."""

    number: int  # of the condition in `any`, from 1
    path: paths.Path
    match: Match

    def __str__(self) -> str:
        """Write what stands in the column `via`: `1: P31/P279*`."""
        return f"{self.number}: {self.path}"


def branches(matches: Sequence[Match]) -> list[Branch]:
    """Return the ways into a root whose `any` some conditions are, in their order."""
    return [
        Branch(number, path, match)
        for number, match in enumerate(matches, 1)
        for path in paths.alternatives(match.path)
    ]


def _walked(match: Match) -> Iterator[str]:
    return paths.properties(match.path)


def shipped() -> list[str]:
    """Return the names of the recipes that ship, in alphabetical order."""
    names = (entry.name for entry in RECIPES.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load(name_or_file: str | Path) -> Recipe:
    """Load a recipe that ships (`living`) or a file (`domain.toml`), includes and all.

    Raises
    ------
    UserError : there is no such recipe, or a file can't be read, isn't TOML, has a key, type, id
        or path that is wrong, or includes itself.  The message says where.
    """
    return _load(str(name_or_file), None, (), "")


def recorded(texts: Sequence[Mapping[str, str]]) -> Recipe:
    """Make the recipe again whose `texts` a graph's manifest holds, without its files.

    Raises
    ------
    UserError : a text is no recipe, or that of an included one is missing.
    """
    left = iter(texts)

    def included(asked: str) -> Recipe:
        entry = next(left, None)
        if entry is None:
            raise UserError(f"the manifest lacks the text of the recipe {asked!r}.")
        source = f"{entry['name']}.toml"
        return _Reader(source, entry["text"], included).recipe(_parsed(entry["text"], source))

    return included("")


def _load(asked: str, folder: Path | None, above: tuple[str, ...], by: str) -> Recipe:
    """Load one file; `folder`, `above` and `by` (for messages) are of the recipes including it."""
    file = _file_of(asked, folder, by)
    if file is None:
        source, identity = f"{asked}.toml", f"shipped:{asked}"
        text = (RECIPES / source).read_text("utf-8")
    else:
        source, identity = str(file), str(file.resolve())
        try:
            text = file.read_text("utf-8-sig")  # editors on Windows begin files with a mark
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{by}{file}: the recipe can't be read: {error}.") from None
    if identity in above:
        chain = " includes ".join(Path(i.removeprefix("shipped:")).name for i in (*above, identity))
        raise UserError(f"{source}: recipes include each other in a circle: {chain}.")
    parent = None if file is None else file.parent

    def included(name: str) -> Recipe:
        return _load(name, parent, (*above, identity), f"{source}: `include`: ")

    return _Reader(source, text, included).recipe(_parsed(text, source))


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not a TOML file: {error}.") from None
    except RecursionError:
        raise UserError(f"{source}: not a recipe: its brackets are nested too deeply.") from None


def _file_of(asked: str, folder: Path | None, by: str) -> Path | None:
    """Return the file meant, or None when the name is that of a recipe that ships."""
    file = (folder or Path()) / asked
    if asked.endswith(".toml"):
        return file
    if asked in (names := shipped()):
        return None
    if file.is_file():
        return file
    raise UserError(
        f"{by}there is no recipe {asked!r}{_did_you_mean(asked, names)}: "
        f"give a file ending in .toml or one of {', '.join(names)}."
    )


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # for what is wrong alone

    close = get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class _Reader:
    """Checks one file's tables and turns them into dataclasses."""

    def __init__(self, source: str, text: str, included: Callable[[str], Recipe]) -> None:
        self.source = source
        self.text = text
        self.included = included  # loads a recipe that `include` names

    def recipe(self, data: Mapping[str, object]) -> Recipe:
        self._known(data, _RECIPE_KEYS, "")
        name = self._string(data, "name", "", default=Path(self.source).stem)
        if not _NAME.match(name):
            raise self._error("", f"`name` is {name!r}: use letters, digits, '.', '_' and '-'")
        labels = self._labels(data)
        self._settings(data, "")
        include = tuple(
            self.included(self._text(entry, "include")) for entry in self._list(data, "include", "")
        )
        if isinstance(data.get("root"), dict):
            raise self._error("", "[root] is one table: write [[root]], one for every root")
        tables = self._list(data, "root", "")
        if not tables and not include:
            raise self._error("", "a recipe needs a [[root]] or an `include`")
        if not tables:
            for key in ("labels", "min_sitelinks", "require", "limit", "rules"):
                if key in data:
                    raise self._error(
                        "", f"`{key}` changes nothing here: it holds for a file's own [[root]]s, "
                        "and this one has none; set it in the included recipes"
                    )  # fmt: skip
        roots: list[Root] = []
        for number, table in enumerate(tables, 1):
            root = self._root(table, number, data, labels)
            for earlier, other in enumerate(roots, 1):
                if other.id == root.id:
                    raise self._error(
                        f"[[root]] {number} ({root.id})",
                        f"the same id as [[root]] {earlier}: put both into one `any`",
                    )
            roots.append(root)
        self._distinct(name, bool(roots), include)
        description = self._string(data, "description", "", default="")
        return Recipe(
            name,
            description,
            self.source,
            self.text,
            labels,
            tuple(roots),
            include,
            self._choice(data, "rules", "", RULES, default="sparqless"),
            self._attribute_settings(self._table(data, "attributes")),
            self._query_settings(self._table(data, "queries")),
            self._image_settings(self._table(data, "images")),
        )

    def _distinct(self, name: str, has_roots: bool, include: tuple[Recipe, ...]) -> None:
        """Refuse two recipes of one name: rows say by it which of them keeps an entity."""
        parts = {part for recipe in include for part in recipe.parts()}
        names = [part.name for part in parts] + ([name] if has_roots else [])
        for again in sorted({n for n in names if names.count(n) > 1}):
            raise self._error(
                "", f"two of the recipes that it unites have the name {again!r}: give one another"
            )

    def _attribute_settings(self, table: Mapping[str, object]) -> AttributeSettings:
        where, default = "[attributes]", AttributeSettings()
        self._known(table, ("inherit", "values", "models"), where)
        inherit = self._number(table, "inherit", where, lowest=0)
        values = self._number(table, "values", where, lowest=1)
        return AttributeSettings(
            default.inherit if inherit is None else inherit,
            default.values if values is None else values,
            tuple(self._text(m, "models") for m in self._list(table, "models", where)),
        )

    def _query_settings(self, table: Mapping[str, object]) -> QuerySettings:
        where, default = "[queries]", QuerySettings()
        self._known(table, ("types", "engines", "budget", "seed"), where)
        budget = self._number(table, "budget", where, lowest=0)
        seed = self._number(table, "seed", where, lowest=0)
        return QuerySettings(
            self._choices(table, "types", where, default.types),
            self._choices(table, "engines", where, ENGINES) if "engines" in table else (),
            default.budget if budget is None else budget,
            default.seed if seed is None else seed,
        )

    def _image_settings(self, table: Mapping[str, object]) -> ImageSettings:
        where, default = "[images]", ImageSettings()
        self._known(table, ("below", "distance", "per_entity", "visual", "seed"), where)
        distance = self._number(table, "distance", where, lowest=0)
        per_entity = self._number(table, "per_entity", where, lowest=0)
        seed = self._number(table, "seed", where, lowest=0)
        visual = table.get("visual", default.visual)
        if not isinstance(visual, bool):
            raise self._error(where, f"`visual` is {_shown(visual)}: it must be true or false")
        below = [self._property(p, where, "`below`") for p in self._list(table, "below", where)]
        if distance and "below" in table and not below:
            raise self._error(where, "`below` is empty: `distance` counts statements of properties")
        return ImageSettings(
            tuple(dict.fromkeys(below)) if "below" in table else default.below,
            default.distance if distance is None else distance,
            default.per_entity if per_entity is None else per_entity,
            visual,
            default.seed if seed is None else seed,
        )

    def _table(self, data: Mapping[str, object], key: str) -> Mapping[str, object]:
        value = data.get(key, {})
        if not isinstance(value, dict):
            raise self._error("", f"`{key}` is {_shown(value)}: write [{key}], then its keys")
        return value

    def _choice(
        self,
        table: Mapping[str, object],
        key: str,
        where: str,
        known: tuple[Word, ...],
        default: Word,
    ) -> Word:
        value = self._string(table, key, where, default=default)
        return self._one_of(value, key, where, known)

    def _choices(
        self, table: Mapping[str, object], key: str, where: str, known: tuple[Word, ...]
    ) -> tuple[Word, ...]:
        """Read a list of some of the words in `known`, in their order; all if it is left out."""
        if key not in table:
            return known
        given = [self._text(value, key) for value in self._list(table, key, where)]
        chosen = {self._one_of(value, key, where, known) for value in given}
        return tuple(word for word in known if word in chosen)

    def _one_of(self, value: str, key: str, where: str, known: tuple[Word, ...]) -> Word:
        for word in known:
            if value == word:
                return word
        raise self._error(
            where, f"`{key}` has {_shown(value)}{_did_you_mean(value, known)}: "
            f"it must be one of {', '.join(known)}"
        )  # fmt: skip

    def _root(
        self, table: object, number: int, above: Mapping[str, object], labels: tuple[str, ...]
    ) -> Root:
        where = f"[[root]] {number}"
        if not isinstance(table, dict):
            raise self._error(where, "a root is a table: write [[root]], then its keys")
        if isinstance(table.get("id"), str):
            where = f"{where} ({table['id']})"
        self._known(table, _ROOT_KEYS, where)
        if "id" not in table:
            raise self._error(where, "`id` is missing: the root's item, such as Q729")
        id = self._entity(table["id"], where, "`id`")
        if not id.startswith("Q"):
            raise self._error(where, f"`id` is {id!r}: a root is an item, such as Q729")
        if not self._list(table, "any", where):
            raise self._error(where, '`any` is missing: what belongs, such as [{ path = "P279*" }]')
        min_sitelinks, require, limit = self._settings({**above, **table}, where)
        return Root(
            id,
            tuple(
                self._match(entry, f"{where}, any {n}", of=id)
                for n, entry in enumerate(self._list(table, "any", where), 1)
            ),
            tuple(
                self._condition(entry, f"{where}, minus {n}")
                for n, entry in enumerate(self._list(table, "minus", where), 1)
            ),
            labels,
            min_sitelinks,
            require,
            limit,
        )

    def _settings(
        self, table: Mapping[str, object], where: str
    ) -> tuple[int, tuple[str, ...], int | None]:
        """Read what both a recipe and a root may set: min_sitelinks, require, limit."""
        required = (
            self._property(p, where, "`require`") for p in self._list(table, "require", where)
        )
        return (
            self._number(table, "min_sitelinks", where, lowest=0) or 0,
            tuple(dict.fromkeys(required)),
            self._number(table, "limit", where, lowest=1),
        )

    def _condition(self, entry: object, where: str) -> Condition:
        if isinstance(entry, dict) and "has" in entry:
            self._known(entry, _CONDITION_KEYS, where)
            if len(entry) > 1:
                other = next(key for key in entry if key != "has")
                raise self._error(where, f"`has` stands alone: `{other}` can't be beside it")
            return Has(self._property(entry["has"], where, "`has`"))
        return self._match(entry, where, of=None)

    def _match(self, entry: object, where: str, of: str | None) -> Match:
        if not isinstance(entry, dict):
            raise self._error(where, 'a condition is a table such as { path = "P279*" }')
        self._known(entry, _CONDITION_KEYS, where)
        if "has" in entry:
            raise self._error(where, "`has` only filters: put it into `and`, `minus` or `require`")
        if "path" not in entry:
            raise self._error(where, '`path` is missing: a property path, such as "P31/P279*"')
        text = self._string(entry, "path", where)
        path = paths.parse(text, f"{self.source}: {where}")
        ends = tuple(self._entity(e, where, "`of`") for e in self._list(entry, "of", where))
        if not ends and "of" in entry:
            raise self._error(
                where, '`of` is empty: name the items that the path leads to, as ["Q5"]'
            )
        if not ends and of is None:
            raise self._error(where, '`of` is missing: the items that the path leads to, as ["Q5"]')
        return Match(
            text,
            path,
            tuple(dict.fromkeys(ends)) or ((of,) if of else ()),
            tuple(
                self._condition(e, f"{where}, and {n}")
                for n, e in enumerate(self._list(entry, "and", where), 1)
            ),
        )

    def _labels(self, data: Mapping[str, object]) -> tuple[str, ...]:
        if "labels" not in data:
            return DEFAULT_LABELS
        labels = tuple(self._text(label, "labels") for label in self._list(data, "labels", ""))
        if not labels:
            raise self._error("", "`labels` is empty: give one language code or more, as ['en']")
        for label in labels:
            if not _LANGUAGE.match(label):
                self._property(label, "", "`labels`", or_else="a language code such as 'en' or ")
        return tuple(dict.fromkeys(labels))

    def _known(self, table: Mapping[str, object], keys: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in keys:
                raise self._error(
                    where, f"unknown key {key!r}{_did_you_mean(key, keys)}: use {', '.join(keys)}"
                )

    def _string(
        self, table: Mapping[str, object], key: str, where: str, default: str | None = None
    ) -> str:
        value = table.get(key, default)
        if not isinstance(value, str):
            raise self._error(where, f"`{key}` is {_shown(value)}: it must be text in quotes")
        return value

    def _list(self, table: Mapping[str, object], key: str, where: str) -> list[object]:
        value = table.get(key, [])
        if not isinstance(value, list):
            raise self._error(where, f"`{key}` is {_shown(value)}: it must be a list, in [ ]")
        return value

    def _number(self, table: Mapping[str, object], key: str, where: str, lowest: int) -> int | None:
        value = table.get(key)
        if value is None:
            return None
        # TOML's true is Python's int 1, and numbers beyond int32 are no counts of anything here
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value < 2**31:
            raise self._error(
                where,
                f"`{key}` is {_shown(value)}: it must be a whole number from {lowest} to "
                f"{2**31 - 1}",
            )
        return value

    def _text(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self._error("", f"`{key}` holds {_shown(value)}: it must hold text in quotes")
        return value

    def _entity(self, value: object, where: str, key: str) -> str:
        if not isinstance(value, str) or not is_entity_id(value):
            raise self._error(where, f"{key} has {_shown(value)}: it must be an id such as 'Q729'")
        return value

    def _property(self, value: object, where: str, key: str, or_else: str = "") -> str:
        if not isinstance(value, str) or not is_entity_id(value) or not _is_property(value):
            raise self._error(
                where, f"{key} has {_shown(value)}: it must be {or_else}a property id such as 'P18'"
            )
        return value

    def _error(self, where: str, sentence: str) -> UserError:
        return UserError(f"{self.source}: {where + ': ' if where else ''}{sentence}.")


def _shown(value: object) -> str:
    """Write a TOML value into a message, in one line of bounded length."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def followed(recipe: Recipe, resolve: Callable[[str], str]) -> Recipe:
    """Return a recipe whose roots and `of` name what merged ids were merged into.

    Raises
    ------
    UserError : two roots of one file have become the same item.
    """

    def condition(old: Condition) -> Condition:
        return match(old) if isinstance(old, Match) else old

    def match(old: Match) -> Match:
        of = tuple(dict.fromkeys(map(resolve, old.of)))
        return replace(old, of=of, conditions=tuple(map(condition, old.conditions)))

    roots: dict[str, Root] = {}
    for old in recipe.roots:
        id = resolve(old.id)
        if id in roots:
            first = next(root.id for root in recipe.roots if resolve(root.id) == id)
            raise UserError(
                f"recipe {recipe.name!r}: its roots {first} and {old.id} were merged into one, "
                f"{id}: put both into one `any`."
            )
        any = tuple(map(match, old.any))
        roots[id] = replace(old, id=id, any=any, minus=tuple(map(condition, old.minus)))
    include = tuple(followed(part, resolve) for part in recipe.include)
    return replace(recipe, roots=tuple(roots.values()), include=include)


def merged_ids(recipe: Recipe, resolve: Callable[[str], str]) -> dict[str, str]:
    """Return those of the items that a recipe names that were merged, with what they are now."""
    named = [root.id for root in recipe.all_roots()]
    named += [id for root in recipe.all_roots() for match, _ in matches(root) for id in match.of]
    return {id: now for id in dict.fromkeys(named) if (now := resolve(id)) != id}


def check_store(
    recipe: Recipe, manifest: dict[str, Any], record: Callable[[str], object] | None = None
) -> None:
    """Refuse a recipe that needs what the store, by its manifest, did not keep.

    With `record`, which reads the store, a property that it has no record of is asked about: it may
    be none, and reading a dump again for it would be in vain.

    Raises
    ------
    UserError : names what is missing, where the recipe names it, and the `etl` option to read the
        dump again with.
    """
    kept = Kept.from_json(manifest["kept"])
    below = recipe.images.below if recipe.images.distance else ()
    wanted = dict.fromkeys([*recipe.properties(), *below])
    properties = [p for p in wanted if p not in kept.properties]
    if properties:
        unknown = [p for p in properties if record is not None and record(p) is None]
        doubt = f" (is {unknown[0]} a property? the store has no record of it)" if unknown else ""
        raise UserError(
            f"recipe {recipe.name!r} needs {', '.join(properties)}, which this store did not keep"
            f"{doubt}; {_naming(recipe, properties[0])}. Run `sparqless etl` again with "
            "`--properties FILE`, a list that has "
            f"{'it' if len(properties) == 1 else 'them'} too."
        )
    languages = [code for code in recipe.languages() if code not in kept.languages]
    if languages:
        raise UserError(
            f"recipe {recipe.name!r} takes labels in {', '.join(languages)}, which this store did "
            "not keep: run `sparqless etl` again with "
            f"`--languages {','.join([*kept.languages, *languages])}`."
        )


def _naming(recipe: Recipe, property_id: str) -> str:
    """Say where a recipe names a property first."""
    for root in recipe.all_roots():
        if property_id in root.require:
            return f"`require` of root {root.id} names {property_id}"
        for condition, key in conditions(root):
            if isinstance(condition, Has) and condition.property == property_id:
                return f"`has` in `{key}` of root {root.id} names {property_id}"
            if isinstance(condition, Match) and property_id in _walked(condition):
                return f"the path `{condition.text}` of root {root.id} walks {property_id}"
    if property_id in recipe.naming():
        return f"`labels` names {property_id}"
    return f"`below` in [images] names {property_id}"
