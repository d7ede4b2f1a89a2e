"""Untrusted files are looked at in a child with limits: what it answers, and how every way to misbehave ends."""

import ctypes
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from sorano import errors
from sorano.trust import sandbox

QUICK = sandbox.ResourceLimits(seconds=2.0, memory_bytes=192 << 20, answer_bytes=1 << 20)
LINUX = sys.platform == "linux"
HERE = "test_trust_sandbox"


# What runs in the child.


def echo(**arguments):
    return arguments


def arrays():
    return {"shape": [2, 3]}, {"map": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 4), np.uint8)}


def objects():
    return None, {"pickled": np.array([{}], dtype=object)}


def refuse():
    raise errors.TrustError("no trust", "ask them")


def stumble():
    raise KeyError("of a damaged file")


def hang():
    time.sleep(60)


def spin():
    while True:
        pass


def eat():
    held = []
    while True:
        held.append(bytearray(8 << 20))


def eat_in_c():
    ctypes.pythonapi.PyMem_RawMalloc.restype = ctypes.c_void_p
    while ctypes.pythonapi.PyMem_RawMalloc(ctypes.c_size_t(8 << 20)):
        pass
    os.abort()


def crash():
    ctypes.string_at(0)


def shout():
    return "x" * (4 << 20)


def print_much():
    os.write(1, b"noise" * 100_000)
    print("noise")
    sys.stdin.read()
    return "heard"


def write_much(path):
    with open(path, "wb") as stream:
        stream.write(bytes(8 << 20))


def open_descriptors():
    return sorted(os.stat(f"/proc/self/fd/{name}").st_ino for name in os.listdir("/proc/self/fd") if _open(name))


def _open(name):
    return os.path.exists(f"/proc/self/fd/{name}")


