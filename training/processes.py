"""The processes of a run: one, or those that torchrun started, here or on many nodes.

    torchrun --nproc-per-node 8 --no-python sparqless train vit-b-32 …

torchrun tells each process its number by environment variables; NCCL is used where there are GPUs,
else gloo. Every process reads its own images and holds the whole network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import distributed


@dataclass(frozen=True)
class Processes:
    """Which of how many this is, and where its network is."""

    rank: int
    world: int
    device: torch.device
    #: By way of the CPU, for what no device is to be waited for.
    control: Any = None

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            distributed.barrier()

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

    def told(self, value: Any) -> Any:
        """What the first process says."""
        if self.world == 1:
            return value
        holder = [value]
        distributed.broadcast_object_list(holder, src=0, device=self.device)
        return holder[0]

    def all_of(self, value: Any) -> list[Any]:
        """What each process says, in their order."""
        if self.world == 1:
            return [value]
        holder = [None] * self.world
        distributed.all_gather_object(holder, value)
        return holder


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
        control = distributed.new_group(backend="gloo") if device.type == "cuda" else None
        _opened.append(Processes(rank, world, device, control))
        yield _opened[-1]
    finally:
        _opened.clear()
        distributed.destroy_process_group()
