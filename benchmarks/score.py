"""What the embedded model gets right: the evaluator's table, with ceilings, floors and aims, and one JSON line.

    python benchmarks/score.py [--clips 200] [--recipe cpu|gpu] [--num-steps 24] [--guidance 4] [FOLDER]

FOLDER is a preset or a diffusers folder; the default is the embedded model.
"""

from __future__ import annotations

import sys

from sorano.world.score import main

if __name__ == "__main__":
    main(["model", *sys.argv[1:]])