def leave_a_grandchild(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(path, "w") as stream:
        stream.write(str(child.pid))
    time.sleep(60)


def surroundings():
    return {"isolated": sys.flags.isolated, "threads": os.environ["OMP_NUM_THREADS"], "left": sandbox.time_left()}


# Answers.


def test_json_comes_back_as_it_was_sent():
    sent = {"text": "空の😀 \x1b[2J", "none": None, "nested": [1, 2.5, {"a": []}], "surrogate": "\udc80"}
    value, found = sandbox.run(f"{HERE}:echo", sent)
    assert value == sent and found == {}


def test_arrays_come_back_without_pickle():
    value, found = sandbox.run(f"{HERE}:arrays", {})
    assert value == {"shape": [2, 3]} and found["none"].shape == (0, 4)
    np.testing.assert_array_equal(found["map"], np.arange(6, dtype=np.float32).reshape(2, 3))
    with pytest.raises(errors.VideoError, match="Object arrays cannot be saved"):
        sandbox.run(f"{HERE}:objects", {})


def test_our_errors_keep_their_class_and_hint_and_others_become_video_errors():
    with pytest.raises(errors.TrustError, match="no trust") as caught:
        sandbox.run(f"{HERE}:refuse", {})
    assert caught.value.hint == "ask them"
    with pytest.raises(errors.VideoError, match="KeyError: 'of a damaged file'"):
        sandbox.run(f"{HERE}:stumble", {})
    with pytest.raises(errors.VideoError, match="AttributeError"):
        sandbox.run(f"{HERE}:no_such_function", {})


def test_what_libraries_print_does_not_mix_with_the_answer():
    assert sandbox.run(f"{HERE}:print_much", {})[0] == "heard"


def test_the_child_is_isolated_and_knows_its_time():
    found, _ = sandbox.run(f"{HERE}:surroundings", {}, QUICK)
    assert found["isolated"] and found["threads"] == "1" and 0.5 < found["left"] <= 2.0
    assert sandbox.time_left() == float("inf")


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_no_descriptor_is_inherited(tmp_path):
    with open(tmp_path / "secret", "w") as stream:
        os.set_inheritable(stream.fileno(), True)
        found, _ = sandbox.run(f"{HERE}:open_descriptors", {})
        assert os.fstat(stream.fileno()).st_ino not in found


# Limits.


@pytest.mark.parametrize("what", ["hang", "spin"])
def test_what_takes_too_long_is_stopped(what):
    began = time.monotonic()
    with pytest.raises(errors.VideoError, match="took more than 1 s") as caught:
        sandbox.run(f"{HERE}:{what}", {}, sandbox.ResourceLimits(1.0))
    assert time.monotonic() - began < 1 * sandbox.PATIENCE + 5 and "SORANO_LOOK_SECONDS" in caught.value.hint


@pytest.mark.skipif(not LINUX, reason="RLIMIT_DATA")
@pytest.mark.parametrize("what", ["eat", "eat_in_c"])
def test_what_takes_too_much_memory_is_stopped(what):
    with pytest.raises(errors.VideoError, match="more than 192 MB") as caught:
        sandbox.run(f"{HERE}:{what}", {}, QUICK)
    assert "SORANO_LOOK_MEGABYTES" in caught.value.hint


def test_a_crash_is_an_error_that_names_the_signal():
    with pytest.raises(errors.VideoError, match="SIGSEGV|exit code"):
        sandbox.run(f"{HERE}:crash", {})


def test_an_endless_answer_is_cut_off():
    with pytest.raises(errors.VideoError, match="more than 1 MB of findings"):
        sandbox.run(f"{HERE}:shout", {}, QUICK)


@pytest.mark.skipif(not LINUX, reason="RLIMIT_FSIZE")
def test_the_disk_is_not_filled(tmp_path):
    with pytest.raises(errors.VideoError, match="File too large"):
        sandbox.run(f"{HERE}:write_much", {"path": str(tmp_path / "big")})
    assert (tmp_path / "big").stat().st_size <= sandbox.MOST_WRITTEN_BYTES


def _state(place):
    with open(place) as stream:
        return stream.read().split()[2]


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_what_the_child_started_ends_with_it(tmp_path):
    with pytest.raises(errors.VideoError, match="took more than"):
        sandbox.run(f"{HERE}:leave_a_grandchild", {"path": str(tmp_path / "pid")}, sandbox.ResourceLimits(2.0))
    place = f"/proc/{(tmp_path / 'pid').read_text()}/stat"
    for _ in range(50):
        if not os.path.exists(place) or _state(place) == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the grandchild lives")


def test_no_process_to_look_in_is_an_error_and_not_a_look_without_limits(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(errors.VideoError, match="no process can be started"):
        sandbox.run(f"{HERE}:echo", {})


@pytest.mark.parametrize("text", ["many", "0", "-3", "nan", "inf"])
def test_limits_are_numbers_above_0(monkeypatch, text):
    monkeypatch.setenv("SORANO_LOOK_SECONDS", text)
    with pytest.raises(errors.RequestError, match="SORANO_LOOK_SECONDS"):
        sandbox.default_limits()


def test_limits_can_be_raised(monkeypatch):
    monkeypatch.setenv("SORANO_LOOK_SECONDS", "90")
    monkeypatch.setenv("SORANO_LOOK_MEGABYTES", "2048")
    assert sandbox.default_limits() == sandbox.ResourceLimits(90.0, 2 << 30)


def test_what_cannot_be_probed_is_refused_before_anything_is_made_of_it(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(30))
    for name in ("a.mp4", "missing.mp4"):
        with pytest.raises(errors.VideoError, match=name):
            sandbox.require_readable(tmp_path / name)
    with pytest.raises(errors.VideoError, match="is a folder"):
        sandbox.require_readable(tmp_path)


def environment():
    """What the test below calls in a child: its environment."""
    return dict(os.environ)


def test_passwords_and_keys_of_the_environment_do_not_reach_the_child(monkeypatch):
    secret = ("SORANO_DATABASE", "SORANO_DESK_DATABASE", "SORANO_DESK_ENDPOINT_KEY", "HF_TOKEN", "PGPASSWORD")
    for name in (*secret, "SORANO_STORE"):
        monkeypatch.setenv(name, "x")
    found, _ = sandbox.run("test_trust_sandbox:environment", {})
    assert not set(secret) & set(found) and found["SORANO_STORE"] == "x"
