"""The peer's `modules`, formerly `models`: the parts from which a bi-encoder is put together.

    SentenceTransformer(modules=[Transformer("a-folder"), Pooling(384), Normalize()])

`model[0]`, `model[1]` and so on are objects of these classes, too.
"""

import dataclasses
import math
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from jsbert import modules as own
from jsbert.checkpoint import BiEncoderParts, Settings, find_folder, read_bi_encoder
from jsbert.checkpoint.modules import LEGACY_POOLING_KEYS, pooling_modes
from jsbert.checkpoint.static import read_static
from jsbert.checkpoint.tensors import write_tensors
from jsbert.config import Config, EncoderConfig
from jsbert.inputs import renamed
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.sentence_transformers.missing import raise_for, refuse
from jsbert.sentence_transformers.options import activation_of, attended, limit_of
from jsbert.tokenizer import Tokenizer

WAYS = {
    "transformer_task": "jsbert reads encoders; leave it out",
    "config_kwargs": "change the config.json of the folder",
    "processing_kwargs": "texts are padded and cut by jsbert",
    "backend": "open the model with backend=",
    "modality_config": "jsbert reads texts",
    "module_output_name": "the pooling reads the token vectors",
    "unpad_inputs": "jsbert packs texts by itself",
    "query_length": "set max_seq_length",
    "document_length": "set max_seq_length",
    "query_expansion": "it belongs to models with one vector for each token",
}
"""For each argument of `Transformer` that jsbert does not have, what to do."""


class Module:
    """A part of a bi-encoder."""


class Transformer(Module):
    """The encoder and the tokenizer of a model folder.

    Attributes:
        options: dtype and attn_implementation for the model that is put together.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike,
        *,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        max_seq_length: int | None = None,
        do_lower_case: bool = False,
        tokenizer_name_or_path: str | os.PathLike | None = None,
        **others: Any,
    ):
        """Read a folder; the modules behind its encoder are left out.

        Args:
            model_name_or_path: a folder, a bundled model's name or a hub name.
            model_kwargs: "dtype" (or "torch_dtype") and "attn_implementation".
            processor_kwargs: "model_max_length".
            max_seq_length: the number of tokens kept of a text.
            do_lower_case: lower-case the texts first.
            tokenizer_name_or_path: a folder with another tokenizer.
            **others: the other arguments of the peer, which are refused by name.

        Raises:
            OSError: if the folder or a file does not exist.
            ValueError: if files are broken, or an argument is not supported.
            TypeError: for an argument that does not exist.
        """
        if unknown := sorted(others.keys() - WAYS):
            raise TypeError(f"Transformer has no argument {unknown[0]!r}")
        defaults = {"transformer_task": "feature-extraction", "backend": "torch"}
        refuse("Transformer", {n: v for n, v in others.items() if v != defaults.get(n)}, WAYS)
        self.options = attended(model_kwargs)
        folder = find_folder(model_name_or_path)
        parts = read_bi_encoder(folder, pooling="mean")
        tokenizer = parts.tokenizer
        if tokenizer_name_or_path is not None or do_lower_case:
            place = find_folder(tokenizer_name_or_path) if tokenizer_name_or_path else folder
            limit = tokenizer.max_length
            tokenizer = Tokenizer.from_folder(place, max_length=limit, lower_case=do_lower_case)
        most = max_seq_length or limit_of(processor_kwargs)
        if most is not None:
            tokenizer = tokenizer.with_max_length(min(most, parts.config.encoder.max_tokens))
        self._model: SentenceTransformer | None = None
        self._parts = dataclasses.replace(parts, tokenizer=tokenizer)

    @classmethod
    def of(cls, model: SentenceTransformer) -> "Transformer":
        """Return the encoder of a model."""
        module = cls.__new__(cls)
        module._model, module.options = model, {}
        return module

    @property
    def parts(self) -> BiEncoderParts:
        """Config, params and tokenizer of the encoder."""
        return self._parts if self._model is None else self._model.parts

    @property
    def config(self) -> EncoderConfig:
        """The config of the encoder."""
        return self.parts.config.encoder if self._model is None else self._model.config.encoder

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with its limit."""
        return self._parts.tokenizer if self._model is None else self._model.tokenizer

    @property
    def max_seq_length(self) -> int:
        """The number of tokens kept of a text. Can be set; `model[0]` sets it for the model."""
        return self.tokenizer.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        if self._model is not None:
            self._model.max_seq_length = value
        else:
            tokenizer = self.tokenizer.with_max_length(min(value, self.config.max_tokens))
            self._parts = dataclasses.replace(self._parts, tokenizer=tokenizer)

    def get_embedding_dimension(self) -> int:
        """Return the length of a token vector."""
        return self.config.hidden_size

    get_word_embedding_dimension = get_embedding_dimension

    def __getattr__(self, name: str) -> Any:
        if name in ("auto_model", "model"):
            way = "model.params and model.config hold what the encoder is; there is no torch module"
            raise AttributeError(f"Transformer has no {name}: {way}")
        raise AttributeError(f"'Transformer' object has no attribute {name!r}")


