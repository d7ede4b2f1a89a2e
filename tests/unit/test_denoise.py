"""The loop: steps, known latents, batches, guidance, and numbers that go wrong."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

from sorano.errors import NumericsError
from sorano.models.wan.text_encoder import TextTokens
from sorano.sampling.denoise import ConditioningLatents, Step, denoise, transformer_velocity
from sorano.sampling.schedule import euler_schedule, unipc_schedule
from sorano.sampling.solver import euler

SCHEDULE = unipc_schedule(4, 3.0)


def _known(batch: int = 2) -> dict[str, Tensor]:
    mask = torch.zeros(batch, 3, 4, 6, dtype=torch.bool)
    mask[:, 0] = True
    return {"known_BCTHW": tiny.latent(batch, seed=8), "known_mask_BTHW": mask}


def _run(*args: object, **kwargs: object) -> list[Step]:
    return list(denoise(tiny.transformer(), *args, **kwargs))  # type: ignore[arg-type]


def test_steps_count_up_and_sigma_falls_to_zero() -> None:
    steps = _run(tiny.latent(), tiny.text(), SCHEDULE)
    assert [(step.index, step.num_steps) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [step.sigma for step in steps] == SCHEDULE.sigmas[1:]
    assert all(step.latent.shape == (2, 16, 3, 4, 6) for step in steps)


def test_the_same_noise_gives_the_same_video_alone_and_in_a_batch() -> None:
    arguments = {"negative_text": tiny.text((1,), seed=6), "guidance": 3.0}
    together = _run(tiny.latent(), tiny.text(), SCHEDULE, **arguments)[-1].latent
    for i in range(2):
        alone = _run(tiny.latent()[i : i + 1], tiny.text()[i : i + 1], SCHEDULE, **arguments)[-1].latent
        assert tiny.error(together[i : i + 1], alone) < 1e-5


def test_guidance_equals_two_runs_combined_by_hand() -> None:
    model, x, schedule = tiny.transformer(), tiny.latent(), euler_schedule(3, 3.0)
    text, negative = tiny.text(), tiny.text((1, 1), seed=6)
    found = list(denoise(model, x, text, schedule, negative_text=negative, guidance=3.0, solver=euler))[-1].latent
    for i, timestep in enumerate(schedule.timesteps):
        time = torch.tensor([timestep, timestep])
        prompted, plain = model(x, time, text), model(x, time, negative)
        x = x + (schedule.sigmas[i + 1] - schedule.sigmas[i]) * (plain + 3.0 * (prompted - plain))
    assert tiny.error(found, x) < 1e-5


def test_guidance_one_runs_one_branch() -> None:
    batches = []
    model = tiny.transformer()
    model.register_forward_pre_hook(lambda module, args: batches.append(args[0].shape[0]))
    plain = list(denoise(model, tiny.latent(), tiny.text(), SCHEDULE))[-1].latent
    same = list(denoise(model, tiny.latent(), tiny.text(), SCHEDULE, negative_text=tiny.text(), guidance=1.0))
    assert set(batches) == {2}
    assert torch.equal(same[-1].latent, plain)


def test_known_latents_stand_in_every_step_and_reach_the_network_at_timestep_zero() -> None:
    known, seen = _known(), []
    model = tiny.transformer()
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args[0], args[1], kwargs["timestep_index_BL"])), with_kwargs=True
    )
    steps = list(denoise(model, tiny.latent(), tiny.text(), SCHEDULE, **known))
    for step in steps:
        assert torch.equal(step.latent[:, :, 0], known["known_BCTHW"][:, :, 0])
    for (latent, timestep, times), expected in zip(seen, SCHEDULE.timesteps, strict=True):
        assert torch.equal(latent[:, :, 0], known["known_BCTHW"][:, :, 0])
        assert timestep.tolist() == [[expected, 0.0]] * 2
        assert times.runs == [(0, 6, 1), (6, 18, 0)]  # tokens of the first latent frame, then the others


def test_known_latents_are_never_integrated() -> None:
    """Noise under the known part makes no difference to the rest."""
    other = tiny.latent()
    other[:, :, 0] = 1000 * tiny.latent(seed=10)[:, :, 0]
    runs = [_run(noise, tiny.text(), SCHEDULE, **_known())[-1].latent for noise in (tiny.latent(), other)]
    assert torch.equal(*runs)
    assert tiny.error(runs[0][:, :, 1:], _run(tiny.latent(), tiny.text(), SCHEDULE)[-1].latent[:, :, 1:]) > 1e-3


def test_known_parts_may_differ_between_items_and_serve_both_branches() -> None:
    known = _known()
    known["known_mask_BTHW"][1] = False
    arguments = {"negative_text": tiny.text((1,), seed=6), "guidance": 3.0}
    together = _run(tiny.latent(), tiny.text(), SCHEDULE, **known, **arguments)[-1].latent
    for i in range(2):
        part = {name: value[i : i + 1] for name, value in known.items()}
        alone = _run(tiny.latent()[i : i + 1], tiny.text()[i : i + 1], SCHEDULE, **part, **arguments)[-1].latent
        assert tiny.error(together[i : i + 1], alone) < 1e-5


def test_a_mask_that_cuts_through_a_token_is_refused() -> None:
    known = _known()
    known["known_mask_BTHW"][0, 1, 0, 0] = True
    with pytest.raises(ValueError, match="constant over patches"):
        _run(tiny.latent(), tiny.text(), SCHEDULE, **known)


def test_a_keyframe_is_an_extra_latent_frame_with_its_own_position() -> None:
    mask = torch.zeros(2, 4, 4, 6, dtype=torch.bool)
    mask[:, 3] = True
    known = {"known_BCTHW": tiny.latent(frames=4, seed=8), "known_mask_BTHW": mask}
    near, far = (
        _run(tiny.latent(frames=4), tiny.text(), SCHEDULE, positions_T=[0, 1, 2, position], **known)[-1].latent
        for position in (1.25, 40.0)
    )
    assert tiny.error(near[:, :, :3], far[:, :, :3]) > 1e-4


def test_positions_of_the_frames_themselves_change_nothing_when_left_out() -> None:
    default = _run(tiny.latent(), tiny.text(), SCHEDULE)[-1].latent
    assert torch.equal(_run(tiny.latent(), tiny.text(), SCHEDULE, positions_T=(0.0, 1.0, 2.0))[-1].latent, default)


def test_bfloat16_networks_keep_a_float32_state() -> None:
    exact = _run(tiny.latent(), tiny.text(), SCHEDULE)[-1].latent
    rounded = _run(tiny.latent(), tiny.text(), SCHEDULE, dtype=torch.bfloat16)[-1].latent
    assert rounded.dtype == torch.float32
    assert 0 < tiny.error(rounded, exact) < 0.05


def test_a_step_that_is_not_finite_stops_the_run_with_its_cause() -> None:
    model = tiny.transformer()
    model.proj_out.bias.data[3] = torch.nan
    with pytest.raises(NumericsError, match=r"step 1 of 4 \(sigma 0\.900\).*float32"):
        list(denoise(model, tiny.latent(), tiny.text(), SCHEDULE))


def test_guidance_without_a_negative_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="negative_text"):
        _run(tiny.latent(), tiny.text(), SCHEDULE, guidance=2.0)


def test_one_negative_text_serves_the_whole_batch() -> None:
    one, both = tiny.text((1,), seed=6), TextTokens.cat([tiny.text((1,), seed=6)] * 2)
    runs = [_run(tiny.latent(), tiny.text(), SCHEDULE, negative_text=text, guidance=2.0) for text in (one, both)]
    assert torch.equal(runs[0][-1].latent, runs[1][-1].latent)


def test_the_loop_makes_no_gradients() -> None:
    model = tiny.transformer().requires_grad_(True)
    steps = denoise(model, tiny.latent(), tiny.text(), SCHEDULE)
    assert not next(iter(steps)).latent.requires_grad
    assert torch.is_grad_enabled()


def test_after_the_first_step_no_tensor_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading would make an accelerator wait. (Positions are numbers of the host.)"""
    given = _known()
    known = ConditioningLatents(given["known_BCTHW"], given["known_mask_BTHW"])
    velocity = transformer_velocity(tiny.transformer(), tiny.text(), SCHEDULE, known=known)
    with torch.no_grad():
        first = velocity(tiny.latent(), SCHEDULE.sigmas[0])
        for name in ("__bool__", "__float__", "__int__", "item"):
            monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("a tensor was read"))
        monkeypatch.setattr(torch, "equal", lambda *_: pytest.fail("two tensors were compared"))
        second = velocity(tiny.latent(), SCHEDULE.sigmas[1])
    monkeypatch.undo()
    assert not torch.equal(first, second)
