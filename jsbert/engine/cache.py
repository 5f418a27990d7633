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
    """Let JAX keep compiled programs under the user's cache folder, however quickly they compiled.

    The engine and training call it before their first compilation. It does nothing where the user
    has chosen a cache folder or switched the cache off, and it leaves a minimum compile time that
    the user has chosen. It also does nothing where there are several CPU devices: there a program
    that was read from a cache waits in its first collective until JAX ends the process (seen with
    JAX 0.10 and 0.12).
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
        return  # no cache where nothing can be written
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    minimum = "jax_persistent_cache_min_compile_time_secs"
    if minimum.upper() not in os.environ and getattr(jax.config, minimum) == 1.0:  # JAX's default
        jax.config.update(minimum, 0.0)
    # JAX decides at a process's first compilation whether there is a cache; let it look again.
    compilation_cache.reset_cache()
