"""How the suite compiles: each program once, and quickly where nothing is compared with another
implementation.

Compiling took most of the suite's time. So all workers and runs share one cache of programs; and
XLA leaves its optimisations out (a step takes .7 s to compile and not 3.4) unless a test asks for
the code that users run: see `optimised`.

A key of JAX's cache holds the program, the versions of JAX and XLA, all options and the processor's
features, so a program is never read where it would differ from a compiled one. Two things JAX
leaves to us:

- A program over several CPU devices that was read from a cache waits in its first collective for
ever (JAX 0.10 to
  0.12): such programs are compiled each time.
- JAX writes an entry in place. A process that is killed meanwhile leaves half of one, so we write
beside and rename.

All three need names that JAX keeps private. Where they are gone, the suite runs without a cache and
fully optimised, only slower.
"""

import functools
import os
import pathlib
import shutil

import jax

QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""Compiler options for code that is soon compiled and slow to run: of no account for tiny models.
Newer releases of XLA have dropped the second one."""

optimised = True
"""Whether programs are compiled as for users; conftest sets it for each module of tests."""

LARGEST_BYTES = 4 << 30
"""A cache that has grown beyond this starts again: changed code leaves programs that nobody asks
for."""


@functools.cache
def quick_options() -> dict[str, str]:
    """Those of QUICK that this release of XLA knows."""
    known = {}
    for name, value in QUICK.items():
        try:
            jax.jit(jax.numpy.negative).lower(1.0).compile(compiler_options={name: value})
        except jax.errors.JaxRuntimeError:
            continue
        known[name] = str(value)
    return known


def quick_flags() -> str:
    """The same for XLA_FLAGS of a process that is started: one device, and with it jsbert's own
    cache of programs."""
    return " ".join(f"--{name}={value.lower()}" for name, value in quick_options().items())


def share(folder: pathlib.Path) -> bool:
    """Keep this process's programs in `folder` and read those that are there; whether JAX allows
    it."""
    try:
        from jax._src import compiler
        from jax._src.lru_cache import LRUCache

        key_of, _ = compiler._get_cache_key, LRUCache.put
    except (ImportError, AttributeError):
        return False

    quick = quick_options()

    def key_of_one_device(options, *args, **kwargs):
        if not optimised and not options.env_option_overrides:
            options.env_option_overrides = list(quick.items())
        devices = kwargs.get("devices")
        return (
            key_of(options, *args, **kwargs) if devices is not None and devices.size == 1 else None
        )

    def put_whole(cache, key, value):
        beside = pathlib.Path(str(cache.path), f"{key}.{os.getpid()}")
        try:
            beside.write_bytes(value)
            os.replace(beside, pathlib.Path(str(cache.path), f"{key}-cache"))
        finally:
            beside.unlink(missing_ok=True)

    compiler._get_cache_key, LRUCache.put = key_of_one_device, put_whole
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return True


def clear_if_large(folder: pathlib.Path) -> None:
    """Remove `folder` if it has grown beyond LARGEST_BYTES; for a time at which no worker reads."""
    if (
        folder.is_dir()
        and sum(entry.stat().st_size for entry in os.scandir(folder)) > LARGEST_BYTES
    ):
        shutil.rmtree(folder, ignore_errors=True)
