"""Shards → batches: the same ones each time, of every image once, from any batch of an epoch on.

    loader = Loader(
        "data/images/living/shards", "train", batch=1024, size=224, mean=mean, std=std,
        draw=draw, tokenize=tokenize, options=DataOptions(), workers=8, seed=0,
    )
    for batch in loader.epoch(3):             # or loader.epoch(3, start=170): from its batch 170 on
        batch.images, batch.tokens, batch.keys

What an epoch gives depends on the shards, ``wanted``, ``batch``, ``seed``, the number of ranks and
the options; not on the number of workers. How it is shuffled and shared out:
:mod:`training.data_order`; what becomes of an image: :mod:`training.data_images`.

**Damage.** Shards that aren't all there, whole, are refused before a run begins. What is found
damaged later is counted, told once for each shard and stands aside (its place in the batch is
taken by another image: :mod:`training.data_worker`), up to ``most_damaged`` an epoch; above it the
loader raises UserError, and what trains can save and stop. A worker process that is killed is
started again where it was, with a warning; at the same batch twice is an error.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import torch

from etl.engine import default_workers
from etl.errors import UserError
from etl.show import counted
from training.data_images import Augment, Decode, normalised
from training.data_index import Wanted, cache_for, index_of
from training.data_order import ORDER, Plan, Shape
from training.data_tar import REASONS, Damage
from training.data_worker import Batch, Draw, Failed, Job, Made, Tokenize, Work, batches, begin

__all__ = ["Batch", "DataOptions", "Draw", "Loader", "Tokenize", "Wanted", "normalised"]

#: How workers begin. A fork of this process would take along its threads' locks and what CUDA and
#: fsspec keep; a fresh interpreter takes seconds to import torch, each time. This forks from a
#: process that has imported it and done nothing else.
_START: Final = "forkserver"
#: Seconds until it is known that a process is gone.
_GONE: Final = 5.0
#: Before what draws and makes tokens, which is open_clip's: see there.
_PRELOADED: Final = ("training.vision", "training.data_worker")


#: What users are told where it is another in a run that is to go on.
_COUNTED: Final = "images (by shards, split, filter and options of texts)"


class DataOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be set of the loader; all but the last three decide about what is learned."""

    #: Share of the area that a crop has, from and to (the reference's) ...
    scale: tuple[float, float] = (0.4, 1.0)
    #: ... and its width over its height.
    ratio: tuple[float, float] = (0.9, 1.111)
    #: exact: Pillow's pixels; fast, draft: :mod:`training.data_images`.
    decode: Decode = "exact"
    #: Images that a rank holds to draw from, as JPEGs: some 1.1 GB at 256 pixels, over all workers.
    shuffle: int = 32_768
    #: What is left when each rank has as many whole batches: dropped, or filled up with the
    #: epoch's first images.
    tail: Literal["drop", "repeat"] = "drop"
    #: Whether images stay uint8 for :func:`normalised`: a quarter of the memory, and of what goes
    #: to a GPU.
    as_bytes: bool = False
    #: Images that may be damaged in an epoch, for a rank.
    most_damaged: int = 100
    #: Batches that a worker makes ahead.
    prefetch: int = 2
    #: Where counts, and tables of texts, are kept; "": the user's cache.
    cache: str = ""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise _wrong("scale", self.scale, "two shares of the area, from 0 to 1, ascending")
        low, high = self.ratio
        if not 0 < low <= high:
            raise _wrong("ratio", self.ratio, "two ratios above 0, ascending")
        if self.shuffle < 1:
            raise _wrong("shuffle", self.shuffle, "1 image or more")
        if self.most_damaged < 0:
            raise _wrong("most_damaged", self.most_damaged, "0 images or more")
        if self.prefetch < 1:
            raise _wrong("prefetch", self.prefetch, "1 batch or more")


