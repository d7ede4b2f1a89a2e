"""Loading makes no second copy of the weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sorano.models import checkpoint
from sorano.models.config import TransformerConfig
from sorano.models.transformer import VideoTransformer

MEASURE = """
import json, sys, threading, time
import torch
from pathlib import Path
from sorano.models import checkpoint
from sorano.models.config import TransformerConfig
from sorano.models.transformer import VideoTransformer

def anonymous():  # memory that is not a file's
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024

with torch.device("meta"):
    network = VideoTransformer(TransformerConfig.from_dict(json.loads(Path(sys.argv[1], "config.json").read_text())))
torch.ones(256, 256) @ torch.ones(256, 256)
before, most, running = anonymous(), [0], [True]

def watch():
    while running:
        most[0] = max(most[0], anonymous())
        time.sleep(0.001)

thread = threading.Thread(target=watch)
thread.start()
checkpoint.fill(Path(sys.argv[1]), checkpoint.WEIGHTS["transformer"], network, getattr(torch, sys.argv[2]), "cpu")
running.clear()
thread.join()
weights = sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
print(json.dumps([weights, most[0] - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_peak_of_loading_is_the_weights_and_a_tenth(tmp_path, dtype):
    config = TransformerConfig(num_attention_heads=8, attention_head_dim=64, ffn_dim=2048, num_layers=24, text_dim=512)
    tensors = {name: tensor for name, tensor in VideoTransformer(config).state_dict().items()}
    from safetensors.torch import save_file

    folder = tmp_path / "transformer"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    done = subprocess.run([sys.executable, "-c", MEASURE, str(folder), dtype], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    weights, peak = json.loads(done.stdout)
    assert weights > 2e8 and peak <= 1.1 * weights, (weights, peak)
    assert checkpoint.WEIGHTS["transformer"] == "diffusion_pytorch_model" and torch.float32.itemsize == 4
