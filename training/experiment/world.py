"""What the world holds: things with their names, and pictures of them.

things = read_things(Path("data/sample/graph/entitynet"))
for shot in shots(things, plan.world):
    picture(shot.scene)
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from etl.errors import UserError
from graph.read import batches, hierarchy, manifest_of
from training.experiment.drawing import COLOURS, PLACES, Scene
from training.experiment.plan import World

_TABLE: Final = Path(__file__).with_name("things.toml")


@dataclass(frozen=True)
class Thing:
    """An entity that pictures are of."""

    id: str
    name: str
    #: A synonym that no text in training has; "" where the graph has none to spare.
    withheld: str
    #: What biologists call it; "" where it has no such name, or no other.
    scientific: str
    #: The group: an entity above it, which is above no thing of another group.
    group: str
    group_name: str
    body: str
    texture: str
    part: str
    #: The two colours that it mostly has.
    colours: tuple[str, str]


class Shot(NamedTuple):
    """A picture of a thing."""

    key: str  # Q9000000005-017
    thing: Thing
    scene: Scene


def read_things(graph: Path) -> list[Thing]:
    """The things, in the order of the table, with their names in a graph data set.

    The last of an entity's aliases is withheld.

    Raises UserError where the data set isn't that of the sample, or of another version of it.
    """
    manifest_of(graph)
    groups = tomllib.loads(_TABLE.read_text("utf-8"))["group"]
    wanted = {row["id"] for group in groups for row in (group, *group["things"])}
    rows = {
        row["id"]: row
        for table in batches(graph, "entities")
        for row in table.to_pylist()
        if row["id"] in wanted
    }
    if missing := sorted(wanted - rows.keys() - {group["id"] for group in groups}):
        raise UserError(
            f"{graph} has no entity {missing[0]}: the experiment is about the bundled sample; "
            "build its graph with `make graph` and name that."
        )
    names = _group_names(graph, rows, [group["id"] for group in groups])
    things = []
    for number, group in enumerate(groups):
        for place, row in enumerate(group["things"]):
            things.append(_thing(rows[row["id"]], row, group, names[group["id"]], number, place))
    _check_groups(graph, things)
    return things


def _thing(
    entity: Mapping[str, Any],
    row: Mapping[str, Any],
    group: Mapping[str, Any],
    group_name: str,
    number: int,
    place: int,
) -> Thing:
    aliases = [name for name in entity["aliases"] if name != entity["name"]]
    scientific = [name for name in entity["taxon_names"] if name != entity["name"]]
    colours = list(COLOURS)
    first = number + 2 * place  # things of a group have different ones
    dealt = [colours[n % len(colours)] for n in (first, first + 1)]
    one, other = row.get("colours", dealt)
    return Thing(
        id=entity["id"],
        name=entity["name"],
        withheld=aliases[-1] if aliases else "",
        scientific=scientific[0] if scientific else "",
        group=group["id"],
        group_name=group_name,
        body=group["body"],
        texture=row["texture"],
        part=row["part"],
        colours=(one, other),
    )


def _group_names(
    graph: Path, rows: Mapping[str, Mapping[str, Any]], groups: Sequence[str]
) -> dict[str, str]:
    """What groups are called: roots are mostly no entities, and named in the manifest alone."""
    counted = manifest_of(graph)["counts"]["roots"]
    names = {root["root"]: root["name"] for root in counted}
    return {id_: rows[id_]["name"] if id_ in rows else names[id_] for id_ in groups}


def _check_groups(graph: Path, things: Sequence[Thing]) -> None:
    """Each thing is below its own group and below no other."""
    import networkx as nx

    edges: Any = hierarchy(graph)
    groups = {int(thing.group[1:]): thing.group for thing in things}
    for thing in things:
        above = {groups[n] for n in nx.descendants(edges, int(thing.id[1:])) if n in groups}
        if above != {thing.group}:
            raise UserError(
                f"{graph}: {thing.name} ({thing.id}) is below {sorted(above)} of the experiment's "
                f"groups and not below {thing.group} alone; it is another sample's graph."
            )


def shots(things: Sequence[Thing], world: World) -> Iterator[Shot]:
    """All pictures, thing by thing: of each equally many, whatever the web would have."""
    for thing in things:
        for number in range(world.pictures):
            chance = random.Random(f"shot {world.seed} {thing.id} {number}")
            typical = chance.random() < world.typical_colour
            colour = chance.choice(thing.colours if typical else list(COLOURS))
            scene = Scene(
                thing.body,
                thing.texture,
                thing.part,
                colour,
                chance.choice(list(PLACES)),
                chance.getrandbits(32),
            )
            yield Shot(f"{thing.id}-{number:03}", thing, scene)
