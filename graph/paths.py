"""SPARQL property paths: text -> tree -> finite automaton over properties.

The language is the property path grammar of SPARQL 1.1 (§9.1 and rules [88]-[94] of its grammar),
cut down to what a walk over truthy statements needs: `/` `|` `*` `+` `?` `^` `( )` and property
ids, written `P31` or `wdt:P31`.  Binding, from the tightest: brackets, `* + ?`, `^`, `/`, `|`; so
`^P31*` is `^(P31*)`.

>>> tree = parse("(P31/P279*)|P279+")
>>> str(tree)
'(P31/P279*)|P279+'
>>> automaton([tree], [0]).transitions
(Transition(source=0, property='P279', inverse=False, target=1), \
Transition(source=0, property='P31', inverse=False, target=1), \
Transition(source=1, property='P279', inverse=False, target=1))

Answers are sets: SPARQL defines `*`, `+` and `?` without duplicates, and we only ever ask whether a
pair matches, so the duplicates that `/` and `|` may give in SPARQL are of no concern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from etl.errors import UserError

Modifier = Literal["*", "+", "?"]

# Paths come from files that others may have written: a bound on nesting keeps the parser's
# recursion, and one on length the automaton, small.  Real paths have three or four properties.
MAX_NESTING = 50
MAX_PROPERTIES = 200


@dataclass(frozen=True)
class Property:
    """One step along a truthy statement of a property, `P31`."""

    id: str

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Inverse:
    """`^path`: the path walked from its end to its start."""

    path: Path

    def __str__(self) -> str:
        return f"^{_bracketed(self.path, Property | Repeat)}"


@dataclass(frozen=True)
class Repeat:
    """`path*`, `path+` or `path?`."""

    path: Path
    modifier: Modifier

    def __str__(self) -> str:
        return f"{_bracketed(self.path, Property)}{self.modifier}"


@dataclass(frozen=True)
class Chain:
    """`path/path/...`, two or more."""

    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return "/".join(_bracketed(path, Property | Repeat | Inverse) for path in self.paths)


@dataclass(frozen=True)
class Alternative:
    """`path|path|...`, two or more."""

    paths: tuple[Path, ...]

    def __str__(self) -> str:
        # A chain needs no brackets here, but people write and read them: (P31/P279*)|P279+.
        return "|".join(_bracketed(path, Property | Repeat | Inverse) for path in self.paths)


Path = Property | Inverse | Repeat | Chain | Alternative


def _bracketed(path: Path, bare: type | object) -> str:
    return str(path) if isinstance(path, bare) else f"({path})"  # type: ignore[arg-type]


def properties(path: Path) -> Iterator[str]:
    """Yield the property ids of `path` from left to right, repeats included."""
    match path:
        case Property(id):
            yield id
        case Inverse(inner) | Repeat(inner, _):
            yield from properties(inner)
        case Chain(paths) | Alternative(paths):
            for inner in paths:
                yield from properties(inner)


def alternatives(path: Path) -> tuple[Path, ...]:
    """Split a path at its top-level `|`: the branches by which something can belong."""
    if isinstance(path, Alternative):
        return tuple(branch for part in path.paths for branch in alternatives(part))
    return (path,)


# --------------------------------------------------------------------------------------------------
# Text -> tree
# --------------------------------------------------------------------------------------------------

_BLANK = re.compile(r"[ \t\r\n]*")
_PROPERTY = re.compile(r"(?:wdt:)?(P[1-9][0-9]{0,9})(?![A-Za-z0-9_:])")
_WORD = re.compile(r"[A-Za-z0-9_:]+")


def parse(text: str, where: str = "") -> Path:
    """Parse a property path.

    Parameters
    ----------
    text : the path, such as `(P31/P279*)|P279+`.
    where : what the path belongs to, put before an error: `living.toml: [[root]] 1 (Q729)`.

    Raises
    ------
    UserError : the text is not a path; its last two lines are the path and a caret under the first
        character that can't stand where it does.
    """
    return _Parser(text, where).run()


class _Parser:
    """Recursive descent; one method a grammar rule, named after it."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self.at = _skip_blank(text, 0)
        self.depth = 0
        self.count = 0

    def run(self) -> Path:
        if self.at == len(self.text):
            raise self._error("a path is empty: write one or more properties, such as P31/P279*")
        tree = self._alternative()
        if self.at < len(self.text):
            found = self.text[self.at]
            if found == ")":
                raise self._error("this ')' closes nothing: remove it or open one before it")
            if found in "*+?":
                raise self._error(
                    f"a second modifier {found!r}: put the first in brackets, as in (P279+){found}"
                )
            raise self._error("expected '/', '|' or the path's end here")
        return tree

    def _alternative(self) -> Path:
        paths = [self._sequence()]
        while self._take("|"):
            paths.append(self._sequence())
        return paths[0] if len(paths) == 1 else Alternative(tuple(paths))

    def _sequence(self) -> Path:
        paths = [self._element_or_inverse()]
        while self._take("/"):
            paths.append(self._element_or_inverse())
        return paths[0] if len(paths) == 1 else Chain(tuple(paths))

    def _element_or_inverse(self) -> Path:
        return Inverse(self._element()) if self._take("^") else self._element()

    def _element(self) -> Path:
        path = self._primary()
        for modifier in ("*", "+", "?"):
            if self._take(modifier):
                return Repeat(path, modifier)
        return path

    def _primary(self) -> Path:
        opened = self.at
        if self._take("("):
            self.depth += 1
            if self.depth > MAX_NESTING:
                raise self._error(f"brackets deeper than {MAX_NESTING}", opened)
            path = self._alternative()
            if not self._take(")"):
                if self.at == len(self.text):
                    raise self._error("this '(' is never closed: add ')'", opened)
                raise self._error("expected '/', '|' or ')' here")
            self.depth -= 1
            return path
        return self._property()

    def _property(self) -> Path:
        if match := _PROPERTY.match(self.text, self.at):
            self.count += 1
            if self.count > MAX_PROPERTIES:
                raise self._error(f"more than {MAX_PROPERTIES} properties in one path")
            self.at = _skip_blank(self.text, match.end())
            return Property(match[1])
        if word := _WORD.match(self.text, self.at):
            raise self._error(f"{word[0]!r} is not a property id: write one such as P31 or wdt:P31")
        if self.at == len(self.text):
            raise self._error("the path ends where a property, '(' or '^' must follow")
        raise self._error("expected a property such as P31, '(' or '^' here")

    def _take(self, sign: str) -> bool:
        if not self.text.startswith(sign, self.at):
            return False
        self.at = _skip_blank(self.text, self.at + 1)
        return True

    def _error(self, sentence: str, at: int | None = None) -> UserError:
        return path_error(self.text, self.at if at is None else at, sentence, self.where)


