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
from sorano.frames import Rate, dissolved, leading_to, taking_over
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
from sorano.video import Pieces, beside, fill, resize, whole_or_nothing
from sorano.workfolder import STATE, write_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sorano.measure import Clock
    from sorano.models.text_encoder import TextTokens
    from sorano.pipeline import Model
    from sorano.resolve import Job
    from sorano.trust.seal import Signing
    from sorano.trust.verify import Report
    from sorano.video import Frames

KNOWN_NOISE = 0.0  # put over the latents that are known (docs/LOG.md: drift)
ANCHOR = 0.5  # how far the carried latents' means and deviations are drawn back to those of the prompt's first windows
SETTLED = 8  # latents after which a prompt that took over from another has the picture to itself
HANDOVER = 8  # frames over which the error of coding a given video's last frame fades
ELSEWHERE = 20.0  # levels of mean difference from which on a given video is another scene than what is on screen
LEADING = 12  # frames over which a segment is brought to the frame that it leads to
CHECKPOINT_SECONDS = 4.0  # of work that a kill may cost
KEPT_SECONDS = 10.0  # of work that are worth keeping where a run fails


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
    """Pieces in the work folder, which a kill leaves whole; joined into one MP4 at the end."""

    def __init__(self, run: Run, out: Outgoing, target: Path) -> None:
        assert run.folder is not None
        self.run, self.out, self.target = run, out, target
        self.pieces = Pieces(run.folder, run.job.fps, run.job.aspect)

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
    """The state of a run: the segment it is in, what the next window needs to know, and what is on disk.

    `folder` is the work folder, None where nothing is written. The frames of a clip stay in `frames`; a film's are in
    its file only.
    """

    def __init__(self, job: Job, model: Model, listener: Listener, folder: Path | None, clock: Clock) -> None:
        import torch

        self.job, self.model, self.listener, self.folder, self.clock = job, model, listener, folder, clock
        self.quiet = OnceListener(listener)
        self.geometry = job.geometry
        self.suffix_frames = self.geometry.temporal * SUFFIX  # of what a window leads to
        self.segments = layout(job)
        self.total = sum(frames_of(job, one) for one in self.segments)
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
        self.done = 0  # latents, or frames that were copied, of this segment
        self.shown = 0  # frames of this segment that went out
        self.rate = Rate(job.rate, job.fps)
        # what the next window needs
        self.carried: Tensor | None = None  # the last latents that were made
        self.anchor: Tensor | None = None  # mean and deviation of each channel in the first window
        self.pending: Tensor | None = None  # latents that were made and not yet decoded
        self.decoder: dict[Any, Tensor] = {}
        self.screen: Frames | None = None  # the last frames of a given video, at the model's size and rate
        self.last: Frames | None = None  # the very last one, at the film's size
        self.error: NDArray[np.float32] | None = None  # of coding that one
        self.head: Frames | None = None  # the film's first frames, at the model's size
        self.words: dict[str, Any] | None = None  # the request, where it can be written down
        with suppress(RequestError):
            self.words = job.request.to_json()
        self._checked = time.monotonic()
        self._began = time.monotonic()
        self._restored = False  # goes on from what an earlier run finished
        if job.is_film:
            self._open(self._mark_id())

    def _open(self, mark_id: int) -> None:
        """Opens the output, where there is one: its frames are marked with this id."""
        self.mark_id = mark_id
        if self.job.request.output is None:
            return
        target = Path(self.job.request.output)
        self.out = Outgoing(self.job.request, fps=self.job.fps, num_frames=self.total, mark_id=mark_id)
        self.output = FilmOutput(self, self.out, target) if self.job.is_film else ClipOutput(self.job, self.out, target)

    def _mark_id(self) -> int:
        """An id that follows from all that a film is made of; a clip's follows from its latent."""
        import numpy as np

        from sorano.files import canonical
        from sorano.library import digests
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
        """Encodes every prompt that is still needed: what the model cannot read is said before any work."""
        for segment in self.segments[self.index :]:
            if isinstance(segment, CopiedSegment) or isinstance(segment, WholeSegment) and self.pending is not None:
                continue
            for prompt in segment.prompts:
                if prompt not in self.texts:
                    request = replace(self.job.request, prompt=prompt)
                    self.texts[prompt] = encode_text(self.model, replace(self.job, request=request))

    def go(self) -> None:
        """Makes every segment, to the end."""
        self._report()
        while self.index < len(self.segments):
            segment = self.segments[self.index]
            if isinstance(segment, CopiedSegment):
                self._copy(segment)
            elif isinstance(segment, WholeSegment):
                self._whole(segment)
            else:
                while self.done < segment.num_latents:
                    self._window(segment)
            self.index, self.done, self.shown, self.anchor = self.index + 1, 0, 0, None
            self.rate = Rate(self.job.rate, self.job.fps)

    def close(self, record: dict[str, Any]) -> Report | None:
        """The finished file, sealed and read back; the work folder goes."""
        report = None if self.output is None else self.output.close(record)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        return report

    def stop(self, error: BaseException) -> None:
        """What a failure leaves: a run that can go on where that is worth it, else nothing. Called in an `except`.

        What an earlier run finished is never thrown away, however soon this one fails.
        """
        if self.output is not None:
            self.output.abandon()
        if self.folder is None:
            return
        is_worth_it = self._restored or time.monotonic() - self._began > KEPT_SECONDS
        if (self.folder / STATE).exists() and is_worth_it:
            error.add_note(f"what is finished is kept: sorano resume {self.job.request.output}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    # A clip at once.

    def _whole(self, segment: WholeSegment) -> None:
        from sorano.trust.release import id_of

        job, model = self.job, self.model
        latent = self.pending
        if latent is None:
            with self.clock("state"):
                state = start(model, job, self.listener)
            with self.clock("denoise"):
                latent = denoise(model, job, self.texts[segment.prompt], state, self.listener, self.loras)
            if self.clock.seconds["denoise"] > CHECKPOINT_SECONDS:  # not lost should decoding fail
                self.pending = latent
                self._checkpoint(now=True)
        self._open(id_of(latent.float().cpu().numpy(), job.fps, job.output_size, visible_label(job.request)))
        for chunk in self.clock.each("decode", composed(job, decode(model, latent, self.listener))):
            self.frames.append(chunk)
            self._emit(chunk)
        require_picture(self.frames)

    # A given video.

    def _copy(self, segment: CopiedSegment) -> None:
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
            shown = self._fitted(shown)
            recent = [*recent, *shown][-wanted:]
            skip = max(0, self.done - count)
            count += len(shown)
            if skip < len(shown):
                self._emit(shown[skip:])
                self.done = count
                self._checkpoint()
        if count < segment.num_frames and recent:
            self._emit(np.stack([recent[-1]] * (segment.num_frames - count)))
        places = [len(recent) - 1 - round(back * job.fps / job.rate) for back in reversed(range(context))]
        last = np.stack([recent[max(0, place)] for place in places])
        self.screen = resize(last, job.shape.width, job.shape.height)
        self.last = recent[-1]
        self.carried, self.decoder, self.error = None, {}, None

    def _fitted(self, frames_THWC: Frames) -> Frames:
        """Frames at the film's size: as they are where they have it."""
        import numpy as np

        width, height = self.job.output_size
        if frames_THWC.shape[1:3] == (height, width):
            return frames_THWC
        return np.stack([fill(frame, width, height)[0] for frame in frames_THWC])

    # A window.

    def _window(self, segment: GeneratedSegment) -> None:
        """Makes one window of latents, decodes what is new of it, and puts it out."""
        left = segment.num_latents - self.done
        usual, longest = window_latents(self.job), longest_window(self.job)
        leads = segment.until is not None or segment.back_to_start
        anew = segment.anew and self.done == 0
        goes_on = self.carried is not None and "middle" in self.job.kinds
        if anew:
            known = 0
        elif goes_on:
            known = OVERLAP
        else:
            known = CONTEXT if "prefix" in self.job.kinds and self.screen is not None and len(self.screen) > 1 else 1
        suffix = SUFFIX if leads and left + known + SUFFIX <= longest else 0
        new = left if suffix else min(usual - known, left)
        if leads and not suffix:  # leave the last window room to lead over
            new = min(new, max(1, left - (longest - OVERLAP - SUFFIX)))
        if not anew and not goes_on:
            self._begin_from_screen(known)
        across = bool(suffix) and self._is_elsewhere(segment)
        latent = self.pending
        if latent is None:
            latent = self._denoised(segment, known, new, suffix, anew=anew, goes_on=goes_on, across=across)
        frames_THWC = self._decoded(latent[:, :, known:] if goes_on else latent, goes_on=goes_on)
        self.carried = latent[:, :, max(0, known + new - OVERLAP) : known + new].contiguous()
        if ANCHOR:
            self._anchor(latent, settled=segment.anew or self.done >= SETTLED)
        self.pending = None
        if not goes_on and not anew:
            frames_THWC = self._handed_over(frames_THWC, self.geometry.video_frames(known))
        if suffix:
            self.carried = None
        if self.head is None or len(self.head) < self.suffix_frames:
            self._remember_head(frames_THWC)
        self.screen = frames_THWC[-1:]
        self.done += new
        large = self._fitted_up(frames_THWC)
        if suffix:
            ends = len(large) - self.suffix_frames
            large = dissolved(large[:ends], self._arrival(segment, new)) if across else self._led_over(large, segment)
        self._put_out(large, frames_of(self.job, segment))
        self._checkpoint()

    def _is_elsewhere(self, segment: GeneratedSegment) -> bool:
        """Whether it leads to another scene: no movement leads there, one picture has to give way to the other."""
        import numpy as np

        if segment.until is None or self.screen is None:
            return False
        return float(np.abs(self._target(segment)[0].astype(np.float32) - self.screen[-1]).mean()) > ELSEWHERE

    def _arrival(self, segment: GeneratedSegment, new: int) -> Frames:
        """As many frames of what comes before the video that it leads to, at the film's size."""
        before = replace(segment, prompt=segment.arriving or segment.prompt, image=None)
        latent = self._denoised(before, 0, new + 1, SUFFIX, anew=True, goes_on=False, keep=False)
        frames_THWC = self._decoded(latent, goes_on=False)
        return self._led_over(self._fitted_up(frames_THWC), segment)[1:]

    def _anchor(self, latent_BCTHW: Tensor, *, settled: bool) -> None:
        """Draws what is carried on back to the mean and deviation that each channel had when the prompt was young.

        Where a prompt takes over from another, that is when it has `settled`.
        """
        import torch

        if self.anchor is None and settled:
            self.anchor = torch.stack([latent_BCTHW[0].mean((1, 2, 3)), latent_BCTHW[0].std((1, 2, 3))])
        if self.anchor is None:
            return
        assert self.carried is not None
        mean, std = (value.view(1, -1, 1, 1, 1) for value in self.anchor)
        own_mean = self.carried.mean((2, 3, 4), keepdim=True)
        own_std = self.carried.std((2, 3, 4), keepdim=True) + 1e-6
        wanted = (self.carried - own_mean) / own_std * std + mean
        self.carried = self.carried + ANCHOR * (wanted - self.carried)

    def _begin_from_screen(self, known: int) -> None:
        """A decoder with an empty cache, and the context at hand."""
        self.decoder = {}
        if self.screen is None:
            raise VideoError("there is nothing on screen to go on from")
        if "middle" not in self.job.kinds and self.done:
            self.quiet.note(
                f"{self.job.preset.name} takes a first frame only: each segment begins with the last one's end"
            )
        self.screen = self.screen[-self.geometry.video_frames(known) :]

    def _denoised(
        self,
        segment: GeneratedSegment,
        known: int,
        new: int,
        suffix: int,
        *,
        anew: bool,
        goes_on: bool,
        across: bool = False,
        keep: bool = True,
    ) -> Tensor:
        """The latents of a window: known, new, known; where it goes across to another scene its end is left open."""
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
        if anew and segment.image is not None:
            given = [FirstFrame(segment.image)]
        elif not anew and not goes_on and known == 1:
            assert self.screen is not None
            given = [FirstFrame(self.screen[-1])]
        state = with_given(model, state, shape, given, job.rate, self.quiet if anew else Listener())
        with torch.inference_mode(), model.present("vae"):
            if goes_on:
                assert self.carried is not None
                carried = self.carried
                if KNOWN_NOISE:
                    fresh = torch.randn(carried.shape, generator=self.generator)
                    carried = (1 - KNOWN_NOISE) * carried + KNOWN_NOISE * fresh
                    state = replace(state, known_noise=KNOWN_NOISE)
                state = state.with_known(carried)
            elif not anew and known > 1:
                assert self.screen is not None
                state = state.with_known(encoder.encode(frames_to_video(self.screen)))
            if suffix and not across:
                state = state.with_known(self._suffix_latents(segment, suffix), start=known + new)
        began = time.monotonic()
        text = self.texts[segment.prompt]
        made = denoise(model, job, text, state, self.quiet, self.loras).float().cpu()
        if keep and time.monotonic() - began > CHECKPOINT_SECONDS:
            self.pending = made  # a long denoise is not lost should decoding fail
            self._checkpoint(now=True)
        return made

    def _target(self, segment: GeneratedSegment) -> Frames:
        """The first frames of what a window leads to, at the model's size and rate."""
        if segment.back_to_start:
            assert self.head is not None
            return self.head[: self.suffix_frames]
        assert segment.until is not None
        times = [place / self.job.rate for place in range(self.suffix_frames)]
        return resize(segment.until.sampled(times), self.job.shape.width, self.job.shape.height)

    def _suffix_latents(self, segment: GeneratedSegment, count: int) -> Tensor:
        """The first frames of what it leads to, encoded as frames of a video that goes on: their past stands still."""
        import numpy as np

        frames = self._target(segment)
        still = np.repeat(frames[:1], self.geometry.temporal + 1, 0)
        return ModelEncoder(self.model).encode(frames_to_video(np.concatenate([still, frames])))[:, :, -count:]

    def _led_over(self, frames_THWC: Frames, segment: GeneratedSegment) -> Frames:
        """Frames at the film's size without the suffix, brought more and more to the frame that follows."""
        ends = len(frames_THWC) - self.suffix_frames
        target = self._fitted_up(self._target(segment)[:1])
        if segment.until is not None:
            target = self._fitted(segment.until.sampled([0.0]))
        made = frames_THWC[:ends].copy()
        count = min(LEADING, len(made))
        made[-count:] = leading_to(made[-count:], frames_THWC[ends], target[0])
        return made

    def _decoded(self, latent_BCTHW: Tensor, *, goes_on: bool) -> Frames:
        """The frames of latents that go on from those decoded before, or begin anew."""
        import numpy as np
        import torch

        model = self.model
        latent_BCTHW = latent_BCTHW.to(model.machine.device, getattr(torch, model.machine.dtype))
        if not goes_on:
            self.decoder = {}
        with model.present("vae"):
            stream = model.bundle.vae.decode_stream(latent_BCTHW.split(model.placement.chunk, dim=2), self.decoder)
            parts = []
            for video_BCTHW in inferred(stream):
                parts.append(finite_frames(video_BCTHW, model.machine))
                self.listener.check()
        return np.concatenate(parts)

    def _handed_over(self, frames_THWC: Frames, context: int) -> Frames:
        """Without the context; what its coding lost of the last frame is remembered, to fade."""
        import numpy as np

        coded = self._fitted_up(frames_THWC[context - 1 : context])[0]
        if self.last is not None:
            self.error = self.last.astype(np.float32) - coded
        return frames_THWC[context:]

    def _fitted_up(self, frames_THWC: Frames) -> Frames:
        """Frames of the model at the film's size."""
        return resize(frames_THWC, *self.job.output_size)

    def _remember_head(self, frames_THWC: Frames) -> None:
        import numpy as np

        head = frames_THWC if self.head is None else np.concatenate([self.head, frames_THWC])
        self.head = head[: self.suffix_frames]

    # Out.

    def _put_out(self, frames_THWC: Frames, most: int) -> None:
        """Made frames at the film's size, on their way to the file; the last one of a segment is held to its length."""
        import numpy as np

        segment = self.segments[self.index]
        if self.error is not None:
            frames_THWC = taking_over(frames_THWC, self.error, self.rate.seen, HANDOVER)
            if self.rate.seen + len(frames_THWC) >= HANDOVER:
                self.error = None
        shown = self.rate(frames_THWC)[: most - self.shown]
        assert isinstance(segment, GeneratedSegment)
        if self.done >= segment.num_latents and self.shown + len(shown) < most:
            lacking = most - self.shown - len(shown)
            shown = np.concatenate([shown, np.repeat(frames_THWC[-1:], lacking, 0)])
        self.shown += len(shown)
        if len(shown):
            self.last = shown[-1]
            self._emit(shown)

    def _emit(self, frames_THWC: Frames) -> None:
        if self.out is not None and self.output is not None:
            self.output.put(self.out(frames_THWC))
        self.listener.check()
        self._report()

    def _report(self) -> None:
        if self.out is not None and self.job.is_film:
            self.listener.progress("film", self.out.count, self.total)

    # On disk.

    def _checkpoint(self, *, now: bool = False) -> None:
        """Keeps all that the rest depends on, every few seconds."""
        if self.words is None or self.folder is None:
            return
        if not now and time.monotonic() - self._checked < CHECKPOINT_SECONDS:
            return
        import numpy as np
        import torch

        words: dict[str, Any] = {
            "request": self.words, "overwrite": self.job.request.overwrite,
            "index": self.index, "done": self.done, "shown": self.shown, "rate": [self.rate.seen, self.rate.shown],
        }  # fmt: skip
        tensors: dict[str, Any] = {"generator": self.generator.get_state()}
        for name in ("carried", "pending", "anchor", "screen", "last", "error", "head"):
            value = getattr(self, name)
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
        self._checked = time.monotonic()

    def _output_words(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """How far fingerprint and watermark are; their arrays go into `tensors`."""
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
        """Goes on from what was kept."""
        self._restored = True
        if "generator" in tensors:
            self.generator.set_state(tensors["generator"])
        for name in ("carried", "pending", "anchor"):
            setattr(self, name, tensors.get(name))
        for name in ("screen", "last", "error", "head"):
            setattr(self, name, tensors[name].numpy() if name in tensors else None)
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
        self.index, self.done, self.shown = words["index"], words["done"], words["shown"]
        self.rate.seen, self.rate.shown = words["rate"]
        self.output.pieces.restore(words["pieces"])
        self.listener.note(f"goes on at {self.out.count / self.job.fps:.1f} of {self.total / self.job.fps:.1f} s")
