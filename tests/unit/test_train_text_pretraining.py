"""The text encoder learns to say what a caption states."""

import dataclasses

import pytest
import torch

from sorano.models.wan.text_encoder import TextEncoder, build_tokenizer
from sorano.train import recipes
from sorano.train.loop import LoopConfig, step_generator, train
from sorano.train.text_pretraining import TextPretrainingTask, slots
from sorano.world import caption, scene


def quiet(text: str) -> None:
    pass


def task(num_clips: int = 60, batch_size: int = 64) -> TextPretrainingTask:
    torch.manual_seed(0)
    encoder = TextEncoder(dataclasses.replace(recipes.find("smoke").text_encoder, d_model=64, d_kv=32, d_ff=128))
    captions = [
        [caption.describe(scene.draw_attributes("train", seed), f"{seed}:{n}", language) for n in range(3)]
        for seed in range(num_clips)
        for language in caption.LANGUAGES
    ]
    return TextPretrainingTask(
        encoder, build_tokenizer(caption.words()), captions, batch_size=batch_size, dtype=torch.float32
    )


def test_slots_say_what_is_stated_and_where_the_caption_is_silent():
    found = slots(caption.parse("a big red ball that bounces right of a blue cube on the grass at night"))
    assert (found["kind 0"], found["color 0"], found["size 0"], found["motion 0"]) == ("cube", "blue", None, None)
    assert (found["kind 1"], found["color 1"], found["size 1"], found["motion 1"]) == (
        "ball",
        "red",
        "large",
        "bounces",
    )
    assert (found["relation"], found["ground"], found["time"], found["camera"]) == ("left of", "grass", "night", None)
    assert found["kind 2"] is None


def test_values_that_a_slot_does_not_have_are_never_named():
    made = task(num_clips=8)
    scores = made.model(made.ids[:5], torch.float32)
    sizes = [len(values) for values in made.values.values()]
    assert scores.shape == (5, len(sizes), max(sizes))
    for slot, size in enumerate(sizes):
        assert scores[:, slot, :size].isfinite().all() and (scores[:, slot, size:] == -torch.inf).all()


def test_what_it_says_of_a_caption_does_not_hang_on_its_neighbours_in_the_batch():
    made = task(num_clips=8)
    short, long = sorted(made.ids, key=len)[0], sorted(made.ids, key=len)[-1]
    with torch.no_grad():
        assert torch.allclose(
            made.model([short, long], torch.float32)[0], made.model([short], torch.float32)[0], atol=1e-5
        )


def test_it_learns_to_read(tmp_path):
    made = task()
    config = LoopConfig(num_steps=120, learning_rate=5e-3, warmup_steps=5, log_every=120)
    train(made, config, tmp_path, quiet)
    batch = made.batch(step_generator(7, 0))
    with torch.no_grad():
        scores = made.model(batch["ids"], torch.float32)
    right = (scores.argmax(-1) == batch["truth_BQ"]).float().mean(0)
    ground = list(made.values).index("ground")
    assert right[ground] > 0.9, right
    assert right.mean() == pytest.approx(1, abs=0.2)
