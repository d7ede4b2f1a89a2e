"""Networks larger than the device: blocks live in the host's memory and visit the device one after the other.

The device has room for two blocks. While one computes, the next one's weights are copied into the other place, on a
stream of their own where the device has streams, so with enough work per block the copies cost no time. The order is
kept by events on the device (a place is filled after its last block has computed, a block computes after it has
arrived), so the host never waits, and however far it runs ahead no more memory is taken. Weights never change on the
way, so leaving the device copies nothing: the host's tensors are put back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sorano.models.wan.transformer import fuse_qkv

if TYPE_CHECKING:
    from sorano.models.wan.transformer import VideoTransformer

PLACES = 2


class BlockOffload:
    """Keeps `blocks`, all alike, on the host and brings each to `device` for its turn; `close` leaves them there."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device | str) -> None:
        self.blocks = list(blocks)
        self.device = torch.device(device)
        self.copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.host = [self._to_host(block) for block in self.blocks]
        with torch.inference_mode(False):  # these tensors are written in any mode
            places = [self._place() for _ in range(PLACES)]
        # where there is room, and when the last block there has computed
        self.free: deque[tuple[list[Tensor], Any]] = deque((place, self._event()) for place in places)
        self.there: dict[int, tuple[list[Tensor], Any]] = {}  # blocks on the device: where, and when they have arrived
        self.most = 0  # blocks on the device at once, so far
        self.hooks = []
        for index, block in enumerate(self.blocks):
            self.hooks.append(block.register_forward_pre_hook(partial(self._arrive, index)))
            self.hooks.append(block.register_forward_hook(partial(self._leave, index)))

    def close(self) -> None:
        """Stops bringing blocks to the device; they stay on the host."""
        for hook in self.hooks:
            hook.remove()
        for index in list(self.there):
            self._leave(index)
        if self.copies is not None:  # the places are free for others when the last copy has ended
            torch.cuda.current_stream(self.device).wait_stream(self.copies)
        self.free.clear()

    def _place(self) -> list[Tensor]:
        """Room on the device for the tensors of a block, laid out as they compute fastest there."""
        block = self.blocks[0]
        for tensor in _tensors(block):
            tensor.data = torch.empty_like(tensor.data, device=self.device)
        fuse_qkv(block)
        place = [tensor.data for tensor in _tensors(block)]
        for tensor, kept in zip(_tensors(block), self.host[0], strict=True):
            tensor.data = kept
        return place

    def _to_host(self, block: nn.Module) -> list[Tensor]:
        """The block's tensors, in memory from which they are copied while the device computes: pinned, for CUDA."""
        for tensor in _tensors(block):
            tensor.data = tensor.data.cpu() if self.copies is None else tensor.data.cpu().pin_memory()
        return [tensor.data for tensor in _tensors(block)]

    def _arrive(self, index: int, *_: Any) -> None:
        """The block is needed now: wait for its copy, and start the next one's (the first's after the last)."""
        self._fetch(index, needed=index)
        arrived = self.there[index][1]
        if arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(arrived)
        self._fetch((index + 1) % len(self.blocks), needed=index)

    def _fetch(self, index: int, needed: int) -> None:
        if index in self.there:
            return
        if not self.free:  # a pass that was broken off has left its blocks here
            self._leave(next(other for other in self.there if other != needed))
        place, computed = self.free.popleft()
        with nullcontext() if self.copies is None else torch.cuda.stream(self.copies):
            if self.copies is not None:
                self.copies.wait_event(computed)
            for tensor, room, kept in zip(_tensors(self.blocks[index]), place, self.host[index], strict=True):
                room.copy_(kept, non_blocking=self.copies is not None)
                tensor.data = room
            self.there[index] = place, self._event()
        self.most = max(self.most, len(self.there))

    def _leave(self, index: int, *_: Any) -> None:
        if index not in self.there:
            return
        for tensor, kept in zip(_tensors(self.blocks[index]), self.host[index], strict=True):
            tensor.data = kept
        self.free.append((self.there.pop(index)[0], self._event()))

    def _event(self) -> Any:
        """When the current stream has done what it was given so far."""
        return None if self.copies is None else torch.cuda.current_stream(self.device).record_event()


@contextmanager
def block_offload(network: VideoTransformer, device: torch.device | str) -> Iterator[BlockOffload]:
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
