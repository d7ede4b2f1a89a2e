"""A model's networks as ExecuTorch programs (`.pte`), lowered to XNNPACK, the CPU library of phones.

The folder is that of `sorano.export.graphs`, with `.pte` files for `.onnx`. Programs are float32: the engine's own
numbers within a tolerance (docs/device.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.export.graphs import Network, export_graphs, quiet
from sorano.extras import require
from sorano.presets import Preset

if TYPE_CHECKING:
    from torch import Tensor


def export_executorch(preset: Preset, folder: Path, *, say: Callable[[str], None] = lambda text: None) -> Path:
    """Writes a preset's networks as ExecuTorch programs into a folder; returns its card.

    Raises RequestError for a model of another kind, and where a package is missing; CheckpointError for weights that
    are not the ones described.
    """
    require("exporting for ExecuTorch", "engine", "executorch")
    return export_graphs(preset, folder, "executorch", _lowered, precision="float32", say=say)


def _lowered(name: str, network: Network) -> bytes:
    """The network as a program of ExecuTorch.

    Not under torch.no_grad(): there, torch 2.13 traces products as oneDNN's, which ExecuTorch has not.
    """
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass

    from sorano.export.networks import without_winograd

    module, inputs, _ = network
    with quiet(), without_winograd():
        program = torch.export.export(module.eval(), inputs, strict=False)
        aten = torch.ops.aten
        program = program.run_decompositions({aten.gelu.default: _gelu, aten.conv3d.default: _conv3d})
        program = constant_prop_pass(program)  # XNNPACK takes weights that are constants, not what is made of them
        return to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """GELU by tanh, spelled out: ExecuTorch 1.5 hands every GELU to XNNPACK as the exact one, 5e-4 away."""
    assert approximate == "tanh"
    return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)).tanh())


def _conv3d(
    x_1CTHW: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
) -> Tensor:
    """A convolution over time and space, unpadded in time, as a sum over its taps in time of convolutions over space.

    XNNPACK has those alone; frames are their batch.
    """
    import torch.nn.functional as F

    x_TCHW, taps = x_1CTHW[0].transpose(0, 1), weight.shape[2]
    last = x_TCHW.shape[0] - taps  # the first frame of the last result
    y_TCHW = F.conv2d(x_TCHW[: last + 1 : stride[0]], weight[:, :, 0], bias, stride[1:], padding[1:])
    for tap in range(1, taps):
        frames = x_TCHW[tap : last + tap + 1 : stride[0]]
        y_TCHW = y_TCHW + F.conv2d(frames, weight[:, :, tap], None, stride[1:], padding[1:])
    return y_TCHW.transpose(0, 1)[None]
