"""The Wan family's networks beside diffusers' on a CPU, at small sizes: a table, and one JSON line.

    python benchmarks/wan_cpu.py [--repeats 5] [--dtype bfloat16 float32]

Random weights, the same on both sides, in the same dtype and the same process, turn about; medians. Sizes are a small
fraction of the official ones, with their proportions: heads of 128, patches of 1 x 2 x 2, four levels in the VAE.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import replace

import torch
from wan_parts import decoder, measure, peak_rate, report, text_encoder, transformer

from sorano.models.wan import sizes
from sorano.shapes import VideoShape

TRANSFORMER = replace(sizes.T2V_1_3B, num_attention_heads=4, num_layers=6, ffn_dim=2048, text_dim=512)
BY_TOKEN = replace(TRANSFORMER, in_channels=48, out_channels=48)
TEXT = replace(sizes.UMT5_XXL, vocab_size=4096, d_model=512, d_ff=1280, num_layers=6, num_heads=8)
VAE_2_1 = replace(sizes.VAE_2_1, base_dim=32)
VAE_2_2 = replace(sizes.VAE_2_2, base_dim=32, decoder_base_dim=48)
SMALL, LARGE = VideoShape(9, 128, 192), VideoShape(17, 192, 320)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float32"])
    args = parser.parse_args()
    for name in args.dtype:
        dtype = getattr(torch, name)
        rows = [
            transformer(TRANSFORMER, SMALL, 8, "cpu", dtype, branches=2, name="transformer, 128x192x9, guided"),
            transformer(TRANSFORMER, LARGE, 8, "cpu", dtype, name="transformer, 192x320x17"),
            decoder(VAE_2_1, SMALL, "cpu", dtype, name="decode, kind of 2.1, 192x128x9"),
            decoder(VAE_2_2, SMALL, "cpu", dtype, name="decode, kind of 2.2, 192x128x9"),
            text_encoder(TEXT, "cpu", dtype),
        ]
        machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {name}"
        timed = [measure(row, args.repeats, "cpu") for row in rows]
        print(report(timed, peak_rate("cpu", dtype, 2048), {"machine": machine}))


if __name__ == "__main__":
    main()
