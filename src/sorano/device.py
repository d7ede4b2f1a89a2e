"""Which device computes, in which dtype, and how fast it is: probed, with the reason, and remembered.

One code runs on CPU, CUDA, ROCm (which torch calls "cuda"), MPS and XPU. On a CPU the faster of bfloat16 and
float32 is found by a short timing at first use: with AVX512-BF16 or AMX bfloat16 is several times faster,
without them it is slower. The result is kept in the user's cache folder; where that cannot be written, it is
timed each time.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import RequestError
from sorano.plan.machine import Machine, Profile, cache_folder, free_memory_bytes, profile_file

if TYPE_CHECKING:
    import torch

MATMUL_SIZE = 512  # rows of the square matrices that are timed
CONV_CHANNELS = 32
REPEATS = 5


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
        rate = _cpu_rates()[0][f"{dtype}_flops_per_second"]
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
    rates, remembered = _cpu_rates()
    dtype = min(("bfloat16", "float32"), key=lambda name: rates[f"{name}_seconds"])
    other = "float32" if dtype == "bfloat16" else "bfloat16"
    gain = rates[f"{other}_seconds"] / rates[f"{dtype}_seconds"]
    reason = f"cpu; {dtype}: {gain:.1f}x faster here than {other} ({'remembered' if remembered else 'timed now'})"
    profile = Profile.read(profile_file("cpu", dtype))
    rate = profile.flops_per_second if profile else rates[f"{dtype}_flops_per_second"]
    return Machine("cpu", dtype, rate, free_memory_bytes(), reason, profile)


def _cpu_rates() -> tuple[dict[str, float], bool]:
    """Seconds of a product and a convolution in each dtype, the product's rate; and whether remembered."""
    import torch

    file = cache_folder() / "machine.json"
    key = f"{_cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    with suppress(OSError, ValueError, KeyError, TypeError):
        rates = json.loads(file.read_text())[key]
        return {name: float(rates[name]) for name in _RATES}, True
    rates = {}
    for name in ("bfloat16", "float32"):
        dtype = getattr(torch, name)
        rates[f"{name}_flops_per_second"] = _matmul_rate("cpu", dtype)
        rates[f"{name}_seconds"] = 2 * MATMUL_SIZE**3 / rates[f"{name}_flops_per_second"] + _conv_seconds(dtype)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({key: rates}, indent=1))
        os.replace(temporary, file)
    return rates, False


_RATES = [f"{dtype}_{what}" for dtype in ("bfloat16", "float32") for what in ("flops_per_second", "seconds")]


def _matmul_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product, the best of a few: other work on the machine only slows it."""
    import torch

    size = MATMUL_SIZE if device == "cpu" else 8 * MATMUL_SIZE
    a = torch.ones(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _best_seconds(lambda: a @ a, device)


def _conv_seconds(dtype: torch.dtype) -> float:
    import torch

    x = torch.ones(1, CONV_CHANNELS, 5, 32, 32, dtype=dtype)
    weight = torch.ones(CONV_CHANNELS, CONV_CHANNELS, 3, 3, 3, dtype=dtype)
    return _best_seconds(lambda: torch.nn.functional.conv3d(x, weight, padding=1), "cpu")


def _best_seconds(work: Callable[[], torch.Tensor], device: str) -> float:
    import torch

    seconds = []
    with torch.inference_mode():
        for _ in range(REPEATS + 1):  # the first one prepares the kernel
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
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
