"""Runs exported graphs with ONNX Runtime or ExecuTorch: the engine's own sampling code around other networks.

    runner = Runner(Path("model"))
    clip = runner.generate("a red ball bounces on the grass at sunset", seed=5)      # clip.frames_THWC

The same seed starts from the same noise as the engine, and ends within a tolerance of its latents
(`tests/e2e/test_export.py`). The page that `sorano export web` writes does the same in JavaScript.

Not covered: marking, labelling and signing (`sorano.trust.seal` does that for frames that leave), films, other verbs
than text and frames to begin with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sorano.errors import NumericsError, RequestError
from sorano.export.graphs import GRAPHS, INPUTS, SUFFIXES, GraphShapes, read_card
from sorano.extras import require
from sorano.shapes import LatentShape

if TYPE_CHECKING:
    from sorano.sampling.schedule import Schedule

Array = NDArray[Any]
Session = Callable[[Mapping[str, Array]], Array]
"""A loaded graph: from its named inputs (`sorano.export.graphs.INPUTS`) to its result."""


@dataclass(frozen=True)
class GeneratedClip:
    """What a runner made: the latent, normalised, and its frames, uint8 RGB."""

    latent_CTHW: Array
    frames_THWC: NDArray[np.uint8]


class Runner:
    """The graphs of an exported folder, loaded; each file's digest is checked before it runs."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        """`threads` are those of the graphs; of ExecuTorch, all runners of a process share them.

        Raises CheckpointError for a folder that is not as it was exported, RequestError where its runtime is missing.
        """
        from tokenizers import Tokenizer as FastTokenizer

        from sorano.models.wan.text_encoder import Tokenizer

        self.card = read_card(folder)
        self.shapes = GraphShapes.from_card(self.card)
        runtime = self.card["runtime"]
        load = {"onnx": _onnx_session, "executorch": _executorch_session}[runtime]
        self.sessions = {name: load(folder / f"{name}{SUFFIXES[runtime]}", threads) for name in GRAPHS}
        self.tokenizer = Tokenizer(FastTokenizer.from_file(str(folder / "tokenizer.json")))
        self.cos_LK, self.sin_LK = rotary_table(self.shapes)

    def generate(
        self,
        prompt: str,
        *,
        seed: int,
        num_steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        given: NDArray[np.uint8] | None = None,
        progress: Callable[[int, int], None] = lambda step, total: None,
    ) -> GeneratedClip:
        """A clip of a prompt, which begins with `given` frames, uint8 RGB of the model's own size: one, or 1 + 4k
        (`GraphShapes.temporal`).

        Raises RequestError for a prompt longer than the graph reads, NumericsError where a step is not finite.
        """
        schedule = self.schedule(num_steps)
        guidance = self.card["guidance"] if guidance is None else guidance
        known = None if given is None else self.encode_given(given)
        texts = [self.encode_text(one) for one in ([prompt, negative_prompt] if guidance > 1 else [prompt])]
        steps = self._solved(self.noise(seed), texts, guidance, schedule, known)
        for index, latent in enumerate(steps, start=1):
            if not np.isfinite(latent).all():
                raise NumericsError(f"step {index} of {schedule.num_steps} gave numbers that are not finite")
            progress(index, schedule.num_steps)
        return GeneratedClip(latent, self.decode(latent))

    def schedule(self, num_steps: int | None = None) -> Schedule:
        """The noise levels that the model samples at."""
        from sorano.sampling.schedule import SCHEDULES

        return SCHEDULES[self.card["solver"]](num_steps or self.card["num_steps"], self.card["shift"])

    def noise(self, seed: int) -> Array:
        """The noise of a seed, [C, T, H, W]: torch's CPU generator, as everywhere in Sorano."""
        from sorano.conditions.state import start_state

        channels, *latent = self.shapes.latent_CTHW
        return start_state([seed], channels, LatentShape(*latent)).noise_BCTHW[0].numpy()

    def encode_text(self, prompt: str) -> tuple[Array, Array]:
        """The text tokens [S, D] of a prompt and what is added to their attention scores [S]."""
        from sorano.export.networks import BEYOND

        [ids], size = self.tokenizer.encode([prompt]), self.shapes.text_tokens
        count = len(ids)
        if count >= size:
            raise RequestError(
                f"the prompt is {count} tokens long; the graphs read {size - 1}", "say it in fewer words"
            )
        padded, real = np.zeros(size, np.int64), (np.arange(size) < count).astype(np.float32)
        padded[:count] = ids
        text_SD = self.sessions["text_encoder"]({"ids": padded, "real": real})
        bias_S = np.where(real > 0, 0.0, BEYOND).astype(np.float32)
        bias_S[count] = math.log(self.card["text_positions"] - count)  # the pad key stands for all padded positions
        return text_SD, bias_S

    def encode_given(self, frames_THWC: NDArray[np.uint8]) -> Array:
        """The latents [C, 1 + k, H, W] of the 1 + 4k frames that a clip begins with (4: `GraphShapes.temporal`).

        The autoencoder is causal: the first latents of a clip are the same whatever it goes on with. Raises
        RequestError for frames of another size or number, or that the model was not trained to begin with.
        """
        from sorano.conditions.state import frames_to_video

        count, wanted = len(frames_THWC), (self.shapes.height, self.shapes.width, 3)
        temporal, kind = self.shapes.temporal, "first" if count == 1 else "prefix"
        if kind not in self.card["known"]:
            begins = "a picture" if count == 1 else "frames of a video"
            raise RequestError(f"{self.card['preset']} does not begin with {begins}", "leave them out")
        if frames_THWC.shape[1:] != wanted:
            raise RequestError(f"frames are {frames_THWC.shape[1:]}, and the graph takes {wanted}", "scale them first")
        if not 1 <= count < self.shapes.num_frames or (count - 1) % temporal:
            raise RequestError(
                f"a clip of {self.shapes.num_frames} frames cannot begin with {count}",
                f"give 1, {1 + temporal}, {1 + 2 * temporal} ...",
            )
        rest = np.repeat(frames_THWC[-1:], self.shapes.num_frames - count, axis=0)
        video_BCTHW = frames_to_video(np.concatenate([frames_THWC, rest])).numpy()
        latent = self.sessions["encoder"]({"video": video_BCTHW})
        return np.asarray(latent[0, :, : 1 + (count - 1) // temporal])

    def decode(self, latent_CTHW: Array) -> NDArray[np.uint8]:
        """The frames of a latent."""
        import torch

        from sorano.conditions.state import video_to_frames

        video = self.sessions["decoder"]({"latent": latent_CTHW[None].astype(np.float32)})
        return video_to_frames(torch.from_numpy(video))

    def _solved(
        self, noise: Array, texts: list[tuple[Array, Array]], guidance: float, schedule: Schedule, known: Array | None
    ) -> Iterator[Array]:
        from sorano.sampling.guidance import classifier_free_apart
        from sorano.sampling.solver import SOLVERS

        is_known_L = np.zeros(self.shapes.num_tokens, np.float32)
        if known is not None:
            per_latent = self.shapes.num_tokens // (self.shapes.latent_CTHW[1] // self.shapes.patch_size[0])
            is_known_L[: per_latent * known.shape[1]] = 1

        def velocity_of(text: Array, bias: Array) -> Callable[[Any, float], Any]:
            def velocity(x: Any, sigma: float) -> Any:
                patches = to_patches(_with_known(x, known), self.shapes)
                timestep = np.array([schedule.timestep(sigma), 0], np.float32)
                inputs = {"patches": patches, "timestep": timestep, "known": is_known_L, "text": text, "bias": bias}
                inputs |= {"rope_cos": self.cos_LK, "rope_sin": self.sin_LK}
                return from_patches(self.sessions["transformer"](inputs), self.shapes)

            return velocity

        prompted, *plain = (velocity_of(*one) for one in texts)
        velocity = classifier_free_apart(prompted, plain[0], float(guidance)) if plain else prompted
        solver: Any = SOLVERS[self.card["solver"]]
        for _, x in solver(velocity, noise, schedule.sigmas):
            yield _with_known(x.astype(np.float32, copy=False), known)


def _onnx_session(file: Path, threads: int) -> Session:
    require("running ONNX graphs", "export")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run(None, dict(inputs))[0])


def _executorch_session(file: Path, threads: int) -> Session:
    require("running ExecuTorch programs", "executorch")
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(file)
    method, names = program.load_method("forward"), INPUTS[file.stem]

    def run(inputs: Mapping[str, Array]) -> Array:
        [result] = method.execute([torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in names])
        return result.numpy().copy()  # the next run writes into the same memory

    return run


def _with_known(x_CTHW: Array, known: Array | None) -> Array:
    return x_CTHW if known is None else np.concatenate([known, x_CTHW[:, known.shape[1] :]], axis=1)


def to_patches(latent_CTHW: Array, shapes: GraphShapes) -> Array:
    """The latent as one row for each token, [L, C*p*q*r]."""
    (c, t, h, w), (p, q, r) = shapes.latent_CTHW, shapes.patch_size
    parts = latent_CTHW.reshape(c, t // p, p, h // q, q, w // r, r).transpose(1, 3, 5, 0, 2, 4, 6)
    return np.ascontiguousarray(parts.reshape(shapes.num_tokens, shapes.patch_numbers), np.float32)


def from_patches(patches_LP: Array, shapes: GraphShapes) -> Array:
    """The latent of which the rows are the transformer's result: there, the channels come last in a patch."""
    (c, t, h, w), (p, q, r) = shapes.latent_CTHW, shapes.patch_size
    parts = patches_LP.reshape(t // p, h // q, w // r, p, q, r, c).transpose(6, 0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(parts.reshape(c, t, h, w))


def rotary_table(shapes: GraphShapes) -> tuple[Array, Array]:
    """Cosines and sines [L, K/2] of the tokens' places in time, rows and columns (`models.attention.rotation`)."""
    import torch

    from sorano.models.attention import rotation

    sides = (size // patch for size, patch in zip(shapes.latent_CTHW[1:], shapes.patch_size, strict=True))
    t, h, w = torch.meshgrid(*(torch.arange(side) for side in sides), indexing="ij")
    table_L1K2 = rotation((t.flatten(), h.flatten(), w.flatten()), shapes.head_dim)
    return table_L1K2[:, 0, :, 0].contiguous().numpy(), table_L1K2[:, 0, :, 1].contiguous().numpy()
