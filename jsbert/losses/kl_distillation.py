"""KL distillation: a query's candidates get the probabilities that a teacher gives them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jsbert.arrays import AnyArray, at_least_float32
from jsbert.losses.measures import similarity_named


def kl_distillation(
    embeddings: Float[AnyArray, "towers batch dim"],
    labels: Num[AnyArray, "batch candidates"],
    *,
    similarity: str = "dot",
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
) -> Float[Array, " batch"]:
    """t^2 times the sum over the candidates c of p(c) log(p(c) / q(c)): (B,).

    p = softmax(labels / teacher_temperature), q = softmax(s(query, c) / t), and t is `temperature`.
    Lin et al. 2020, https://arxiv.org/abs/2010.11386; as ST's DistillKLDivLoss.

    Args:
        embeddings: query, positive and N negatives, (2 + N, B, D), with one negative or more.
        labels: the teacher's scores of the positive and then of the negatives, (B, 1 + N).
        similarity: s, "dot" or "cosine".
        temperature: t. A larger t makes the probabilities more equal.
        teacher_temperature: the teacher's; by default t.

    Raises:
        ValueError: if there is no negative, if the labels have another shape, or if a temperature
            is not above 0.

    >>> # The student's probabilities are 1/2 and 1/2, the teacher's are 3/4 and 1/4.
    >>> texts = jnp.array([[[1.0, 0.0]], [[2.0, 1.0]], [[2.0, 3.0]]])
    >>> loss = kl_distillation(texts, jnp.log(jnp.array([[3.0, 1.0]])))
    >>> print(loss.round(4))  # 3/4 log 3/2 + 1/4 log 1/2
    [0.1308]
    """
    batch, candidates = embeddings.shape[1], len(embeddings) - 1
    if candidates < 2 or labels.shape != (batch, candidates):
        raise ValueError(
            f"labels have shape {labels.shape}, for {batch} examples with {candidates} candidates; "
            f"give two candidates or more, and a score for each: {(batch, max(2, candidates))}"
        )
    if teacher_temperature is None:
        teacher_temperature = temperature
    if not (temperature > 0 and teacher_temperature > 0):
        raise ValueError(
            f"the temperatures are {temperature} and {teacher_temperature}; give numbers above 0"
        )
    compare = similarity_named(similarity)[1]
    scores = jax.vmap(compare, in_axes=(None, 0), out_axes=1)(embeddings[0], embeddings[1:])
    student = jax.nn.log_softmax(scores / temperature, axis=1)
    teacher = jax.nn.log_softmax(at_least_float32(labels) / teacher_temperature, axis=1)
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=1)
