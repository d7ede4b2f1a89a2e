"""A run: the segments of a job one after the other, in constant memory, on their way to one file.

    WholeSegment       noise -> latents -> frames, composed with what the conditions give
    GeneratedSegment   windows of latents -> decoder -> frames, each window going on from the one before
    CopiedSegment      frames of a given video

A window of latents begins with what is known: nothing, a picture, the last latents of the window before (the decoder
keeps its cache, so there is no seam), or the last frames of a given video, encoded. It may end with what is known as
well: the first frames of the video that it leads to. So a film of ten minutes costs ten times one of a minute, and its
memory is that of one window.

While a film grows, NAME.mp4.parts/film.h264 can be played. A run that was killed goes on from its work folder
(`sorano resume`), in float32 with the same frames.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sorano.conditions import FirstFrame, frames_to_video, unknown
from sorano.errors import RequestError, VideoError
from sorano.frames import Rate, blend_into_frame, crossfade, fade_out_error
from sorano.listener import Listener, OnceListener
from sorano.pipeline import (
    ModelEncoder,
    composed,
    decode,
    denoise,
    encode_text,
    finite_frames,
    inferred,
    read_loras,
    require_picture,
    start,
    with_given,
)
from sorano.segments import (
    CONTEXT,
    OVERLAP,
    SUFFIX,
    CopiedSegment,
    GeneratedSegment,
    WholeSegment,
    frames_of,
    layout,
    longest_window,
    window_latents,
)
from sorano.trust.seal import Outgoing, convert, signing, title_of, visible_label
from sorano.video import ChunkWriter, beside, fill, resize, whole_or_nothing
from sorano.workfolder import STATE, write_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sorano.measure import StageTimer
    from sorano.models.wan.text_encoder import TextTokens
    from sorano.pipeline import Model
    from sorano.resolve import Job
    from sorano.trust.report import Report
    from sorano.trust.seal import Signing
    from sorano.video import Frames

KNOWN_NOISE = 0.0  # share of fresh noise in the conditioning latents (docs/LOG.md: drift)
ANCHOR = 0.5  # how far the mean and deviation of the context latents are drawn back to those of the first window, 0..1
SETTLED_LATENTS = 8  # latents after which a prompt that replaced another one fills the window
HANDOVER_FRAMES = 8  # frames over which the coding error of a given video's last frame fades out
SCENE_CHANGE_LEVELS = 20.0  # mean difference in levels of 255 above which a given video counts as another scene
BLEND_FRAMES = 12  # frames over which a segment is blended into the frame that it must arrive at
CHECKPOINT_SECONDS = 4.0  # the most work that a kill loses
WORTH_KEEPING_SECONDS = 10.0  # of work that are kept when a run fails

STATE_TENSORS = {
    "carried": "context_latents",
    "pending": "pending_latents",
    "anchor": "anchor_statistics",
    "screen": "context_frames",
    "last": "last_frame",
    "error": "handover_error",
    "head": "first_frames",
}
"""The tensors of a work folder, and the attributes of `Run` that they are."""
STATE_ARRAYS = ("screen", "last", "error", "head")  # NumPy arrays in memory


class Output(Protocol):
    """Where the sealed frames of a run go."""

    def put(self, frames_THWC: Frames) -> None:
        """The next frames."""

    def abandon(self) -> None:
        """Leaves nothing of the file, inside an `except`."""

    def close(self, record: dict[str, Any]) -> Report:
        """Writes the record, signs, reads back, and gives the file its name."""


class ClipOutput:
    """One file, written as the frames come."""

    def __init__(self, job: Job, out: Outgoing, target: Path) -> None:
        self._context: AbstractContextManager[Signing] = signing(
            out, target, overwrite=job.request.overwrite, aspect=job.aspect
        )
        self._signing = self._context.__enter__()

    def put(self, frames_THWC: Frames) -> None:
        self._signing.put(frames_THWC)

    def abandon(self) -> None:
        with suppress(BaseException):  # it raises what is being raised already
            self._context.__exit__(*sys.exc_info())

    def close(self, record: dict[str, Any]) -> Report:
        self._signing.record = record
        self._context.__exit__(None, None, None)
        return self._signing.reports[0]


class FilmOutput:
    """ChunkWriter in the work folder, which a kill leaves whole; joined into one MP4 at the end."""

    def __init__(self, run: Run, out: Outgoing, target: Path) -> None:
        assert run.folder is not None
        self.run, self.out, self.target = run, out, target
        self.pieces = ChunkWriter(run.folder, run.job.fps, run.job.aspect)

    def put(self, frames_THWC: Frames) -> None:
        self.pieces.put(frames_THWC)

    def abandon(self) -> None:
        self.pieces.abandon()

    def close(self, record: dict[str, Any]) -> Report:
        """One file of all pieces, with the audio of the first given video."""
        job = self.run.job
        with whole_or_nothing(self.target, overwrite=job.request.overwrite) as temporary:
            note = self.pieces.join(temporary, record, title_of(job.request), self._audio())
            if note:
                self.run.listener.note(note)
            if self.target.suffix.lower() != ".mp4":
                with beside(self.target) as joined:
                    os.replace(temporary, joined)
                    for note in convert(joined, temporary, self.target, self.out, record):
                        self.run.listener.note(note)
            return self.out.seal(temporary, record, self.target)

    def _audio(self) -> tuple[Path, float, float] | None:
        """The file whose audio is copied, when that begins in the film, and how long it lasts, in seconds."""
        begin = 0
        for segment in self.run.segments:
            if isinstance(segment, CopiedSegment):
                source = segment.source
                if not source.has_sound or source.path is None:
                    return None
                return source.path, begin / self.run.job.fps, segment.num_frames / self.run.job.fps
            begin += frames_of(self.run.job, segment)
        return None


class Run:
    """Makes a job segment by segment, and holds the state that a resumption needs.

    `folder` is the work folder, None where nothing is written. The frames of a clip are kept in `frames`; those of a
    film are only in its file.
    """

    def __init__(self, job: Job, model: Model, listener: Listener, folder: Path | None, clock: StageTimer) -> None:
        import torch

        self.job, self.model, self.listener, self.folder, self.clock = job, model, listener, folder, clock
        self.once_listener = OnceListener(listener)
        self.geometry = job.geometry
        self.suffix_frames = self.geometry.temporal * SUFFIX  # of what a window leads to
        self.segments = layout(job)
        self.total_frames = sum(frames_of(job, one) for one in self.segments)
        assert job.request.seed is not None
        self.generator = torch.Generator().manual_seed(job.request.seed)
        self.loras = read_loras(job, listener)
        self.texts: dict[str, TextTokens] = {}
        self.frames: list[Frames] = []
        self.out: Outgoing | None = None
        self.output: Output | None = None
        self.mark_id: int | None = None
        # where it is
        self.index = 0  # of the segment
        self.num_done = 0  # latents, or frames that were copied, of this segment
        self.num_output = 0  # frames of this segment that went out
        self.rate = Rate(job.rate, job.fps)
        # what the next window needs
        self.context_latents: Tensor | None = None  # the last latents that were made
        self.anchor_statistics: Tensor | None = None  # mean and deviation of each channel in the first window
        self.pending_latents: Tensor | None = None  # latents that were made and not yet decoded
        self.decoder: dict[Any, Tensor] = {}
        self.context_frames: Frames | None = None  # the last frames of a given video, at the model's size and rate
        self.last_frame: Frames | None = None  # the very last one, at the film's size
        self.handover_error: NDArray[np.float32] | None = None  # of coding that one
        self.first_frames: Frames | None = None  # the film's first frames, at the model's size
        self.saved_request: dict[str, Any] | None = None  # the request, where it can be written down
        with suppress(RequestError):
            self.saved_request = job.request.to_json()
        self._last_checkpoint = time.monotonic()
        self._began = time.monotonic()
        self._restored = False  # goes on from what an earlier run finished
        if job.is_film:
            self._open(self._mark_id())

    def _open(self, mark_id: int) -> None:
        """Open the output, if the request has one; `mark_id` is the watermark's payload."""
        self.mark_id = mark_id
        if self.job.request.output is None:
            return
        target = Path(self.job.request.output)
        self.out = Outgoing(self.job.request, fps=self.job.fps, num_frames=self.total_frames, mark_id=mark_id)
        self.output = FilmOutput(self, self.out, target) if self.job.is_film else ClipOutput(self.job, self.out, target)

    def _mark_id(self) -> int:
        """A film's watermark payload: a hash of its request, input files and model. A clip's is one of its latent."""
        import numpy as np

        from sorano.asset_cache import digests
        from sorano.files import canonical
        from sorano.trust.release import id_of

        words = canonical(
            {"request": self.job.request.to_dict(), "files": digests(self.job.request.named_files),
             "model": self.model.bundle.digests}
        )  # fmt: skip
        return id_of(np.frombuffer(words, np.uint8), self.job.fps, self.job.output_size)

    @property
    def count(self) -> int:
        """Frames that went into the file so far."""
        return 0 if self.out is None else self.out.count

    def read_prompts(self) -> None:
        """Encode every prompt that is still needed. Raises RequestError for one that is too long, before other work."""
        for segment in self.segments[self.index :]:
            if (
                isinstance(segment, CopiedSegment)
                or isinstance(segment, WholeSegment)
                and self.pending_latents is not None
            ):
                continue
            for prompt in segment.prompts:
                if prompt not in self.texts:
                    request = replace(self.job.request, prompt=prompt)
                    self.texts[prompt] = encode_text(self.model, replace(self.job, request=request))

    def make(self) -> None:
        """Make all remaining segments."""
        self._report_progress()
        while self.index < len(self.segments):
            segment = self.segments[self.index]
            if isinstance(segment, CopiedSegment):
                self._copy_source(segment)
            elif isinstance(segment, WholeSegment):
                self._make_clip(segment)
            else:
                while self.num_done < segment.num_latents:
                    self._make_window(segment)
            self.index, self.num_done, self.num_output, self.anchor_statistics = self.index + 1, 0, 0, None
            self.rate = Rate(self.job.rate, self.job.fps)

    def close(self, record: dict[str, Any]) -> Report | None:
        """Finish the file: sign, verify, remove the work folder. Return the report, or None without an output."""
        report = None if self.output is None else self.output.close(record)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        return report

    def stop(self, error: BaseException) -> None:
        """Clean up after a failure; call it in an `except`.

        The work folder is kept if it holds an earlier run's work or more than WORTH_KEEPING_SECONDS of this one's, and
        a note on the error says how to resume.
        """
        if self.output is not None:
            self.output.abandon()
        if self.folder is None:
            return
        is_worth_it = self._restored or time.monotonic() - self._began > WORTH_KEEPING_SECONDS
        if (self.folder / STATE).exists() and is_worth_it:
            error.add_note(f"what is finished is kept: sorano resume {self.job.request.output}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    # A clip at once.

    def _make_clip(self, segment: WholeSegment) -> None:
        from sorano.trust.release import id_of

        job, model = self.job, self.model
        latent = self.pending_latents
        if latent is None:
            with self.clock("state"):
                state = start(model, job, self.listener)
            with self.clock("denoise"):
                latent = denoise(model, job, self.texts[segment.prompt], state, self.listener, self.loras)
            if self.clock.seconds["denoise"] > CHECKPOINT_SECONDS:  # not lost should decoding fail
                self.pending_latents = latent
                self._checkpoint(now=True)
        self._open(id_of(latent.float().cpu().numpy(), job.fps, job.output_size, visible_label(job.request)))
        for chunk in self.clock.each("decode", composed(job, decode(model, latent, self.listener))):
            self.frames.append(chunk)
            self._emit(chunk)
        require_picture(self.frames)

    # A given video.

    def _copy_source(self, segment: CopiedSegment) -> None:
        import numpy as np

        source, job = segment.source, self.job
        rate = Rate(source.fps, job.fps)
        context = self.geometry.video_frames(CONTEXT)
        wanted = int(context * job.fps / job.rate) + 2  # frames of the film that a window begins with
        recent: list[Frames] = []
        count = 0
        for chunk in source.frames():
            shown = rate(chunk)[: segment.num_frames - count]
            if not len(shown):
                continue
            shown = self._resize_source(shown)
            recent = [*recent, *shown][-wanted:]
            skip = max(0, self.num_done - count)
            count += len(shown)
            if skip < len(shown):
                self._emit(shown[skip:])
                self.num_done = count
                self._checkpoint()
        if count < segment.num_frames and recent:
            self._emit(np.stack([recent[-1]] * (segment.num_frames - count)))
        places = [len(recent) - 1 - round(back * job.fps / job.rate) for back in reversed(range(context))]
        last = np.stack([recent[max(0, place)] for place in places])
        self.context_frames = resize(last, job.shape.width, job.shape.height)
        self.last_frame = recent[-1]
        self.context_latents, self.decoder, self.handover_error = None, {}, None

    def _resize_source(self, frames_THWC: Frames) -> Frames:
        """Scale a given video's frames [T, H, W, 3] to the film's size, cropping to fill it."""
        import numpy as np

        width, height = self.job.output_size
        if frames_THWC.shape[1:3] == (height, width):
            return frames_THWC
        return np.stack([fill(frame, width, height)[0] for frame in frames_THWC])

    # A window.

    def _make_window(self, segment: GeneratedSegment) -> None:
        """Denoise one window of latents, decode its new part, and write those frames."""
        left = segment.num_latents - self.num_done
        usual, longest = window_latents(self.job), longest_window(self.job)
        leads = segment.until is not None or segment.back_to_start
        fresh = segment.fresh and self.num_done == 0
        continues = self.context_latents is not None and "middle" in self.job.kinds
        if fresh:
            known = 0
        elif continues:
            known = OVERLAP
        else:
            known = (
                CONTEXT
                if "prefix" in self.job.kinds and self.context_frames is not None and len(self.context_frames) > 1
                else 1
            )
        suffix = SUFFIX if leads and left + known + SUFFIX <= longest else 0
        new = left if suffix else min(usual - known, left)
        if leads and not suffix:  # leave the last window room to lead over
            new = min(new, max(1, left - (longest - OVERLAP - SUFFIX)))
        if not fresh and not continues:
            self._begin_from_context(known)
        crossfades = bool(suffix) and self._is_scene_change(segment)
        latent = self.pending_latents
        if latent is None:
            latent = self._denoise_window(
                segment, known, new, suffix, fresh=fresh, continues=continues, crossfades=crossfades
            )
        frames_THWC = self._decode_window(latent[:, :, known:] if continues else latent, continues=continues)
        self.context_latents = latent[:, :, max(0, known + new - OVERLAP) : known + new].contiguous()
        if ANCHOR:
            self._correct_drift(latent, is_settled=segment.fresh or self.num_done >= SETTLED_LATENTS)
        self.pending_latents = None
        if not continues and not fresh:
            frames_THWC = self._drop_context(frames_THWC, self.geometry.video_frames(known))
        if suffix:
            self.context_latents = None
        if self.first_frames is None or len(self.first_frames) < self.suffix_frames:
            self._keep_first_frames(frames_THWC)
        self.context_frames = frames_THWC[-1:]
        self.num_done += new
        large = self._upscale(frames_THWC)
        if suffix:
            ends = len(large) - self.suffix_frames
            large = (
                crossfade(large[:ends], self._crossfade_target(segment, new))
                if crossfades
                else self._blend_into_target(large, segment)
            )
        self._output_window(large, frames_of(self.job, segment))
        self._checkpoint()

    def _is_scene_change(self, segment: GeneratedSegment) -> bool:
        """Whether the video that the segment leads to is another scene, so that a crossfade is needed, not a motion."""
        import numpy as np

        if segment.until is None or self.context_frames is None:
            return False
        return (
            float(np.abs(self._target_frames(segment)[0].astype(np.float32) - self.context_frames[-1]).mean())
            > SCENE_CHANGE_LEVELS
        )

    def _crossfade_target(self, segment: GeneratedSegment, new: int) -> Frames:
        """Generated frames [T, H, W, 3] of `new` latents that lead into the next video, to crossfade to."""
        before = replace(segment, prompt=segment.arriving or segment.prompt, image=None)
        latent = self._denoise_window(before, 0, new + 1, SUFFIX, fresh=True, continues=False, keep=False)
        frames_THWC = self._decode_window(latent, continues=False)
        return self._blend_into_target(self._upscale(frames_THWC), segment)[1:]

    def _correct_drift(self, latent_BCTHW: Tensor, *, is_settled: bool) -> None:
        """Move the context latents' mean and deviation per channel towards those of the first window (less drift).

        The reference is taken once `is_settled`: for a prompt that replaced another, after SETTLED_LATENTS.
        """
        import torch

        if self.anchor_statistics is None and is_settled:
            self.anchor_statistics = torch.stack([latent_BCTHW[0].mean((1, 2, 3)), latent_BCTHW[0].std((1, 2, 3))])
        if self.anchor_statistics is None:
            return
        assert self.context_latents is not None
        mean, std = (value.view(1, -1, 1, 1, 1) for value in self.anchor_statistics)
        own_mean = self.context_latents.mean((2, 3, 4), keepdim=True)
        own_std = self.context_latents.std((2, 3, 4), keepdim=True) + 1e-6
        wanted = (self.context_latents - own_mean) / own_std * std + mean
        self.context_latents = self.context_latents + ANCHOR * (wanted - self.context_latents)

    def _begin_from_context(self, known: int) -> None:
        """Empty the decoder's cache, and cut the context frames to those that `known` latents need."""
        self.decoder = {}
        if self.context_frames is None:
            raise VideoError("there is nothing on screen to go on from")
        if "middle" not in self.job.kinds and self.num_done:
            self.once_listener.note(
                f"{self.job.preset.name} takes a first frame only: each segment begins with the last one's end"
            )
        self.context_frames = self.context_frames[-self.geometry.video_frames(known) :]

    def _denoise_window(
        self,
        segment: GeneratedSegment,
        known: int,
        new: int,
        suffix: int,
        *,
        fresh: bool,
        continues: bool,
        crossfades: bool = False,
        keep: bool = True,
    ) -> Tensor:
        """Denoise a window: `known` conditioning latents, `new` ones, and `suffix` conditioning latents of the target.

        For a crossfade the suffix is generated freely. Returns [1, C, T, H, W], float32 on the CPU.
        """
        import torch

        model, job = self.model, self.job
        channels = model.bundle.vae.config.z_dim
        latent = self.geometry.latent(job.shape)
        total = known + new + suffix
        shape = replace(job.shape, num_frames=self.geometry.video_frames(total))
        noise = torch.randn(channels, total, latent.rows, latent.columns, generator=self.generator)[None]
        state = unknown(noise)
        encoder = ModelEncoder(model)
        given: list[Any] = []
        if fresh and segment.image is not None:
            given = [FirstFrame(segment.image)]
        elif not fresh and not continues and known == 1:
            assert self.context_frames is not None
            given = [FirstFrame(self.context_frames[-1])]
        state = with_given(model, state, shape, given, job.rate, self.once_listener if fresh else Listener())
        with torch.inference_mode(), model.present("vae"):
            if continues:
                assert self.context_latents is not None
                carried = self.context_latents
                if KNOWN_NOISE:
                    renoise = torch.randn(carried.shape, generator=self.generator)
                    carried = (1 - KNOWN_NOISE) * carried + KNOWN_NOISE * renoise
                    state = replace(state, known_noise=KNOWN_NOISE)
                state = state.with_known(carried)
            elif not fresh and known > 1:
                assert self.context_frames is not None
                state = state.with_known(encoder.encode(frames_to_video(self.context_frames)))
            if suffix and not crossfades:
                state = state.with_known(self._suffix_latents(segment, suffix), start=known + new)
        began = time.monotonic()
        text = self.texts[segment.prompt]
        made = denoise(model, job, text, state, self.once_listener, self.loras).float().cpu()
        if keep and time.monotonic() - began > CHECKPOINT_SECONDS:
            self.pending_latents = made  # a long denoise is not lost should decoding fail
            self._checkpoint(now=True)
        return made

    def _target_frames(self, segment: GeneratedSegment) -> Frames:
        """The first frames [T, H, W, 3] of the video that a window leads to, at the model's size and rate."""
        if segment.back_to_start:
            assert self.first_frames is not None
            return self.first_frames[: self.suffix_frames]
        assert segment.until is not None
        times = [place / self.job.rate for place in range(self.suffix_frames)]
        return resize(segment.until.sampled(times), self.job.shape.width, self.job.shape.height)

    def _suffix_latents(self, segment: GeneratedSegment, count: int) -> Tensor:
        """The target's first frames as `count` mid-video latents, encoded after a repeated still frame."""
        import numpy as np

        frames = self._target_frames(segment)
        still = np.repeat(frames[:1], self.geometry.temporal + 1, 0)
        return ModelEncoder(self.model).encode(frames_to_video(np.concatenate([still, frames])))[:, :, -count:]

    def _blend_into_target(self, frames_THWC: Frames, segment: GeneratedSegment) -> Frames:
        """Drop the suffix's frames and blend the last ones before it into the target's first frame; output size."""
        ends = len(frames_THWC) - self.suffix_frames
        target = self._upscale(self._target_frames(segment)[:1])
        if segment.until is not None:
            target = self._resize_source(segment.until.sampled([0.0]))
        made = frames_THWC[:ends].copy()
        count = min(BLEND_FRAMES, len(made))
        made[-count:] = blend_into_frame(made[-count:], frames_THWC[ends], target[0])
        return made

    def _decode_window(self, latent_BCTHW: Tensor, *, continues: bool) -> Frames:
        """Decode latents to frames [T, H, W, 3]; `continues` keeps the decoder's cache from the window before."""
        import numpy as np
        import torch

        model = self.model
        latent_BCTHW = latent_BCTHW.to(model.machine.device, getattr(torch, model.machine.dtype))
        if not continues:
            self.decoder = {}
        with model.present("vae"):
            stream = model.bundle.vae.decode_stream(latent_BCTHW.split(model.placement.chunk, dim=2), self.decoder)
            parts = []
            for video_BCTHW in inferred(stream):
                parts.append(finite_frames(video_BCTHW, model.machine))
                self.listener.check()
        return np.concatenate(parts)

    def _drop_context(self, frames_THWC: Frames, context: int) -> Frames:
        """Drop the `context` frames; keep the coding error of the last one, which `_output_window` fades out."""
        import numpy as np

        coded = self._upscale(frames_THWC[context - 1 : context])[0]
        if self.last_frame is not None:
            self.handover_error = self.last_frame.astype(np.float32) - coded
        return frames_THWC[context:]

    def _upscale(self, frames_THWC: Frames) -> Frames:
        """Scale the model's frames to the film's size."""
        return resize(frames_THWC, *self.job.output_size)

    def _keep_first_frames(self, frames_THWC: Frames) -> None:
        import numpy as np

        head = frames_THWC if self.first_frames is None else np.concatenate([self.first_frames, frames_THWC])
        self.first_frames = head[: self.suffix_frames]

    # Out.

    def _output_window(self, frames_THWC: Frames, most: int) -> None:
        """Write generated frames, at most `most` in this segment; a segment that falls short repeats its last frame."""
        import numpy as np

        segment = self.segments[self.index]
        if self.handover_error is not None:
            frames_THWC = fade_out_error(frames_THWC, self.handover_error, self.rate.seen, HANDOVER_FRAMES)
            if self.rate.seen + len(frames_THWC) >= HANDOVER_FRAMES:
                self.handover_error = None
        shown = self.rate(frames_THWC)[: most - self.num_output]
        assert isinstance(segment, GeneratedSegment)
        if self.num_done >= segment.num_latents and self.num_output + len(shown) < most:
            lacking = most - self.num_output - len(shown)
            shown = np.concatenate([shown, np.repeat(frames_THWC[-1:], lacking, 0)])
        self.num_output += len(shown)
        if len(shown):
            self.last_frame = shown[-1]
            self._emit(shown)

    def _emit(self, frames_THWC: Frames) -> None:
        if self.out is not None and self.output is not None:
            self.output.put(self.out(frames_THWC))
        self.listener.check()
        self._report_progress()

    def _report_progress(self) -> None:
        if self.out is not None and self.job.is_film:
            self.listener.progress("film", self.out.count, self.total_frames)

    # On disk.

    def _checkpoint(self, *, now: bool = False) -> None:
        """Write the resumable state to the work folder, at most every CHECKPOINT_SECONDS unless `now`."""
        if self.saved_request is None or self.folder is None:
            return
        if not now and time.monotonic() - self._last_checkpoint < CHECKPOINT_SECONDS:
            return
        import numpy as np
        import torch

        words: dict[str, Any] = {
            "request": self.saved_request, "overwrite": self.job.request.overwrite,
            "index": self.index, "done": self.num_done, "shown": self.num_output,
            "rate": [self.rate.seen, self.rate.shown],
        }  # fmt: skip
        tensors: dict[str, Any] = {"generator": self.generator.get_state()}
        for name, attribute in STATE_TENSORS.items():
            value = getattr(self, attribute)
            if value is not None:
                tensors[name] = (
                    value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))
                )
        names = {module: name for name, module in self.model.bundle.vae.named_modules()}
        tensors |= {f"decoder.{names[module]}": value for module, value in self.decoder.items()}
        if isinstance(self.output, FilmOutput):
            self.output.pieces.flush()
            words |= self._output_words(tensors) | {"pieces": self.output.pieces.state()}
        write_state(self.folder, words, tensors)
        self._last_checkpoint = time.monotonic()

    def _output_words(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """The state of the fingerprint and of the watermark embedder as JSON; their arrays are added to `tensors`."""
        import numpy as np
        import torch

        assert self.out is not None
        out = self.out.state()
        words: dict[str, Any] = {"out": {"count": out["count"], "size": out["size"]}}
        for part in ("taker", "marker"):
            for name, value in out[part].items():
                if isinstance(value, np.ndarray):
                    tensors[f"{part}.{name}"] = torch.from_numpy(np.ascontiguousarray(value))
                else:
                    words[f"{part}.{name}"] = value
        return words

    def restore(self, words: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Restore the state that `_checkpoint` wrote."""
        self._restored = True
        if "generator" in tensors:
            self.generator.set_state(tensors["generator"])
        for name, attribute in STATE_TENSORS.items():
            value = tensors.get(name)
            setattr(self, attribute, value.numpy() if value is not None and name in STATE_ARRAYS else value)
        modules = dict(self.model.bundle.vae.named_modules())
        self.decoder = {
            modules[name.removeprefix("decoder.")]: value.to(self.model.machine.device)
            for name, value in tensors.items() if name.startswith("decoder.")
        }  # fmt: skip
        if not isinstance(self.output, FilmOutput) or self.out is None:
            return
        out: dict[str, Any] = dict(words["out"])
        for part in ("taker", "marker"):
            out[part] = {k.split(".", 1)[1]: v for k, v in words.items() if k.startswith(f"{part}.")}
            out[part] |= {k.split(".", 1)[1]: v.numpy() for k, v in tensors.items() if k.startswith(f"{part}.")}
        self.out.restore(out)
        self.index, self.num_done, self.num_output = words["index"], words["done"], words["shown"]
        self.rate.seen, self.rate.shown = words["rate"]
        self.output.pieces.restore(words["pieces"])
        self.listener.note(
            f"goes on at {self.out.count / self.job.fps:.1f} of {self.total_frames / self.job.fps:.1f} s"
        )
