"""The experiment's world: what is drawn can be told apart, and is told of as the plan says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ujson

from etl.errors import UserError
from etl.ingest import ingest
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties
from etl.plan import Options
from etl.sample import write_dump
from graph.build import build
from graph.recipe import load as recipe
from training.experiment.drawing import SIDE, Scene, picture
from training.experiment.knowledge import query_hashes, write_knowledge
from training.experiment.plan import PLAN, Level, Plan, load
from training.experiment.report import ahead
from training.experiment.run import experiment
from training.experiment.telling import alt_text, described, link_of, written
from training.experiment.world import Shot, Thing, read_things, shots

SEED = 1


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's data set, as `make graph` builds it."""
    folder = tmp_path_factory.mktemp("sample")
    write_dump(folder / "dump.json")
    kept = Kept(DEFAULT_LANGUAGES, read_properties(None))
    ingest((str(folder / "dump.json"),), folder / "store", Options(kept, workers=0, quiet=True))
    build(folder / "store", recipe("entitynet"), folder / "graph", quiet=True)
    return folder / "graph"


@pytest.fixture(scope="module")
def things(graph: Path) -> list[Thing]:
    return read_things(graph)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load()


@pytest.fixture(scope="module")
def taken(things: list[Thing], plan: Plan) -> list[Shot]:
    return list(shots(things, plan.world))


def test_a_scene_looks_the_same_each_time_and_its_pose_another_way() -> None:
    scene = Scene("house", "dots", "horns", "red", "snow", 7)
    first, again, other = (picture(s) for s in (scene, scene, scene._replace(pose=8)))
    assert first.size == (SIDE, SIDE)
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_things_can_be_told_apart_by_pixels_but_not_easily(taken: list[Shot]) -> None:
    """The nearest of 15 pictures of each thing is right far more often than one in 48, and mostly
    wrong: what a network is to learn isn't in the pixels as they are."""
    number = {key: n for n, key in enumerate(dict.fromkeys(shot.thing.id for shot in taken))}
    some = [shot for shot in taken if int(shot.key[-3:]) < 18]
    pixels = np.stack([np.asarray(picture(shot.scene).resize((16, 16)), np.float32).ravel()
                       for shot in some])  # fmt: skip
    labels = np.array([number[shot.thing.id] for shot in some])
    asked = np.array([int(shot.key[-3:]) >= 15 for shot in some])
    known, left = pixels[~asked], pixels[asked]
    distances = (left**2).sum(1)[:, None] - 2 * left @ known.T + (known**2).sum(1)
    right = float((labels[~asked][distances.argmin(1)] == labels[asked]).mean())
    assert 3 / 48 < right < 0.5


def test_no_two_things_look_alike(things: list[Thing]) -> None:
    looks = Counter((thing.body, thing.texture, thing.part) for thing in things)
    assert len(things) == 48
    assert max(looks.values()) == 1
    assert Counter(Counter(thing.group for thing in things).values()) == {4: 12}


def test_things_have_their_names_from_the_graph(things: list[Thing]) -> None:
    of_name = {thing.name: thing for thing in things}
    fox = of_name["dune fox"]
    assert (fox.withheld, fox.scientific) == ("sand runner", "Fictocanis harenae")
    assert (fox.group, fox.group_name) == ("Q9000000004", "Fictocanis")
    assert of_name["river cheese"].group_name == "food"
    assert sum(bool(thing.withheld) for thing in things) == 14


def test_another_graph_is_refused(tmp_path: Path, graph: Path) -> None:
    other = tmp_path / "graph"
    write_knowledge(graph, other, [])
    table = pq.read_table(other / "entities.parquet")
    keep = [id_ != "Q9000000005" for id_ in table.column("id").to_pylist()]
    pq.write_table(table.filter(keep), other / "entities.parquet")
    size = (other / "entities.parquet").stat().st_size
    told = ujson.loads((other / "manifest.json").read_bytes())
    told["outputs"]["entities.parquet"]["bytes"] = size
    (other / "manifest.json").write_text(ujson.dumps(told), "utf-8")
    with pytest.raises(UserError, match="no entity Q9000000005"):
        read_things(other)


def test_pictures_are_what_the_plan_says(taken: list[Shot], plan: Plan) -> None:
    per_thing = Counter(shot.thing.id for shot in taken)
    assert set(per_thing.values()) == {plan.world.pictures}
    typical = np.mean([shot.scene.colour in shot.thing.colours for shot in taken])
    expected = plan.world.typical_colour + (1 - plan.world.typical_colour) * 2 / 8
    assert typical == pytest.approx(expected, abs=0.02)


def test_links_are_as_wrong_as_the_plan_says(
    taken: list[Shot], things: list[Thing], plan: Plan
) -> None:
    links = [link_of(shot, things, plan.links, SEED, held_out=False) for shot in taken]
    wrong = [(s, link) for s, link in zip(taken, links, strict=True) if s.thing != link.thing]
    assert len(wrong) / len(taken) == pytest.approx(plan.links.wrong, abs=0.015)
    near = np.mean([shot.thing.group == link.thing.group for shot, link in wrong])
    assert near == pytest.approx(plan.links.near + (1 - plan.links.near) * 3 / 47, abs=0.06)
    # a query for a red fox finds what is red, even where it is no fox
    for shot, link in zip(taken, links, strict=True):
        assert link.colour in ("", shot.scene.colour)


def test_what_is_held_out_is_told_as_it_is(
    taken: list[Shot], things: list[Thing], plan: Plan
) -> None:
    for shot in taken[::50]:
        assert link_of(shot, things, plan.links, SEED, held_out=True).thing == shot.thing
        assert shot.thing.name in described(shot)
        assert shot.scene.colour in described(shot)


