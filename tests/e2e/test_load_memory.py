"""Loading makes no second copy of the weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from sorano.models import checkpoint
from sorano.models.wan.config import TextEncoderConfig, TransformerConfig
from sorano.models.wan.text_encoder import TextEncoder
from sorano.models.wan.transformer import VideoTransformer

MEASURE = """
import json, sys, threading, time
import torch
from pathlib import Path
from sorano.models import checkpoint
from sorano.models.wan.config import TextEncoderConfig, TransformerConfig
from sorano.models.wan.text_encoder import TextEncoder
from sorano.models.wan.transformer import VideoTransformer

def anonymous():  # memory that is not a file's
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024

folder, dtype = Path(sys.argv[1]), getattr(torch, sys.argv[2])
words = json.loads((folder / "config.json").read_text())
with torch.device("meta"):
    if folder.name == "transformer":
        network = VideoTransformer(TransformerConfig.from_dict(words))
    else:
        network = TextEncoder(TextEncoderConfig.from_dict(words))
torch.ones(256, 256) @ torch.ones(256, 256)
before, most, running = anonymous(), [0], [True]

def watch():
    while running:
        most[0] = max(most[0], anonymous())
        time.sleep(0.001)

thread = threading.Thread(target=watch)
thread.start()
checkpoint.fill(folder, checkpoint.WEIGHTS[folder.name], network, dtype, "cpu")
running.clear()
thread.join()
weights = sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
print(json.dumps([weights, most[0] - before]))
"""
TRANSFORMER = TransformerConfig(num_attention_heads=8, attention_head_dim=64, ffn_dim=2048, num_layers=24, text_dim=512)
TEXT_ENCODER = TextEncoderConfig(  # an embedding of a fifth of all weights, as UMT5-XXL's
    vocab_size=32_000, d_model=512, d_kv=64, d_ff=2048, num_layers=16, num_heads=8
)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["transformer", "text_encoder"])
def test_the_peak_of_loading_is_the_weights_and_a_tenth(tmp_path, dtype, name):
    network = VideoTransformer(TRANSFORMER) if name == "transformer" else TextEncoder(TEXT_ENCODER)
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(network.config.to_dict()))
    stem, names = checkpoint.WEIGHTS[name], list(tensors)
    shards = {f"{stem}-{number}.safetensors": names[number - 1 :: 2] for number in (1, 2)}
    for file, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, folder / file, metadata={"format": "pt"})
    index = {"weight_map": {key: file for file, keys in shards.items() for key in keys}}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(folder), dtype], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    weights, peak = json.loads(done.stdout)
    assert weights > 1e8 and peak <= 1.1 * weights, (weights, peak)
