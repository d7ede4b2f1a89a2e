"""What `wan_cpu.py` and `wan_gpu.py` time: each network with random weights, ours and diffusers' turn about.

Weights are normal numbers of a size that keeps activations near N(0, 1), inputs are N(0, 1): zeros would run faster.
Both sides hold the same weights, so their outputs are compared too.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorano.models.checkpoint import layout
from sorano.models.wan.config import MAX_TEXT_TOKENS, TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.models.wan.text_encoder import TextEncoder, TextTokens
from sorano.models.wan.transformer import VideoTransformer, fuse_qkv
from sorano.models.wan.vae import VideoAutoencoder
from sorano.shapes import Geometry, VideoShape

TEXT_TOKENS = 40  # of the prompt, real ones; both sides attend to 512


@dataclass(frozen=True)
class Row:
    """One thing that is timed: what it is, its FLOPs, and how ours and theirs are run."""

    name: str
    flops: int
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor] | None


@dataclass(frozen=True)
class Timed:
    """Medians of a row in seconds, and how far the outputs are apart."""

    name: str
    ours: float
    theirs: float | None
    difference: float | None  # max|a-b| / max|b|
    flops_per_second: float
    peak_bytes: int | None = None  # beside what was held before: both sides' weights, and the last outputs


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Weights that keep activations near unit variance: normal, with the variance of 1 / inputs; gains of one."""
    generator = torch.Generator(next(network.parameters()).device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim >= 2 and "norm" not in name and "gamma" not in name:
                weight.normal_(std=weight[0].numel() ** -0.5, generator=generator)
            elif name.endswith(("weight", "gamma")):
                weight.fill_(1.0)
            else:
                weight.normal_(std=0.02, generator=generator)


# what stays in float32: here as `sorano.models.checkpoint` loads it, there as diffusers' `from_pretrained` does
OURS_FLOAT32 = ("scale_shift_table", "time_embedder", "time_proj", "norm", "relative_attention_bias")
THEIR_FLOAT32 = ("scale_shift_table", "time_embedder", "norm1", "norm2", "norm3")


def made(
    build: Callable[[], nn.Module], device: str, dtype: torch.dtype, float32: tuple[str, ...] = OURS_FLOAT32
) -> Any:
    """A network on the device with random weights, without a copy elsewhere."""
    with torch.device(device):
        network = build()
    randomise(network)
    for name, tensor in network.named_parameters():
        tensor.data = tensor.data.to(torch.float32 if any(part in name for part in float32) else dtype)
        if tensor.is_cuda and float32 is OURS_FLOAT32:  # as loading does
            tensor.data = tensor.data.contiguous(memory_format=layout(name, tensor))
    return network.requires_grad_(False).eval()


def transformer(
    config: TransformerConfig,
    shape: VideoShape,
    spatial: int,
    device: str,
    dtype: torch.dtype,
    *,
    peer: bool = True,
    branches: int = 1,
    name: str = "",
) -> Row:
    """A forward pass; two branches are those of guidance (ours in one batch where that is faster)."""
    from sorano.plan import branches_together

    ours = made(lambda: VideoTransformer(config), device, dtype)
    fuse_qkv(ours)  # as loading does
    latent = Geometry(4, spatial).latent(shape)
    size = (1, config.in_channels, latent.num_frames, latent.rows, latent.columns)
    x = torch.randn(size, device=device, dtype=dtype)
    words = torch.randn(branches, TEXT_TOKENS, config.text_dim, device=device, dtype=dtype)
    padded = torch.cat([words, words.new_zeros(branches, MAX_TEXT_TOKENS - TEXT_TOKENS, config.text_dim)], dim=1)
    text = TextTokens(padded[:, : TEXT_TOKENS + 1], torch.full((branches,), TEXT_TOKENS))
    batch = branches if branches_together(latent, config.patch_size) else 1
    texts = [text] if batch == branches else [text[index : index + 1] for index in range(branches)]
    prepared = [ours.prepare_text(one, dtype) for one in texts]
    time_B = torch.full((batch,), 500.0, device=device)

    def run_ours() -> Tensor:
        return torch.cat([ours(x.expand(batch, -1, -1, -1, -1), time_B, one) for one in prepared])

    run_theirs = None
    if peer:
        import diffusers

        words_of = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
        theirs = made(lambda: diffusers.WanTransformer3DModel(**words_of), device, dtype, THEIR_FLOAT32)
        theirs.load_state_dict(ours.state_dict())
        theirs.rope.to(device)

        def run_theirs() -> Tensor:  # one branch after the other, as the stock pipeline does
            return torch.cat([theirs(x, time_B[:1], padded[i : i + 1], return_dict=False)[0] for i in range(branches)])

    flops = branches * config.flops(latent, text_tokens=TEXT_TOKENS + 1)
    return Row(name or f"transformer, {shape.size}, {shape.num_frames} frames", flops, run_ours, run_theirs)


def decoder(
    config: VaeConfig, shape: VideoShape, device: str, dtype: torch.dtype, *, peer: bool = True, name: str = ""
) -> Row:
    """The autoencoder's decoder, chunk by chunk as `generate` runs it."""
    from sorano.plan import decode_chunk

    ours = made(lambda: VideoAutoencoder(config), device, dtype)
    latent = config.geometry.latent(shape)
    x = torch.randn(1, config.z_dim, latent.num_frames, latent.rows, latent.columns, device=device, dtype=dtype)
    chunk = decode_chunk(shape, config.geometry)

    def run_ours() -> Tensor:
        if chunk >= latent.num_frames:
            return ours.decode(x)
        return torch.cat(list(ours.decode_stream(x.split(chunk, dim=2))), dim=2)

    run_theirs = None
    if peer:
        import diffusers

        words_of = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
        theirs = made(lambda: diffusers.AutoencoderKLWan(**words_of), device, dtype, ())
        theirs.load_state_dict(ours.state_dict())
        z = ours.denormalise(x)

        def run_theirs() -> Tensor:
            return theirs.decode(z, return_dict=False)[0]

    return Row(
        name or f"decode, {shape.size}, {shape.num_frames} frames", config.decode_flops(shape), run_ours, run_theirs
    )


def text_encoder(config: TextEncoderConfig, device: str, dtype: torch.dtype, *, peer: bool = True) -> Row:
    """A prompt and a negative prompt: ours computes the real tokens, stock pipelines pad both to 512."""
    ours: TextEncoder = made(lambda: TextEncoder(config), device, dtype)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, config.vocab_size, (2, TEXT_TOKENS), generator=generator)
    padded = torch.cat([ids, ids.new_zeros(2, MAX_TEXT_TOKENS - TEXT_TOKENS)], dim=1).to(device)

    def run_ours() -> Tensor:
        return ours.encode(ids.tolist(), dtype=dtype).text_BSD[:, :TEXT_TOKENS]

    run_theirs = None
    if peer:
        import transformers

        theirs = made(
            lambda: transformers.UMT5EncoderModel(transformers.UMT5Config(**config.to_dict())), device, dtype, ()
        )
        theirs.load_state_dict(ours.state_dict(), strict=False)

        def run_theirs() -> Tensor:
            return theirs(padded, (padded > 0).long()).last_hidden_state[:, :TEXT_TOKENS]

    return Row("text encoder, two prompts", config.flops(TEXT_TOKENS, batch=2), run_ours, run_theirs)


