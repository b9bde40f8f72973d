"""The run: data → network → checkpoints, metrics and a model that others can load.

    ended = train(load("tiny"), source, Path("data/runs/tiny"))

    RUN/config.toml          what it was told, all of it
    RUN/checkpoints/         training/checkpoint.py
    RUN/metrics.jsonl        training/metrics.py; RUN/tensorboard/ the same, for TensorBoard
    RUN/model/               open_clip's layout: loads with local-dir:RUN/model
    RUN/manifest.json        written last: the run is done

The same command again goes on from the newest checkpoint, and gives what a run that was never
interrupted gives: on a CPU to the bit. Everything that chance decides in a step is seeded by the
run's seed, the step, the process and the piece; texts and crops by seed, epoch and key.

SIGTERM and Ctrl-C end the step, save, and leave; a second Ctrl-C leaves at once.
"""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import accumulate, islice
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec
import torch
import ujson
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from etl.errors import UserError
from etl.manifest import (
    MANIFEST,
    digests,
    discard,
    flush,
    read_manifest,
    tool_versions,
    write_json,
    write_manifest,
)
from etl.progress import Progress
from etl.writing import locked
from training import checkpoint, loss, metrics
from training.config import Config, as_toml, differing, of
from training.feed import Fed, Feed
from training.meanwhile import Judge, said
from training.model import (
    CONFIG,
    WEIGHTS,
    Model,
    created,
    flops_per_image,
    is_counted,
    macs_per_image,
)
from training.opened import Opened, of_network
from training.optimizer import lr_at, optimizer_of
from training.processes import Processes, processes
from training.step import autocast, gradients

STEP: Final = "run"
CHECKPOINTS: Final = "checkpoints"
MODEL: Final = "model"
BAD: Final = "not-finite.json"

_LIBRARIES: Final = ("torch", "torchvision", "open_clip_torch", "safetensors")

#: The context that EntityNet counts the cost of all networks with.
COMMON_CONTEXT: Final = 77


class Batch(Protocol):
    """Images and their texts, as the loader gives them."""

    images: torch.Tensor  # (B, 3, S, S) float32, normalised
    tokens: torch.Tensor  # (B, n, L) int64
    keys: list[str]


class Loader(Protocol):
    """Batches of one process."""

    def batches(self, epoch: int) -> int:
        """How many an epoch has; every process as many."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch from number ``start`` on, the same each time."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that batches depend on: what must be the same where a run goes on."""

    def close(self) -> None:
        """Ends what works for it."""


class Source(Protocol):
    """Where images and texts come from."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Digests and the like that batches depend on besides: known before there is a loader."""

    @property
    def texts(self) -> int:
        """Texts an image."""

    def loader(self, model: Model, images: int, rank: int, world: int) -> Loader:
        """Batches of ``images`` for one of ``world`` processes."""


How = Literal["finished", "stood", "stopped"]


class Ended(NamedTuple):
    """How a run ended."""

    #: finished now; stood finished before; stopped by a signal, to go on.
    how: How
    step: int
    steps: int
    #: The newest checkpoint.
    checkpoint: Path | None
    #: The signal that stopped it.
    signal: int = 0
    #: Its last figures.
    metrics: dict[str, Any] = {}  # noqa: RUF012  # a field of a tuple, never written to
    #: Whether this process is the one that speaks.
    is_first: bool = True


def train(
    config: Config,
    source: Source,
    out: Path,
    *,
    judge: Judge | None = None,
    fresh: bool = False,
    quiet: bool = False,
    warn: Callable[[str], None] | None = None,
) -> Ended:
    """Trains, or goes on training, into the folder ``out``.

    ``judge`` is asked at the ends of epochs, as ``[evaluate]`` has it, by the first process while
    the others wait; what goes wrong there is told by ``warn`` and ends nothing. ``fresh`` removes
    what stands there. Of several processes the first writes and speaks.

    Raises UserError where the batch can't be shared out, ``out`` holds another run, a loss is no
    number or the disk is full: what was saved stands.
    """
    with processes() as all_, ExitStack() as held:
        if all_.is_first:
            _begin(out, fresh)
            held.enter_context(locked(out, "--out"))
        all_.wait()
        quiet = quiet or not all_.is_first
        return _Run(config, source, out, all_, quiet, judge, warn or _silent).run()


