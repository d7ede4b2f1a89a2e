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

    def set_speed(speed, feature=None):
        def matmul_rate(name, dtype, repeats=1):
            calls.append(dtype)
            return 1e11 * (speed if dtype == torch.bfloat16 else 1)

        monkeypatch.setattr(device, "_matmul_rate", matmul_rate)
        monkeypatch.setattr(device, "bf16_feature", lambda: feature)
        monkeypatch.setattr(
            device, "_conv_seconds", lambda dtype, repeats=1: 1e-2 / (speed if dtype == torch.bfloat16 else 1)
        )
        return calls

    return set_speed


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SORANO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("feature", "speed", "dtype"),
    [
        ("AMX", 8, "bfloat16"),
        ("AVX512-BF16", 0.8, "bfloat16"),  # within the margin: what the processor is made for stands
        ("AVX512-BF16", 0.2, "float32"),
        ("", 3, "float32"),  # a lucky moment of an emulated product
        (None, 1.2, "float32"),  # not known, and no clear gain
        (None, 4, "bfloat16"),
    ],
)
def test_the_processors_features_decide_unless_the_other_dtype_is_clearly_faster(timed, feature, speed, dtype):
    timed(speed, feature)
    assert device.choose_machine("cpu").dtype == dtype


def test_one_slow_moment_does_not_decide(monkeypatch):
    turns = {torch.float32: iter([9, 1, 9, 9, 9, 9, 9]), torch.bfloat16: iter([2, 2, 2, 2, 2, 2, 2])}
    monkeypatch.setattr(device, "_matmul_rate", lambda name, dtype, repeats: 1e11 / next(turns[dtype]))
    monkeypatch.setattr(device, "_conv_seconds", lambda dtype, repeats: 1e-3)
    probe = device._timed(None)
    assert probe["float32_flops_per_second"] == 1e11 and probe["dtype"] == "float32"


def test_what_was_measured_and_when_is_kept_and_said(timed, own_cache):
    timed(8)
    device.choose_machine("cpu")
    (kept,) = json.loads((own_cache / "machine.json").read_text()).values()
    assert kept["dtype"] == "bfloat16" and "8.0x faster" in kept["reason"]
    assert kept["threads"] == torch.get_num_threads() and kept["bfloat16_seconds"] > 0
    assert kept["timed"] in device.choose_machine("cpu").reason


def test_the_dtype_stays_where_other_threads_are_free(timed, monkeypatch, own_cache):
    calls = timed(8)
    device.choose_machine("cpu")
    then = json.loads((own_cache / "machine.json").read_text())
    for probe in then.values():
        probe["threads"] = 2 * torch.get_num_threads()
    (own_cache / "machine.json").write_text(json.dumps(then))
    number = len(calls)
    machine = device.choose_machine("cpu")
    assert machine.dtype == "bfloat16" and machine.flops_per_second == pytest.approx(4e11) and len(calls) == number


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16", "AVX512-BF16"),
        ("flags : amx_bf16 avx512_bf16 amx_tile", "AMX"),
        ("flags : fpu avx2 fma", ""),
        ("Features : fp asimd bf16 i8mm", "bfloat16 instructions"),
        ("processor : 0", None),
    ],
)
def test_features_are_read_as_the_system_states_them(monkeypatch, tmp_path, text, feature):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{text}\n")
    monkeypatch.setattr(device, "CPUINFO", tmp_path / "cpuinfo")
    assert device.bf16_feature() == feature


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
    assert len(calls) == 2 * device.ROUNDS and (own_cache / "machine.json").is_file()
    again = device.choose_machine("cpu")
    assert len(calls) == 2 * device.ROUNDS
    assert (again.dtype, again.flops_per_second) == (first.dtype, first.flops_per_second)
    assert "timed now" not in again.reason


def test_what_is_emulated_is_timed_once(timed):
    calls = timed(0.03, feature="")
    machine = device.choose_machine("cpu")
    assert machine.dtype == "float32" and "33.3x faster than bfloat16" in machine.reason
    assert len(calls) == device.ROUNDS + 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"another cpu": {}})])
def test_a_spoilt_or_foreign_memory_is_timed_anew(timed, own_cache, content):
    own_cache.mkdir()
    (own_cache / "machine.json").write_text(content)
    calls = timed(8)
    assert device.choose_machine("cpu").dtype == "bfloat16"
    assert len(calls) == 2 * device.ROUNDS


def test_a_cache_that_cannot_be_written_stops_nobody(timed, own_cache):
    own_cache.write_text("a file where the folder should be")
    calls = timed(8)
    for _ in range(2):
        assert device.choose_machine("cpu").dtype == "bfloat16"
    assert len(calls) == 4 * device.ROUNDS


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


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch, tmp_path):
    from sorano.plan.machine import cache_folder

    monkeypatch.chdir(tmp_path)
    for name in ("SORANO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder() == tmp_path / ".cache" / "sorano"
