"""The Wan family at full size on a GPU, beside diffusers in the same process: a table, and one JSON line.

    python benchmarks/wan_gpu.py [--repeats 3] [--no-peer] [--small]

Random weights at the exact shapes that others publish; quoted figures stand beside ours, with where they are from.
`--small` runs the same code at toy sizes on any machine. Fifty steps with guidance are 100 forward passes; `--whole`
runs them, and otherwise they are multiplied from one pass, under "derived".
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import replace
from typing import Any

import torch
from wan_parts import Row, Timed, decoder, measure, peak_rate, report, text_encoder, transformer

from sorano.models.wan import sizes
from sorano.shapes import VideoShape

QUOTED = {  # seconds on one H200 unless said; each with its source
    "1.3B 480x832x81, 50 steps with guidance": "95.21 FastVideo FA2; 52.46 LightX2V (H100, whole)",
    "1.3B 480x832x81, 3 forwards": "2.88 FastVideo FA2, 2.14 FA3, 1.49 FA3 and compile",
    "decode 480x832x81": "2.36 LightX2V (H100), 1.56 SGLang",
    "5B 704x1280x121, a forward": "157.21 for 100 at 101 to 121 frames, FastVideo FA2",
    "text encoder": "0.28 LightX2V (H100), 1.16 SGLang in float32",
}
SMALL_TEXT = replace(sizes.UMT5_XXL, vocab_size=4096, d_model=256, d_ff=512, num_layers=2, num_heads=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true", help="leave diffusers out")
    parser.add_argument("--small", action="store_true", help="toy sizes, on the CPU where there is no GPU")
    parser.add_argument("--whole", action="store_true", help="also run the 100 forward passes of 50 steps")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not args.small:
        parser.error("there is no GPU here: --small runs the same code at toy sizes")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32  # which many processors emulate, slowly
    peer = not args.no_peer
    timed: list[Timed] = []
    for build in builders(device, dtype, peer, args.small):  # one at a time: the largest fills most of a GPU
        row = build()
        timed.append(measure(row, args.repeats, device))
        if args.whole and row.name.startswith("1.3B"):
            timed.append(whole(row, device))
        del row
        gc.collect()  # the networks are in cycles
        if device == "cuda":
            torch.cuda.empty_cache()
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    machine = f"{name}, torch {torch.__version__}, {str(dtype).removeprefix('torch.')}"
    notes: dict[str, Any] = {"machine": machine, "quoted": QUOTED}
    notes["derived"] = derived(timed)
    print(report(timed, peak_rate(device, dtype, 8192 if device == "cuda" else 1024), notes))


def builders(device: str, dtype: torch.dtype, peer: bool, small: bool) -> list[Any]:
    """What is timed, each made when its turn comes."""
    if small:
        tiny = replace(sizes.T2V_1_3B, num_attention_heads=2, num_layers=2, ffn_dim=512, text_dim=256)
        shape, vae = VideoShape(9, 64, 96), replace(sizes.VAE_2_1, base_dim=16)
        return [
            lambda: transformer(tiny, shape, 8, device, dtype, peer=peer, name="1.3B (toy), a forward"),
            lambda: decoder(vae, shape, device, dtype, peer=peer),
            lambda: text_encoder(SMALL_TEXT, device, dtype, peer=peer),
        ]
    wide, square = VideoShape(81, 480, 832), VideoShape(121, 704, 1280)
    return [
        lambda: transformer(sizes.T2V_1_3B, wide, 8, device, dtype, peer=peer, name="1.3B 480x832x81, a forward"),
        lambda: decoder(sizes.VAE_2_1, wide, device, dtype, peer=peer),
        lambda: decoder(sizes.VAE_2_2, square, device, dtype, peer=peer),
        lambda: text_encoder(sizes.UMT5_XXL, device, dtype, peer=peer),
        lambda: transformer(sizes.TI2V_5B, square, 16, device, dtype, peer=peer, name="5B 704x1280x121, a forward"),
    ]


def whole(row: Row, device: str, forwards: int = 100) -> Timed:
    """Fifty steps with guidance as they run: 100 forward passes without a pause."""
    with torch.inference_mode():
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(forwards):
            row.ours()
        if device == "cuda":
            torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    return Timed(f"{row.name} x {forwards}", seconds, None, None, forwards * row.flops / seconds)


def derived(timed: list[Timed]) -> dict[str, float]:
    """What follows from one forward pass of the 1.3B model."""
    forward = next((row for row in timed if row.name.startswith("1.3B") and " x " not in row.name), None)
    if forward is None:
        return {}
    return {"50 steps with guidance, 100 x a forward, s": 100 * forward.ours, "3 forwards, s": 3 * forward.ours}


if __name__ == "__main__":
    main()