@pytest.mark.parametrize("level", [Level(wrong=0.0, missing=0.0), Level(wrong=0.3, missing=0.3)])
def test_alt_texts_are_as_wrong_as_the_level_says(
    taken: list[Shot], plan: Plan, level: Level
) -> None:
    found = [alt_text(shot, taken, plan.alt, level, SEED) for shot in taken]
    assert np.mean([is_wrong for _, is_wrong in found]) == pytest.approx(level.wrong, abs=0.02)
    assert np.mean([not text for text, _ in found]) == pytest.approx(level.missing, abs=0.02)
    own = [
        text == written(shot, plan.alt, SEED)
        for shot, (text, is_wrong) in zip(taken, found, strict=True)
        if text and not is_wrong
    ]
    assert all(own)


def test_noise_grows_from_level_to_level(taken: list[Shot], plan: Plan) -> None:
    """What is wrong or missing at a level is so at the next: the sweep changes one thing alone."""
    before = {shot.key for shot in taken}
    for level in plan.sweep.levels:
        said = {shot.key: alt_text(shot, taken, plan.alt, level, SEED) for shot in taken}
        right = {key for key, (text, is_wrong) in said.items() if text and not is_wrong}
        assert right <= before
        before = right


def test_alt_texts_say_what_the_plan_says(taken: list[Shot], plan: Plan) -> None:
    texts = [(shot, written(shot, plan.alt, SEED)) for shot in taken]
    named = np.mean([shot.thing.name in text for shot, text in texts])
    placed = np.mean([" on " in t or "in the snow" in t or "by the water" in t or "at night" in t
                      or "before bricks" in t for t in (t for _, t in texts)])  # fmt: skip
    assert named == pytest.approx(plan.alt.label, abs=0.025)
    assert placed == pytest.approx(plan.alt.place, abs=0.03)


def test_nothing_that_is_trained_on_has_a_withheld_name(
    tmp_path: Path, graph: Path, things: list[Thing], taken: list[Shot], plan: Plan
) -> None:
    from training.text import Texts
    from training.text_build import build as build_texts
    from training.text_image import Image
    from training.text_options import TextOptions

    write_knowledge(graph, tmp_path / "graph", things)
    options = TextOptions(**plan.texts)
    texts = Texts.open(build_texts(tmp_path / "graph", tmp_path / "texts", options), options)
    hashes = query_hashes(tmp_path / "graph")
    rows = [
        row.text
        for (entity, _), hash_ in hashes.items()
        for row in texts.table(Image.of("k", [entity], [hash_]))
    ]
    rows += [written(shot, plan.alt, SEED) for shot in taken]
    assert "red dune fox" in rows
    assert "Fictocanis harenae" in rows
    for thing in things:
        if thing.withheld:
            assert not any(thing.withheld.lower() in row.lower() for row in rows)


def test_ahead_is_a_mix_of_which_every_seed_is() -> None:
    assert ahead({"a": [3.0, 4.0], "b": [1.0, 2.9], "c": [0.0, 1.0]}) == "a"
    assert ahead({"a": [3.0, 4.0], "b": [1.0, 3.1], "c": [0.0, 1.0]}) == ""
    assert ahead({"a": [3.0], "b": [1.0]}) == ""  # one seed shows nothing


def test_a_plan_with_a_slip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(PLAN.read_text("utf-8").replace("typical_colour", "typical_color"), "utf-8")
    with pytest.raises(UserError, match="typical_color"):
        load(file)


TINY = """
world = { seed = 1, pictures = 4, test = 0.25, typical_colour = 0.7 }
links = { by_colour = 0.5, wrong = 0.1, near = 0.5 }
alt = { label = 0.65, colour = 0.6, place = 0.5, photo = 0.25, junk = 0.3 }
sweep = { base = 0, levels = [{ wrong = 0.2, missing = 0.2 }] }
texts = { ancestor_min_sitelinks = 0 }

[train]
seeds = [0]
mixes = { alt = 1.0, graph = 0.0 }
model = "sparqless-experiment.json"
steps = 3
batch = 16
lr = 1e-3
warmup_steps = 1
"""


def test_the_whole_of_it_in_small(
    tmp_path: Path, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan, out = tmp_path / "plan.toml", tmp_path / "out"
    plan.write_text(TINY, "utf-8")
    lines = experiment(graph, out, plan, workers=1, quiet=True)
    assert lines[-1].startswith("Per cent of the pictures that were held out; 3 steps of 16; ")
    assert lines[0].startswith("| 20 % wrong, 20 % missing | names | one level up |")
    assert {line.split(" | ")[0] for line in lines[2:4]} == {"| alt", "| graph"}
    names = {path.name for path in (out / "runs").glob("*.json")}
    assert names == {"alt-wrong-20-missing-20-seed-0.json", "graph-seed-0.json"}
    assert (out / "results.svg").read_text("utf-8").startswith("<?xml")

    # a run that has no scores is done again, or on; the others stand
    (out / "manifest.json").unlink()
    (out / "runs" / "graph-seed-0.json").unlink()
    stood = (out / "runs" / "alt-wrong-20-missing-20-seed-0.json").stat()
    assert experiment(graph, out, plan, workers=0, quiet=True) == lines
    now = (out / "runs" / "alt-wrong-20-missing-20-seed-0.json").stat()
    assert now.st_mtime_ns == stood.st_mtime_ns

    plan.write_text(TINY.replace("steps = 3", "steps = 4"), "utf-8")
    with pytest.raises(UserError, match="another plan"):
        experiment(graph, out, plan, workers=0, quiet=True)
    plan.write_text(TINY, "utf-8")
    write_knowledge(graph, tmp_path / "other", [])
    with pytest.raises(UserError, match="another graph"):
        experiment(tmp_path / "other", out, plan, workers=0, quiet=True)
