"""Targets from the truth on the latent grid, and the heads that read them."""

import dataclasses

import numpy as np
import torch

from sorano.train.truth import MAX_THINGS, WORDS, Truth, TruthHeads, cells_of, truth_of
from sorano.world.dataset import lay, sample
from sorano.world.scene import FULL_CAMERAS


def test_a_cell_is_the_things_that_covers_most_of_it_over_its_frames():
    mask = np.zeros((5, 32, 32), np.uint8)
    mask[0, :16, :16] = 1  # the first latent codes the first frame alone
    mask[1:4, 16:, 16:] = 2
    mask[4, 16:, 16:] = 1
    mask[1:, :8, 16:20] = 1  # too small a share of its cell
    cells = cells_of(mask, 16, 4)
    assert cells.tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 2]]]


def test_targets_follow_the_world():
    size = {"num_frames": 25, "height": 64, "width": 64}
    seed = next(n for n in range(99) if "rolls right" in str(lay("train", n, **size).attributes))
    laid, clip = lay("train", seed, **size), sample("train", seed, **size)
    truth = truth_of(laid, clip.mask_THW, 12.0, 16, 4)
    assert truth.cells_NTHW.shape == (1, 7, 4, 4) and truth.turn_NT2.shape == (1, 7, 2)
    assert int(truth.cells_NTHW.max()) == len(laid.attributes.things)
    assert FULL_CAMERAS[int(truth.camera_N[0])] == laid.attributes.camera
    for number, thing in enumerate(laid.attributes.things):
        found = [labels[int(i) - 1] for i, labels in zip(truth.words_NSF[0, number], WORDS.values(), strict=True)]
        assert found == [thing.kind, thing.color, thing.size, thing.motion]
        if thing.motion == "rolls right":
            assert (truth.thing_motion_NTS4[0, :, number, 0] > 0.2).all()
    assert (truth.words_NSF[0, len(laid.attributes.things) :] == 0).all()
    depth = truth.thing_motion_NTS4[0, 0, 0, 3].float().exp()
    assert 2 < depth < 10


def random_truth(clips: int = 2, frames: int = 3) -> Truth:
    generator = torch.Generator().manual_seed(0)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator, dtype=torch.uint8)

    words = torch.stack([1 + draw(len(labels), clips, MAX_THINGS) for labels in WORDS.values()], -1)
    moved = torch.randn(clips, frames, MAX_THINGS, 4, generator=generator).half()
    turn = torch.randn(clips, frames, 2, generator=generator).half()
    return Truth(draw(3, clips, frames, 4, 4), words, moved, draw(len(FULL_CAMERAS), clips), turn)


def test_heads_learn_the_truth_of_tokens_that_hold_it():
    """Tokens in the transformer's order, each with a mark of its own: only a head in the same order can name them."""
    torch.manual_seed(0)
    truth = random_truth()
    tokens = torch.randn(2, 3 * 2 * 2, 48)
    heads = TruthHeads(48, (2, 2))
    optimizer = torch.optim.Adam(heads.parameters(), lr=1e-2)
    for _ in range(150):
        loss, numbers = heads.loss(tokens, truth, torch.float32)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(numbers[f"read_{name}"] > 0.95 for name in WORDS) and loss < 0.5


def test_cells_reach_the_token_that_lies_over_them():
    truth = random_truth(1, 2)
    cells = torch.zeros_like(truth.cells_NTHW)
    cells[0, 1, 2, 1] = 1  # second frame, second row of tokens, first column; its upper right cell
    by_token = TruthHeads(8, (2, 2))._by_token(cells)
    assert by_token.shape == (1, 8, 4) and by_token.nonzero().tolist() == [[0, 6, 1]]


def test_windows_of_the_truth_are_cut_as_those_of_the_latents():
    truth = random_truth(4, 5)
    cut = truth.window(torch.tensor([3, 1]), 1, 2)
    assert torch.equal(cut.cells_NTHW[0], truth.cells_NTHW[3, 1:3])
    assert torch.equal(cut.words_NSF[1], truth.words_NSF[1])
    joined = Truth.joined([truth, truth])
    assert len(joined) == 8 and dataclasses.astuple(joined)[0].shape[0] == 8