class StaticEmbedding(Module):
    """One vector for each token, whatever its neighbours. No `Pooling` follows it."""

    def __init__(
        self,
        tokenizer: Any,
        embedding_weights: ArrayLike | None = None,
        embedding_dim: int | None = None,
    ):
        """Make the module.

        Args:
            tokenizer: a `tokenizers.Tokenizer`, or a fast tokenizer of transformers.
            embedding_weights: a vector for each token, (V, D).
            embedding_dim: D of random vectors in place of `embedding_weights`.

        Raises:
            ValueError: without weights and dimension, or if the weights do not fit the tokenizer.
        """
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if embedding_weights is None:
            if embedding_dim is None:
                raise ValueError("give embedding_weights, or embedding_dim for random ones")
            shape = (backend.get_vocab_size(), embedding_dim)
            embedding_weights = np.random.default_rng(0).standard_normal(shape)
        weights = np.ascontiguousarray(embedding_weights, np.float32)
        with tempfile.TemporaryDirectory() as folder:
            backend.save(os.path.join(folder, "tokenizer.json"))
            write_tensors(pathlib.Path(folder, "model.safetensors"), {"embedding.weight": weights})
            self._read(folder)

    def _read(self, folder: str | os.PathLike) -> None:
        encoder, params, self.tokenizer = read_static(pathlib.Path(folder))
        self.parts = BiEncoderParts(
            Config(encoder), {"encoder": params}, self.tokenizer, Settings()
        )

    @classmethod
    def from_model2vec(cls, model_id_or_path: str | os.PathLike) -> "StaticEmbedding":
        """Read the table of a folder of model2vec.

        Raises:
            OSError, ValueError: for files that are missing or broken.
        """
        module = cls.__new__(cls)
        module._read(find_folder(model_id_or_path))
        return module

    @classmethod
    def of(cls, model: SentenceTransformer) -> "StaticEmbedding":
        """Return the table of a model."""
        module = cls.__new__(cls)
        module.parts, module.tokenizer = model.parts, model.tokenizer
        return module

    @property
    def max_seq_length(self) -> float:
        """Infinity: texts are not cut."""
        return math.inf

    def get_embedding_dimension(self) -> int:
        """Return the length of a vector."""
        return self.parts.config.encoder.hidden_size


class Pooling(Module):
    """Token vectors to one sentence vector.

    Attributes:
        embedding_dimension: the length of a token vector.
        pooling_mode: the name of a pooling, or a tuple of names.
        include_prompt: False leaves the prompt's tokens out.
    """

    @renamed("embedding_dimension", "word_embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        pooling_mode: str | Sequence[str] | None = None,
        include_prompt: bool = True,
        **flags: bool,
    ):
        """Check the modes; by default the mean. Without `pooling_mode` the former flags count, such
        as pooling_mode_cls_token=True.

        Raises:
            ValueError: for an unknown mode.
            TypeError: for an unknown flag.
        """
        if unknown := sorted(flags.keys() - LEGACY_POOLING_KEYS.keys()):
            raise TypeError(f"Pooling has no argument {unknown[0]!r}")
        flagged = [mode for key, mode in LEGACY_POOLING_KEYS.items() if flags.get(key)]
        modes = pooling_modes(pooling_mode or flagged or "mean", where="pooling_mode")
        self.embedding_dimension = embedding_dimension
        self.pooling_mode: str | tuple[str, ...] = modes[0] if len(modes) == 1 else modes
        self.include_prompt = include_prompt

    @property
    def modes(self) -> tuple[str, ...]:
        """The poolings, as a tuple."""
        return (self.pooling_mode,) if isinstance(self.pooling_mode, str) else self.pooling_mode

    def get_embedding_dimension(self) -> int:
        """Return the length of a sentence vector."""
        return len(self.modes) * self.embedding_dimension

    get_sentence_embedding_dimension = get_embedding_dimension

    def get_pooling_mode_str(self) -> str:
        """Return the poolings, with "+" between them."""
        return "+".join(self.modes)


