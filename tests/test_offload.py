"""Blocks that visit the device one after the other give what resident blocks give, and hold no more than two."""

from dataclasses import replace

import pytest
import tiny
import torch

from sorano.models.offload import BlockOffload


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_result_is_the_same():
    network = tiny.transformer(replace(tiny.TRANSFORMER, num_layers=5)).cuda()
    text = tiny.text((5,)).to("cuda")
    with torch.no_grad():
        expected = network(tiny.latent(1).cuda(), torch.tensor([500.0]).cuda(), text)
        BlockOffload(network.blocks, "cuda")
        assert torch.equal(network(tiny.latent(1).cuda(), torch.tensor([500.0]).cuda(), text), expected)