class Loader:
    """Batches of a split of shards, for one rank of ``world``.

    ``mode``: to train, shuffled, with random crops; to evaluate (``eval``) in the order of the
    shards, every image once (so that the last batch may be short, and ranks may differ), cut as
    open_clip does it. ``batch`` is the rank's; ``size`` pixels of a side; ``mean`` and ``std`` the
    model's.
    ``workers`` processes make them, 0: this one; ``draw`` and ``tokenize`` must be picklable if
    there are some. ``pin``: into page-locked memory, for a GPU. ``warn`` is told sentences;
    ``quiet``: no progress of counting.

    Raises UserError where shards aren't complete or there is too little of them.
    """

    def __init__(
        self,
        shards: str | Path,
        split: str,
        *,
        mode: Literal["train", "eval"] = "train",
        batch: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        draw: Draw,
        tokenize: Tokenize,
        options: DataOptions | None = None,
        workers: int = 0,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        wanted: Wanted | None = None,
        pin: bool = False,
        warn: Callable[[str], None] | None = None,
        quiet: bool = False,
    ) -> None:
        options = options or DataOptions()
        cache = cache_for("index", options.cache)
        counting = min(workers, default_workers())
        index = index_of(str(shards), split, wanted, cache, workers=counting, quiet=quiet)
        train = mode == "train"
        self._job = Job(
            index=index,
            shape=Shape(batch, world, options.shuffle, options.tail if train else "keep"),
            seed=seed,
            rank=rank,
            size=size,
            mean=mean,
            std=std,
            augment=Augment(scale=options.scale, ratio=options.ratio) if train else None,
            decode=options.decode,
            as_bytes=options.as_bytes,
            draw=draw,
            tokenize=tokenize,
        )
        self._options, self._workers, self._pin = options, workers, pin
        self._warn = warn or _silent
        self._running: _Workers | None = None
        #: Images of the split, and those of them that are wanted.
        self.all_images, self.images = index.all_images, index.images
        #: What couldn't be used so far, by reason (training.data_tar.REASONS).
        self.damage: Counter[str] = Counter()
        self._damaged_shards: Counter[str] = Counter()
        if train and not self._job.plan(0).given:
            raise UserError(
                f"{shards}: {counted(index.images, 'image')} of {split!r} fill no batch of "
                f"{counted(batch, 'image')} on {counted(world, 'process', 'processes')}; take a "
                'smaller batch, or tail = "repeat".'
            )

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers, which otherwise stay for the next epoch."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def batches(self, epoch: int) -> int:
        """How many an epoch has for this rank; to train, as many for each rank and epoch."""
        return self._plan(epoch).steps(self._job.rank)

    @property
    def dropped(self) -> int:
        """Images that an epoch leaves out at its end; below 0: that come again."""
        return self.images - self._plan(0).given

    @property
    def identity(self) -> dict[str, Any]:
        """All that batches depend on but texts: a run that is resumed must have the same."""
        job = self._job
        augment = job.augment and {"scale": [*job.augment.scale], "ratio": [*job.augment.ratio]}
        return {
            _COUNTED: job.index.folder.name,
            "order": ORDER,
            **{name: getattr(job.shape, name) for name in ("batch", "world", "shuffle", "tail")},
            "seed": job.seed,
            "size": job.size,
            "augment": augment,
            "decode": job.decode,
        }

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from the one with the number ``start`` on.

        What is before isn't decoded, and read only as far as the buffer needs it. One epoch at a
        time: beginning another ends it.

        Raises UserError where too much is damaged, a place can't be reached, or a worker is killed
        at one batch twice.
        """
        found: Counter[str] = Counter()
        steps, done, died_at = self.batches(epoch), start, -1
        while done < steps:
            try:
                made = self._begin(epoch, done)
                while done < steps:
                    one = next(made)
                    if isinstance(one, Failed):
                        raise UserError(one.message)
                    self._count(one.damage, found, epoch)
                    done += 1
                    yield one.batch
            except _DiedError as died:
                self.close()
                if died_at == done:
                    raise UserError(
                        f"a process that loads images was killed ({died}) at batch {done:,} of "
                        f"epoch {epoch} twice. {died.remedy}"
                    ) from None
                died_at = done
                self._warn(
                    f"a process that loads images was killed ({died}); all of them are started "
                    f"again, from batch {done:,} of epoch {epoch} on. {died.remedy}"
                )

    def _plan(self, epoch: int) -> Plan:
        return self._job.plan(epoch)

    def _begin(self, epoch: int, start: int) -> Iterator[Made | Failed]:
        if not self._workers:
            return batches(self._job, epoch, start, 0, 1)
        if self._running is None:
            self._running = _Workers(self._job, self._workers, self._options.prefetch, self._pin)
        return self._running.begin(epoch, start)

    def _count(self, damage: Sequence[tuple[str, Damage]], found: Counter[str], epoch: int) -> None:
        """Counts what can't be used; warns once a shard.

        Raises UserError where it is too much.
        """
        for shard, one in damage:
            self.damage[one.reason] += 1
            self._damaged_shards[shard] += 1
            found[one.reason] += 1
            if self._damaged_shards[shard] == 1:
                detail = f" ({one.detail})" if one.detail else ""
                self._warn(
                    f"{shard}: {one.key} can't be used, {REASONS[one.reason]}{detail}; another "
                    "image of its batch stands in its place. More of this shard is only counted."
                )
        if found.total() > self._options.most_damaged:
            told = ", ".join(f"{reason} {number:,}" for reason, number in found.most_common())
            worst, number = self._damaged_shards.most_common(1)[0]
            raise UserError(
                f"epoch {epoch} has more than {self._options.most_damaged:,} images that can't be "
                f"used ({told}; {number:,} of them in {worst}): mend the shards (`sparqless "
                "verify` says what is wrong) or raise most_damaged."
            )


class _DiedError(Exception):
    """A worker is gone; says how."""

    remedy = (
        "If it was memory, take fewer workers, a smaller shuffle or as_bytes; in a container, more "
        "/dev/shm."
    )


class _Workers:
    """Processes that make batches, kept from epoch to epoch."""

    def __init__(self, job: Job, workers: int, prefetch: int, pin: bool) -> None:
        context = multiprocessing.get_context(_START)
        context.set_forkserver_preload([*_PRELOADED, *_modules(job.draw, job.tokenize)])
        self._at = torch.zeros(2, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        with _any_number():
            self._loader = torch.utils.data.DataLoader(
                Work(job, self._at),
                batch_size=None,
                num_workers=workers,
                prefetch_factor=prefetch,
                persistent_workers=True,
                pin_memory=pin,
                multiprocessing_context=context,
                worker_init_fn=begin,
            )
        self._made: Any = None
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def begin(self, epoch: int, start: int) -> Iterator[Made | Failed]:
        """Has them make the batches of an epoch from one on."""
        self._at.copy_(torch.tensor([epoch, start]))
        before, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
        with _without_sigterm():
            forkserver.ensure_running()
        with _any_number(), self._noticing():
            self._made = iter(self._loader)  # which waits for workers that stay
        # torch has a dead worker raise in whatever the main thread is at, be it half of a step;
        # without its handler, whoever waits for the next batch is told
        if signal.getsignal(signal.SIGCHLD) != handler:
            signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
        if not self._processes:
            self._processes = [p for p in multiprocessing.active_children() if p not in before]
        return self._batches(self._made)

    def _batches(self, made: Iterator[Made | Failed]) -> Iterator[Made | Failed]:
        while True:
            try:
                with self._noticing():
                    one = next(made)
            except StopIteration:
                return
            yield one

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Raises _DiedError for whatever goes wrong because a process is gone."""
        try:
            yield
        except (RuntimeError, EOFError, OSError) as error:
            if not isinstance(error, RuntimeError):
                # a batch waits whose memory is to be had of a process that may be gone
                sentinels = [process.sentinel for process in self._processes]
                multiprocessing.connection.wait(sentinels, _GONE)
            dead = [p.exitcode for p in self._processes if p.exitcode is not None]
            if not dead:
                raise
            raise _DiedError(_how(dead[0])) from None

    def close(self) -> None:
        """Ends them."""
        self._made = None
        del self._loader
        for process in self._processes:
            if process.is_alive():
                process.kill()  # of torch's SIGTERM it takes no notice: training.data_worker.begin


@contextmanager
def _without_sigterm() -> Iterator[None]:
    """What is started meanwhile takes no notice of SIGTERM: torchrun sends it to all processes.

    It is blocked, which is inherited, not ignored: one that comes meanwhile is told afterwards.
    """
    resource_tracker.ensure_running()  # else it is begun meanwhile, and unblocks it behind itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _modules(*used: object) -> list[str]:
    """The modules of functions and objects, but the main one."""
    found = {str(getattr(one, "__module__", "")) for one in used}
    return sorted(found - {"", "__main__"})


@contextmanager
def _any_number() -> Iterator[None]:
    """Without torch's warning of more workers than cores, which may be meant: some wait."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        yield


def _how(code: int) -> str:
    """What an exit status says."""
    if code >= 0:
        return f"it ended with {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _silent(_: str) -> None:
    return


def _wrong(name: str, value: object, wanted: str) -> UserError:
    return UserError(f"{name}: {value!r} is not {wanted}.")
