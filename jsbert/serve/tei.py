"""The endpoints of text-embeddings-inference."""

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

from jsbert.serve.answers import Json
from jsbert.serve.bodies import Inputs, Strings, as_list
from jsbert.serve.errors import ServeError
from jsbert.serve.models import Embedder, Scorer
from jsbert.serve.scores import probabilities, ranked
from jsbert.serve.serving import Serving
from jsbert.version import VERSION

MAX_TOKEN_VECTORS = 8192
"""The number of tokens of one request to `/embed_all`: the answer has a vector for each, and takes
about 4 kB of JSON for 384 dimensions."""

Direction = Literal["Left", "Right", "left", "right"]
Pairs = Annotated[list[Strings], Field(fail_fast=True)]


class TextsBody(BaseModel):
    """What bodies with texts share."""

    truncate: StrictBool | None = Field(None, description="Cut texts past the model's limit.")
    truncation_direction: Direction | None = Field(None, description="The tokenizer's own only.")


class EmbedAllBody(TextsBody):
    """The body of `/embed_all`."""

    inputs: Inputs = Field(description="One text or several, each a string or token ids.")
    prompt_name: StrictStr | None = Field(None, description="The name of one of the prompts.")


class EmbedBody(EmbedAllBody):
    """The body of `/embed`."""

    normalize: StrictBool | None = Field(True, description="Scale the vectors to length 1.")
    dimensions: StrictInt | None = Field(None, description="Cut to this many, before normalising.")


class Sentences(BaseModel):
    """What is compared with what."""

    source_sentence: StrictStr
    sentences: Strings


class SimilarityParameters(TextsBody):
    """The options of `/similarity`."""

    prompt_name: StrictStr | None = None


class SimilarityBody(BaseModel):
    """The body of `/similarity`."""

    inputs: Sentences
    parameters: SimilarityParameters | None = None


class RerankBody(TextsBody):
    """The body of `/rerank`."""

    query: StrictStr
    texts: Strings
    raw_scores: StrictBool = Field(False, description="Logits, without the sigmoid.")
    return_text: StrictBool = False


class PredictBody(TextsBody):
    """The body of `/predict`."""

    inputs: StrictStr | Strings | Pairs = Field(
        description="A text; a list of one or two strings: a text or a pair; or a list of these."
    )
    raw_scores: StrictBool = Field(False, description="Logits, without sigmoid or softmax.")


class TokenizeBody(BaseModel):
    """The body of `/tokenize`."""

    inputs: StrictStr | Strings
    add_special_tokens: StrictBool = True
    prompt_name: StrictStr | None = None


