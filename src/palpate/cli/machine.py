"""What a bug report needs to know of a machine and an installation, as plain data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import EXTRAS, how_to_install
from ..openmp import chosen

if TYPE_CHECKING:
    from ..inference import InferenceSettings

PACKAGES = (
    *("torch", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "safetensors", "pydantic", "typer"),
    *("cachetools", "filelock", "connected-components-3d"),
)
# Instructions that decide how fast a network is: AVX2 or AVX-512 at all, the others for bfloat16 and int8.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
SPINS = 0.3  # of a core, used while there is nothing to do
PAUSES, PAUSE_SECONDS = 40, 0.01


def versions() -> dict[str, str | None]:
    """Palpate's, Python's and the libraries' versions; None: not installed."""
    from .. import __version__

    found = {"palpate": __version__, "python": platform.python_version(), "platform": platform.platform()}
    return found | {package: installed(package) for package in PACKAGES}


def installed(package: str) -> str | None:
    """A package's version, or None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> dict[str, Any]:
    """The CPU's model, its cores, those that this process may use, and its instructions of `FEATURES`."""
    text = _text("/proc/cpuinfo")
    fields = dict(line.replace("\t", "").split(":", 1) for line in text.splitlines() if ":" in line)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": fields.get("model name", "").strip() or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "features": [name for name in FEATURES if name in flags],
    }


def memory() -> dict[str, float | None]:
    """Gigabytes of memory: the machine's, what is available now, and a container's limit; None: unknown."""
    meminfo = dict(line.split(":", 1) for line in _text("/proc/meminfo").splitlines() if ":" in line)
    total: float | None = None
    if "MemTotal" in meminfo:
        total = float(meminfo["MemTotal"].split()[0]) * 1024
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    available = float(meminfo["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in meminfo else None
    limit = _text("/sys/fs/cgroup/memory.max").strip()
    return {
        "total_gb": _gb(total),
        "available_gb": _gb(available),
        "limit_gb": _gb(float(limit)) if limit.isdecimal() else None,
    }


def devices() -> list[dict[str, Any]]:
    """The devices that PyTorch can compute on."""
    import torch

    found: list[dict[str, Any]] = [{"device": "cpu", "instructions": torch.backends.cpu.get_cpu_capability()}]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found.append(
            {
                "device": f"cuda:{number}",
                "name": properties.name,
                "memory_gb": _gb(properties.total_memory),
                "capability": f"{properties.major}.{properties.minor}",
            }
        )
    return found


def threads() -> dict[str, Any]:
    """PyTorch's threads, how they wait, and the fraction of a core that they use while there is nothing to do."""
    import torch

    busy = busy_while_waiting() if torch.get_num_threads() > 1 else 0.0
    return {
        "threads": torch.get_num_threads(),
        "openmp": _openmp(torch.__config__.parallel_info()),
        "waiting": chosen(),
        "busy_while_waiting": round(busy, 2),
        "spins": busy > SPINS,
    }


def busy_while_waiting() -> float:
    """The fraction of a core that PyTorch's threads use in pauses between short parallel sums."""
    import torch

    numbers = torch.ones(1 << 18)
    numbers.sum()
    began, used = time.perf_counter(), time.process_time()
    for _ in range(PAUSES):
        numbers.sum()
        time.sleep(PAUSE_SECONDS)
    return (time.process_time() - used) / (time.perf_counter() - began)


def extras() -> dict[str, dict[str, Any]]:
    """Of each extra, the packages that are missing, and how to install them."""
    found = {}
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if installed(package) is None]
        found[extra] = {"missing": missing, "install": how_to_install(extra) if missing else None}
    return found


def feature_cache() -> dict[str, Any]:
    """The bound of the cache of features and lesion states, for the whole process, and the variable that changes it."""
    from ..inference.cache import CACHE, VARIABLE

    return {"max_bytes": CACHE.max_bytes, "variable": VARIABLE}


def weights_folder() -> dict[str, Any]:
    """The folder of fetched weights, and the bytes in it."""
    from ..weights import home

    folder = home()
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {"folder": short(folder), "files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def timed_click(settings: InferenceSettings) -> dict[str, Any]:
    """Seconds of a first and of a further click on a synthetic nodule of 28 mm.

    Raises:
        DeviceError: no such device here.
    """
    from ..devices import device_named
    from ..phantom import make_phantom
    from ..predictor import Predictor
    from ..prompts import Click

    made = make_phantom(seed=0, site="lung", lesion_diameter_mm=28.0)
    predictor = Predictor(settings)
    predictor.set_volume(made.volume)
    x, y, z = made.click.index
    seconds, prompts = [], []
    for prompt in (made.click, Click((x + 2, y, z))):
        prompts.append(prompt)
        began = time.perf_counter()
        mask = predictor.predict(prompts).mask
        seconds.append(round(time.perf_counter() - began, 3))
    first, further = seconds
    return {
        "model": settings.model,
        "device": str(device_named(settings.device)),
        "precision": settings.precision,
        "first_seconds": first,
        "further_seconds": further,
        "volume_ml": round(mask.volume_ml, 3),
    }


def _openmp(parallel_info: str) -> str:
    """The OpenMP library that PyTorch loaded, by its file's name, or what PyTorch says of it."""
    loaded = {Path(line.split()[-1]).name for line in _text("/proc/self/maps").splitlines() if "omp" in line}
    libraries = sorted(name for name in loaded if name.startswith(("libgomp", "libomp", "libiomp")))
    if libraries:
        return ", ".join(libraries)
    return next((line.strip() for line in parallel_info.splitlines() if line.startswith("OpenMP")), sys.platform)


def short(path: Path) -> str:
    """A path without the user's name, where it lies in the user's folder."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except ValueError:
        return str(path)


def _text(path: str) -> str:
    """A file of the system's, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _gb(count: float | None) -> float | None:
    return None if count is None else round(count / 1e9, 1)