class WeightedLayerPooling(Module):
    """The weighted mean of the layers' token vectors, in front of a `Pooling`."""

    @renamed("embedding_dimension", "word_embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        num_hidden_layers: int = 12,
        layer_start: int = 4,
        layer_weights: ArrayLike | None = None,
    ):
        """Make the module.

        Args:
            embedding_dimension: the length of a token vector.
            num_hidden_layers: the number of the encoder's layers.
            layer_start: the first hidden state that counts; 0 is the embeddings.
            layer_weights: (num_hidden_layers + 1 - layer_start,); by default ones.
        """
        self.embedding_dimension, self.layer_start = embedding_dimension, layer_start
        self.num_hidden_layers = num_hidden_layers
        count = num_hidden_layers + 1 - layer_start
        weights = np.ones(count) if layer_weights is None else layer_weights
        self.layer_weights = np.asarray(weights, np.float32)

    def get_embedding_dimension(self) -> int:
        """Return the length of a token vector."""
        return self.embedding_dimension


class Behind(Module):
    """A module behind the pooling.

    Attributes:
        module: the module of `jsbert.modules`.
        params: the module's params; None for random ones.
    """

    module: own.Module
    params: dict[str, Any] | None = None


class Dense(Behind):
    """A linear layer and an activation."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation_function: Any = "tanh",
        init_weight: ArrayLike | None = None,
        init_bias: ArrayLike | None = None,
        module_input_name: str = "sentence_embedding",
        module_output_name: str | None = None,
        use_residual: bool = False,
    ):
        """Make the module. Without `init_weight` the params are random, of torch's distribution.

        Args:
            in_features, out_features: the widths.
            bias: whether there is a bias.
            activation_function: a name of `jsbert.activations.ACTIVATIONS`, or an activation of
                torch, whose class counts; None is the identity.
            init_weight: (out_features, in_features).
            init_bias: (out_features,).
            module_input_name, module_output_name: only "sentence_embedding" is supported.
            use_residual: add the input to the output.

        Raises:
            ValueError: for an unknown activation, another name, or a weight of another shape.
        """
        for name in (module_input_name, module_output_name):
            if name not in (None, "sentence_embedding"):
                raise ValueError(f"Dense: {name!r} is not supported; only 'sentence_embedding' is")
        activation = activation_of(activation_function)
        self.module = own.Dense(in_features, out_features, bias, activation, use_residual)
        self.params = _linear(in_features, out_features, bias, use_residual, init_weight, init_bias)

    def get_embedding_dimension(self) -> int:
        """Return the width of the outputs."""
        return self.module.width(self.module.in_features)  # type: ignore[attr-defined]

    get_sentence_embedding_dimension = get_embedding_dimension


class LayerNorm(Behind):
    """Mean 0 and variance 1, then a scale and a bias for each dimension."""

    def __init__(self, dimension: int):
        self.module = own.LayerNorm(dimension)
        ones, zeros = np.ones(dimension, np.float32), np.zeros(dimension, np.float32)
        self.params = {"scale": ones, "bias": zeros}


class Normalize(Behind):
    """Scale a vector to length 1."""

    def __init__(self):
        self.module = own.Normalize()


class Dropout(Behind):
    """Nothing: jsbert keeps the rate for the folder."""

    def __init__(self, dropout: float | int = 0.2):
        self.module = own.Dropout(float(dropout))


def _linear(inputs, outputs, bias, use_residual, weight, own_bias) -> dict[str, Any]:
    """Return the params of a linear layer, random where none are given."""
    bound = 1 / math.sqrt(inputs)

    def random(*shape):
        return _RANDOM.uniform(-bound, bound, shape).astype(np.float32)

    params = {"kernel": random(inputs, outputs)}
    if bias:
        params["bias"] = random(outputs)
    if use_residual and inputs != outputs:
        params["residual"] = {"kernel": random(inputs, outputs)}
    given = {"kernel": None if weight is None else _array(weight).T}
    given["bias"] = None if own_bias is None else _array(own_bias)
    for name, array in given.items():
        if array is None:
            continue
        wanted = params[name].shape if name in params else None
        if array.shape != wanted:
            raise ValueError(
                f"Dense: init_{'weight' if name == 'kernel' else 'bias'} is {array.shape[::-1]}, "
                f"but {wanted[::-1] if wanted else 'there is no bias'} is needed"
            )
        params[name] = array
    return params


_RANDOM = np.random.default_rng(0)
"""One generator for all modules, so that two of the same shape differ."""


def _array(values: Any) -> np.ndarray:
    values = values.detach() if hasattr(values, "detach") else values
    return np.asarray(values, np.float32)


_OTHER = "jsbert has Transformer and StaticEmbedding in front, and does not read such models"

__getattr__ = raise_for(
    __name__,
    dict.fromkeys(["BoW", "CLIPModel", "CNN", "LSTM", "WordEmbeddings", "WordWeights"], _OTHER)
    | dict.fromkeys(
        ["Asym", "Router"], "SentenceTransformer reads a folder with routes; encode takes task="
    )
    | {"InputModule": "subclasses cannot join; write a module of jsbert.modules"},
)