def _skip_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def path_error(text: str, at: int, sentence: str, where: str = "") -> UserError:
    """Build the error that shows a path with a caret under its character number `at`."""
    # One character for one, so that the caret stands where it should: a tab or line break is a
    # blank, and anything else that can't be printed is a question mark.
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    before = f"{where}: " if where else ""
    return UserError(f"{before}{sentence}\n    {shown}\n    {' ' * at}^")


# --------------------------------------------------------------------------------------------------
# Tree -> automaton
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Transition:
    """One edge of the automaton: in `source`, a step along `property` leads to `target`."""

    source: int
    property: str
    inverse: bool
    target: int


@dataclass(frozen=True)
class Automaton:
    """A finite automaton without empty steps for one or more paths.

    `starts[k]` is the state in which path k begins; `accepts[s]` is None, or the colour given to
    the paths that may end in state s: a set of ends of its own, so that paths with different ends
    can share one automaton.  A start that accepts is a path of length zero.
    """

    states: int
    starts: tuple[int, ...]
    accepts: tuple[int | None, ...]
    transitions: tuple[Transition, ...]

    def properties(self) -> list[str]:
        """Return the ids of the properties walked, ordered by number."""
        return sorted({t.property for t in self.transitions}, key=lambda p: int(p[1:]))


