"""Choose the devices that compute, and place arrays on them."""

import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import ArrayLike, PyTree

from jsbert.encoders.product import cpu_features
from jsbert.engine.ladder import TOKEN_BUDGETS

BFLOAT16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
"""The CPU features that let XLA multiply bfloat16 faster than float32."""

Device: TypeAlias = str | jax.Device
"""A platform name ("cpu", "gpu", "cuda", "tpu"), with an index if wanted ("cuda:1"), or a
`jax.Device`."""


class Placement:
    """How arrays are placed: params whole on every device, or cut over the devices; the rows of a
    batch spread over the devices.

    Attributes:
        devices: the devices, of one platform.
        shard_params: whether each device has a part of the params in place of all of them.
        platform: "cpu", "gpu" or "tpu".
        by_row: the sharding of a batch: its first axis is spread over the devices.
        everywhere: the sharding of arrays that every device has whole.
    """

    def __init__(self, devices: Sequence[jax.Device], *, shard_params: bool = False):
        self.devices, self.shard_params = tuple(devices), shard_params
        self.platform = platform_of(self.devices)
        mesh = Mesh(np.asarray(self.devices), ("rows",))
        self.by_row = NamedSharding(mesh, PartitionSpec("rows"))
        self.everywhere = NamedSharding(mesh, PartitionSpec())

    @property
    def token_budget(self) -> int:
        """The number of tokens of a full batch on all devices together, padding included."""
        return len(self.devices) * TOKEN_BUDGETS[self.platform]

    @property
    def packs(self) -> bool:
        """Whether a row may hold several texts: true on accelerators, because compiling is slow
        there and more tokens are computed at a time. On a CPU small batches of padded texts are
        faster."""
        return self.platform != "cpu"

    def put(self, params: PyTree) -> PyTree:
        """Copy params to every device; with `shard_params`, give each device a part of them."""
        return jax.device_put(params, jax.tree.map(self._sharding, params))

    def _sharding(self, param: ArrayLike) -> NamedSharding:
        """The sharding of one param: whole, or cut along its last axis, the outputs of a matrix
        product.

        A sum over inputs is never cut, so that the results are those of one device. XLA gathers the
        matrices of a layer before it computes the layer.
        """
        shape = np.shape(param)
        if not self.shard_params or len(shape) < 2 or shape[-1] % len(self.devices):
            return self.everywhere
        return NamedSharding(self.by_row.mesh, PartitionSpec(*[None] * (len(shape) - 1), "rows"))

    def put_rows(self, arrays: Mapping[str, ArrayLike], num_rows: int) -> dict[str, jax.Array]:
        """Spread a batch over the devices by rows. If the number of devices does not divide
        `num_rows`, copy the batch to every device."""
        return jax.device_put(
            dict(arrays), self.everywhere if num_rows % len(self.devices) else self.by_row
        )


_process: int | None = None
"""The process whose devices the library uses."""


def check_process() -> None:
    """Raise RuntimeError in a process that was forked after the library began to use devices.
    There JAX has no threads, and its first computation would wait for ever."""
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise RuntimeError(
            "this process was forked after JAX had started, and JAX cannot compute in it; start "
            "processes with the method 'spawn' or 'forkserver', such as multiprocessing.get_context"
            "('spawn'), or use JAX and open the model only in the forked process"
        )


def platform_of(devices: Sequence[jax.Device]) -> str:
    """The platform of devices: "cpu", "gpu" or "tpu". An unknown accelerator counts as "gpu"."""
    platform = devices[0].platform
    return platform if platform in TOKEN_BUDGETS else "gpu"


def resolve_devices(device: Device | Sequence[Device] | None = None) -> tuple[jax.Device, ...]:
    """The JAX devices that `device` names; by default the first device of JAX.

    Raises:
        ValueError: if a device does not exist, a name is unknown, a list is empty, a device is
            named twice, or the devices are of several platforms. If a device does not exist, the
            message lists the devices that JAX sees.
        TypeError: if `device` is not a name, a device or a list of them.
        RuntimeError: as `check_process`.
    """
    check_process()
    if device is None:
        return (jax.devices()[0],)
    if isinstance(device, (str, jax.Device)):
        return (_resolve(device),)
    if not isinstance(device, Sequence):
        raise TypeError(
            f"device is {device!r}; give a name such as 'cpu' or 'cuda:0', a jax.Device, or a list "
            "of these"
        )
    devices = tuple(_resolve(one) for one in device)
    if not devices:
        raise ValueError("device is an empty list; name at least one device")
    if len(set(devices)) < len(devices) or len({one.platform for one in devices}) > 1:
        raise ValueError(
            f"devices {list(map(str, devices))}: each may be named once, and all must be of one "
            "platform"
        )
    return devices


def resolve_dtype(dtype: str, devices: Sequence[jax.Device]) -> str:
    """The dtype to compute in. For "auto" it is the fastest dtype whose vectors keep a cosine above
    .999 to those of float32: "bfloat16" on accelerators and on CPUs with instructions for its
    products, else "float32"."""
    if dtype != "auto":
        return dtype
    return (
        "bfloat16"
        if platform_of(devices) != "cpu" or cpu_features() & BFLOAT16_FEATURES
        else "float32"
    )


def resolve_attention(implementation: str, devices: Sequence[jax.Device]) -> str:
    """The implementation of attention. "auto" becomes "eager" on CPUs and on GPUs that cannot
    compute "cudnn", and stays "auto" on other devices."""
    if implementation == "auto":
        platform = platform_of(devices)
        if platform == "cpu" or (platform == "gpu" and not all(map(_is_ampere, devices))):
            return "eager"
    return implementation


def check_attention(implementation: str, dtype: str, devices: Sequence[jax.Device]) -> None:
    """Check that `devices` can compute attention with this implementation.

    Raises:
        ValueError: for "cudnn" in float32, or on devices that are not NVIDIA GPUs of compute
            capability 8.0 (Ampere) or higher; for "flash" on devices that are not TPUs.
    """
    if implementation == "flash" and platform_of(devices) != "tpu":
        raise ValueError(
            f"attn_implementation is 'flash' on {[str(device) for device in devices]}; it needs "
            "TPUs. Choose 'auto', 'eager' or 'xla'"
        )
    if implementation == "cudnn" and (dtype == "float32" or not all(map(_is_ampere, devices))):
        raise ValueError(
            f"attn_implementation is 'cudnn', with dtype {dtype!r} on "
            f"{[str(device) for device in devices]}; it needs "
            "dtype 'bfloat16' or 'int8', and NVIDIA GPUs of compute capability 8.0 or higher. "
            "Choose 'eager' or 'xla'"
        )


def _is_ampere(device):
    capability = str(getattr(device, "compute_capability", ""))  # "9.0"; AMD's are "gfx942"
    return capability[:1].isdecimal() and float(capability) >= 8


def _resolve(device):
    if isinstance(device, jax.Device):
        return device
    if not isinstance(device, str):
        raise TypeError(
            f"device is {device!r}; give a name such as 'cpu' or 'cuda:0', or a jax.Device"
        )
    name, _, index = device.partition(":")
    platform = {"cuda": "gpu", "rocm": "gpu"}.get(name, name)
    if platform not in TOKEN_BUDGETS or not (index == "" or index.isdecimal()):
        raise ValueError(
            f"unknown device {device!r}; give 'cpu', 'gpu', 'cuda' or 'tpu', with an index if "
            "wanted ('cuda:1')"
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
