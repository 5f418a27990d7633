"""mteb: `mteb.evaluate(JsbertEncoder(model), tasks)`."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from jsbert.cross_encoder import CrossEncoder
from jsbert.integrations import needs
from jsbert.integrations.opened import bi_encoder, cross_encoder
from jsbert.sentence_transformer import SentenceTransformer, Vectors

with needs("mteb"):
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType

Batches = Iterable[Mapping[str, list[str]]]
"""What mteb hands in: batches whose "text" is a list of texts."""


class JsbertEncoder(AbsEncoder):
    """A bi-encoder as mteb's encoder. Prompts are chosen by the task, as for mteb's own models."""

    def __init__(
        self,
        model: SentenceTransformer | str | None = None,
        revision: str | None = None,
        *,
        name: str | None = None,
        prompts: Mapping[str, str] | None = None,
        **options: Any,
    ):
        """Take a model, or the name of one.

        Args:
            revision: of the Hub, if `model` is a name; it is in the results too.
            name: the name in mteb's results, "owner/name"; by default the model's.
            prompts: prompts by the name of a task, the type of a task, "query" or "document", or
                both with a "-" between; added to the model's.
            **options: of the constructor, if `model` is a name.
        """
        if revision is not None and isinstance(model, str):
            options["revision"] = revision
        self.model = bi_encoder(model, options)
        self.model_prompts = self.model.prompts | dict(prompts or {})
        self.mteb_model_meta = _meta(
            name or model,
            revision,
            loader=type(self),
            max_tokens=self.model.max_seq_length,
            embed_dim=self.model.get_embedding_dimension(),
            similarity_fn_name=ScoringFunction.from_str(self.model.similarity_fn_name),
        )

    def encode(
        self,
        inputs: Batches,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **options: Any,
    ) -> Float[np.ndarray, "texts dim"]:
        """Return the vectors of all texts; `options` are those of `encode`."""
        texts = [text for batch in inputs for text in batch["text"]]
        prompt_name = self.get_prompt_name(task_metadata, prompt_type)
        if prompt_name is not None:
            options["prompt"] = (self.model_prompts or {})[prompt_name]
        task = None if prompt_type is None else prompt_type.value
        return self.model.encode(texts, task=task, **options)

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> np.ndarray:
        """Return the model's similarity of each row with each row."""
        return np.array(self.model.similarity(embeddings1, embeddings2))

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> np.ndarray:
        """Return the model's similarity of each row with the same row."""
        return np.array(self.model.similarity_pairwise(embeddings1, embeddings2))


class JsbertCrossEncoder:
    """A cross-encoder as mteb's reranker."""

    def __init__(
        self,
        model: CrossEncoder | str,
        revision: str | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ):
        """Take a model, or the name of one; the arguments are those of `JsbertEncoder`."""
        if revision is not None and isinstance(model, str):
            options["revision"] = revision
        self.model = cross_encoder(model, options)
        self.mteb_model_meta = _meta(
            name or model, revision, loader=type(self), model_type=["cross-encoder"]
        )

    def predict(
        self,
        inputs1: Batches,
        inputs2: Batches,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **options: Any,
    ) -> Float[np.ndarray, " pairs"]:
        """Return the score of each text of `inputs1` with the text of `inputs2` beside it."""
        first, second = (
            [text for batch in inputs for text in batch["text"]] for inputs in (inputs1, inputs2)
        )
        return self.model.predict(list(zip(first, second, strict=True)), **options)


def _meta(name: object, revision: str | None, **facts: Any) -> ModelMeta:
    """Return what mteb wants to know of a model, without asking the Hub."""
    known = name if isinstance(name, str) else "model"
    facts["name"] = known if "/" in known else f"jsbert/{known}"
    return ModelMeta.create_empty(facts | {"revision": revision, "framework": ["JAX"]})
