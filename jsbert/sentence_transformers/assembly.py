"""A bi-encoder as the peer's list of modules, and a list of modules as a bi-encoder."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from jsbert.checkpoint import BiEncoderParts, Settings
from jsbert.checks import shown
from jsbert.config import Config
from jsbert.encoders.static import MODEL_TYPE as STATIC
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.sentence_transformers.modules import (
    Behind,
    Dense,
    Dropout,
    LayerNorm,
    Module,
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
    WeightedLayerPooling,
)

KINDS: dict[str, type[Behind]] = {
    "Dense": Dense, "LayerNorm": LayerNorm, "Normalize": Normalize, "Dropout": Dropout
}  # fmt: skip
"""The modules behind the pooling, under the names that `jsbert.modules` has for them."""


def put_together(modules: Sequence[Module]) -> tuple[BiEncoderParts, dict[str, Any]]:
    """Return the parts of a bi-encoder, and the options that its `Transformer` was given.

    Args:
        modules: a `Transformer`, a `WeightedLayerPooling` if there is one, and a `Pooling`; or a
            `StaticEmbedding`; then any of `Dense`, `LayerNorm`, `Normalize` and `Dropout`.

    Raises:
        TypeError: for an object that is no module.
        ValueError: for another order, or widths that do not fit each other.
    """
    for module in modules:
        if not isinstance(module, Module):
            raise TypeError(
                f"modules: {shown(module)} is {type(module).__name__}; give objects of "
                "jsbert.sentence_transformers.modules"
            )
    kinds = [type(module).__name__ for module in modules]
    first = modules[0] if modules else None
    layers = next((m for m in modules if isinstance(m, WeightedLayerPooling)), None)
    pooling = next((m for m in modules if isinstance(m, Pooling)), None)
    behind = [module for module in modules if isinstance(module, Behind)]
    in_order = [m for m in (first, layers, pooling, *behind) if m is not None]
    if (
        not isinstance(first, Transformer | StaticEmbedding)
        or isinstance(first, Transformer) != (pooling is not None)
        or (layers is not None and pooling is None)
        or list(map(id, modules)) != list(map(id, in_order))
    ):
        raise ValueError(
            f"modules {kinds}; give Transformer, WeightedLayerPooling if wanted, and Pooling, or "
            "StaticEmbedding; then any of Dense, LayerNorm, Normalize and Dropout"
        )
    parts = first.parts
    width = parts.config.encoder.hidden_size
    config, params = Config(parts.config.encoder), {"encoder": parts.params["encoder"]}
    for read in (layers, pooling):
        if read is not None and read.embedding_dimension != width:
            raise ValueError(
                f"{type(read).__name__}: embedding_dimension is {read.embedding_dimension}, "
                f"but the encoder's token vectors have {width}"
            )
    if layers is not None:
        states = parts.config.encoder.num_layers + 1
        if layers.layer_weights.shape != (states - layers.layer_start,):
            raise ValueError(
                f"WeightedLayerPooling: {len(layers.layer_weights)} weights from layer "
                f"{layers.layer_start} on, but the encoder has {states - 1} layers"
            )
        config = dataclasses.replace(config, layer_start=layers.layer_start)
        params["layer_weights"] = layers.layer_weights
    if pooling is not None:
        config = dataclasses.replace(
            config, pooling=pooling.modes, include_prompt=pooling.include_prompt
        )
    width = config.embedding_dimension
    for place, own in enumerate(behind, len(modules) - len(behind)):
        try:
            width = own.module.width(width)
        except ValueError as error:
            raise ValueError(f"modules[{place}], {kinds[place]}: {error}") from None
    config = dataclasses.replace(config, modules=tuple(module.module for module in behind))
    head = {i: module.params for i, module in enumerate(behind) if module.params is not None}
    params |= {"head": head} if head else {}
    options = first.options if isinstance(first, Transformer) else {}
    return BiEncoderParts(config, params, first.tokenizer, Settings()), options


def modules_of(model: SentenceTransformer) -> Iterator[Module]:
    """Yield the modules of a model in order.

    Raises:
        ValueError: if the model has routes.
    """
    config = model.config
    if config.router is not None or model.router is not None:
        raise ValueError("a model with routes is no list of modules; see model.config.router")
    width = config.encoder.hidden_size
    if config.encoder.model_type == STATIC:
        yield StaticEmbedding.of(model)
    else:
        yield Transformer.of(model)
        if config.layer_start is not None:
            num_layers, weights = config.encoder.num_layers, model.params["layer_weights"]
            yield WeightedLayerPooling(width, num_layers, config.layer_start, weights)
        yield Pooling(width, config.pooling, config.include_prompt)
    for i, module in enumerate(config.modules):
        behind = KINDS[type(module).__name__]
        found = behind.__new__(behind)
        found.module, found.params = module, model.params.get("head", {}).get(i)
        yield found
