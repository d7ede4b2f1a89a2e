"""A small task, and a run of it by the processes that torchrun starts: `rank_run.py FOLDER CONFIG` (JSON)."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from sorano.train.loop import LoopConfig, train
from sorano.train.ranks import joined, leave


class Curve:
    """Learns a sum from noisy points; a part of the network is never used."""

    name, dtype = "curve", torch.float32

    def __init__(self, batch_size):
        torch.manual_seed(0)
        used = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 1))
        self.model = nn.ModuleDict({"used": used, "idle": nn.Linear(3, 3)})
        self.batch_size = batch_size

    def batch(self, generator):
        return {"x": torch.rand(self.batch_size, 4, generator=generator)}

    def loss(self, batch, generator):
        noise = 0.1 * torch.randn(len(batch["x"]), 1, generator=generator)
        made = self.model["used"](batch["x"])
        return (made - batch["x"].sum(1, keepdim=True) - noise).square().mean(), {}

    def sheet(self, model):
        return None


if __name__ == "__main__":
    folder, config = Path(sys.argv[1]), LoopConfig(**json.loads(sys.argv[2]))
    with joined("cpu") as (ranks, _):
        model = train(Curve(ranks.share(6)), config, folder, lambda text: None, ranks)
        save_file(model.state_dict(), folder / f"weights-{ranks.rank}.safetensors")
    leave()
