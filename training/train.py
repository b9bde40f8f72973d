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
import re
import shutil
import signal
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

import torch
import ujson
from pyarrow import ArrowException
from torch.nn.parallel import DistributedDataParallel

from etl.errors import UserError
from etl.manifest import MANIFEST, discard, read_manifest, write_json
from etl.progress import Progress
from etl.store import LOCK
from etl.writing import locked
from training import checkpoint, loss, metrics
from training.config import Config, as_toml, differing, of
from training.feed import Fed, Feed
from training.finished import CONFIG, MODEL, STEP, versions, write_end, write_model
from training.meanwhile import Judge, said
from training.model import Model, created, identity
from training.opened import Opened, of_network
from training.optimizer import lr_at, optimizer_of
from training.pace import Pace
from training.processes import Processes, processes
from training.step import autocast, gradients
from training.stopping import Stop, stopped_by_signals

__all__ = ["CHECKPOINTS", "MODEL", "Ended", "Loader", "Source", "train"]

CHECKPOINTS: Final = "checkpoints"
BAD: Final = "not-finite.json"


class Batch(Protocol):
    """Images and their texts, as the loader gives them."""

    images: torch.Tensor  # (B, 3, S, S) float32, normalised; or uint8
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

    @property
    def damage(self) -> Counter[str]:
        """Images so far that couldn't be used, by reason."""

    def close(self) -> None:
        """Ends what works for it."""


class Source(Protocol):
    """Where images and texts come from."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Digests of images and texts: what batches depend on that is known without a loader."""

    @property
    def texts(self) -> int:
        """Texts an image."""

    def loader(self, model: Model, images: int, rank: int, world: int) -> Loader:
        """Batches of ``images`` for one of ``world`` processes."""


How = Literal["finished", "stood", "stopped"]


#: Names that a run writes in its folder.
_OWN: Final = re.compile(
    "|".join(map(re.escape, (
        CONFIG, CHECKPOINTS, MANIFEST, MODEL, BAD, LOCK, "evaluations", metrics.FILE, metrics.BOARD,
    ))) + r"|.*\.(tmp|writing|discarded)"
)  # fmt: skip

#: What a run that goes on depends on, and one that is done doesn't.
_PROCESSES: Final = "processes"


class Ended(NamedTuple):
    """How a run ended."""

    #: finished now; stood finished before; stopped by a signal, to go on.
    how: How
    step: int
    steps: int
    #: The newest checkpoint.
    checkpoint: Path | None
    #: The signal that stopped it, or came in its last step.
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
    what stands there. Of several processes the first writes and speaks; all must see ``out``.

    Raises UserError where the batch can't be shared out, ``out`` holds another run or is being
    written by one, a loss is no number or the disk is full: what was saved stands.
    """
    with processes() as all_, ExitStack() as held:
        all_.by_first(lambda: _begin(out, fresh, held), out)
        quiet = quiet or not all_.is_first
        return _Run(config, source, out, all_, fresh, quiet, judge, warn or _silent).run()


def _begin(out: Path, fresh: bool, held: ExitStack) -> None:
    """Takes the folder for this run; refuses, and touches nothing, where it is another's."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a directory.")
    if (out / MANIFEST).exists():
        read_manifest(out, STEP)
    names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    foreign = [name for name in names if not _OWN.fullmatch(name)]
    is_run = any(name in (CONFIG, CHECKPOINTS, MANIFEST) for name in names)
    if foreign and (fresh or not is_run):
        does = "--fresh doesn't remove that" if fresh else "name a new directory or that of a run"
        raise UserError(f"{out} holds {foreign[0]!r}, which no run writes: {does}.")
    out.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(out, "--out"))


def _empty(out: Path) -> None:
    """Removes a run from its folder, which stays and with it the lock.

    First what says that it is done, last what says that it is a run: whatever is left where this is
    killed, it is a run that isn't done.
    """
    (out / MANIFEST).unlink(missing_ok=True)
    discard(out / CHECKPOINTS)
    for path in sorted(out.iterdir(), key=lambda path: path.name == CONFIG):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


