"""Make batches ahead of their use, in threads of grain."""

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetched(
    plan: Sequence[Item], make: Callable[[Item], Made], *, start: int = 0, num_threads: int = 1
) -> Generator[Made, None, None]:
    """Yield make(item) for the items of `plan[start:]`, in order. Up to 2 * num_threads items are
    made ahead.

    If `make` raises an exception, the caller gets it in place of that item. `close()` on the
    iterator, or its end, stops the threads. With `num_threads=0` there are no threads, and nothing
    is made ahead.

    Raises:
        ImportError: without grain, which comes with `pip install 'jsbert[train]'`.
        ValueError: if `start` is outside of the plan.
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
