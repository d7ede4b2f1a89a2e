"""Clips of the engine's own networks, which those of exported ones are compared with."""

import numpy as np

from sorano.presets import preset_of_folder

PROMPT = "a red ball bounces on the grass at sunset"


def engine_clip(folder, seed, num_steps, given=None):
    """(latent_CTHW, frames_THWC) of the engine's own networks, in float32."""
    import torch

    from sorano.conditions.state import frames_to_video, start_state, video_to_frames
    from sorano.models.registry import load
    from sorano.sampling.denoise import denoise
    from sorano.sampling.schedule import SCHEDULES, read_scheduler_config
    from sorano.shapes import VideoShape, parse_size

    preset = preset_of_folder(folder)
    bundle = load(folder, device="cpu", dtype=torch.float32)
    width, height = parse_size(preset.size)
    latent = bundle.geometry.latent(VideoShape(preset.num_frames, height, width))
    state = start_state([seed], bundle.vae.config.z_dim, latent)
    with torch.inference_mode():
        if given is not None:
            state = state.with_known(bundle.vae.encode_latent(frames_to_video(given)))
        text = bundle.text_encoder.encode(bundle.tokenizer.encode([PROMPT, ""]))
        solver, shift = read_scheduler_config(bundle.scheduler_config)
        steps = list(
            denoise(
                bundle.transformer, state.noise_BCTHW, text[:1], SCHEDULES[solver](num_steps, shift),
                negative_text=text[1:], guidance=preset.guidance,
                known_BCTHW=state.known_BCTHW, known_mask_BTHW=state.known_mask_BTHW,
            )
        )  # fmt: skip
        made = steps[-1].latent
        return made[0].numpy(), video_to_frames(bundle.vae.decode(made))


def psnr(a, b):
    error = np.square(a.astype(np.float64) - b).mean()
    return 10 * np.log10(255**2 / max(error, 1e-9))
