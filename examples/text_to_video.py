"""Text to video: a sentence becomes an MP4 that is marked, labelled and signed.

python examples/text_to_video.py "a red ball bounces on the grass at sunset"
"""

import sys

import sorano

prompt = sys.argv[1] if len(sys.argv) > 1 else "a red ball bounces on the grass at sunset"

# `draft` takes a third of the steps: a quick look. The same seed without it makes the final video.
video = sorano.generate(prompt, seed=5, draft=True)
print("made", video.frames_THWC.shape, "at", video.fps, "frames a second")

path = video.save("ball.mp4", overwrite=True)  # read back before it has its name
print(path, video.report.verdict)

# The request, the digests of the weights, and what was planned and measured are in the file.
record = sorano.read_metadata(path)
print("seed", record["request"]["seed"], "took", record["measured"]["seconds"], "s")
