"""Which devices to compute on, and JAX's compilation cache on disk."""

import functools
import os
import pathlib
from collections.abc import Sequence

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

TOKEN_BUDGETS = {"cpu": 1024, "gpu": 32_768, "tpu": 32_768}
"""Tokens of a full batch, padding included. On the CPU small batches stay in cache: measured best of 512 to 4,096 on
two cores. The accelerators' figures are not measured."""

BFLOAT16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
"""CPU features with which XLA multiplies bfloat16 faster than float32."""

Device = str | jax.Device
"""A platform name ("cpu", "gpu", "cuda", "tpu"), with an index if wanted ("cuda:1"), or a `jax.Device`."""


def resolve_devices(device: Device | Sequence[Device] | None = None) -> tuple[jax.Device, ...]:
    """The JAX devices meant by `device`; by default JAX's first.

    Raises:
        ValueError: for a device that is not there, an unknown name, an empty list, a device named twice, or devices of
            several platforms; the message lists what there is.
        TypeError: for anything but names, devices and lists of them.
    """
    if device is None:
        return (jax.devices()[0],)
    if isinstance(device, (str, jax.Device)):
        return (_resolve(device),)
    if not isinstance(device, Sequence):
        raise TypeError(
            f"device is {device!r}; give a name such as 'cpu' or 'cuda:0', a jax.Device, or a list of these"
        )
    devices = tuple(_resolve(one) for one in device)
    if not devices:
        raise ValueError("device is an empty list; name at least one device")
    if len(set(devices)) < len(devices) or len({one.platform for one in devices}) > 1:
        raise ValueError(f"devices {list(map(str, devices))}: each may be named once, and all must be of one platform")
    return devices


def resolve_dtype(dtype: str, devices: Sequence[jax.Device]) -> str:
    """`dtype`; for "auto" the fastest of those that keep the cosine to float32 above .999: "bfloat16" on accelerators
    and on CPUs with instructions for its products, else "float32"."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if devices[0].platform != "cpu" or cpu_features() & BFLOAT16_FEATURES else "float32"


def check_attention(implementation: str, dtype: str, devices: Sequence[jax.Device]) -> None:
    """Whether `devices` can compute attention so.

    Raises:
        ValueError: for "cudnn" in float32, or on anything but NVIDIA GPUs of compute capability 8.0 (Ampere) or higher.
    """
    if implementation == "cudnn" and (dtype == "float32" or not all(map(_is_ampere, devices))):
        raise ValueError(
            f"attn_implementation is 'cudnn', with dtype {dtype!r} on {[str(device) for device in devices]}; it needs "
            "dtype 'bfloat16' or 'int8', and NVIDIA GPUs of compute capability 8.0 or higher. Choose 'eager' or 'xla'"
        )


def _is_ampere(device):
    capability = str(getattr(device, "compute_capability", ""))  # "9.0"; AMD's are "gfx942"
    return capability[:1].isdecimal() and float(capability) >= 8


@functools.cache
def cpu_features() -> frozenset[str]:
    """The processor's features under Linux's names ("avx2", "avx512_bf16", ...); none where they cannot be read."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def token_budget(devices: Sequence[jax.Device]) -> int:
    """Tokens of a full batch on these devices together."""
    return len(devices) * TOKEN_BUDGETS.get(devices[0].platform, TOKEN_BUDGETS["gpu"])


@functools.cache
def use_compilation_cache() -> None:
    """Lets JAX keep compiled programs under the user's cache folder, however quickly they compiled.

    Called at the first compilation. Does nothing where the user has chosen a cache folder or switched the cache off; a
    minimum compile time that the user has chosen stays. Nothing either where there are several CPU devices: there a
    program that was read from a cache waits in its first collective until JAX ends the process (seen with JAX 0.10 and
    0.12).
    """
    if jax.config.jax_compilation_cache_dir is not None or not jax.config.jax_enable_compilation_cache:
        return
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        return
    folder = pathlib.Path(platformdirs.user_cache_dir("jsbert")) / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # no cache where nothing can be written
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    minimum = "jax_persistent_cache_min_compile_time_secs"
    if minimum.upper() not in os.environ and getattr(jax.config, minimum) == 1.0:  # JAX's default
        jax.config.update(minimum, 0.0)
    # JAX decides at a process's first compilation whether there is a cache; let it look again.
    compilation_cache.reset_cache()


def _resolve(device):
    if isinstance(device, jax.Device):
        return device
    if not isinstance(device, str):
        raise TypeError(f"device is {device!r}; give a name such as 'cpu' or 'cuda:0', or a jax.Device")
    name, _, index = device.partition(":")
    platform = {"cuda": "gpu", "rocm": "gpu"}.get(name, name)
    if platform not in TOKEN_BUDGETS or not (index == "" or index.isdecimal()):
        raise ValueError(
            f"unknown device {device!r}; give 'cpu', 'gpu', 'cuda' or 'tpu', with an index if wanted ('cuda:1')"
        )
    try:
        devices = jax.local_devices(backend=platform)
    except RuntimeError:
        devices = []
    if int(index or 0) >= len(devices):
        raise ValueError(
            f"no device {device!r} here; JAX sees {[str(one) for one in jax.local_devices()]}"
            + ("; install jsbert[gpu] or jsbert[tpu] for accelerators" if platform != "cpu" else "")
        )
    return devices[int(index or 0)]
