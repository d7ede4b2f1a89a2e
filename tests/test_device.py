"""Which device and dtype are chosen, and what is remembered."""

import json

import pytest
import torch

from sorano import device
from sorano.errors import RequestError


@pytest.fixture
def timed(monkeypatch):
    """Counts the timings instead of doing them; bfloat16 is made `speed` times faster than float32."""
    calls = []

    def set_speed(speed):
        def matmul_rate(name, dtype):
            calls.append(dtype)
            return 1e11 * (speed if dtype == torch.bfloat16 else 1)

        monkeypatch.setattr(device, "_matmul_rate", matmul_rate)
        monkeypatch.setattr(device, "_conv_seconds", lambda dtype: 1e-2 / (speed if dtype == torch.bfloat16 else 1))
        return calls

    return set_speed


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SORANO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("speed", "dtype"), [(8, "bfloat16"), (0.1, "float32")])
def test_a_cpu_computes_in_the_dtype_that_is_faster_on_it(timed, speed, dtype):
    timed(speed)
    machine = device.choose_machine("cpu")
    assert (machine.device, machine.dtype) == ("cpu", dtype)
    assert machine.flops_per_second == pytest.approx(1e11 * max(speed, 1))
    assert dtype in machine.reason and "timed now" in machine.reason


def test_the_timing_is_remembered(timed, own_cache):
    calls = timed(8)
    first = device.choose_machine("cpu")
    assert len(calls) == 2 and (own_cache / "machine.json").is_file()
    again = device.choose_machine("cpu")
    assert len(calls) == 2
    assert (again.dtype, again.flops_per_second) == (first.dtype, first.flops_per_second)
    assert "remembered" in again.reason


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"another cpu": {}})])
def test_a_spoilt_or_foreign_memory_is_timed_anew(timed, own_cache, content):
    own_cache.mkdir()
    (own_cache / "machine.json").write_text(content)
    calls = timed(8)
    assert device.choose_machine("cpu").dtype == "bfloat16"
    assert len(calls) == 2


def test_a_cache_that_cannot_be_written_stops_nobody(timed, own_cache):
    own_cache.write_text("a file where the folder should be")
    calls = timed(8)
    for _ in range(2):
        assert device.choose_machine("cpu").dtype == "bfloat16"
    assert len(calls) == 4


def test_the_real_timing_is_short_and_positive():
    machine = device.choose_machine("cpu")
    assert machine.flops_per_second > 1e8
    assert machine.free_bytes is None or machine.free_bytes > 0


def test_auto_takes_the_best_there_is(timed, monkeypatch):
    timed(8)
    monkeypatch.setattr(device, "available_devices", lambda: ["cpu"])
    assert device.choose_machine("auto").device == "cpu"


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(RequestError, match="available: .*cpu"):
        device.choose_machine("xpu:9")


def test_another_dtype_is_taken_where_it_is_asked_for():
    machine = device.choose_machine("cpu")
    for dtype in ("bfloat16", "float32"):
        other = device.in_dtype(machine, dtype)
        assert other.dtype == dtype and other.flops_per_second > 0 and other.device == "cpu"
        assert other is machine if dtype == machine.dtype else "asked for" in other.reason
    assert device.in_dtype(machine, "auto") is machine
