"""datasets: `dataset.map(EncodeColumn("text"), batched=True, num_proc=4)`."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from jsbert.integrations.opened import bi_encoder, checked_name
from jsbert.sentence_transformer import SharedOptions


class EncodeColumn:
    """A function for `Dataset.map(..., batched=True)` that adds the vectors of a column of texts.

    The function is sent to the workers by name and options, and each worker opens the model. So it
    is quick to hash for the cache of datasets.
    """

    def __init__(
        self,
        column: str = "text",
        model: str | None = None,
        *,
        to: str = "embedding",
        model_options: Mapping[str, Any] | None = None,
        **options: Unpack[SharedOptions],
    ):
        """Take the column of texts, the name of a model, the new column, options of the model's
        constructor and options of `encode`."""
        self.column = column
        self.model = checked_name(model)
        self.to = to
        self.model_options = model_options
        self.options = options

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        """Return the vectors of a batch."""
        model = bi_encoder(self.model, self.model_options)
        return {self.to: model.encode(batch[self.column], **self.options)}
