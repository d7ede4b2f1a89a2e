"""The machine as the plan sees it: what computes, how fast, and how much memory is free."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sorano.files import user_folder

# Where Linux, and the control group that a container lives in, say what is free.
MEMINFO = Path("/proc/meminfo")
CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


GUESSED_FLOPS_PER_CORE = 30e9  # float32, an ordinary core of the 2020s


@dataclass(frozen=True)
class Profile:
    """How fast a machine does this kind of work: shares of its matrix rate, and what is not matrices.

    `sorano plan calibrate` measures one and keeps it; until then there are the defaults below, of two ordinary cores
    and of an accelerator.
    """

    name: str
    attention: float  # share of the matrix rate in scores and values, 0 to 1
    linear: float  # in everything else of the transformer
    decode: float  # in the autoencoder's decoder
    seconds_per_layer: float  # besides the FLOPs: launching what is in a block
    start_seconds: float = 0.1  # what the first pass takes besides: kernels are chosen and compiled
    write_pixels_per_second: float = 7e6  # marking, x264, and reading back
    seal_seconds: float = 0.1  # labels and the signature, whatever the length
    load_bytes_per_second: float = 1e9
    load_seconds: float = 0.5  # importing and building the networks, whatever their size
    base_bytes: int = 315_000_000  # Python, torch, PyAV and what kernels keep, in main memory
    seal_bytes: int = 55_000_000  # what marking, signing and reading back take, where there is a file
    flops_per_second: float = 0.0  # the matrix rate when it was measured

    @classmethod
    def read(cls, file: Path) -> Profile | None:
        """What a calibration left; None where there is none, or one of another version."""
        try:
            words = json.loads(file.read_text(encoding="utf-8"))
            return cls(**{field.name: words[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, file: Path) -> None:
        """Keeps it, under a temporary name first."""
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".tmp")
        beside.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        beside.replace(file)


CPU = Profile("two ordinary cores, not calibrated", attention=0.5, linear=0.5, decode=0.25, seconds_per_layer=0.4e-3)
ACCELERATOR = Profile(
    "an accelerator, not calibrated", attention=0.5, linear=0.5, decode=0.25, seconds_per_layer=0.1e-3
)


def cache_folder() -> Path:
    """Where timings are remembered: $SORANO_CACHE, or `sorano` in the user's cache folder."""
    try:
        return user_folder("cache", "SORANO_CACHE")
    except RuntimeError:  # a user without a home, as in some containers
        return Path.cwd() / ".cache" / "sorano"


def profile_file(device: str, dtype: str) -> Path:
    """Where a machine's own profile is kept."""
    return cache_folder() / f"profile-{device.replace(':', '-')}-{dtype}.json"


@dataclass(frozen=True)
class Machine:
    """A device chosen for a run. `reason` says why this device and this dtype."""

    device: str  # as torch names it: "cpu", "cuda:0", "mps"
    dtype: str  # "bfloat16", "float16" or "float32": what products are computed in
    flops_per_second: float  # of a matrix product in that dtype, measured
    free_bytes: int | None  # memory that a run may take; None where the system does not say
    reason: str = ""
    measured: Profile | None = None  # by `sorano plan calibrate`
    host_free_bytes: int | None = None  # main memory beside a device that has its own; None where nothing says

    @property
    def profile(self) -> Profile:
        """The measured profile, or what is usual."""
        return self.measured or (CPU if self.on_cpu else ACCELERATOR)

    @property
    def bytes_per_value(self) -> int:
        """Bytes of an activation."""
        return 4 if self.dtype == "float32" else 2

    @property
    def on_cpu(self) -> bool:
        """Whether the weights and the frames share the main memory."""
        return self.device == "cpu"


def this_machine(dtype: str = "bfloat16") -> Machine:
    """This machine's processor without importing torch: as it was calibrated or timed before, else a cautious guess."""
    for kind in (dtype, "float32", "bfloat16"):
        profile = Profile.read(profile_file("cpu", kind))
        if profile is not None:
            return Machine("cpu", kind, profile.flops_per_second, free_memory_bytes(), "calibrated", profile)
    try:
        rates = list(json.loads((cache_folder() / "machine.json").read_text()).values())[-1]
        kind = str(rates["dtype"])
        return Machine("cpu", kind, float(rates[f"{kind}_flops_per_second"]), free_memory_bytes(), "timed before")
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        guess = GUESSED_FLOPS_PER_CORE * (os.cpu_count() or 1)
        return Machine("cpu", "float32", guess, free_memory_bytes(), "guessed: run `sorano plan calibrate`")


def free_memory_bytes() -> int | None:
    """Main memory that a new process could take, in a container's limit; None where nothing says."""
    known = [free for free in (_meminfo_available(), _container_free(), _sysconf_free()) if free is not None]
    return min(known) if known else None


def _meminfo_available() -> int | None:
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _container_free() -> int | None:
    for limit, used in CGROUP_LIMITS:
        try:
            most = int(limit.read_text())
            if most < 2**60:  # larger means no limit
                return max(0, most - int(used.read_text()))
        except (OSError, ValueError):
            continue
    return None


def _sysconf_free() -> int | None:
    """All of the memory where the system does not say what is free (macOS), as far as sysconf knows."""
    if MEMINFO.exists():
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
