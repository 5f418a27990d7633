"""How the suite compiles: each program once, and quickly if nothing is compared with another
implementation.

Compiling took most of the suite's time. So all workers and runs share one cache of programs. XLA
leaves its optimisations out (a step takes .7 s to compile instead of 3.4 s) unless a test asks for
the code that users run: see `optimised`.

A key of JAX's cache holds the program, the versions of JAX and XLA, all options and the processor's
features. So a program is read only where the compiled program would be the same. JAX leaves two
problems to us:

- A program over several CPU devices that was read from a cache waits in its first collective for
  ever (JAX 0.10 to 0.12). Such programs are compiled each time.
- JAX writes an entry in place. A process that is killed meanwhile leaves half of an entry. So we
  write to another file and rename the file.

The cache, the options and the writing need names that JAX keeps private. If these names are gone,
the suite runs without a cache and fully optimised, and is only slower.
"""

import functools
import os
import pathlib
import shutil

import jax

QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""Compiler options for code that is compiled quickly and runs slowly. Slow code does not matter
with tiny models. Newer releases of XLA have dropped the second option."""

optimised = True
"""Whether programs are compiled as for users; conftest sets the value for each module of tests."""

LARGEST_BYTES = 4 << 30
"""A cache larger than this is emptied, because changed code leaves programs that are never read
again."""


@functools.cache
def quick_options() -> dict[str, str]:
    """Return the options of QUICK that this release of XLA knows."""
    known = {}
    for name, value in QUICK.items():
        try:
            jax.jit(jax.numpy.negative).lower(1.0).compile(compiler_options={name: value})
        except jax.errors.JaxRuntimeError:
            continue
        known[name] = str(value)
    return known


def quick_flags() -> str:
    """Return the same options as XLA_FLAGS for a process that a test starts: with one device, and
    therefore with jsbert's own cache of programs."""
    return " ".join(f"--{name}={value.lower()}" for name, value in quick_options().items())


def share(folder: pathlib.Path) -> bool:
    """Keep this process's programs in `folder`, and read the programs that are there. Return
    whether JAX allows it."""
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
        unfinished = pathlib.Path(str(cache.path), f"{key}.{os.getpid()}")
        try:
            unfinished.write_bytes(value)
            os.replace(unfinished, pathlib.Path(str(cache.path), f"{key}-cache"))
        finally:
            unfinished.unlink(missing_ok=True)

    compiler._get_cache_key, LRUCache.put = key_of_one_device, put_whole
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return True


def clear_if_large(folder: pathlib.Path) -> None:
    """Remove `folder` if it is larger than LARGEST_BYTES. Call this only while no worker reads."""
    if (
        folder.is_dir()
        and sum(entry.stat().st_size for entry in os.scandir(folder)) > LARGEST_BYTES
    ):
        shutil.rmtree(folder, ignore_errors=True)
