"""What a run took: seconds by stage, the peak of memory, and memory that ran out, said in the project's words."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from sorano.errors import CapacityError
from sorano.plan import Machine, RunEstimate

T = TypeVar("T")


@dataclass
class StageTimer:
    """Seconds of each stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - began

    def each(self, stage: str, made: Iterable[T]) -> Iterator[T]:
        """The same things; the stage is the time that they took, without what was done with them meanwhile."""
        iterator, self.seconds[stage] = iter(made), 0.0
        while True:
            began = time.perf_counter()
            one = next(iterator, None)
            self.seconds[stage] += time.perf_counter() - began
            if one is None:
                return
            yield one


@contextmanager
def peak_memory(machine: Machine) -> Iterator[list[int]]:
    """A list whose only element becomes the peak: of this process on a CPU, of the allocator on a GPU."""
    import torch

    peak = [0]
    on_cuda = machine.device.startswith("cuda")
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(machine.device)
    yield peak
    peak[0] = torch.cuda.max_memory_allocated(machine.device) if on_cuda else _process_peak_bytes()


@contextmanager
def report_out_of_memory(estimate: RunEstimate) -> Iterator[None]:
    """Turns the allocators' errors into CapacityError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
            raise CapacityError(
                f"the memory ran out, although {estimate.peak_bytes / 1e9:.1f} GB were planned: {error}",
                "other programs may hold memory; or use fewer --seconds or a smaller --size",
            ) from error
        raise


def _process_peak_bytes() -> int:
    """The most that this process has held. Linux's own counter first: `getrusage` counts a large parent's peak too."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
