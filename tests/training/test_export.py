"""Models that others load, their cards, and the way to a hub (of this machine)."""

from __future__ import annotations

import base64
import json
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub.constants
import pytest
import torch
from click.testing import CliRunner, Result

import training.vision
from cli import cli
from etl.manifest import MANIFEST, digests, write_manifest
from etl.verify import verify
from tests.training import shapes
from training.cards import Known, dataset_card, model_card
from training.config import as_toml, load
from training.export import export_model
from training.inputs import Shards
from training.markdown import block, code, text, yaml
from training.opened import opened

import open_clip  # isort: skip

torch.set_num_threads(1)

NASTY = '</td><script>alert("x")</script> | [a](javascript:b) `c` **d**\n\x1b[31m# e'


def finished(folder: Path, inputs: dict[str, Any]) -> Path:
    """A run as training leaves it, with a model that has learned nothing."""
    shapes.tiny(folder / "model", steps=0)
    (folder / "config.toml").write_text('[model]\nname = "tiny"\n\n[train]\nbatch = 8\n')
    names = ["config.toml", "model/open_clip_config.json", "model/open_clip_model.safetensors"]
    manifest = {
        "step": "run",
        "versions": {"sparqless": "0.1.0", "torch": "2.13.0"},
        "config": {"model": {"name": "tiny"}},
        "inputs": inputs,
        "counts": {"steps": 160, "images": 1280, "parameters": 3_300_000},
        "metrics": {"loss": 0.5, "macs": 1.5e12},
        "outputs": digests(folder, names, quiet=True),
    }
    write_manifest(folder, manifest)
    return folder


def inputs_of(shards: Path, graph: Path) -> dict[str, Any]:
    """What a run that was trained on these has in its manifest."""
    made = Shards(load("tiny"), str(shards), graph).inputs
    return {**made, "processes": 1, "loader.images": 17}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    body = shapes.jpeg("red bar", 9)
    other = shapes.record(body, ["red bar"], [], licence=NASTY)
    splits = {"train": [*shapes.held_out([1]), (body, other)], "val": shapes.held_out([2])}
    shards = shapes.write_shards(folder / "shards", splits)
    graph = shapes.write_graph(folder / "graph")
    run = finished(folder / "run", inputs_of(shards, graph))
    done = command("evaluate", "--run", run, "--images", shards, "--graph", graph,
                   "--templates", "none")  # fmt: skip
    assert "acc1" in done.stdout
    export_model(run, folder / "out", shards=shards, graph=graph)
    return folder


