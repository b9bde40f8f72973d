"""`sparqless evaluate`: from images and a model to figures, through the command itself."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file

import training.vision  # noqa: F401
from cli import cli
from etl.errors import UserError
from etl.manifest import MANIFEST, read_manifest, write_manifest
from tests.training import shapes
from training.classes import Class
from training.config import FOLDER
from training.confusion import matrix
from training.evaluate import Answers, Options, evaluate
from training.evaluation_report import default_name
from training.opened import of_network, opened
from training.pictures import SUFFIXES, Picture, of_folder
from training.templates import OPENAI
from training.zeroshot import Prompts, asked, embeddings

torch.set_num_threads(1)


def command(*arguments: str | Path, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["evaluate", *map(str, arguments), "--workers", "1"])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, a data set, folders, and an untrained model as a run has it."""
    folder = tmp_path_factory.mktemp("place")
    both = shapes.jpeg("red disc", 50)
    shown = shapes.record(both, ["red disc", "red bar"], ["two things", "A  picture of a RED disc"])
    unknown = shapes.jpeg("blue bar", 51)
    stranger = shapes.record(unknown, ["blue bar"], [], entities=[
        shapes.Entity("Q999", "nothing", ["Q1"], "", "", ["list"], [])])  # fmt: skip
    splits = {
        "train": shapes.held_out([1]),
        "val": shapes.held_out([2]),
        "test": [*shapes.held_out([3]), (both, shown), (unknown, stranger)],
    }
    shapes.write_shards(folder / "images" / "shards", splits)
    shapes.write_graph(folder / "graph")
    shapes.write_folders(folder / "folders", range(2))
    shapes.tiny(folder / "run" / "model", steps=0)
    return folder


def test_a_model_that_has_learned_is_well_above_chance(tmp_path: Path) -> None:
    shapes.tiny(tmp_path / "run" / "model", steps=160)
    shapes.write_shards(tmp_path / "shards", {"val": shapes.held_out(range(6))})
    shapes.write_graph(tmp_path / "graph")
    done = command("--run", tmp_path / "run", "--images", tmp_path / "shards",
                   "--graph", tmp_path / "graph", "--split", "val", "--json")  # fmt: skip
    (found,) = json.loads(done.stdout)["sets"]
    assert found["classification"]["score"]["acc1"] > 0.5  # a guess: an eighth
    assert found["classification"]["levels"]["accuracy"][1] > 0.75  # disc or bar: a half
    assert found["retrieval"]["i2t"]["R@1"] > 0.5
    assert found["retrieval"]["t2i"]["R@10"] > 0.4  # a guess: about a fifth


def test_all_held_out_splits_are_evaluated_and_kept_with_the_run(place: Path) -> None:
    shards = place / "images" / "shards"
    done = command("--run", place / "run", "--images", shards, "--graph", place / "graph")
    assert "acc1" in done.stdout
    assert "image to text" in done.stdout
    kept = json.loads((place / "run/evaluations/images-shards-openai.json").read_text())
    val, test = kept["sets"]
    assert (val["name"], val["images"]) == ("val", 8)
    assert (test["name"], test["images"]) == ("test", 10)
    assert test["classification"]["score"]["images"] == 9
    assert test["classification"]["left_out"] == 1  # shows nothing of the data set
    assert [root["name"] for root in test["classification"]["roots"]] == ["shape"]
    # nine have texts; "A picture of a RED disc" is another's text, too
    assert test["retrieval"]["i2t"]["questions"] == 9
    assert test["retrieval"]["i2t"]["answers"] == 9
    assert test["retrieval"]["t2i"]["answers"] == 9


