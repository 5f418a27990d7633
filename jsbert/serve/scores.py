"""A cross-encoder's scores, for all the APIs that rank texts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from starlette.requests import Request

from jsbert.serve.errors import ServeError
from jsbert.serve.models import Scorer
from jsbert.serve.serving import Serving


class Ranked(NamedTuple):
    """Ranked texts.

    Attributes:
        order: the place in the request and the score of each text, best first, ties in the given
            order.
        num_tokens: the number of tokens of all pairs.
        num_truncated: the number of pairs that were cut.
    """

    order: list[tuple[int, float]]
    num_tokens: int
    num_truncated: int


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return scores from 0 to 1: the sigmoid of one label, or the softmax over several; (N, labels)
    float32 for both."""
    if logits.shape[1] == 1:
        return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


async def ranked(
    serving: Serving,
    request: Request,
    scorer: Scorer,
    query: str,
    texts: Sequence[str],
    *,
    field: str,
    raw: bool = False,
    truncate: bool | None = None,
) -> Ranked:
    """Score texts with a query.

    Args:
        serving: the server.
        request: whose client waits.
        scorer: a cross-encoder with one label.
        query: one text.
        texts: the texts to rank.
        field: the request's field that holds the texts, for messages.
        raw: give logits instead of their sigmoid.
        truncate: whether pairs past the model's limit are cut; None: as the settings say.

    Raises:
        ServeError: if the model has several labels, and as `Serving.compute`.
    """
    if len(scorer.labels) != 1:
        raise ServeError(
            "no model",
            f"the model has {len(scorer.labels)} labels, so it does not rank; use /predict",
            field="model",
        )
    pairs = [(query, text) for text in texts]
    tokens = await serving.tokenize(scorer, pairs, field=field, truncate=truncate)
    rows = await serving.compute(request, scorer.program, tokens, field=field)
    logits = np.stack(rows)
    scores = (logits if raw else probabilities(logits))[:, 0]
    order = np.argsort(-scores, kind="stable")
    return Ranked(
        [(int(index), float(scores[index])) for index in order],
        len(tokens.ids),
        len(tokens.truncated),
    )
