"""The processes of a run: one, or those that torchrun started, here or on many nodes.

    torchrun --nproc-per-node 8 --no-python sparqless train vit-b-32 …

torchrun tells each process its number by environment variables; NCCL is used where there are GPUs,
else gloo. Every process reads its own images and holds the whole network.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import torch
from torch import distributed

from etl.errors import UserError, is_disk_full

Made = TypeVar("Made")

#: How long the others wait while the first saves or evaluates, or one for its images: a large
#: evaluation takes more than NCCL's ten minutes. One that died is noticed by its connections.
_PATIENCE: Final = timedelta(hours=3)


@dataclass(frozen=True)
class Processes:
    """Which of how many this is, and where its network is."""

    rank: int
    world: int
    device: torch.device
    #: By way of the CPU, for what no device is to be waited for; None: alone.
    control: Any = None

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            distributed.barrier(group=self.control)

    def sums(self, values: list[float]) -> list[float]:
        """Each number summed over the processes."""
        if self.world == 1:
            return values
        found = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(found)
        summed: list[float] = found.tolist()
        return summed

    def any(self, flag: bool) -> bool:
        """Whether it is so for some process."""
        if self.world == 1:
            return flag
        found = torch.tensor([int(flag)])
        distributed.all_reduce(found, distributed.ReduceOp.MAX, group=self.control)
        return bool(found.item())

    def of_first(self, value: Made) -> Made:
        """What the first process has."""
        if self.world == 1:
            return value
        holder = [value]
        distributed.broadcast_object_list(holder, src=0, group=self.control)
        return holder[0]

    def by_first(self, make: Callable[[], Made], where: Path) -> Made:
        """What the first process makes, while the others wait; all learn what came of it.

        Raises UserError in all of them where it does, or where the system refuses to write
        ``where``: none waits for one that is gone.
        """
        made, trouble = None, None
        if self.is_first:
            try:
                made = make()
            except UserError as error:
                trouble = error
            except OSError as error:
                trouble = cant_write(where, error)
                trouble.__cause__ = error
        made, said = self.of_first((made, trouble and str(trouble)))
        if said:
            raise trouble or UserError(said)
        return cast(Made, made)

    def all_of(self, value: Made) -> list[Made]:
        """What each process has, in their order."""
        if self.world == 1:
            return [value]
        holder: list[Any] = [None] * self.world
        distributed.all_gather_object(holder, value, group=self.control)
        return holder


def cant_write(where: Path, error: OSError, kept: str = "what was saved stands") -> UserError:
    """What to say where the system refuses to write."""
    if is_disk_full(error):
        why, remedy = "the disk (or a limit on files) is full", "Make room"
    else:
        why, remedy = error.strerror or str(error), "See to that"
        if error.filename and str(error.filename) != str(where):
            why += f" ({error.filename})"
    return UserError(
        f"{where} can't be written: {why}. Training has stopped; {kept}. {remedy} and run the same "
        "command again."
    )


#: Those that are open: none, or one.
_opened: Final[list[Processes]] = []


@contextmanager
def processes() -> Iterator[Processes]:
    """This process among those that torchrun started; alone where it didn't.

    Within one of these another is the same: what stays from one run to the next is opened around
    both, since torchrun's processes find each other only once for sure.
    """
    if _opened:
        yield _opened[-1]
        return
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if world == 1:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    try:
        control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        with warnings.catch_warnings():
            # of names that older versions of torch need; each process would say it
            warnings.filterwarnings("ignore", "", FutureWarning, r"training\.train|open_clip\.loss")
            _opened.append(Processes(rank, world, device, control))
            yield _opened[-1]
    finally:
        _opened.clear()
        distributed.destroy_process_group()
