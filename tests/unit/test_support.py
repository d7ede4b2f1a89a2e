"""What the tests stand on."""

import os
import sys
from fractions import Fraction

import av
import numpy as np
import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's scheduler")
def test_an_av1_encoder_leaves_the_process_and_what_it_starts_at_ordinary_priority(tmp_path):
    with av.open(tmp_path / "clip.mp4", "w") as out:
        stream = out.add_stream("libsvtav1", rate=Fraction(12), options={"preset": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        out.mux(stream.encode(frame))
        policies = {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
        out.mux(stream.encode())

    assert policies == {os.SCHED_OTHER}
