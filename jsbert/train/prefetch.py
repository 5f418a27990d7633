"""Batches made ahead of their use, by grain's worker threads."""

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetched(
    plan: Sequence[Item], make: Callable[[Item], Made], *, start: int = 0, num_threads: int = 1
) -> Generator[Made, None, None]:
    """Yields make(item) for the items of `plan[start:]`, in order, up to 2 * num_threads of them
    made ahead.

    An exception in `make` reaches the caller at its item's place. `close()` on the iterator, or its
    end, stops the threads; with `num_threads=0` there are none, and nothing is made ahead.

    Raises:
        ImportError: without grain, which comes with `pip install 'jsbert[train]'`.
    """
    try:
        import grain
    except ImportError as error:
        raise ImportError("reading ahead needs grain: pip install 'jsbert[train]'") from error
    if not 0 <= start <= len(plan):
        raise ValueError(f"start is {start}; the plan has {len(plan)} items")
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    items = grain.MapDataset.source(plan[start:]).map(make)
    return _closing(items, options)


def _closing(items, options):
    made = iter(items.to_iter_dataset(options, allow_nones=True))
    try:
        yield from made
    finally:
        made.close()
