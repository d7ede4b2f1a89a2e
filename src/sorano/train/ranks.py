"""Several processes that train one model, each on a share of every batch: data parallel, started by torchrun.

    torchrun --nproc-per-node 8 -m sorano train world --recipe gpu

Every process (a rank) draws its own share of the data from the step's seed, and the gradients' mean over all ranks is
what each of them applies, so that weights, averages and moments are the same everywhere without being sent. The first
rank writes what there is to write. One process alone is the same code with nothing to exchange.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from sorano.errors import RequestError

PATIENCE = timedelta(hours=12)  # for what the first rank does alone: rendering


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Items of a batch that are this rank's. Raises RequestError where they do not divide."""
        if batch_size % self.count:
            raise RequestError(
                f"a batch of {batch_size} cannot be shared by {self.count} processes alike",
                "start as many as divide the recipe's batches: --dry-run shows them",
            )
        return batch_size // self.count

    def average(self, parameters: Sequence[Tensor]) -> None:
        """Puts the mean of all ranks' gradients in the place of this one's, in one exchange.

        What had no part in a rank's step counts there as zeros; what had none anywhere stays without a gradient.
        """
        if self.count == 1:
            return
        import torch.distributed as dist

        touched = torch.tensor([one.grad is not None for one in parameters], dtype=torch.uint8)
        dist.all_reduce(touched, dist.ReduceOp.MAX)  # between the hosts: no device is waited for
        learning = [one for one, anywhere in zip(parameters, touched.tolist(), strict=True) if anywhere]
        parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in learning]
        flat = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(flat)
        flat /= self.count
        for parameter, mean in zip(learning, flat.split([part.numel() for part in parts]), strict=True):
            parameter.grad = mean.view_as(parameter)

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first rank does what is inside; then the others do it, and find it done."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier()


ALONE = Ranks()


def is_first_process() -> bool:
    """Whether this is the only process, or the first that torchrun has started."""
    return int(os.environ.get("RANK", "0")) == 0


def leave() -> None:
    """End a process that torchrun started at once, its work done: some abort in the destructors of torch's threads."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """This process among those that torchrun has started, and its device: one GPU each where there are GPUs."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE, device
        return
    import torch.distributed as dist

    on_cuda = device == "cuda" or device == "auto" and torch.cuda.is_available()
    if on_cuda:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), count), device
    finally:
        dist.destroy_process_group()
