"""Losses in which the examples of a batch see each other: the mark, and how it is found."""

from collections.abc import Callable, Iterator

from jaxtyping import Array, Float

Loss = Callable[..., Float[Array, " batch"]]


def in_batch(loss: Loss) -> Loss:
    """Mark `loss` as one in which the examples of a batch see each other, and return it.

    One example alone has no gradient of such a loss.

    >>> is_in_batch(in_batch(lambda embeddings, labels: embeddings[0].sum(axis=-1)))
    True
    """
    loss.in_batch = True  # type: ignore[attr-defined]  # a mark on a function
    return loss


def is_in_batch(loss: Loss) -> bool:
    """Whether `loss`, or what it wraps (see `unwrapped`), is marked by `in_batch`."""
    return any(getattr(function, "in_batch", False) for function in unwrapped(loss))


def unwrapped(loss: Loss | None) -> Iterator[Loss]:
    """`loss`, then what it wraps by `functools.partial`, `matryoshka` or `jit`, to the
    innermost."""
    while loss is not None:
        yield loss
        loss = getattr(loss, "func", None) or getattr(loss, "__wrapped__", None)