def router(serving: Serving) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["text-embeddings-inference"])

    @routes.post("/", include_in_schema=False)
    @routes.post("/embed")
    async def embed(request: Request, body: EmbedBody) -> Json:
        """Return a vector for each text: `encode`'s, scaled to length 1 unless `normalize` is
        false."""
        embedder = serving.catalogue.embedder()
        embedder.check_dimensions(body.dimensions)
        _check_direction(embedder, body)
        prompt, texts = embedder.prompt(body.prompt_name), as_list(body.inputs)
        tokens = await serving.tokenize(
            embedder, texts, field="inputs", prompt=prompt, truncate=body.truncate
        )
        rows = await serving.compute(request, embedder.program(prompt), tokens, field="inputs")
        vectors = embedder.vectors(
            rows, dimensions=body.dimensions, normalize=body.normalize is not False
        )
        return Json(vectors, num_truncated=len(tokens.truncated))

    @routes.post("/embed_all")
    async def embed_all(request: Request, body: EmbedAllBody) -> Json:
        """Return the token vectors of each text, special tokens included, never normalised."""
        embedder = serving.catalogue.embedder()
        _check_direction(embedder, body)
        prompt, texts = embedder.prompt(body.prompt_name), as_list(body.inputs)
        tokens = await serving.tokenize(
            embedder, texts, field="inputs", prompt=prompt, truncate=body.truncate
        )
        if len(tokens.ids) > MAX_TOKEN_VECTORS:
            raise ServeError(
                "too much",
                f"{len(tokens.ids)} tokens; at most {MAX_TOKEN_VECTORS} vectors of tokens are "
                "returned at a time",
                field="inputs",
            )
        program = embedder.program(prompt, of_tokens=True)
        rows = await serving.compute(request, program, tokens, field="inputs")
        return Json(rows, num_truncated=len(tokens.truncated))

    @routes.post("/similarity")
    async def similarity(request: Request, body: SimilarityBody) -> Json:
        """Return the cosine similarity of the source sentence with each sentence."""
        embedder = serving.catalogue.embedder()
        options = body.parameters or SimilarityParameters.model_validate({})
        _check_direction(embedder, options)
        if not body.inputs.sentences:
            raise ServeError("empty", "there are no sentences; give one", field="inputs.sentences")
        prompt = embedder.prompt(options.prompt_name)
        texts = [body.inputs.source_sentence, *body.inputs.sentences]
        tokens = await serving.tokenize(
            embedder, texts, field="inputs", prompt=prompt, truncate=options.truncate
        )
        rows = await serving.compute(request, embedder.program(prompt), tokens, field="inputs")
        vectors = embedder.vectors(rows, dimensions=None, normalize=True)
        return Json(vectors[1:] @ vectors[0], num_truncated=len(tokens.truncated))

    @routes.post("/rerank")
    async def rerank(request: Request, body: RerankBody) -> Json:
        """Return the texts' places and scores with the query, best first."""
        scorer = serving.catalogue.scorer()
        _check_direction(scorer, body)
        found = await ranked(
            serving, request, scorer, body.query, body.texts, field="texts",
            raw=body.raw_scores, truncate=body.truncate,
        )  # fmt: skip
        answer = [
            {"index": index, "score": score}
            | ({"text": body.texts[index]} if body.return_text else {})
            for index, score in found.order
        ]
        return Json(answer, num_truncated=found.num_truncated)

    @routes.post("/predict")
    async def predict(request: Request, body: PredictBody) -> Json:
        """Return the labels of texts or pairs with their scores, best first."""
        scorer = serving.catalogue.scorer()
        _check_direction(scorer, body)
        texts, is_single = _predicted(body.inputs)
        parts = [
            await serving.tokenize(scorer, same, field="inputs", truncate=body.truncate)
            for same in texts
        ]
        answers: list = []
        for tokens in parts:
            rows = await serving.compute(request, scorer.program, tokens, field="inputs")
            logits = np.stack(rows)
            scores = logits if body.raw_scores else probabilities(logits)
            answers += [
                [
                    {"score": float(row[label]), "label": scorer.labels[label]}
                    for label in np.argsort(-row, kind="stable")
                ]
                for row in scores
            ]
        num_truncated = sum(len(tokens.truncated) for tokens in parts)
        return Json(answers[0] if is_single else answers, num_truncated=num_truncated)

    @routes.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> Json:
        """Return the tokens of each text, as the model gets them."""
        embedder = serving.catalogue.any()
        prompt = embedder.prompt(body.prompt_name) if isinstance(embedder, Embedder) else ""
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        await serving.tokenize(embedder, texts, field="inputs", prompt=prompt)  # checks them
        answer = [
            [
                token._asdict()
                for token in embedder.model.tokenizer.spans(prompt + text)
                if body.add_special_tokens or not token.special
            ]
            for text in texts
        ]
        return Json(answer)

    @routes.get("/info")
    async def info() -> Json:
        """Return what is served, and the limits."""
        served, settings = serving.catalogue.any(), serving.settings
        kind: dict
        if isinstance(served, Scorer):
            labels = {str(index): label for index, label in enumerate(served.labels)}
            name = "reranker" if len(labels) == 1 else "classifier"
            kind = {name: {"id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}}}
        else:
            kind = {"embedding": {"pooling": "+".join(served.config.pooling)}}
        return Json(
            {
                "model_id": served.name,
                "model_sha": None,
                "model_dtype": served.model.dtype,
                "model_type": kind,
                "max_input_length": served.max_tokens,
                "max_batch_tokens": settings.max_queue_tokens,
                "max_client_batch_size": settings.max_request_texts,
                "auto_truncate": settings.truncate,
                "version": VERSION,
                "models": list(serving.catalogue.all),
            }
        )

    return routes


def _predicted(inputs: str | list) -> tuple[list[list], bool]:
    """Return the texts and pairs to predict, those of one kind next to each other, and whether the
    answer is for one input."""
    is_single = isinstance(inputs, str) or bool(inputs and isinstance(inputs[0], str))
    rows = [[inputs] if isinstance(inputs, str) else inputs] if is_single else inputs
    texts: list[list] = []
    for index, row in enumerate(rows):
        if not 1 <= len(row) <= 2:
            raise ServeError(
                "invalid",
                f"input {index} has {len(row)} strings; give one for a text, two for a pair",
                field="inputs",
            )
        text = row[0] if len(row) == 1 else (row[0], row[1])
        if texts and isinstance(texts[-1][0], str) == isinstance(text, str):
            texts[-1].append(text)
        else:
            texts.append([text])
    if not texts:
        raise ServeError("empty", "there is no text; give at least one", field="inputs")
    return texts, is_single


def _check_direction(served: Embedder | Scorer, body: TextsBody) -> None:
    """Raise ServeError if texts should be cut at another side than the model's tokenizer cuts."""
    own = served.model.tokenizer.settings.get("truncation_side") or "right"
    if body.truncation_direction is not None and body.truncation_direction.lower() != own:
        raise ServeError(
            "invalid", f"this model's tokenizer cuts texts at the {own}",
            field="truncation_direction",
        )  # fmt: skip