def _begin(out: Path, fresh: bool) -> None:
    if fresh and out.exists():
        is_run = any((out / name).exists() for name in ("config.toml", CHECKPOINTS, MANIFEST))
        if not is_run and any(out.iterdir()):
            raise UserError(f"{out} is no run: --fresh doesn't remove it; choose another --out.")
        discard(out)
    out.mkdir(parents=True, exist_ok=True)


@dataclass
class _Run:
    """One run, as one of its processes sees it."""

    config: Config
    source: Source
    out: Path
    processes: Processes
    quiet: bool
    judge: Judge | None
    warn: Callable[[str], None]
    model: Model = field(init=False)
    net: torch.nn.Module = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)
    loader: Loader = field(init=False)
    loss: loss.Loss = field(init=False)
    pieces: int = field(init=False)
    #: Number of steps done at the end of each epoch.
    ends: list[int] = field(init=False)
    steps: int = field(init=False)
    warmup: int = field(init=False)

    def run(self) -> Ended:
        """Does what is left of it."""
        stood = self._stood()
        if stood is not None:
            return stood
        torch.set_float32_matmul_precision(self.config.train.matmul)
        self._share_out()
        self._make()
        self._count()
        step = self._resume()
        if self.processes.is_first:
            (self.out / "config.toml").write_text(as_toml(self.config), "utf-8")
        with _told_to_stop() as told, closing(self.loader):
            step, last, number = self._steps(step, told)
        if number:
            return self._ended("stopped", step, last, self.steps, number)
        self._finish(last)
        return self._ended("finished", step, last, self.steps)

    def _ended(
        self, how: How, step: int, last: dict[str, Any], steps: int, number: int = 0
    ) -> Ended:
        newest = checkpoint.newest(self.out / CHECKPOINTS)
        return Ended(how, step, steps, newest, number, last, self.processes.is_first)

    # --- before the first step ------------------------------------------------------------------

    def _stood(self) -> Ended | None:
        """Whether it was done before."""
        if not (self.out / MANIFEST).exists():
            return None
        manifest = read_manifest(self.out, STEP)
        keys = differing(of(manifest["config"]), self.config)
        keys += [k for k, v in self.source.inputs.items() if manifest["inputs"].get(k) != v]
        if keys:
            raise UserError(
                f"{self.out} is a finished run of another config ({', '.join(keys)}): choose "
                "another --out, or remove it with --fresh."
            )
        done = manifest["counts"]["steps"]
        return self._ended("stood", done, manifest["metrics"], steps=done)

    def _inputs(self) -> dict[str, Any]:
        """What decides besides the config, as JSON gives it back."""
        loaded = {f"loader.{name}": value for name, value in self.loader.identity.items()}
        all_ = {**self.source.inputs, "processes": self.processes.world, **loaded}
        plain: dict[str, Any] = ujson.loads(ujson.dumps(all_))
        return plain

    def _share_out(self) -> None:
        """How many images a process has of a batch, and in how many pieces."""
        train, world = self.config.train, self.processes.world
        if train.batch % world:
            raise UserError(
                f"train.batch = {train.batch} can't be shared out over {world} processes: choose a "
                "multiple of their number."
            )
        share = train.batch // world
        piece = train.micro_batch or share
        if share % piece:
            raise UserError(
                f"train.micro_batch = {piece} doesn't divide the {share} images that each process "
                "has of a batch: choose a divisor."
            )
        self.pieces = share // piece

    def _make(self) -> None:
        """The network, its optimizer, its loss and its data."""
        train, own = self.config.train, self.processes
        self.model = created(self.config.model, seed=train.seed, siglip=train.loss == "siglip")
        net: Any = self.model.net.to(own.device)
        self.net = net
        if train.activation_checkpointing:
            net.set_grad_checkpointing(True)
        self.optimizer = optimizer_of(net, train)
        make = loss.siglip if train.loss == "siglip" else loss.clip
        self.loss = make(self.source.texts, own.rank, own.world)
        images = train.batch // own.world // self.pieces
        self.loader = self.source.loader(self.model, images, own.rank, own.world)

    def _count(self) -> None:
        """Steps of each epoch and of all."""
        train = self.config.train
        each = [self.loader.batches(epoch) // self.pieces for epoch in range(train.epochs)]
        if min(each) < 1:
            raise UserError(
                f"there are fewer images than the {train.batch:,} of a batch: lower train.batch, "
                "or train on more."
            )
        self.ends = list(accumulate(each))
        self.steps = min(train.steps or self.ends[-1], self.ends[-1])
        self.warmup = round(train.warmup_epochs * each[0])

    def _resume(self) -> int:
        """Goes back to the newest checkpoint, if there is one; the steps that are done."""
        folder = self.out / CHECKPOINTS
        if self.processes.is_first:
            checkpoint.clean(folder, self.config.train.keep_last, self.config.train.keep_epochs)
        self.processes.wait()
        last = checkpoint.newest(folder)
        if last is None:
            return 0
        state = checkpoint.read(last)
        checkpoint.check(state, self.config, self._inputs(), last)
        checkpoint.load(last, self.net, self.optimizer)
        return state.step

    # --- steps ----------------------------------------------------------------------------------

    def _steps(self, step: int, told: _Told) -> tuple[int, dict[str, Any], int]:
        """Steps until the last, or until a signal: how many are done, figures, the signal."""
        images = self.config.train.batch
        net = self._wrapped()
        feed = Feed(
            self._batches(step), self.processes.device, mean=self.model.mean, std=self.model.std
        )
        with ExitStack() as held:
            lines = self._lines(step, held)
            pace = _Pace(step, lines.last.get("seconds", 0.0))
            stop, judged = 0, ""
            if self._was_missed(step, lines):
                judged = self._judged(step, lines, pace)
            bar = held.enter_context(
                Progress(
                    "training", self.steps * images, done=step * images, unit="", quiet=self.quiet
                )
            )
            fed_in_turn = iter(feed)
            while fed := self._fed(fed_in_turn, step):
                figures, stop = self._step(net, step, fed, feed, told)
                step += 1
                bar.note = f"epoch {self._epoch(step):.2f}, loss {figures['loss']:.3f}{judged}"
                bar.add(images)
                if step % self.config.train.log_steps == 0 or step == self.steps:
                    rates = self._rates(step, pace, feed.waited)
                    lines.add({**self._place(step), **figures, **rates})
                if stop or self._is_due(step):
                    self._save(step)
                if stop:
                    break
                if self._is_judged(step):
                    judged = self._judged(step, lines, pace)
            return step, lines.last, stop if step < self.steps else 0

    def _fed(self, fed: Iterator[Fed], step: int) -> Fed | None:
        """What the next step is made of, None after the last.

        Raises UserError where the loader of some process has none; the run is saved before.
        """
        found, trouble = None, ""
        try:
            found = next(fed, None)
        except UserError as error:
            trouble = str(error)
        if self.processes.any(bool(trouble)):
            self._save(step)
            raise UserError(next(filter(None, self.processes.all_of(trouble))))
        return found

    def _is_judged(self, step: int) -> bool:
        every = self.config.evaluate.epochs
        ends = self.ends[every - 1 :: every] if every else ()
        return self.judge is not None and step > 0 and (step == self.steps or step in ends)

    def _was_missed(self, step: int, lines: metrics.Metrics) -> bool:
        """Whether a run that goes on from ``step`` was interrupted before it was evaluated."""
        missed: bool = self.processes.told(lines.evaluated < step)
        return missed and self._is_judged(step)

    def _judged(self, step: int, lines: metrics.Metrics, pace: _Pace) -> str:
        """Asks the network about other images, and writes the figures; what to say of them."""
        began = time.monotonic()
        figures: dict[str, float] = {}
        if self.judge is not None and self.processes.is_first:
            self.net.eval()
            try:
                figures = self.judge(self._opened())
            except UserError as error:
                self.warn(f"step {step:,} couldn't be evaluated: {error}")
            finally:
                self.net.train()
        self.processes.wait()
        seconds = time.monotonic() - began
        lines.add({**self._place(step), **figures, metrics.EVALUATE_SECONDS: seconds})
        pace.leave_out(seconds)
        return f", {said(figures)}" * bool(figures)

    def _opened(self) -> Opened:
        train, device = self.config.train, self.processes.device
        return of_network(self.net, self.model.tokenize, device=device, precision=train.precision)

    def _lines(self, step: int, held: ExitStack) -> metrics.Metrics:
        folder = self.out if self.processes.is_first else None
        board = self.config.train.tensorboard
        return held.enter_context(metrics.Metrics(folder, step, board=board))

    def _wrapped(self) -> torch.nn.Module:
        """The network as it runs: compiled, and exchanging gradients with other processes."""
        if self.config.train.compile:
            self.net.compile()
        if self.processes.world == 1:
            return self.net
        device = self.processes.device
        return DistributedDataParallel(
            self.net,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )

    def _batches(self, step: int) -> Iterator[list[Any]]:
        """The loader's batches of each step, from number ``step`` on."""
        while step < self.steps:
            epoch = bisect_right(self.ends, step)
            begin = self.ends[epoch - 1] if epoch else 0
            batches = self.loader.epoch(epoch, (step - begin) * self.pieces)
            for _ in range(step, min(self.ends[epoch], self.steps)):
                taken = list(islice(batches, self.pieces))
                if len(taken) < self.pieces:
                    raise RuntimeError(f"epoch {epoch} has fewer batches than were counted")
                yield taken
                step += 1

    def _step(
        self, net: torch.nn.Module, step: int, fed: Fed, feed: Feed, told: _Told
    ) -> tuple[dict[str, Any], int]:
        """One step: its figures, and the signal that has come meanwhile, to any process."""
        train, own = self.config.train, self.processes
        lr = lr_at(step, self.steps, self.warmup, train.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        said = gradients(
            net,
            fed.pieces,
            self.loss,
            precision=train.precision,
            seeds=partial(_seed, train.seed, step, own.rank),
        )
        norm = self._cut_gradients()
        feed.fetch()
        # The one place where the device is waited for. It lets no step be made with what is no
        # number; what is lost is the time to launch the optimizer's few kernels.
        figures = torch.stack([said.loss, norm, said.scale]).double().tolist()
        value, length, scale, stop = own.sums([*(f / own.world for f in figures), told.number])
        if not (math.isfinite(value) and math.isfinite(length)):
            self._refuse(step, fed, value)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._clamp()
        figures_ = {"loss": value, "logit_scale": scale, "lr": lr, "grad_norm": length}
        return figures_, (told.number or signal.SIGTERM) if stop else 0

    def _cut_gradients(self) -> torch.Tensor:
        """The norm of all gradients, which are cut to the one that is allowed."""
        most = self.config.train.clip_grad_norm
        named = [p for p in self.net.parameters() if p.grad is not None]
        if most:
            return torch.nn.utils.clip_grad_norm_(named, most)
        return torch.nn.utils.get_total_norm([p.grad for p in named if p.grad is not None])

    def _clamp(self) -> None:
        most = self.config.train.max_logit_scale
        if most:
            net: Any = self.net
            with torch.no_grad():
                net.logit_scale.clamp_(0, math.log(most))  # as in CLIP (2.5), and open_clip

    def _refuse(self, step: int, fed: Fed, value: float) -> None:
        """Raises UserError for a loss or gradients that are no numbers; keeps the state before."""
        each = self.processes.all_of({"keys": fed.keys, "guilty": self._guilty(fed)})
        guilty = [key for one in each for key in one["guilty"]]
        path = self._save(step)
        if self.processes.is_first:
            keys = [key for one in each for key in one["keys"]]
            write_json(self.out / BAD, {"step": step + 1, "guilty": guilty, "keys": keys})
        what = "the loss" if not math.isfinite(value) else "the norm of the gradients"
        seen = (
            f"{', '.join(guilty[:5])}{' and others' if len(guilty) > 5 else ''} give features that "
            "are no numbers"
            if guilty
            else "no image or text of it alone is to blame"
        )
        raise UserError(
            f"{what} is no number at step {step + 1:,} (epoch {self._epoch(step):.2f}): {seen}; "
            f"the batch's keys are in {self.out / BAD}. The state before that step is kept in "
            f"{path}: begin a run with it (model.weights) and a lower train.lr, or without the "
            "images."
        )

    def _guilty(self, fed: Fed) -> list[str]:
        """Keys of the images whose own features, or whose texts', aren't finite."""
        found: list[str] = []
        at = 0
        for piece in fed.pieces:
            with torch.no_grad(), autocast(piece.images.device, self.config.train.precision):
                out = self.net(piece.images, piece.tokens)
            count = len(piece.images)
            fine = out["image_features"].isfinite().all(dim=1)
            fine &= out["text_features"].view(count, -1).isfinite().all(dim=1)
            keys = fed.keys[at : at + count]
            found += [key for key, good in zip(keys, fine.tolist(), strict=True) if not good]
            at += count
        return found if len(found) < len(fed.keys) else []

    # --- what is written ------------------------------------------------------------------------

    def _epoch(self, step: int) -> float:
        """Epochs that are done after so many steps, the last in part."""
        epoch = bisect_right(self.ends, step)
        if epoch == len(self.ends):
            return float(epoch)
        begin = self.ends[epoch - 1] if epoch else 0
        return epoch + (step - begin) / (self.ends[epoch] - begin)

    def _place(self, step: int) -> dict[str, Any]:
        images = step * self.config.train.batch
        return {"step": step, "epoch": round(self._epoch(step), 6), "images": images}

    def _rates(self, step: int, pace: _Pace, waited: float) -> dict[str, Any]:
        """How fast it goes, how long it will, and what it has cost."""
        train, texts = self.config.train, self.source.texts
        seconds, each, wait = pace.since(step, waited)
        network = self.model.config["model_cfg"]
        rate = train.batch / each
        found = {
            "images_per_second": rate,
            "data_wait": wait,
            "seconds": seconds,
            "seconds_left": each * (self.steps - step),
        }
        if not is_counted(network):
            return found
        for name, length in (("macs", None), ("macs_77", COMMON_CONTEXT)):
            found[name] = (
                step
                * train.batch
                * macs_per_image(
                    network,
                    batch=train.batch,
                    context_length=length,
                    texts=texts,
                    siglip=train.loss == "siglip",
                )
            )
        peak = metrics.peak_of(self.processes.device)
        if peak:
            flops = flops_per_image(network, batch=train.batch, texts=texts)
            found["mfu"] = rate * flops / self.processes.world / peak
        return found

    def _is_due(self, step: int) -> bool:
        train = self.config.train
        if train.checkpoint_steps and step % train.checkpoint_steps == 0:
            return True
        ends = self.ends[train.checkpoint_epochs - 1 :: train.checkpoint_epochs]
        return step == self.steps or step in ends

    def _save(self, step: int) -> Path:
        """A checkpoint, by the first process; all learn whether it could be written."""
        train, folder = self.config.train, self.out / CHECKPOINTS
        trouble = ""
        if self.processes.is_first:
            state = checkpoint.State(
                step=step,
                epoch=bisect_right(self.ends, step),
                is_epoch_end=step in (self.steps, *self.ends),
                config=self.config,
                inputs=self._inputs(),
                versions=versions(),
            )
            try:
                checkpoint.save(folder, self.net, self.optimizer, state)
                checkpoint.clean(folder, train.keep_last, train.keep_epochs)
            except UserError as error:
                trouble = str(error)
        trouble = self.processes.told(trouble)
        if trouble:
            raise UserError(trouble)
        return folder / f"step-{step:08}"

    def _finish(self, last: dict[str, Any]) -> None:
        """The model for others, and the manifest."""
        if self.processes.is_first:
            _write_model(self.model, self.out / MODEL)
            self._write_manifest(last)
        self.processes.wait()

    def _write_manifest(self, last: dict[str, Any]) -> None:
        names = ["config.toml", f"{MODEL}/{CONFIG}", f"{MODEL}/{WEIGHTS}"]
        flush(self.out, names)
        write_manifest(
            self.out,
            {
                "step": STEP,
                "versions": versions(),
                "config": msgspec.to_builtins(self.config),
                "inputs": self._inputs(),
                "counts": {
                    "steps": self.steps,
                    "images": self.steps * self.config.train.batch,
                    "parameters": sum(p.numel() for p in self.net.parameters()),
                },
                "metrics": last,
                "outputs": digests(self.out, names, quiet=True),
            },
        )


def versions() -> dict[str, str]:
    """Versions of what decides about the weights."""
    return tool_versions() | {name: version(name) for name in _LIBRARIES}


def _silent(_: str) -> None:
    return


def _write_model(model: Model, folder: Path) -> None:
    """Weights and config in open_clip's layout, whole or not there."""
    made = folder.with_name(f"{folder.name}.writing")
    discard(made)
    made.mkdir()
    save_file({k: v.contiguous().cpu() for k, v in model.net.state_dict().items()}, made / WEIGHTS)
    write_json(made / CONFIG, model.config)
    flush(made, (WEIGHTS, CONFIG))
    discard(folder)
    made.rename(folder)


def _seed(seed: int, step: int, rank: int, piece: int) -> int:
    """What the generator begins with for a piece of a step."""
    text = f"{seed} {step} {rank} {piece}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


class _Pace:
    """Seconds of a run, those before it was interrupted included."""

    def __init__(self, step: int, seconds: float) -> None:
        self._began = time.monotonic() - seconds
        self._last = step, time.monotonic(), 0.0

    def leave_out(self, seconds: float) -> None:
        """Time that was spent on something else than steps."""
        step, then, waited = self._last
        self._last = step, then + seconds, waited

    def since(self, step: int, waited: float) -> tuple[float, float, float]:
        """Seconds in all; seconds a step, and the share spent waiting, since last asked."""
        now = time.monotonic()
        step_then, then, waited_then = self._last
        self._last = step, now, waited
        spent = max(now - then, 1e-9)
        each = spent / max(step - step_then, 1)
        return now - self._began, each, (waited - waited_then) / spent


@dataclass
class _Told:
    """The signal that has come, 0 if none."""

    number: int = 0


@contextmanager
def _told_to_stop() -> Iterator[_Told]:
    """SIGTERM and Ctrl-C are noted, to stop by after the step; a second Ctrl-C is Python's."""
    told = _Told()

    def note(number: int, _: FrameType | None) -> None:
        if told.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        told.number = number

    if threading.current_thread() is not threading.main_thread():
        yield told  # signals are the main thread's
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
