"""scikit-learn: `make_pipeline(SentenceEncoder(), LogisticRegression())`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jsbert.integrations import needs
from jsbert.integrations.opened import bi_encoder
from jsbert.sentence_transformer import SentenceTransformer

with needs("scikit-learn"):
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import Tags


class SentenceEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A transformer from texts to vectors. `fit` learns nothing.

    With a name, clones and worker processes share or open the model by themselves; a model object
    is copied by `clone`.
    """

    def __init__(
        self,
        model: SentenceTransformer | str | None = None,
        *,
        model_options: Mapping[str, Any] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        precision: str = "float32",
        batch_size: int | None = None,
    ):
        """Take a model or the name of one, `model_options` for its constructor, and options of
        `encode`."""
        self.model = model
        self.model_options = model_options
        self.prompt_name = prompt_name
        self.prompt = prompt
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = truncate_dim
        self.precision = precision
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> "SentenceEncoder":
        """Return the transformer as it is."""
        return self

    def transform(self, X: Any) -> Shaped[np.ndarray, "texts dim"]:
        """Return the vectors of texts: a list, an array, a column, or a table of one column."""
        if getattr(X, "ndim", 1) == 2:
            if X.shape[1] != 1:
                raise ValueError(f"X has {X.shape[1]} columns; give one column of texts")
            X = np.asarray(X)[:, 0]
        return self._encoded(X)

    def _encoded(self, texts: Any) -> Shaped[np.ndarray, "texts dim"]:
        names = ("prompt_name", "prompt", "normalize_embeddings", "truncate_dim", "precision")
        options = {name: getattr(self, name) for name in (*names, "batch_size")}
        return bi_encoder(self.model, self.model_options).encode(texts, **options)

    @property
    def _n_features_out(self) -> int:
        return self._encoded([""]).shape[1]

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
