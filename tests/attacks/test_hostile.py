"""Whatever a file does, `sorano verify` ends within its limits, with a verdict or an error, never with trust.

Each file is given to the command in a process of its own, which says what it and its children took. The ordinary run
takes some files with a limit of three seconds of processor time; SORANO_FULL=1 takes all, with the limits as they are.
"""

import json
import os
import subprocess
import sys

import pytest
from support.counts import FULL

from attacks import hostile
from sorano.trust.sandbox import PATIENCE, RESERVED_BYTES, ResourceLimits

QUICK = (
    hostile.film_1080p_of_4800_frames,
    hostile.empty_boxes_in_a_signed_film,
    hostile.deep_boxes,
    hostile.sample_tables_of_four_billion,
    hostile.png_of_49_megapixels,
    hostile.png_profile_bomb,
)
SECONDS = ResourceLimits.seconds if FULL else 3.0
MEASURED = """
import json, resource, sys
from sorano.cli import main
sys.argv = ["sorano", "verify", sys.argv[1]]
try:
    main()
except SystemExit as end:
    code = end.code
    own, child = (resource.getrusage(one) for one in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime + child.ru_utime + child.ru_stime
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    peak = int(status["VmHWM"].split()[0])  # ru_maxrss would count whoever started this process
    print(json.dumps([seconds, peak << 10, child.ru_maxrss << 10]), file=sys.stderr)
    raise
"""


def verified(path):
    """The command's exit code, what it said, and its processor seconds and bytes, of itself and of its child."""
    # The test's own patience stands above the command's: a hang is a failure of this test.
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE * SECONDS + 30,
        env={**os.environ, "SORANO_LOOK_SECONDS": str(SECONDS)},
    )
    *said, measured = done.stderr.splitlines()
    return done.returncode, done.stdout, said, json.loads(measured)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processor time and memory")
@pytest.mark.parametrize("make", hostile.FILES if FULL else QUICK, ids=lambda make: make.__name__)
def test_a_hostile_file_ends_within_the_limits(make, tmp_path):
    code, shown, said, (seconds, own, child) = verified(make(tmp_path))
    assert code in (1, 6, 7, 8), (code, shown, said)
    assert shown.startswith(("TAMPERED", "SUSPICIOUS", "UNVERIFIED")) if code != 1 else said[0].startswith("error: ")
    assert not any("Traceback" in line for line in said)
    assert seconds < SECONDS + 3, seconds
    assert own < 64 << 20 and child < ResourceLimits.memory_bytes + RESERVED_BYTES, (own, child)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("make", hostile.NO_FILES, ids=lambda make: make.__name__)
def test_what_is_no_file_is_refused_at_once(make, tmp_path):
    code, shown, said, (seconds, _, _) = verified(make(tmp_path))
    assert code == 1 and shown == "" and said[0].startswith("error: "), (code, shown, said)
    assert seconds < 3