def command(*arguments: str | Path, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done


def test_the_exported_model_gives_what_the_run_s_gave_to_the_bit(place: Path) -> None:
    where = f"local-dir:{place / 'out'}"
    net, preprocess = open_clip.create_model_from_pretrained(where)
    tokenize = open_clip.get_tokenizer(where)
    before = opened(str(place / "run/model"), device="cpu")
    image = shapes.drawing("red disc", 4)
    texts = ["a photo of a red disc.", "word " * 80]
    net.eval()
    with torch.inference_mode():
        assert torch.equal(preprocess(image), before.preprocess(image))
        seen = net.encode_image(preprocess(image)[None])
        assert torch.equal(seen, before.net.encode_image(before.preprocess(image)[None]))  # type: ignore[operator]
        assert tokenize(texts).shape == (2, 32)
        read = net.encode_text(tokenize(texts))
        assert torch.equal(read, before.net.encode_text(before.tokenize(texts)))  # type: ignore[operator]


def test_who_cant_import_open_clip_alone_is_told(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.vision, "WHY_NOT", "torchvision's build isn't torch's")
    done = command("export", "model", "--run", place / "run", "--out", tmp_path / "out")
    assert done.stderr == "Warning: torchvision's build isn't torch's\n"


def test_equal_runs_give_equal_bytes_and_an_export_may_be_written_again(
    place: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        command("export", "model", "--run", place / "run", "--out", tmp_path / "out",
                "--images", place / "shards", "--graph", place / "graph")  # fmt: skip
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == sorted(path.name for path in (place / "out").iterdir())
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (place / "out" / name).read_bytes()
    assert all(not check.problem for check in verify(place / "out"))


def test_a_full_disk_is_one_sentence(place: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        done = command("export", "model", "--run", place / "run", "--out", tmp_path / "out", code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "is full" in done.stderr
    assert "make room" in done.stderr
    assert not [*tmp_path.iterdir()]


def test_the_tokenizers_files_have_the_vocabulary_of_open_clip(place: Path) -> None:
    words = json.loads((place / "out/vocab.json").read_text())
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    assert len(words) == 49408
    assert words["<|startoftext|>"] == tokenizer.sot_token_id
    assert words["<|endoftext|>"] == tokenizer.eot_token_id
    assert [words[f"{w}</w>"] for w in ("dog", "cat")] == tokenizer.encode("dog cat")
    lines = (place / "out/merges.txt").read_text("utf-8").split("\n")
    assert lines[0] == "#version: 0.2"
    assert len(lines) == 1 + len(tokenizer.bpe_ranks) + 1
    assert json.loads((place / "out/tokenizer_config.json").read_text())["model_max_length"] == 32


def test_cards_say_what_the_manifests_do(place: Path) -> None:
    card = (place / "out/README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: open_clip\n")
    assert "license:" not in card  # nobody has said
    assert "1,280 images" in card
    assert "| multiply–adds | 1.5e+12 |" in card
    assert "batch = 8" in card
    assert "17 images: 9 in train, 8 in val, 0 in test." in card
    row = next(
        line for line in card.splitlines() if line.startswith("| place") or "| val |" in line
    )
    kept = json.loads(next((place / "run/evaluations").iterdir()).read_text())
    score = kept["sets"][0]["classification"]["score"]
    assert f"| {100 * score['acc1']:.1f} |" in row
    data = (place / "out/DATASET.md").read_text("utf-8")
    assert "`shapes.json.gz`" in data
    assert 'name = "shapes"' in data
    assert "| [CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/) | 16 |" in data
    assert "Wikidata's, which are under [CC0 1.0]" in data
    assert "aren't part of this" in data  # nor is attribution.parquet
    assert "isn't recorded" not in card


def test_what_isnt_known_is_left_out(place: Path, tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {})
    export_model(run, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text("utf-8")
    assert "## Evaluation" not in card
    assert "## Data" not in card
    assert "None" not in card
    assert not (tmp_path / "out/DATASET.md").exists()


def test_evaluations_of_other_weights_are_not_told(place: Path, tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {})
    (run / "evaluations").mkdir()
    (kept,) = (place / "run/evaluations").iterdir()
    data = json.loads(kept.read_text())
    data["model"]["weights_sha256"] = "0" * 64
    (run / "evaluations/old.json").write_text(json.dumps(data))
    export_model(run, tmp_path / "out")
    assert "## Evaluation" not in (tmp_path / "out/README.md").read_text("utf-8")


def test_names_from_data_are_only_text() -> None:
    known = Known(
        name=NASTY,
        model={"model_cfg": {"embed_dim": 64}, "preprocess_cfg": {"interpolation": NASTY}},
        run={"counts": {"steps": 1, "images": 1}, "config": {"model": {"name": NASTY}}},
        config="a = '''\n```\n# not a heading\n'''",
        shards={
            "counts": {
                "images": 1,
                "splits": {"train": {"images": 1}},
                "roots": [{"root": "Q1", "name": NASTY, "images": 1}],
                "dropped": {NASTY: {"files": 1}},
            }
        },
        licences={NASTY: 1, "": 2},
        graph={
            "recipe": {"name": NASTY, "texts": [{"name": "x", "text": NASTY}]},
            "store": {"inputs": [{"name": NASTY, "size": 5, "digest": NASTY}]},
            "counts": {"entities": 1, "roots": [{"root": "Q1", "name": NASTY, "kept": 1}]},
        },
        licence=f"{NASTY}\nevil: true",
    )
    for card in (model_card(known), dataset_card(known)):
        prose = re.sub(r"^(````*)\w*\n.*?^\1$", "", card, flags=re.DOTALL | re.MULTILINE)
        outside = re.sub(r"(`+).+?\1", "", prose.partition("\n---\n")[2] or prose)
        assert "<script>" not in outside
        assert "](javascript" not in outside
        assert "\x1b" not in card
        assert not re.search(r"^# e", card, re.MULTILINE)
        for line in outside.splitlines():  # no cell more than the table has
            if line.startswith("|"):
                assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4, 5)
    front = model_card(known).split("---\n")[1]
    assert "\nevil: true" not in front
    import yaml as reader

    assert set(reader.safe_load(front)) == {"library_name", "pipeline_tag", "tags", "license"}


def test_code_spans_and_blocks_cant_be_ended_by_what_is_in_them() -> None:
    assert code("a``b`c") == "``` a``b`c ```"
    assert code("") == code(" ") == ""
    assert next(block("x\n````\ny")) == "`````"
    assert text("CC BY-SA 4.0") == "CC BY-SA 4.0"
    assert text("see WWW.evil.test, www") == "see WWW\\.evil.test, www"
    assert text("_ www.evil.test") == "\\_ www\\.evil.test"
    assert json.loads(yaml('a "b": c\n')) == 'a "b": c'


def test_what_cant_be_exported_is_said(place: Path, tmp_path: Path) -> None:
    done = command("export", "model", "--run", place, "--out", tmp_path / "a", code=1)
    assert "holds no finished run" in done.stderr
    done = command("export", "model", "--run", place / "run", "--out", place / "shards", code=1)
    assert "not of a model" in done.stderr
    done = command("export", "model", "--run", place / "run", "--out", place, code=1)
    assert "holds the run itself" in done.stderr
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("")
    done = command("export", "model", "--run", place / "run", "--out", tmp_path / "b", code=1)
    assert "mine.txt" in done.stderr
    (tmp_path / "d").mkdir()
    for path in (place / "out").iterdir():
        (tmp_path / "d" / path.name).symlink_to(path)
    (tmp_path / "d" / "LICENSE").write_text("")
    done = command("export", "model", "--run", place / "run", "--out", tmp_path / "d", code=1)
    assert "'LICENSE'" in done.stderr
    other = shapes.write_shards(tmp_path / "shards", {"train": shapes.held_out([7])})
    done = command("export", "model", "--run", place / "run", "--out", tmp_path / "c",
                   "--images", other, code=1)  # fmt: skip
    assert "is not what" in done.stderr
    twin = {"id": "Q99", "name": "more"}
    other = shapes.write_graph(tmp_path / "graph", twin)
    done = command("export", "model", "--run", place / "run", "--out", tmp_path / "c",
                   "--graph", other, code=1)  # fmt: skip
    assert "is not what" in done.stderr
    assert not (tmp_path / "c").exists()


def test_data_that_a_run_doesnt_record_is_said_to_be_its_maker_s_word(
    place: Path, tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", {})
    export_model(run, tmp_path / "out", shards=place / "shards", graph=place / "graph")
    card = (tmp_path / "out/README.md").read_text("utf-8")
    assert "Which images and entities it was trained on isn't recorded" in card


def test_weights_that_arent_the_run_s_are_refused(place: Path, tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {})
    shapes.tiny(tmp_path / "other", steps=0, seed=1)
    weights = "open_clip_model.safetensors"
    (tmp_path / "other" / weights).replace(run / "model" / weights)
    done = command("export", "model", "--run", run, "--out", tmp_path / "out", code=1)
    assert f"{weights} is not what the run wrote there" in done.stderr
    assert not (tmp_path / "out").exists()


def test_cards_have_no_folders_of_this_machine(tmp_path: Path) -> None:
    config = load("tiny", [
        "model.name=/home/me/secret/net.json", "model.weights=/home/me/secret/w.pt",
        "evaluate.templates=/home/me/secret/t.txt", "data.cache=/home/me/secret",
    ])  # fmt: skip
    config.text["filter"] = {"keep_lists": ["/home/me/a.json", '/home/me/b "c.json']}
    config.text["skip_sources"] = ["llm:org/model"]
    card = model_card(
        Known(
            name="x",
            model={},
            run={
                "counts": {"steps": 1, "images": 1},
                "config": {"model": {"name": "/home/me/net.json"}},
            },
            config=as_toml(config),
        )
    )
    assert "/home" not in card
    assert "secret/" not in card
    assert "`net.json`" in card
    assert 'weights = "w.pt"' in card
    assert r'keep_lists = ["a.json", "b \"c.json"]' in card
    assert '"llm:org/model"' in card


def test_another_file_among_the_evaluations_is_named(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {})
    (run / "evaluations").mkdir()
    (run / "evaluations/mine.json").write_text('{"acc": 1}')
    done = command("export", "model", "--run", run, "--out", tmp_path / "out", code=1)
    assert "mine.json is no result of `sparqless evaluate`" in done.stderr


# --- a hub --------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """The few requests of huggingface_hub that pushing is made of."""

    protocol_version = "HTTP/1.1"
    token = "hf_good"
    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[Any]] = []
    deleted: ClassVar[list[str]] = []
    there: ClassVar[list[str]] = []
    private: ClassVar[bool] = False

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self._chunks()
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            self._answer(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            self.asked.append(json.loads(body))
            self._answer(200, {"url": f"{self._here}/me/model", "name": "me/model"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for f in json.loads(body)["files"]]  # fmt: skip
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "deletedFile":
                    self.deleted.append(line["value"]["path"])
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            self._answer(200, {"commitUrl": f"{self._here}/me/model/commit/abc",
                               "commitOid": "abc", "pullRequestUrl": None})  # fmt: skip
        else:
            self._answer(404, {"error": "Not found"})

    def do_GET(self) -> None:
        if self.path == "/api/models/me/model":
            names = [{"rfilename": name} for name in self.there or self.files]
            self._answer(200, {"id": "me/model", "private": self.private, "siblings": names})
        elif self.path.startswith("/api/models/me/model/tree/main"):
            files = [{"type": "file", "path": name, "size": 0, "oid": ""} for name in self.there]
            self._answer(200, files)
        else:
            self._answer(404, {"error": "Not found"})

    do_HEAD = do_GET  # noqa: N815

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    @property
    def _here(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host!s}:{port}"

    def _answer(self, status: int, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    for kept in (Hub.files, Hub.asked, Hub.deleted, Hub.there):
        kept.clear()
    Hub.private = False
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        here = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", here)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        yield Hub
        server.shutdown()
        thread.join()


def test_an_export_is_pushed_as_it_is(
    place: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.private = True
    done = command("push", place / "out", "--repo", "me/model", "--private")
    assert "me/model is private" in done.stderr
    assert done.stdout.rstrip().endswith("/me/model/commit/abc")
    assert hub.asked[0]["name"] == "model"
    assert hub.asked[0]["organization"] == "me"
    assert hub.asked[0].get("private") or hub.asked[0].get("visibility") == "private"
    assert hub.files == {path.name: path.read_bytes() for path in (place / "out").iterdir()}
    assert MANIFEST in hub.files


def test_a_public_repository_gets_nothing_that_is_to_be_private(
    place: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub ignores what is asked of a repository that is there already."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    done = command("push", place / "out", "--repo", "me/model", "--private", code=1)
    assert "is there already, and public" in done.stderr
    assert not hub.files


def test_what_an_earlier_push_put_there_goes_with_it(
    place: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    export_model(place / "run", tmp_path / "out")  # without a card of data
    hub.there += ["DATASET.md", "vocab.json", "mine.md"]
    command("push", tmp_path / "out", "--repo", "me/model")
    assert not hub.deleted  # what no push of ours has put there is somebody's
    hub.there += [MANIFEST]
    done = command("push", tmp_path / "out", "--repo", "me/model")
    assert hub.deleted == ["DATASET.md"]
    assert "DATASET.md" in done.stderr


def test_what_isnt_installed_is_named(
    place: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done = command("push", place / "out", "--repo", "me/model", code=1)
    assert done.stderr.startswith("Error: training needs huggingface_hub, which isn't installed")
    for name in ("training.export", "training.opened"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    done = command("export", "model", "--run", place / "run", "--out", tmp_path / "out", code=1)
    assert done.stderr.startswith("Error: training needs torch, which isn't installed")


def test_pushing_needs_no_torch() -> None:
    code = "import sys, training.push; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_who_isnt_logged_in_is_told_how(place: Path, hub: type[Hub]) -> None:
    done = command("push", place / "out", "--repo", "me/model", code=1)
    assert "hf auth login" in done.stderr
    assert not hub.asked


def test_a_refusal_of_the_hub_is_passed_on(
    place: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    done = command("push", place / "out", "--repo", "me/model", code=1)
    assert "refused me/model" in done.stderr
    assert "hf_bad" not in done.stderr
    done = command("push", place / "out", "--repo", "a/b/c", code=1)
    assert "can't be a name" in done.stderr


def test_what_was_changed_since_isnt_pushed(place: Path, hub: type[Hub], tmp_path: Path) -> None:
    export_model(place / "run", tmp_path / "out")
    with (tmp_path / "out/README.md").open("a") as card:
        card.write("\nNot for medicine.\n")  # which its maker is asked to say
    command("push", tmp_path / "out", "--repo", "me/model", "--dry-run")
    config = tmp_path / "out/open_clip_config.json"
    config.write_bytes(config.read_bytes().replace(b"embed_dim", b"EMBED_DIM"))
    done = command("push", tmp_path / "out", "--repo", "me/model", code=1)
    assert "(open_clip_config.json)" in done.stderr
    done = command("push", place / "run", "--repo", "me/model", code=1)
    assert "not of a model" in done.stderr


def test_a_dry_run_says_what_would_be_pushed_and_asks_nobody(place: Path, hub: type[Hub]) -> None:
    done = command("push", place / "out", "--repo", "me/model", "--dry-run", "--json")
    assert "open_clip_model.safetensors" in json.loads(done.stdout)["files"]
    assert not hub.asked
