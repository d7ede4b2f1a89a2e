"""Conditions: a video goes on, is led back to its beginning, and is changed by words."""

import sorano

ball = sorano.generate(
    "a red ball bounces on the grass at sunset", seed=5, draft=True, output="ball.mp4", overwrite=True
)

# What happens next: the video's own frames, then new ones. Without a prompt, what the video says of itself is taken.
longer = sorano.generate(
    conditions=[sorano.Continue("ball.mp4")], seconds=1, seed=1, draft=True, output="longer.mp4", overwrite=True
)
print(longer.path, len(ball.frames_THWC), "->", len(longer.frames_THWC), "frames")

# New frames from its end to its beginning, so that it can be played round and round.
loop = sorano.generate(conditions=[sorano.Loop("ball.mp4")], seed=1, draft=True, output="loop.mp4", overwrite=True)
print(loop.path, len(loop.frames_THWC), "frames")

# The same scene with something else in it.
night = sorano.generate(
    "it is night", conditions=[sorano.Edit("ball.mp4")], seed=1, draft=True, output="night.mp4", overwrite=True
)
print(night.path, "shows", repr(night.request.prompt))
