"""Blocks that visit the device one after the other give what resident blocks give, and hold no more than two."""

from dataclasses import replace

import pytest
import tiny
import torch

from sorano.models.layers import fused
from sorano.models.offload import BlockOffload
from sorano.models.wan.transformer import FUSED


def velocity(network) -> torch.Tensor:
    with torch.no_grad():
        return network(tiny.latent(1), torch.tensor([500.0]), tiny.text((5,)))


def test_the_result_is_the_same_bit_for_bit_and_two_blocks_are_there_at_most():
    network = tiny.transformer(replace(tiny.TRANSFORMER, num_layers=5))
    expected = velocity(network)
    kept = {name: tensor.data_ptr() for name, tensor in network.named_parameters()}
    offload = BlockOffload(network.blocks, "cpu")
    for _ in range(2):  # the second pass begins with the block that the first has fetched ahead
        assert torch.equal(velocity(network), expected)
    assert offload.most == 2
    offload.close()
    assert torch.equal(velocity(network), expected)
    assert {name: tensor.data_ptr() for name, tensor in network.named_parameters()} == kept


def test_a_block_computes_with_a_copy_and_its_weights_come_back_untouched():
    network = tiny.transformer()
    offload = BlockOffload(network.blocks, "cpu")
    seen = []
    block = network.blocks[1]
    block.register_forward_pre_hook(lambda *_: seen.append(block.ffn.net[2].weight.data_ptr()))
    before = block.ffn.net[2].weight.data_ptr()
    velocity(network)
    assert seen[0] != before == block.ffn.net[2].weight.data_ptr()
    offload.close()


def test_a_block_on_the_device_has_its_weights_side_by_side_there():
    network = tiny.transformer()
    offload = BlockOffload(network.blocks, "cpu")
    seen = []
    for block in network.blocks:
        block.register_forward_pre_hook(
            lambda block, _: seen.append(fused([getattr(block.attn1, name) for name in FUSED]))
        )
    velocity(network)
    offload.close()
    assert len(seen) == 2 and None not in seen
    assert all(fused([getattr(block.attn1, name) for name in FUSED]) is None for block in network.blocks)


def test_a_pass_that_breaks_off_leaves_no_more_blocks_on_the_device():
    network = tiny.transformer(replace(tiny.TRANSFORMER, num_layers=5))
    expected = velocity(network)
    offload = BlockOffload(network.blocks, "cpu")

    def stop(*_):
        raise KeyboardInterrupt

    hook = network.blocks[2].attn1.to_out.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        velocity(network)
    hook.remove()
    assert torch.equal(velocity(network), expected)
    assert offload.most == 2
    offload.close()


def test_places_made_in_inference_mode_are_filled_in_any_mode():
    network = tiny.transformer()
    expected = velocity(network)
    with torch.inference_mode():
        offload = BlockOffload(network.blocks, "cpu")
        velocity(network)
    assert torch.equal(velocity(network), expected)
    offload.close()


class FakeStream:
    """Says in what order a device would be told to wait."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def record_event(self):
        self.log.append((self.name, "record", len(self.log)))
        return len(self.log) - 1

    def wait_event(self, event):
        self.log.append((self.name, "wait", event))

    def wait_stream(self, other):
        self.log.append((self.name, "wait for", other.name))


def test_a_place_is_filled_after_its_last_block_has_computed(monkeypatch):
    network = tiny.transformer(replace(tiny.TRANSFORMER, num_layers=5))
    log: list = []
    copies, compute = FakeStream("copies", log), FakeStream("compute", log)
    current = [compute]

    class Inside:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            current.append(self.stream)

        def __exit__(self, *_):
            current.pop()

    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: current[-1])
    monkeypatch.setattr(torch.cuda, "stream", Inside)
    offload = BlockOffload(network.blocks, "cpu")
    offload.copies = copies
    offload.free = type(offload.free)((place, offload._event()) for place, _ in offload.free)
    velocity(network)
    offload.close()
    done = [event for name, what, event in log if (name, what) == ("compute", "record")]
    arrived = [event for name, what, event in log if (name, what) == ("copies", "record")]
    waits = [event for name, what, event in log if (name, what) == ("copies", "wait")]
    assert waits == done[: len(waits)]  # in turn: the two empty places, then each block's end frees its place
    assert [event for name, what, event in log if (name, what) == ("compute", "wait")] == arrived[:5]
    assert log[-1] == ("compute", "wait for", "copies")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_result_is_the_same():
    network = tiny.transformer(replace(tiny.TRANSFORMER, num_layers=5)).cuda()
    text = tiny.text((5,)).to("cuda")
    with torch.no_grad():
        expected = network(tiny.latent(1).cuda(), torch.tensor([500.0]).cuda(), text)
        BlockOffload(network.blocks, "cuda")
        assert torch.equal(network(tiny.latent(1).cuda(), torch.tensor([500.0]).cuda(), text), expected)
