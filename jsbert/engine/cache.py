"""JAX's compilation cache on disk."""

import functools
import os
import pathlib
from typing import Any

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache


@functools.cache
def use_compilation_cache() -> None:
    """Let JAX keep compiled programs in the user's cache folder, however short their compile time.

    The engine and training call this function before their first compilation. It does nothing if
    the user has chosen a cache folder or switched the cache off, and it keeps a minimum compile
    time that the user has chosen. It also does nothing if there are several CPU devices: there a
    program from the cache waits in its first collective until JAX ends the process (seen with JAX
    0.10 and 0.12).
    """
    config: Any = jax.config  # its options are no attributes to a type checker
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        return
    folder = pathlib.Path(platformdirs.user_cache_dir("jsbert")) / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # there is no cache if the folder cannot be written
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    minimum = "jax_persistent_cache_min_compile_time_secs"
    if minimum.upper() not in os.environ and getattr(jax.config, minimum) == 1.0:  # JAX's default
        jax.config.update(minimum, 0.0)
    # JAX decides at the first compilation of a process whether there is a cache. Make it decide
    # again.
    compilation_cache.reset_cache()
