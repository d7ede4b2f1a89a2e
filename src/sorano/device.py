"""Which device computes, in which dtype, and how fast it is: probed, with the reason, and remembered.

One code runs on CPU, CUDA, ROCm (which torch calls "cuda"), MPS and XPU. On a CPU the processor's features decide
first: without AVX512-BF16 or AMX, bfloat16 is emulated and slower. With them, and where the system does not say, both
dtypes are timed turn about, the least of several rounds each, and the usual one stands unless the other is faster by a
margin: a busy moment does not decide. What was measured, and when, is kept in the user's cache folder and named in each
run's record; where the folder cannot be written, it is timed each time.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano import threads
from sorano.errors import RequestError
from sorano.files import write_atomic
from sorano.plan.machine import Machine, Profile, cache_folder, free_memory_bytes, profile_file

if TYPE_CHECKING:
    import torch

CPUINFO = Path("/proc/cpuinfo")
MATMUL_SIZE = 512  # rows of the square matrices that are timed
CONV_CHANNELS = 32
REPEATS = 5
ROUNDS = 7  # of both dtypes on a CPU, turn about
MARGIN = 1.5  # times faster that the dtype has to be which the processor's features do not speak for


def choose_machine(device: str = "auto") -> Machine:
    """The device to run on. "auto" takes CUDA or ROCm, then XPU, then MPS, then the CPU.

    Raises RequestError where the device asked for is not there, naming those that are.
    """
    import torch

    there = available_devices()
    name = there[0] if device == "auto" else device
    if name.split(":")[0] not in there or int(name.partition(":")[2] or 0) >= _count(name):
        raise RequestError(f"there is no device {device!r} here", f"available: {', '.join(there)}")
    if name == "cpu":
        return _cpu()
    dtype, why = _accelerator_dtype(name)
    rate = _matmul_rate(name, getattr(torch, dtype))
    reason = f"{name}: {'found' if device == 'auto' else 'asked for'}; {dtype}: {why}"
    host = None if name == "mps" else free_memory_bytes()
    return Machine(name, dtype, rate, _free_bytes(name), reason, Profile.read(profile_file(name, dtype)), host)


def in_dtype(machine: Machine, dtype: str) -> Machine:
    """The machine computing in another dtype than it would choose; "auto" leaves it."""
    if dtype in ("auto", machine.dtype):
        return machine
    if machine.on_cpu:
        rate = _cpu_probe()[0][f"{dtype}_flops_per_second"]
    else:
        import torch

        rate = _matmul_rate(machine.device, getattr(torch, dtype))
    measured = Profile.read(profile_file(machine.device, dtype))
    reason = f"{machine.device}; {dtype}: asked for"
    return replace(machine, dtype=dtype, flops_per_second=rate, reason=reason, measured=measured)


def available_devices() -> list[str]:
    """The kinds of device that torch can use here, the best first; the CPU always last."""
    import torch

    found: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "xpu": lambda: hasattr(torch, "xpu") and torch.xpu.is_available(),
        "mps": torch.backends.mps.is_available,
    }
    return [name for name, there in found.items() if there()] + ["cpu"]


def _cpu() -> Machine:
    probe, remembered = _cpu_probe()
    dtype = str(probe["dtype"])
    when = f"timed {probe['timed']}" if remembered else "timed now"
    reason = f"cpu; {dtype}: {probe['reason']} ({when}, {probe['threads']} threads)"
    profile = Profile.read(profile_file("cpu", dtype))
    rate = profile.flops_per_second if profile else probe[f"{dtype}_flops_per_second"]
    return Machine("cpu", dtype, rate, free_memory_bytes(), reason, profile)


def _cpu_probe() -> tuple[dict[str, Any], bool]:
    """What `_timed` gives, of this processor and this torch; and whether it was remembered.

    Where other cores are free now than then, the rates follow the number of threads, and the dtype stays: the same seed
    gives the same video.
    """
    import torch

    threads.adapt()
    file = cache_folder() / "machine.json"
    key = f"{_cpu_name()}, torch {torch.__version__}"
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = dict(json.loads(file.read_text()))
        probe = known[key]
        words = {name: str(probe[name]) for name in ("dtype", "reason", "timed")}
        then, now = int(probe["threads"]), torch.get_num_threads()
        rates = {name: float(probe[name]) * (now / then if "flops" in name else then / now) for name in _RATES}
        if words["dtype"] in _CPU_DTYPES and min(rates.values()) > 0:
            return {**words, **rates, "threads": now}, True
    probe = _timed(bf16_feature())
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps({**known, key: probe}, indent=1))
    return probe, False


_CPU_DTYPES = ("bfloat16", "float32")
_RATES = [f"{dtype}_{what}" for dtype in _CPU_DTYPES for what in ("flops_per_second", "seconds")]


def _timed(feature: str | None) -> dict[str, Any]:
    """The dtype for this CPU, why, and what was measured: of each dtype the FLOP/s of a product, and the seconds of it
    and a convolution.

    `feature` is the processor's instruction set for bfloat16, "" for none, None where that is not known. Both dtypes
    are timed turn about, and the least of the rounds counts, so that other work on the machine slows neither alone.
    """
    import torch

    rates = dict.fromkeys(_CPU_DTYPES, 0.0)
    convolutions = dict.fromkeys(_CPU_DTYPES, math.inf)
    for turn in range(ROUNDS):
        for name in _CPU_DTYPES:
            if turn and name == "bfloat16" and feature == "":
                continue  # emulated, dozens of times slower: that is seen at once, and takes a second each time
            rates[name] = max(rates[name], _matmul_rate("cpu", getattr(torch, name), repeats=1))
            convolutions[name] = min(convolutions[name], _conv_seconds(getattr(torch, name), repeats=1))
    seconds = {name: 2 * MATMUL_SIZE**3 / rates[name] + convolutions[name] for name in _CPU_DTYPES}
    gain = seconds["float32"] / seconds["bfloat16"]
    dtype, reason = _cpu_dtype(feature, gain)
    measured = {f"{name}_flops_per_second": rate for name, rate in rates.items()}
    measured |= {f"{name}_seconds": value for name, value in seconds.items()}
    when = time.strftime("%Y-%m-%d %H:%M")
    return {"dtype": dtype, "reason": reason, "timed": when, "threads": torch.get_num_threads(), **measured}


def _cpu_dtype(feature: str | None, gain: float) -> tuple[str, str]:
    """The dtype, and why, of a processor with a bfloat16 feature (`bf16_feature`), where bfloat16 is `gain` times
    faster than float32."""
    if feature == "":
        return "float32", f"the processor has no AVX512-BF16 or AMX; float32 is {1 / gain:.1f}x faster than bfloat16"
    if feature:
        if gain > 1 / MARGIN:
            return "bfloat16", f"the processor has {feature}; {gain:.1f}x faster than float32"
        return "float32", f"{1 / gain:.1f}x faster than bfloat16, although the processor has {feature}"
    if gain >= MARGIN:
        return "bfloat16", f"{gain:.1f}x faster than float32"
    return "float32", f"bfloat16 is {gain:.1f}x as fast, and has to be {MARGIN:g}x as fast to be taken"


def bf16_feature() -> str | None:
    """The instruction set with which this CPU multiplies bfloat16; "" for none, None where the system does not say."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next(
        (set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), None
    )
    if flags is None:
        return None
    named = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "bf16": "bfloat16 instructions"}
    return next((name for flag, name in named.items() if flag in flags), "")