def test_equal_evaluations_give_equal_results(place: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        command("--run", place / "run", "--folders", place / "folders", "--name", "same",
                "--templates", "none", "--out", tmp_path / name)  # fmt: skip
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (place / "run/evaluations/same.json").read_bytes() == (tmp_path / "a").read_bytes()


def test_the_batch_is_of_no_consequence(place: Path) -> None:
    options = Options(folders=place / "folders", templates="none", quiet=True)
    found = [
        evaluate(opened(str(place / "run/model"), batch=batch), options).results
        for batch in (1, 7, 256)
    ]
    assert found[0] == found[1] == found[2]


def test_one_file_in_two_folders_is_one_image_with_two_right_classes(
    place: Path, tmp_path: Path
) -> None:
    for name in ("red disc", "round thing"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(shapes.jpeg("red disc", 1))
    (tmp_path / "red disc" / "1.txt").write_text("a disc\n\n it  is red\n")
    (tmp_path / "red disc" / "2.jpg").write_bytes(shapes.jpeg("red disc", 2))
    (tmp_path / "red disc" / "2.txt").write_text("A disc\n")
    model = opened(str(place / "run/model"))
    found = evaluate(model, Options(folders=tmp_path, templates="none", quiet=True))
    (result,) = found.results
    assert result.images == 2
    assert [len(own) for own in found.answers[result.name].right] == [2, 1]
    assert result.retrieval is not None
    assert result.retrieval.t2i.questions == 2  # "a disc" is one text


def test_threads_that_read_are_of_no_consequence(place: Path) -> None:
    one, four = (of_folder(place / "folders", 5, workers) for workers in (1, 4))
    assert one == four
    assert len(one) == 16


def test_what_is_hidden_is_no_class_and_no_image(tmp_path: Path) -> None:
    for name in (".ipynb_checkpoints/1.jpg", "disc/1.jpg", "disc/._1.jpg", "disc/.trash/2.jpg"):
        (tmp_path / ".data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".data" / name).write_bytes(shapes.jpeg("red disc", len(name)))
    assert [picture.key for picture in of_folder(tmp_path / ".data", 0)] == ["disc/1.jpg"]


def test_folders_take_names_and_levels_from_a_data_set(place: Path) -> None:
    done = command("--run", place / "run", "--folders", place / "folders", "--json", "--types",
                   "--graph", place / "graph", "--classes", "all", "--names", "all")  # fmt: skip
    (found,) = json.loads(done.stdout)["sets"]
    assert found["classification"]["choices"] == 11
    assert found["classification"]["levels"]["accuracy"][2] == 1  # all are shapes


def test_folders_take_names_from_a_file(place: Path, tmp_path: Path) -> None:
    names = {name.replace(" ", "_"): name for name in shapes.CLASSES} | {"more": "another thing"}
    (tmp_path / "names.json").write_text(json.dumps(names))
    done = command("--run", place / "run", "--folders", place / "folders", "--json",
                   "--classes", tmp_path / "names.json")  # fmt: skip
    (found,) = json.loads(done.stdout)["sets"]
    assert found["classification"]["choices"] == 9
    assert found["classification"]["score"]["classes"] == 8


def test_what_about_folders_is_guessed_is_said(place: Path, tmp_path: Path) -> None:
    for folder in ("0", "1"):
        (tmp_path / "by number" / folder).mkdir(parents=True)
        (tmp_path / "by number" / folder / "a.jpg").write_bytes(
            shapes.jpeg("red disc", int(folder))
        )
    (tmp_path / "names.txt").write_text("disc\nbar\n")
    done = command("--run", place / "run", "--folders", tmp_path / "by number", "--templates",
                   "none", "--classes", tmp_path / "names.txt")  # fmt: skip
    assert "in the order of the folders ('0' is 'disc'" in done.stderr
    for seed, folder in enumerate(("red_disc", "Red disc thing")):
        (tmp_path / "twice" / folder).mkdir(parents=True)
        (tmp_path / "twice" / folder / "a.jpg").write_bytes(shapes.jpeg("red disc", seed))
    done = command("--run", place / "run", "--folders", tmp_path / "twice", "--templates", "none",
                   "--graph", place / "graph")  # fmt: skip
    assert "'Red disc thing' and 'red_disc' are one class" in done.stderr


def test_without_names_of_classes_shards_are_only_retrieved_from(place: Path) -> None:
    done = command("--run", place / "run", "--images", place / "images/shards")
    assert "only retrieval" in done.stderr
    assert "acc1" not in done.stdout


def test_a_model_of_open_clip_takes_weights_of_this_disk(place: Path, tmp_path: Path) -> None:
    """Also a state dict of torch, as training writes; never what is unpickled to anything else."""
    (tmp_path / "by-name.json").write_text(json.dumps(shapes.TINY))
    shapes.open_clip.add_model_config(tmp_path / "by-name.json")
    safe = place / "run/model/open_clip_model.safetensors"
    torch.save({"state_dict": load_file(safe)}, tmp_path / "weights.pt")
    images = ("--folders", place / "folders", "--templates", "none", "--json")
    found = [
        json.loads(command("--model", "by-name", "--weights", weights, *images).stdout)["sets"]
        for weights in (safe, tmp_path / "weights.pt")
    ]
    assert found[0] == found[1]

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "unpickled"),)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    done = command("--model", "by-name", "--weights", tmp_path / "evil.pt", *images, code=1)
    assert "evil.pt can't be loaded" in done.stderr
    assert not (tmp_path / "unpickled").exists()


def test_what_training_calls_tiny_is_known_here_too(place: Path, tmp_path: Path) -> None:
    shapes.open_clip.add_model_config(FOLDER / "sparqless-tiny.json")
    net = shapes.open_clip.create_model("sparqless-tiny")
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    found = opened("tiny", tmp_path / "model.safetensors", device="cpu")
    assert found.texts(["a red disc"]).shape[0] == 1
    with pytest.raises(UserError, match=r"can't be loaded as ViT-S-32-alt .*another network's"):
        opened("ViT-S-32-alt", tmp_path / "model.safetensors", device="cpu")
    with pytest.raises(UserError, match="give that folder"):
        opened(str(place / "run/model/open_clip_config.json"), tmp_path / "model.safetensors")


def test_weights_by_a_name_may_want_other_pixels(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file says neither how pixels are normalised nor which activation it was trained with."""
    for name in ("by-tag", "by-tag-quickgelu"):
        (tmp_path / f"{name}.json").write_text(json.dumps(shapes.TINY))
        shapes.open_clip.add_model_config(tmp_path / f"{name}.json")
    half = (0.5, 0.5, 0.5)
    odd = {"mean": half, "std": half, "interpolation": "bilinear", "quick_gelu": True}
    known = shapes.open_clip.pretrained._PRETRAINED
    monkeypatch.setitem(known, "by-tag", {"odd": odd})
    weights = place / "run/model/open_clip_model.safetensors"
    arguments = ("--model", "by-tag", "--weights", weights, "--folders", place / "folders",
                 "--templates", "none")  # fmt: skip
    done = command(*arguments)
    assert "its weights odd want others: give --pretrained-tag" in done.stderr
    assert "or give --model by-tag-quickgelu if" in done.stderr
    assert "mean 0.481 0.458 0.408, std 0.269 0.261 0.276; no QuickGELU" in done.stdout
    done = command(*arguments, "--pretrained-tag", "odd", "--json")
    assert not done.stderr.count("Warning")
    model = json.loads(done.stdout)["model"]
    assert model["quick_gelu"]
    assert model["pixels"] == {"size": [32, 32], "mean": [*half], "std": [*half],
                               "interpolation": "bilinear", "resize_mode": "shortest"}  # fmt: skip
    found = opened("by-tag", weights, tag="odd").preprocess(Image.new("RGB", (9, 9), "white"))
    assert bool((found == 1).all())
    done = command(*arguments, "--pretrained-tag", "even", code=1)
    assert "open_clip's for by-tag are: odd" in done.stderr


def folder_with(place: Path, folder: Path, tower: str, **settings: Any) -> Path:
    """The model of `place`, whose config says otherwise."""
    folder.mkdir()
    for path in (place / "run/model").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][tower] |= settings
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def test_a_model_s_folder_fetches_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refused(host: str, *_: Any, **__: Any) -> Any:
        asked.append(host)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    name = "hf-hub:evil/model"
    folder = folder_with(place, tmp_path / "model", "vision_cfg", timm_model_name=name)
    with pytest.raises(UserError, match="can't be loaded"):
        opened(str(folder))
    (tmp_path / "my-siglip.json").write_text(json.dumps(shapes.TINY))
    with pytest.raises(UserError, match="would fetch SigLIP's tokenizer"):
        opened(str(tmp_path / "my-siglip.json"), folder / "open_clip_model.safetensors")
    assert not asked


def test_a_model_s_folder_runs_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(_: str, **options: Any) -> object:
            told.append(options)
            return object()

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=AutoTokenizer))
    asks = {"hf_tokenizer_name": "evil/model", "tokenizer_kwargs": {"trust_remote_code": True}}
    with pytest.raises(UserError, match="trust_remote_code, which might run"):
        opened(str(folder_with(place, tmp_path / "a", "text_cfg", **asks)))
    assert not told
    asks["tokenizer_kwargs"] = {"clean": "canonicalize"}
    opened(str(folder_with(place, tmp_path / "b", "text_cfg", **asks)))
    assert told[0]["trust_remote_code"] is False


def test_texts_are_as_long_as_the_weights_were_trained_with(tmp_path: Path) -> None:
    """By name, too: open_clip alone would stretch the places of 16 tokens to 32."""
    short = {**shapes.TINY, "text_cfg": {**shapes.TINY["text_cfg"], "context_length": 16}}
    for name, config in (("in-short", short), ("in-full", shapes.TINY)):
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    shapes.open_clip.add_model_config(tmp_path / "in-short.json")
    net = shapes.open_clip.create_model("in-short").eval()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    torch.save(net.state_dict(), tmp_path / "w.pt")
    tokens = shapes.open_clip.get_tokenizer("in-short")(["a red disc"])
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(net.encode_text(tokens), dim=-1)
    for weights in ("w.safetensors", "w.pt"):
        found = opened(str(tmp_path / "in-full.json"), tmp_path / weights, device="cpu")
        assert torch.equal(found.texts(["a red disc"]), expected)


def test_a_network_in_memory_is_asked_as_one_on_the_disk_is(place: Path) -> None:
    where = f"local-dir:{place / 'run/model'}"
    net = shapes.open_clip.create_model(where).eval()
    tokenize = shapes.open_clip.get_tokenizer(where)
    options = Options(folders=place / "folders", templates="none", quiet=True)
    here = of_network(net, tokenize, device=torch.device("cpu"))
    there = opened(str(place / "run/model"), device="cpu")
    assert evaluate(here, options).results == evaluate(there, options).results


def test_the_embedding_of_a_class_is_a_mean_of_means(place: Path) -> None:
    """Beside a loop over names and sentences."""
    model = opened(str(place / "run/model"), device="cpu", batch=3)
    classes = [Class("a", ("dog", "hound", "big dog"), "pet"), Class("b", ("cat",))]
    prompts = Prompts(("a photo of a {}.", "{}", "the {}"), types=True)
    found = embeddings(model, classes, prompts)
    for one, row in zip(classes, found, strict=True):
        names = []
        for name in one.names:
            end = f", a type of {one.natural_type}" if one.natural_type else ""
            texts = [f"a photo of a {name}{end}.", f"{name}{end}", f"the {name}{end}"]
            with torch.inference_mode():
                each = model.net.encode_text(model.tokenize(texts))  # type: ignore[operator]
            mean = sum(vector / vector.norm() for vector in each) / len(texts)
            names.append(mean / mean.norm())
        mean = sum(names) / len(names)
        assert torch.allclose(row, mean / mean.norm(), atol=1e-6)


def test_embeddings_of_names_are_those_of_open_clip_s_classifier(place: Path) -> None:
    model = opened(str(place / "run/model"), device="cpu")
    classes = [Class(name, (name, "other")) for name in shapes.CLASSES]
    found = embeddings(model, asked(classes, "name"), Prompts(OPENAI))
    net, tokenize = model.net, model.tokenize
    theirs = shapes.open_clip.build_zero_shot_classifier(net, tokenize, shapes.CLASSES, OPENAI)
    assert torch.allclose(found, theirs.T, atol=1e-6)


def test_a_class_of_the_same_name_is_right_and_counts_for_nothing_else(
    place: Path, tmp_path: Path
) -> None:
    """A planet and a metal: images show the planet, whichever of them was answered."""
    shards = shapes.write_shards(tmp_path / "shards", {"val": shapes.held_out([2])})
    twin = {"id": "Q99", "name": "Red  DISC", "roots": ["Q2"]}
    graph = shapes.write_graph(tmp_path / "graph", twin)
    options = Options(shards=str(shards), splits=("val",), classes="all", templates="none")
    model = opened(str(place / "run/model"))
    with_, without = (
        evaluate(model, replace(options, graph=graph, quiet=True))
        for graph in (graph, place / "graph")
    )
    one, other = (made.results[0].classification for made in (with_, without))
    assert one is not None
    assert other is not None
    assert one.score.acc1 == other.score.acc1
    assert one.score.macro_acc1 == other.score.macro_acc1
    assert one.score.classes == other.score.classes == 8
    assert one.roots == other.roots  # none of the twin's
    assert one.confused == other.confused
    assert one.levels is not None
    assert other.levels is not None
    assert one.levels.accuracy == other.levels.accuracy
    assert one.levels.accuracy[0] == one.score.acc1
    assert one.levels.chance[0] == pytest.approx(one.score.chance)
    assert with_.answers["val"] == without.answers["val"]
    assert matrix(with_.classes, with_.answers["val"])[1].tolist() == matrix(
        without.classes, without.answers["val"])[1].tolist()  # fmt: skip


def test_a_picture_shows_what_was_taken_for_what(place: Path, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        command("--run", place / "run", "--folders", place / "folders", "--templates", "none",
                "--picture", tmp_path / name)  # fmt: skip
    drawing = (tmp_path / "a.svg").read_text()
    assert "red bar" in drawing
    assert drawing == (tmp_path / "b.svg").read_text()


def test_a_picture_has_an_image_in_the_row_of_what_was_right() -> None:
    classes = [Class(key, (key,)) for key in "abc"]
    answers = Answers([["a", "b"], ["a", "b"], ["c"]], ["b", "c", "c"])
    shown, found = matrix(classes, answers)
    assert [one.key for one in shown] == ["a", "b", "c"]
    assert found.tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folders", "{place}/folders"], "either --run or --model"),
        (["--run", "{place}/run"], "either --images or --folders"),
        (["--run", "{place}", "--folders", "{place}/folders"], "has no model yet"),
        (["--model", "ViT-B-32", "--folders", "{place}/folders"], "needs weights"),
        (["--model", "no-such", "--folders", "{place}/folders"], "neither a folder"),
        (["--model", "hf-hub:a/b", "--folders", "{place}/folders"], "hf download"),
        (["--model", "local-dir:{place}/none", "--folders", "{place}/folders"], "is no folder"),
        (["--model", "{place}/graph", "--folders", "{place}/folders"], "open_clip_config.json"),
        (["--run", "{place}/run", "--folders", "{place}/run/model"], "no folder with images"),
        (["--run", "{place}/run", "--folders", "{place}/none"], "can't be read"),
        (["--run", "{place}/run", "--images", "{place}/graph"], "not of shards"),
        (["--run", "{place}/run", "--folders", "{place}/folders", "--classes", "all"], "--graph"),
        (["--run", "{place}/run", "--folders", "{place}/folders", "--name", "../x"], "--name"),
        (["--run", "{place}/run", "--folders", "{place}/folders", "--device", "tpu9"], "--device"),
        (["--run", "{place}/run", "--folders", "{place}/folders", "--picture", "a.bmp"], ".svg"),
    ],
)
def test_what_cant_be_evaluated_is_said(place: Path, arguments: list[str], said: str) -> None:
    done = command(*(argument.format(place=place) for argument in arguments), code=1)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_broken_images_and_shards_are_named(place: Path, tmp_path: Path) -> None:
    (tmp_path / "folders" / "disc").mkdir(parents=True)
    (tmp_path / "folders" / "disc" / "cut.jpg").write_bytes(shapes.jpeg("red disc", 1)[:500])
    done = command("--run", place / "run", "--folders", tmp_path / "folders", code=1)
    assert "disc/cut.jpg can't be decoded" in done.stderr
    shards = shapes.write_shards(tmp_path / "shards", {"val": shapes.held_out([1])})
    tar = shards / "val-000000.tar"
    data = tar.read_bytes()
    tar.write_bytes(data[:2000] + b"?" * (len(data) - 2000))  # as long as it was
    done = command("--run", place / "run", "--images", shards, code=1)
    assert str(shards) in done.stderr
    tar.write_bytes(data[:-512])
    done = command("--run", place / "run", "--images", shards, code=1)
    assert "is damaged" in done.stderr
    (shards / MANIFEST).unlink()
    done = command("--run", place / "run", "--images", shards, code=1)
    assert "holds no finished shards" in done.stderr


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_image_is_read_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    drawn = shapes.drawing("red disc", 1)
    path = tmp_path / f"a{suffix}"
    drawn.save(path)
    assert Picture("a", path).load().size == (48, 48)
    drawn.save(path, "PNG")  # a name that isn't what the file is
    assert Picture("a", path).load().tobytes() == drawn.tobytes()
    path.write_text("<!DOCTYPE html><title>Not found</title>")
    with pytest.raises(UserError, match=r"photos/a can't be decoded \(it is none of JPEG, PNG"):
        Picture("photos/a", path).load()


def test_a_jpeg_of_several_pictures_is_its_first(tmp_path: Path) -> None:
    first = shapes.drawing("red disc", 1)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[first.rotate(90)])
    assert Picture("a", tmp_path / "a.jpg").load().size == (48, 48)


def test_an_image_of_too_many_pixels_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    shapes.drawing("red disc", 1).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"disc/a.png can't be decoded .*pixels"):
        Picture("disc/a.png", tmp_path / "a.png").load()


def test_shards_elsewhere_give_the_same(place: Path) -> None:
    shards = place / "images" / "shards"
    here, there = (
        json.loads(command("--run", place / "run", "--images", images, "--graph", place / "graph",
                           "--templates", "none", "--json").stdout)
        for images in (shards, f"file://{shards}")
    )  # fmt: skip
    assert here["sets"] == there["sets"]


def test_shards_that_a_run_wasnt_trained_on_may_hold_out_what_it_has_seen(
    place: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run" / "model", run / "model")
    ours, others = place / "images" / "shards", tmp_path / "again"
    shapes.write_shards(others, {"val": shapes.held_out([1]), "train": shapes.held_out([2])})
    digest = read_manifest(ours, "shards")["outputs"]["images.parquet"]["sha256"]
    write_manifest(run, {"step": "run", "inputs": {"shards": digest}, "outputs": {}})
    arguments = ("--run", run, "--split", "val", "--images")
    assert "trained on" not in command(*arguments, ours).stderr
    done = command(*arguments, others, "--name", "again")
    said = f"{others} isn't what {run} was trained on, so it may have been trained on images"
    assert said in done.stderr
    assert said in json.loads((run / "evaluations/again.json").read_text())["warnings"][-1]
    assert said not in command("--run", run, "--split", "train", "--images", others).stderr


def test_results_of_other_options_have_other_names(place: Path) -> None:
    shards = Options(shards="data/living/shards", templates="none", graph=Path("data/graph"))
    changes: list[dict[str, Any]] = [
        {}, {"names": "all"}, {"names": "synonyms"}, {"types": True}, {"classes": "all"},
        {"classes": "/a/birds.csv"}, {"splits": ("val",)}, {"limit": 9}, {"texts": 1},
        {"templates": "openai"}, {"graph": None}, {"store": Path("data/store")},
        {"graph": None, "classes": "birds.csv"},
    ]  # fmt: skip
    names = [default_name(replace(shards, **change)) for change in changes]
    assert names[0] == "living-shards-none"
    assert names[1] == "living-shards-none-all-names"
    assert names[5] == "living-shards-none-birds-graph"
    assert names[10] == "living-shards-none-retrieval"
    assert len({*names}) == len(names)
    folders = Options(folders=place / "folders")
    assert default_name(folders) != default_name(replace(folders, graph=place / "graph"))


def test_one_set_of_images_has_one_name(place: Path) -> None:
    around, shards = (
        default_name(Options(shards=str(place / where))) for where in ("images", "images/shards")
    )
    assert around == shards == "images-shards-openai-retrieval"


def test_results_have_digests_and_no_paths_of_classes_and_templates(
    place: Path, tmp_path: Path
) -> None:
    found = []
    for number, templates in enumerate(("a {}.", "a {}.", "the {}.")):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "mine.txt"
        path.write_text(f"{templates}\n")
        done = command("--run", place / "run", "--folders", place / "folders", "--json",
                       "--templates", path)  # fmt: skip
        found.append(json.loads(done.stdout)["options"])
    assert found[0]["templates"] == "mine.txt"
    assert found[0] == found[1]
    assert found[0]["templates_sha256"] != found[2]["templates_sha256"]


def test_classes_that_no_image_shows_are_said(place: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red disc\nred bar\n")  # names, where labels are ids
    done = command("--run", place / "run", "--images", place / "images/shards", "--classes",
                   tmp_path / "names.txt", "--split", "val")  # fmt: skip
    assert "image to text" in done.stdout
    assert "no image of val shows one of the 2 classes of" in done.stderr
    assert "'red disc', 'red bar'" in done.stderr


def test_a_limit_takes_the_first_of_each_split_by_digest(place: Path) -> None:
    shards = place / "images" / "shards"
    arguments = ("--run", place / "run", "--graph", place / "graph", "--templates", "none")
    done = command(*arguments, "--images", shards, "--limit", "3", "--json")
    assert [one["images"] for one in json.loads(done.stdout)["sets"]] == [3, 3]
    done = command(*arguments, "--folders", place / "folders", "--limit", "3", "--json")
    (one,) = json.loads(done.stdout)["sets"]
    assert one["images"] == 3


def test_a_model_that_makes_no_numbers_is_said(place: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for path in (place / "run/model").iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model/open_clip_model.safetensors"
    state = load_file(weights)
    state["visual.proj"][0, 0] = float("nan")
    save_file(state, weights)
    done = command("--model", tmp_path / "model", "--folders", place / "folders", code=1)
    assert "what is no number" in done.stderr
