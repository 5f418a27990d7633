"""Mark the losses in which the examples of a batch see each other, and find the mark."""

from collections.abc import Callable, Iterator

from jaxtyping import Array, Float

Loss = Callable[..., Float[Array, " batch"]]


def in_batch(loss: Loss) -> Loss:
    """Mark `loss` as one in which the examples of a batch see each other, and return it.

    A single example has no gradient of such a loss.

    >>> is_in_batch(in_batch(lambda embeddings, labels: embeddings[0].sum(axis=-1)))
    True
    """
    loss.in_batch = True  # type: ignore[attr-defined]  # a mark on a function
    return loss


def is_in_batch(loss: Loss) -> bool:
    """Whether `in_batch` marks `loss` or a function that `loss` wraps (see `unwrapped`)."""
    return any(getattr(function, "in_batch", False) for function in unwrapped(loss))


def unwrapped(loss: Loss | None) -> Iterator[Loss]:
    """`loss`, then the function that `loss` wraps by `functools.partial`, `matryoshka` or `jit`,
    and so on to the innermost function."""
    while loss is not None:
        yield loss
        loss = getattr(loss, "func", None) or getattr(loss, "__wrapped__", None)