def _matmul_rate(device: str, dtype: torch.dtype, repeats: int = REPEATS) -> float:
    """FLOP/s of a square matrix product, the best of a few: other work on the machine only slows it."""
    import torch

    size = MATMUL_SIZE if device == "cpu" else 8 * MATMUL_SIZE
    a = torch.ones(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _best_seconds(lambda: a @ a, device, repeats)


def _conv_seconds(dtype: torch.dtype, repeats: int = REPEATS) -> float:
    import torch

    x = torch.ones(1, CONV_CHANNELS, 5, 32, 32, dtype=dtype)
    weight = torch.ones(CONV_CHANNELS, CONV_CHANNELS, 3, 3, 3, dtype=dtype)
    return _best_seconds(lambda: torch.nn.functional.conv3d(x, weight, padding=1), "cpu", repeats)


def _best_seconds(work: Callable[[], torch.Tensor], device: str, repeats: int) -> float:
    import torch

    seconds = []
    with torch.inference_mode():
        for _ in range(repeats + 1):  # the first one prepares the kernel
            start = time.perf_counter()
            result = work()
            if device != "cpu":
                result.float().sum().item()  # waits for the device, whichever it is
            seconds.append(time.perf_counter() - start)
    return max(1e-9, min(seconds[1:]))


def _accelerator_dtype(device: str) -> tuple[str, str]:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_bf16_supported():
        return "float32", "this GPU has no bfloat16"
    if device == "mps":
        return "float32", "bfloat16 on MPS depends on the version of the system"
    return "bfloat16", "supported by the device"


def _free_bytes(device: str) -> int | None:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    if device.startswith("xpu") and hasattr(torch.xpu, "mem_get_info"):
        return int(torch.xpu.mem_get_info(torch.device(device))[0])
    return free_memory_bytes()  # MPS shares the main memory


def _count(device: str) -> int:
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        return torch.cuda.device_count()
    return torch.xpu.device_count() if kind == "xpu" and hasattr(torch, "xpu") else 1


def _cpu_name() -> str:
    with suppress(OSError):
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