@dataclass
class _Run:
    """One run, as one of its processes sees it."""

    config: Config
    source: Source
    out: Path
    processes: Processes
    fresh: bool
    quiet: bool
    judge: Judge | None
    warn: Callable[[str], None]
    #: Digest of the network's config as it was read in the beginning.
    network: str = field(init=False)
    model: Model = field(init=False)
    net: torch.nn.Module = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)
    loader: Loader = field(init=False)
    loss: loss.Loss = field(init=False)
    #: Images of a batch that this process has, and those that its network has at a time, at most.
    share: int = field(init=False)
    most: int = field(init=False)
    #: Number of steps done at the end of each epoch.
    ends: list[int] = field(init=False)
    steps: int = field(init=False)
    warmup: int = field(init=False)
    #: Images of all processes that couldn't be used, in the starts before this one and in all.
    damaged_before: int = field(init=False, default=0)
    damaged: int = field(init=False, default=0)

    def run(self) -> Ended:
        """Does what is left of it."""
        self._check_shared()
        self.network = identity(self.config.model, siglip=self.config.train.loss == "siglip")
        stood = None if self.fresh else self._stood()
        if stood is not None:
            return stood
        torch.set_float32_matmul_precision(self.config.train.matmul)
        self._share_out()
        self._make()
        self._count()
        if self.fresh:  # now that nothing has been found wrong with what is to come
            self.processes.by_first(lambda: _empty(self.out), self.out)
        step = self._resume()
        file = self.out / CONFIG
        self.processes.by_first(lambda: file.write_text(as_toml(self.config), "utf-8"), file)
        with stopped_by_signals() as stop, closing(self.loader):
            step, last, number = self._steps(step, stop)
        if number and step < self.steps:
            return self._ended("stopped", step, last, self.steps, number)
        self._finish(last)
        return self._ended("finished", step, last, self.steps, number)

    def _ended(
        self, how: How, step: int, last: dict[str, Any], steps: int, number: int = 0
    ) -> Ended:
        newest = checkpoint.newest(self.out / CHECKPOINTS)
        return Ended(how, step, steps, newest, number, last, self.processes.is_first)

    # --- before the first step ------------------------------------------------------------------

    def _check_shared(self) -> None:
        """Refuses a folder that isn't one for all: each process goes on from what it finds there.

        Raises UserError.
        """
        newest = checkpoint.newest(self.out / CHECKPOINTS)
        found = (self.out.is_dir(), (self.out / MANIFEST).exists(), newest and newest.name)
        each = self.processes.all_of(found)
        others = [rank for rank, other in enumerate(each) if other != each[0]]
        if others:
            raise UserError(
                f"process {others[0]} doesn't find in {self.out} what the first one does: --out "
                "must be one directory that all nodes share."
            )

    def _stood(self) -> Ended | None:
        """Whether it was done before."""
        if not (self.out / MANIFEST).exists():
            return None
        manifest = read_manifest(self.out, STEP)
        keys = differing(of(manifest["config"]), self.config)
        known = {k: v for k, v in self._known().items() if k != _PROCESSES}  # it needs none now
        keys += [k for k, v in known.items() if manifest["inputs"].get(k) != v]
        if keys:
            raise UserError(
                f"{self.out} is a finished run of another config or other data "
                f"({', '.join(keys)}): choose another --out, or remove it with --fresh."
            )
        done = manifest["counts"]["steps"]
        return self._ended("stood", done, manifest["metrics"], steps=done)

    def _known(self) -> dict[str, Any]:
        """What decides besides the config and is known at once."""
        of_run = {"network": self.network, _PROCESSES: self.processes.world}
        return {**self.source.inputs, **of_run}

    def _inputs(self) -> dict[str, Any]:
        """What decides besides the config, as JSON gives it back."""
        loaded = {f"loader.{name}": value for name, value in self.loader.identity.items()}
        plain: dict[str, Any] = ujson.loads(ujson.dumps({**self._known(), **loaded}))
        return plain

    def _share_out(self) -> None:
        """How many images a process has of a batch, and how many of these in its network."""
        train, world = self.config.train, self.processes.world
        if train.batch % world:
            raise UserError(
                f"train.batch = {train.batch} can't be shared out over {world} processes: choose a "
                "multiple of their number."
            )
        self.share = train.batch // world
        self.most = min(train.micro_batch or self.share, self.share)

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
        self.loader = self.source.loader(self.model, self.share, own.rank, own.world)

    def _count(self) -> None:
        """Steps of each epoch and of all."""
        train = self.config.train
        each = [self.loader.batches(epoch) for epoch in range(train.epochs)]
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
        train, folder = self.config.train, self.out / CHECKPOINTS
        last = checkpoint.newest(folder)
        step = 0
        if last is not None:
            state = checkpoint.read(last)
            checkpoint.check(state, self.config, self._inputs(), last)
            checkpoint.load(last, self.net, self.optimizer)
            step, self.damaged_before, self.damaged = state.step, state.damaged, state.damaged
            others = checkpoint.changed(state.versions, versions())
            if others and self.processes.is_first:
                self.warn(
                    f"{last} was made with other versions ({others}): what comes out may not be "
                    "what a run gives that was never interrupted."
                )
        # not before it is known to be of this run
        self.processes.by_first(
            lambda: checkpoint.clean(folder, train.keep_last, train.keep_epochs), folder
        )
        return step

    # --- steps ----------------------------------------------------------------------------------

    def _steps(self, step: int, stop: Stop) -> tuple[int, dict[str, Any], int]:
        """Steps until the last, or until a signal: how many are done, figures, the signal."""
        images = self.config.train.batch
        net = self._wrapped()
        feed = Feed(
            self._batches(step),
            self.processes.device,
            most=self.most,
            mean=self.model.mean,
            std=self.model.std,
            damaged=lambda: self.loader.damage.total(),
        )
        with ExitStack() as held:
            lines = self._lines(step, held)
            pace = self._pace(step, lines)
            number, judged = 0, ""
            if self._was_missed(step, lines):
                judged = self._judged(step, lines, pace)
                number = self._told_meanwhile(stop)
                if number and step < self.steps:
                    return step, lines.last, number
            bar = held.enter_context(
                Progress(
                    "training", self.steps * images, done=step * images, unit="", quiet=self.quiet
                )
            )
            fed_in_turn = iter(feed)
            while fed := self._fed(fed_in_turn, step):
                figures, number = self._step(net, step, fed, feed, stop)
                step += 1
                bar.note = f"epoch {self._epoch(step):.2f}, loss {figures['loss']:.3f}{judged}"
                bar.add(images)
                if step % self.config.train.log_steps == 0 or step == self.steps:
                    rates = pace.rates(step, feed.waited)
                    self._note(lines, {**self._place(step), **figures, **rates})
                if number or self._is_due(step):
                    self._save(step)
                if number and step < self.steps:
                    break
                if self._is_judged(step):
                    judged = self._judged(step, lines, pace)
                    number = self._told_meanwhile(stop)
                    if number and not self._is_due(step):
                        self._save(step)
                    if number and step < self.steps:
                        break
            return step, lines.last, number

    def _told_meanwhile(self, stop: Stop) -> int:
        """The signal that has come to any process by the end of an evaluation."""
        came = self.processes.any(bool(stop.number))
        return (stop.number or signal.SIGTERM) if came else 0

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
        missed = self.processes.of_first(lines.evaluated < step)
        return missed and self._is_judged(step)

    def _judged(self, step: int, lines: metrics.Metrics, pace: Pace) -> str:
        """Asks the network about other images, and writes the figures; what to say of them."""
        began = time.monotonic()
        figures: dict[str, float] = {}
        if self.judge is not None and self.processes.is_first:
            self.net.eval()
            try:
                figures = self.judge(self._opened())
            except (UserError, OSError, RuntimeError, ArrowException) as error:
                kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
                self.warn(f"step {step:,} couldn't be evaluated: {kind}{error}")
            finally:
                self.net.train()
                if self.processes.device.type == "cuda":
                    torch.cuda.empty_cache()  # of images and texts in other numbers than a step's
        self.processes.wait()
        seconds = time.monotonic() - began
        self._note(lines, {**self._place(step), **figures, metrics.EVALUATE_SECONDS: seconds})
        pace.leave_out(seconds)
        return f", {said(figures)}" * bool(figures)

    def _opened(self) -> Opened:
        train, device = self.config.train, self.processes.device
        return of_network(self.net, self.model.tokenize, device=device, precision=train.precision)

    def _lines(self, step: int, held: ExitStack) -> metrics.Metrics:
        board, opened = self.config.train.tensorboard, list[metrics.Metrics]()
        self.processes.by_first(
            lambda: opened.append(metrics.Metrics(self.out, step, board=board)),
            self.out / metrics.FILE,
        )
        return held.enter_context(opened[0] if opened else metrics.Metrics(None, step))

    def _note(self, lines: metrics.Metrics, line: dict[str, Any]) -> None:
        """Adds a line, which the first process writes; raises UserError where it can't."""
        if not self.processes.is_first:
            lines.add(line)
        self.processes.by_first(lambda: lines.add(line), self.out / metrics.FILE)

    def _pace(self, step: int, lines: metrics.Metrics) -> Pace:
        return Pace(
            self.config.train,
            self.model.config["model_cfg"],
            self.processes,
            texts=self.source.texts,
            steps=self.steps,
            step=step,
            seconds=lines.last.get("seconds", 0.0),
        )

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

    def _batches(self, step: int) -> Iterator[Any]:
        """The loader's batch of each step, from number ``step`` on."""
        while step < self.steps:
            epoch = bisect_right(self.ends, step)
            begin, end = self.ends[epoch - 1] if epoch else 0, min(self.ends[epoch], self.steps)
            for batch in islice(self.loader.epoch(epoch, step - begin), end - step):
                yield batch
                step += 1
            if step < end:
                raise RuntimeError(f"epoch {epoch} has fewer batches than were counted")

    def _step(
        self, net: torch.nn.Module, step: int, fed: Fed, feed: Feed, stop: Stop
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
            look=feed.look,
        )
        norm = self._cut_gradients()
        if not stop.number:
            feed.fetch()
        # The one place where the device is waited for. It lets no step be made with what is no
        # number; what is lost is the time to launch the optimizer's few kernels.
        figures = torch.stack([said.loss, norm, said.scale]).double().tolist()
        value, length, scale, damaged, stopped = own.sums(
            [*(f / own.world for f in figures), fed.damaged, stop.number]
        )
        if not (math.isfinite(value) and math.isfinite(length)):
            self._refuse(step, fed, feed, value)
        self.damaged = self.damaged_before + int(damaged)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._clamp()
        shown = {"loss": value, "logit_scale": scale, "lr": lr, "grad_norm": length}
        shown["damaged"] = self.damaged
        return shown, (stop.number or signal.SIGTERM) if stopped else 0

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

    def _refuse(self, step: int, fed: Fed, feed: Feed, value: float) -> None:
        """Raises UserError for a loss or gradients that are no numbers; keeps the state before."""
        self._check_weights(step)
        each = self.processes.all_of({"keys": fed.keys, "guilty": self._guilty(fed, feed)})
        guilty = [key for one in each for key in one["guilty"]]
        keys = [key for one in each for key in one["keys"]]
        path, file = self._save(step), self.out / BAD
        found = {"step": step + 1, "guilty": guilty, "keys": keys}
        self.processes.by_first(lambda: write_json(file, found), file)
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

    def _check_weights(self, step: int) -> None:
        """Raises UserError where the weights are no numbers: nothing goes on from these."""
        fine = torch.stack([p.isfinite().all() for p in self.net.parameters()]).all()
        if self.processes.any(not fine):
            raise UserError(
                f"the weights are no numbers after step {step:,} (epoch {self._epoch(step):.2f}): "
                f"they aren't saved; {checkpoint.before(self.out / CHECKPOINTS)}. Begin again "
                "with the weights of one before (model.weights), or none, and a lower train.lr."
            )

    def _guilty(self, fed: Fed, feed: Feed) -> list[str]:
        """Keys of the images whose own features, or whose texts', aren't finite."""
        found: list[str] = []
        at = 0
        for piece in fed.pieces:
            with torch.no_grad(), autocast(piece.images.device, self.config.train.precision):
                out = self.net(feed.look(piece.images), piece.tokens)
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

    def _is_due(self, step: int) -> bool:
        train = self.config.train
        if train.checkpoint_steps and step % train.checkpoint_steps == 0:
            return True
        ends = self.ends[train.checkpoint_epochs - 1 :: train.checkpoint_epochs]
        return step == self.steps or step in ends

    def _save(self, step: int) -> Path:
        """A checkpoint, by the first process; all learn whether it could be written.

        Raises UserError where it couldn't, or where weights aren't numbers.
        """
        self._check_weights(step)
        train, folder = self.config.train, self.out / CHECKPOINTS

        def save() -> Path:
            state = checkpoint.State(
                step=step,
                epoch=bisect_right(self.ends, step),
                is_epoch_end=step in (self.steps, *self.ends),
                config=self.config,
                inputs=self._inputs(),
                versions=versions(),
                damaged=self.damaged,
            )
            path = checkpoint.save(folder, self.net, self.optimizer, state)
            checkpoint.clean(folder, train.keep_last, train.keep_epochs)
            return path

        return self.processes.by_first(save, folder)

    def _finish(self, last: dict[str, Any]) -> None:
        """The model for others, and the manifest."""
        self.processes.wait()  # it isn't done before all are
        model = self.out / MODEL
        self.processes.by_first(lambda: write_model(self.model, model), model)
        self.processes.by_first(lambda: self._end(last), self.out / MANIFEST)

    def _end(self, last: dict[str, Any]) -> None:
        counts = {
            "steps": self.steps,
            "images": self.steps * self.config.train.batch,
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "damaged": self.damaged,
        }
        write_end(self.out, self.config, inputs=self._inputs(), counts=counts, last=last)


def _silent(_: str) -> None:
    return


def _seed(seed: int, step: int, rank: int, piece: int) -> int:
    """What the generator begins with for a piece of a step."""
    text = f"{seed} {step} {rank} {piece}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
