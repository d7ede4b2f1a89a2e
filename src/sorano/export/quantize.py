"""Smaller weights in ONNX graphs: 8-bit matrix products, 8-bit and float16 storage.

Only the size of a download and the time of matrix products change; what it costs in quality is in docs/LOG.md.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LEAST_NUMBERS = 2048  # smaller tensors stay float32: their bytes are few, and some are no weights


def dynamic_int8(model: Any) -> Any:
    """Matrix products with 8-bit weights, a scale for each output, and activations quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(model, source)
        quantize_dynamic(
            source, target, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # fmt: skip
        return onnx.load(target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the root logger's advice to run a preparation, which the exporter has done."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)


def stored_int8(model: Any) -> Any:
    """Weights as 8-bit numbers with a scale for each output; a runtime makes float32 of them when it loads them."""
    from onnx import helper, numpy_helper

    def stored(tensor: Any, values: np.ndarray[Any, Any]) -> tuple[list[Any], Any]:
        axes = tuple(range(1, values.ndim))
        scale = np.maximum(np.abs(values).max(axis=axes) / 127, 1e-12).astype(np.float32)
        levels = np.round(values / scale.reshape(-1, *[1] * len(axes))).astype(np.int8)
        parts = [
            numpy_helper.from_array(levels, f"{tensor.name}.int8"),
            numpy_helper.from_array(scale, f"{tensor.name}.scale"),
            numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{tensor.name}.zero"),
        ]
        return parts, helper.make_node("DequantizeLinear", [part.name for part in parts], [tensor.name], axis=0)

    return _replaced(model, stored, least_axes=3)


def stored_float16(model: Any) -> Any:
    """Weights as float16; a runtime makes float32 of them when it loads them."""
    from onnx import TensorProto, helper, numpy_helper

    def stored(tensor: Any, values: np.ndarray[Any, Any]) -> tuple[list[Any], Any]:
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.float16")
        return [half], helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT)

    return _replaced(model, stored, least_axes=2)


def _replaced(model: Any, stored: Any, *, least_axes: int) -> Any:
    """The model with its large float32 weights replaced by what a node makes of smaller ones."""
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    kept, made = [], []
    for tensor in graph.initializer:
        values = None
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= least_axes:
            values = numpy_helper.to_array(tensor)
        if values is None or values.size < LEAST_NUMBERS:
            kept.append(tensor)
            continue
        parts, node = stored(tensor, values)
        kept += parts
        made.append(node)
    nodes = [*made, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return model


ways = {
    "text_encoder": stored_float16,
    "transformer": dynamic_int8,
    "decoder": stored_int8,
    "encoder": stored_int8,
}
"""How each graph is made smaller."""
