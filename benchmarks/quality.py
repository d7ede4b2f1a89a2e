"""Quality against compute: what the weights that one training run kept can do, by the world's exact measures.

    sorano train world --recipe curve --init world -o runs/curve
    python benchmarks/quality.py runs/curve [--clips 64] [--docs]

Each of the kept weights makes the same held-out captions from the same noise. Compute is that of training the
transformer and the text encoder: three forward passes a step, by the closed form that `--dry-run` prints. What was
scored stays beside the weights. Prints the table and one JSON line; `--docs` draws docs/quality.svg and
docs/quality.jpg from it.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

from sorano.files import write_atomic
from sorano.models import checkpoint
from sorano.plan.estimate import Chart
from sorano.presets import find_preset
from sorano.train import recipes
from sorano.train.loop import kept_weights, load_averages
from sorano.world.score import Sampler, find_silhouettes, generate_exam, score

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
from charts import standalone  # noqa: E402

PROMPTS = (
    "a red ball bounces on the grass at sunset",
    "a large blue cube spins on the snow at night",
    "a green torus rolls right on the sand at noon",
    "a yellow cone falls on the stone at dawn",
)  # of the picture


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run that kept weights")
    parser.add_argument("--recipe", default="curve")
    parser.add_argument("--init", default="world", help="whose autoencoder the run began from")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    recipe = recipes.find(options.recipe)
    rows, tiles = [], []
    for step in recipe.flow.keep:
        weights = kept_weights(options.run / "flow", step)
        if not weights.exists():
            continue
        sampler = load(recipe, weights, options.init)
        rows.append(
            {
                "steps": step,
                "tflop": 3 * step * recipe.flow.batch_size * recipes.flow_flops(recipe) / 1e12,
                **scored(sampler, options.clips, weights),
            }
        )
        tiles.append(sampler.generate(PROMPTS, range(len(PROMPTS)))[:, recipe.num_frames // 2])
        print(line(rows[-1]), flush=True)
    print(json.dumps({"benchmark": "quality", "clips": options.clips, "rows": rows}))
    if options.docs:
        draw(rows, tiles)


def load(recipe, weights, init):
    """The sampler of kept weights."""
    source = checkpoint.load(find_preset(init).folder)
    tokenizer, model = recipes.networks(recipe, "cpu")
    load_averages(weights, model)
    bundle = recipes.bundle_of(recipe, model.requires_grad_(False).eval(), source.vae, tokenizer)
    return Sampler(bundle, recipe.num_steps, recipe.guidance, size=recipe.size, num_frames=recipe.num_frames)


def scored(sampler, num_clips, weights):
    """The scores of kept weights, which stay beside them."""
    held = weights.with_suffix(f".{num_clips}.json")
    if not held.exists():
        made, texts = generate_exam(sampler.generate, "heldout", num_clips)
        scores = score(made, texts, silhouettes=find_silhouettes())
        write_atomic(held, json.dumps(scores.to_dict()))
    return json.loads(held.read_text(encoding="utf-8"))


def line(row):
    """A row of the table of docs/quality.md."""
    share = {name: f"{100 * value:.0f}" for name, value in row["accuracy"].items()}
    shares = " | ".join(
        share[name] for name in ("ground", "time", "camera", "count", "color", "kind", "size", "motion")
    )
    rest = f"{100 * row['all_correct']:.0f} | {100 * row['permanence']:.0f} | {percent(row['outline'])}"
    return f"| {row['steps']} | {row['tflop']:.1f} | {shares} | {rest} | {percent(row['velocity_error'])} |"


def percent(value):
    return "-" if value is None else f"{100 * value:.0f}"


def draw(rows, tiles):
    """The chart and the picture of docs/quality.md."""
    import cv2

    names = {"ground": "ground", "camera": "camera", "color": "colour", "kind": "thing", "motion": "motion"}
    compute = [math.log10(1e12 * row["tflop"]) for row in rows]
    shares = {name: [row["accuracy"][key] for row in rows] for key, name in names.items()}
    shares["all correct"] = [row["all_correct"] for row in rows]
    series = tuple((name, tuple((x, 100 * y) for x, y in zip(compute, ys, strict=True))) for name, ys in shares.items())
    title, across = "Quality against compute", "training compute, log10 of FLOPs"
    chart = Chart(title, across, "right, %", series, log=False)
    (DOCS / "quality.svg").write_text(standalone(chart), encoding="utf-8")
    picture = np.concatenate([np.concatenate(list(column)) for column in tiles], 1)
    cv2.imwrite(str(DOCS / "quality.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


if __name__ == "__main__":
    main()