def measure(row: Row, repeats: int, device: str) -> Timed:
    """Medians, turn about, after a round that does not count."""
    on_cuda = device.startswith("cuda")
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    last: dict[str, Tensor] = {}
    peak = None
    runs = {"ours": row.ours, "theirs": row.theirs}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for side, run in runs.items():
                if run is None:
                    continue
                if on_cuda:
                    torch.cuda.synchronize()
                    torch.cuda.reset_peak_memory_stats()
                    held = torch.cuda.memory_allocated()
                began = time.perf_counter()
                last[side] = run()
                if on_cuda:
                    torch.cuda.synchronize()
                    peak = torch.cuda.max_memory_allocated() - held if side == "ours" else peak
                if turn:
                    seconds[side].append(time.perf_counter() - began)
    difference = None
    if "theirs" in last:
        a, b = last["ours"].float(), last["theirs"].float()
        difference = float((a - b).abs().max() / b.abs().max())
    ours = statistics.median(seconds["ours"])
    theirs = statistics.median(seconds["theirs"]) if seconds["theirs"] else None
    return Timed(row.name, ours, theirs, difference, row.flops / ours, peak)


def peak_rate(device: str, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of the fastest work there is: a square product by each library, or a 2-D convolution.

    One of them alone is no yardstick: a CPU's float32 products may come from a library that knows the processor less
    well than the one behind its convolutions.
    """
    from sorano.models.layers import linear

    a = torch.randn(size, size, device=device, dtype=dtype)
    x = torch.randn(4, 128, size // 32, size // 32, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, device=device, dtype=dtype)
    works: list[tuple[int, Callable[[], Tensor]]] = [
        (2 * size**3, lambda: a @ a),
        (2 * size**3, lambda: linear(a, a)),
        (2 * 9 * 128 * x.numel(), lambda: F.conv2d(x, weight, padding=1)),
    ]
    with torch.inference_mode():
        return max(flops / _best_seconds(work, device) for flops, work in works)


def _best_seconds(work: Callable[[], Tensor], device: str) -> float:
    best = float("inf")
    for _ in range(6):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def report(rows: list[Timed], peak: float, notes: dict[str, Any]) -> str:
    """A table for people and one JSON line."""
    lines = [f"{name}: {value}" for name, value in notes.items()]
    lines.append(f"{'':44}{'ours, s':>10}{'theirs, s':>11}{'ratio':>7}{'differ':>9}{'of peak':>9}{'memory':>10}")
    for row in rows:
        theirs = f"{row.theirs:11.4g}{row.theirs / row.ours:7.2f}{row.difference:9.1e}" if row.theirs else " " * 27
        memory = f"{row.peak_bytes / 1e9:8.2f} GB" if row.peak_bytes else ""
        lines.append(f"{row.name:44}{row.ours:10.4g}{theirs}{100 * row.flops_per_second / peak:7.0f} %{memory:>11}")
    document = {**notes, "peak_flops_per_second": peak, "rows": [vars(row) for row in rows]}
    return "\n".join([*lines, json.dumps(document)])
