"""Networks larger than the device: blocks live in the host's memory and visit the device one after the other.

While a block computes, the next one's weights are copied (on a stream of their own where the device has streams), so
with enough work per block the copies cost no time. At most two blocks are on the device at any moment. Weights never
change on the way, so leaving the device copies nothing: the host's tensors are put back in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sorano.models.transformer import VideoTransformer


class BlockOffload:
    """Keeps `blocks` on the host and brings each to `device` for its turn. `close` leaves them on the host for good."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device | str) -> None:
        self.blocks = list(blocks)
        self.device = torch.device(device)
        on_cuda = self.device.type == "cuda"
        self.copies = torch.cuda.Stream(self.device) if on_cuda else None
        self.host = [[tensor.data.cpu() for tensor in _tensors(block)] for block in self.blocks]
        if on_cuda:  # only pinned memory is copied while the device computes
            self.host = [[tensor.pin_memory() for tensor in tensors] for tensors in self.host]
        self.there: dict[int, Any] = {}  # blocks on the device, or on their way: index to the event of their arrival
        self.most = 0  # blocks on the device at once, so far
        self.hooks = []
        for index, block in enumerate(self.blocks):
            self._leave(index)
            self.hooks.append(block.register_forward_pre_hook(partial(self._arrive, index)))
            self.hooks.append(block.register_forward_hook(partial(self._leave, index)))

    def close(self) -> None:
        """Stops bringing blocks to the device; they stay on the host."""
        for hook in self.hooks:
            hook.remove()
        for index in list(self.there):
            self._leave(index)

    def _arrive(self, index: int, *_: Any) -> None:
        """The block is needed now: wait for its copy, and start the next one's (the first's after the last)."""
        self._fetch(index)
        if self.there[index] is not None:
            torch.cuda.current_stream(self.device).wait_event(self.there[index])
        self._fetch((index + 1) % len(self.blocks))

    def _fetch(self, index: int) -> None:
        if index in self.there:
            return
        if self.copies is None:
            self._place(index)
            self.there[index] = None
        else:
            with torch.cuda.stream(self.copies):
                self._place(index)
                self.there[index] = self.copies.record_event()
        self.most = max(self.most, len(self.there))

    def _place(self, index: int) -> None:
        for tensor, kept in zip(_tensors(self.blocks[index]), self.host[index], strict=True):
            tensor.data = kept.to(self.device, non_blocking=True, copy=True)

    def _leave(self, index: int, *_: Any) -> None:
        for tensor, kept in zip(_tensors(self.blocks[index]), self.host[index], strict=True):
            if tensor.data.is_cuda:  # made on the stream of copies: not to be used again before the block has computed
                tensor.data.record_stream(torch.cuda.current_stream(self.device))
            tensor.data = kept
        self.there.pop(index, None)


@contextmanager
def visiting(network: VideoTransformer, device: torch.device | str) -> Iterator[BlockOffload]:
    """A transformer on the host, whose outer layers are on the device and whose blocks visit it."""
    inside = {id(tensor) for block in network.blocks for tensor in _tensors(block)}
    for tensor in _tensors(network):
        if id(tensor) not in inside:
            tensor.data = tensor.data.to(device)
    offload = BlockOffload(list(network.blocks), device)
    try:
        yield offload
    finally:
        offload.close()


def _tensors(block: nn.Module) -> list[Tensor]:
    return [*block.parameters(), *block.buffers()]