def automaton(paths: Sequence[Path], colours: Sequence[int]) -> Automaton:
    """Compile paths into one automaton; path k's accepting states get `colours[k]`.

    Glushkov's construction (one state for each property in the text, no empty steps), then states
    that have the same future are merged: the two copies of `P279*` in `(P31/P279*)|P279+` become
    one, and a graph is walked once for both.  Merging keeps the labelled walks, hence the chains.
    """
    starts: list[int] = []
    accepts: list[int | None] = []
    transitions: set[Transition] = set()
    for path, colour in zip(paths, colours, strict=True):
        start = len(accepts)
        starts.append(start)
        accepts.append(None)
        piece = _glushkov(path, False, accepts, transitions)
        transitions |= {Transition(start, *step) for step in piece.first}
        for state in piece.last:
            accepts[state] = colour
        if piece.empty:
            accepts[start] = colour
    return _merged(starts, accepts, transitions)


Step = tuple[str, bool, int]  # property, inverse, state after the step


@dataclass(frozen=True)
class _Piece:
    empty: bool  # does the piece match the empty walk?
    first: frozenset[Step]
    last: frozenset[int]


def _glushkov(
    path: Path, inverse: bool, accepts: list[int | None], transitions: set[Transition]
) -> _Piece:
    """Number the properties of `path` as states, add the steps between them, return its ends."""

    def join(before: _Piece, after: _Piece) -> None:
        transitions.update(Transition(s, *step) for s in before.last for step in after.first)

    match path:
        case Property(id):
            state = len(accepts)
            accepts.append(None)
            return _Piece(False, frozenset({(id, inverse, state)}), frozenset({state}))
        case Inverse(inner):
            return _glushkov(inner, not inverse, accepts, transitions)
        case Repeat(inner, modifier):
            piece = _glushkov(inner, inverse, accepts, transitions)
            if modifier != "?":
                join(piece, piece)
            return _Piece(piece.empty or modifier != "+", piece.first, piece.last)
        case Alternative(paths):
            pieces = [_glushkov(p, inverse, accepts, transitions) for p in paths]
            return _Piece(
                any(p.empty for p in pieces),
                frozenset().union(*(p.first for p in pieces)),
                frozenset().union(*(p.last for p in pieces)),
            )
        case Chain(paths):
            # ^(a/b) is ^b/^a
            whole = _Piece(True, frozenset(), frozenset())
            for p in reversed(paths) if inverse else paths:
                piece = _glushkov(p, inverse, accepts, transitions)
                join(whole, piece)
                whole = _Piece(
                    whole.empty and piece.empty,
                    whole.first | piece.first if whole.empty else whole.first,
                    whole.last | piece.last if piece.empty else piece.last,
                )
            return whole


def _merged(
    starts: list[int], accepts: list[int | None], transitions: set[Transition]
) -> Automaton:
    """Merge states with the same future (bisimulation by partition refinement)."""
    steps: list[list[Step]] = [[] for _ in accepts]
    for t in sorted(transitions):
        steps[t.source].append((t.property, t.inverse, t.target))
    group = _numbered(accepts)
    while True:
        refined = _numbered(
            [
                (group[s], frozenset((p, inverse, group[t]) for p, inverse, t in steps[s]))
                for s in range(len(accepts))
            ]
        )
        if max(refined) == max(group):
            break
        group = refined
    # Number the groups as they are first met from the starts: the same recipe, the same automaton.
    number: dict[int, int] = {}
    queue = list(starts)
    met = set(queue)
    for state in queue:
        number.setdefault(group[state], len(number))
        fresh = [t for _, _, t in steps[state] if t not in met]
        met.update(fresh)
        queue.extend(dict.fromkeys(fresh))
    merged_accepts: list[int | None] = [None] * len(number)
    merged_transitions = set()
    for state in met:
        merged_accepts[number[group[state]]] = accepts[state]
        merged_transitions |= {
            Transition(number[group[state]], p, inverse, number[group[t]])
            for p, inverse, t in steps[state]
        }
    return Automaton(
        len(number),
        tuple(number[group[s]] for s in starts),
        tuple(merged_accepts),
        tuple(sorted(merged_transitions)),
    )


def _numbered(keys: Sequence[object]) -> list[int]:
    numbers: dict[object, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]
