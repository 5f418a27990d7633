"""A small random reference model of every encoder family, built by transformers and then perturbed,
and its folder."""

import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from jaxtyping import PyTree

from jsbert import encoders
from jsbert.checkpoint import read_bi_encoder
from jsbert.config import EncoderConfig
from jsbert.encoders.dropout import Dropout
from tests import models
from tests.parity import reference


class Family(NamedTuple):
    """How the names of transformers' classes begin, their config, and what differs from most
    families."""

    prefix: str
    sizes: dict[str, Any]
    dropout: Mapping[str, float] = types.MappingProxyType({})  # for configs whose own rates are 0
    language_model: str = "ForMaskedLM"
    pooling: str = "mean"
    trunk: str = "Model"
    classifies: bool = True  # whether its classifier reads the encoder alone


SIZES = {name: size for name, size in models.SIZES.items() if name != "type_vocab_size"}
RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2}
SPECIAL = {f"{kind}_token_id": 0 for kind in ("pad", "bos", "eos", "cls", "sep")}

T5_SIZES = {"vocab_size": SIZES["vocab_size"], "d_model": 24, "num_layers": 2, "num_heads": 3, "d_ff": 40} | {
    "d_kv": 10, "relative_attention_num_buckets": 12, "relative_attention_max_distance": 11,
}  # fmt: skip
T5 = {"language_model": "ForConditionalGeneration", "trunk": "EncoderModel", "classifies": False}

DEBERTA = SIZES | {
    **{"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    **{"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False},
    **{"max_relative_positions": -1, "type_vocab_size": 0, "layer_norm_eps": 1e-7},
}
DECODER = SIZES | {
    **{"num_attention_heads": 6, "num_key_value_heads": 2},
    **{"max_position_embeddings": 700, "pad_token_id": 0},
}
LAST = ({"attention_dropout": 0.1}, "ForCausalLM", "lasttoken")
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0},
    **{"high_freq_factor": 4.0, "original_max_position_embeddings": 64},
}

FAMILIES = {
    "bert": Family("Bert", models.SIZES),
    "roberta": Family("Roberta", SIZES | {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "xlm-roberta": Family("XLMRoberta", SIZES | {"type_vocab_size": 1, "pad_token_id": 4}),
    "camembert": Family("Camembert", SIZES | {"type_vocab_size": 2}),
    "mpnet": Family("MPNet", SIZES | {"layer_norm_eps": 1e-5, "max_position_embeddings": 260}),
    "distilbert": Family(
        "DistilBert",
        {"vocab_size": SIZES["vocab_size"], "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40}
        | {"max_position_embeddings": 32, "activation": "relu"},
    ),
    "deberta-v2": Family("DebertaV2", DEBERTA),
    "deberta-v2, own": Family(
        "DebertaV2",
        DEBERTA | {"share_att_key": False, "position_buckets": -1, "max_relative_positions": 4}
        | {"norm_rel_ebd": "none", "type_vocab_size": 2, "position_biased_input": True},
    ),
    "deberta-v2, convolution": Family(
        "DebertaV2", DEBERTA | {"conv_kernel_size": 3, "conv_act": "gelu", "num_hidden_layers": 3}
    ),
    "electra": Family("Electra", models.SIZES | {"embedding_size": 14}),
    "electra, one width": Family("Electra", models.SIZES | {"embedding_size": 24}),
    "albert": Family("Albert", models.SIZES | {"embedding_size": 14}, RATES),
    "albert, groups": Family(
        "Albert",
        models.SIZES | {"embedding_size": 14, "num_hidden_layers": 3, "num_hidden_groups": 2, "inner_group_num": 2},
        RATES,
    ),
    "modernbert": Family(
        "ModernBert",
        SIZES | SPECIAL | {"max_position_embeddings": 700, "local_attention": 6, "global_attn_every_n_layers": 2},
        {"attention_dropout": 0.1},
    ),
    "nomic_bert": Family(
        "NomicBert", models.SIZES | {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}, RATES
    ),
    "nomic_bert, GeGLU": Family("NomicBert", models.SIZES | {"hidden_act": "gelu", "layer_norm_eps": 0.1}, RATES),
    "gte": Family("Gte", models.SIZES | {"type_vocab_size": 1, "pad_token_id": 0}, RATES),
    "gte, scaled": Family(
        "Gte",
        SIZES | {"type_vocab_size": 0, "rope_parameters": {"rope_type": "linear", "rope_theta": 80.0, "factor": 1.7}},
        RATES,
    ),
    "qwen3": Family(
        "Qwen3",
        SIZES | {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10}
        | {"max_position_embeddings": 700, "pad_token_id": 0},
        {"attention_dropout": 0.1},
        "ForCausalLM",
        "lasttoken",
    ),
    "llama": Family(
        "Llama",
        DECODER | {"attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3},
        *LAST,
    ),
    "mistral": Family("Mistral", DECODER | {"head_dim": 10, "sliding_window": 6}, *LAST),
    "qwen2": Family("Qwen2", DECODER, *LAST),
    "qwen2, both ways": Family("Qwen2", DECODER | {"is_causal": False}, *LAST),
    "gemma3_text": Family(
        "Gemma3Text",
        SIZES | {"num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2}
        | {"head_dim": 10, "query_pre_attn_scalar": 7, "sliding_window": 7}
        | {"sliding_window_pattern": 2, "use_bidirectional_attention": True}
        | {"max_position_embeddings": 700},
        {"attention_dropout": 0.1},
        "ForCausalLM",
    ),
    "t5": Family("T5", T5_SIZES, **T5),
    "t5, gated": Family("T5", T5_SIZES | {"feed_forward_proj": "gated-gelu"}, **T5),
}  # fmt: skip

each = pytest.mark.parametrize("name", FAMILIES)
each_classifier = pytest.mark.parametrize(
    "name", [name for name, family in FAMILIES.items() if family.classifies]
)


def build(
    name: str, kind: str | None = None, seed: int = 0, **options: Any
) -> transformers.PreTrainedModel:
    """Build transformers' `kind` of a family, by default the encoder, with every parameter
    perturbed; `options` change the config."""
    kind = kind or FAMILIES[name].trunk
    prefix, sizes = FAMILIES[name][:2]
    config = getattr(transformers, f"{prefix}Config")(**sizes | options)
    if kind == "ForCausalLM":  # Gemma3ForCausalLM has a Gemma3TextModel
        prefix = prefix.removesuffix("Text")
    return reference.perturb(getattr(transformers, f"{prefix}{kind}")(config), seed)


def written(
    folder: pathlib.Path, model: transformers.PreTrainedModel, **tokenizer: Any
) -> pathlib.Path:
    """Write the model's folder with a tokenizer of the family's kind; `tokenizer` changes
    tokenizer_config.json."""
    write = {
        "deberta-v2": write_deberta,
        "gemma3_text": write_gemma,
        "llama": write_decoder,
        "mistral": write_decoder,
        "modernbert": _write_with_tokenizer_json,
        "qwen2": write_qwen,
        "qwen3": write_decoder,
        "t5": write_t5,
    }.get(model.config.model_type)
    if write is not None:
        return write(folder, model, **tokenizer)
    if getattr(model.config, "type_vocab_size", 1) == 1:
        tokenizer["model_input_names"] = ["input_ids", "attention_mask"]
    return reference.write_trunk(folder, model, **tokenizer)


def _write_with_tokenizer_json(folder, model, **tokenizer):
    """Write a tokenizer.json, because without it transformers knows no tokenizer for this
    model_type."""
    names = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    reference.write_trunk(folder, model)
    models.tokenizer(folder).save(folder)
    models.write_vocabulary(folder, **settings, **names, **tokenizer)
    return folder


DECODER_VOCABULARY = ["<pad>", "<unk>", "<end>", *models.WORDS]


def write_decoder(
    folder: pathlib.Path,
    model: transformers.PreTrainedModel,
    pad: str = "<pad>",
    words: Sequence[str] = DECODER_VOCABULARY,
    **settings: Any,
) -> pathlib.Path:
    """Write a tokenizer such as Qwen's: it pads on the left, has no class token, and appends an end
    token of its own."""
    model.save_pretrained(folder)
    ids = {word: i for i, word in enumerate(words)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, "<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <end>", pair="$A $B <end>", special_tokens=[("<end>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{"pad_token": pad, "unk_token": "<unk>", "eos_token": "<end>"},
        **{"padding_side": "left", "model_input_names": ["input_ids", "attention_mask"]},
        **settings,
    ).save_pretrained(folder)
    return folder


def write_deberta(
    folder: pathlib.Path, model: transformers.PreTrainedModel, **settings: Any
) -> pathlib.Path:
    """Write a tokenizer such as DeBERTa's: pieces with their log-probabilities."""
    model.save_pretrained(folder)
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "▁", *(f"▁{w}" for w in models.WORDS[:20])]
    pieces += models.LETTERS
    transformers.DebertaV2Tokenizer(
        [(piece, -2.0 - i / 7 if i > 3 else 0.0) for i, piece in enumerate(pieces)], **settings
    ).save_pretrained(folder)
    return folder


def write_qwen(
    folder: pathlib.Path, model: transformers.PreTrainedModel, **settings: Any
) -> pathlib.Path:
    """Write a tokenizer such as Qwen's: bytes and a few merges, and an end token."""
    model.save_pretrained(folder)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.:,|ĠĊÃ©"
    merges = [("Ġ", "c"), ("a", "t"), ("Ġc", "at"), ("t", "h"), ("r", "e")]
    pieces = ["<pad>", "<end>", *sorted(letters), *("".join(pair) for pair in merges)]
    tokenizer = transformers.Qwen2Tokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=merges,
        **{"pad_token": "<pad>", "unk_token": "<end>", "eos_token": "<end>"},
        **{"padding_side": "left"} | settings,
    )
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <end>", pair="$A $B <end>", special_tokens=[("<end>", 1)]
    )
    tokenizer.save_pretrained(folder)
    return folder


GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
GEMMA_MERGES = [("▁", "c"), ("▁c", "a"), ("▁ca", "t"), ("t", "h"), ("th", "e"), ("r", "e")]


def write_gemma(
    folder: pathlib.Path, model: transformers.PreTrainedModel, **settings: Any
) -> pathlib.Path:
    """Write a tokenizer such as Gemma's: BPE with "▁" for a space and with bytes, between a first
    and a last token."""
    model.save_pretrained(folder)
    pieces = [*GEMMA_SPECIAL, "▁", *"abcdefghijklmnopqrstuvwxyz:.|", "<0xC3>", "<0xA9>"]
    pieces += ["".join(pair) for pair in GEMMA_MERGES]
    transformers.GemmaTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=GEMMA_MERGES,
        add_bos_token=True,
        add_eos_token=True,
        **settings,
    ).save_pretrained(folder)
    return folder


def write_t5(
    folder: pathlib.Path, model: transformers.PreTrainedModel, **settings: Any
) -> pathlib.Path:
    """Write a tokenizer such as T5's: pieces with their log-probabilities, and an end token."""
    model.save_pretrained(folder)
    pieces = [
        "<pad>",
        "</s>",
        "<unk>",
        "▁",
        *(f"▁{word}" for word in models.WORDS[:20]),
        *models.LETTERS,
    ]
    transformers.T5Tokenizer(
        [(piece, -2.0 - i / 7 if i > 2 else 0.0) for i, piece in enumerate(pieces)],
        extra_ids=0,
        **settings,
    ).save_pretrained(folder)
    return folder


def tokens(model: transformers.PreTrainedModel, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return `reference.tokens` with the padding token in the padding, because transformers finds
    RoBERTa's positions by the padding token."""
    ids, mask = reference.tokens(**options)
    return np.where(mask, ids, model.config.pad_token_id), mask


def opened(folder: pathlib.Path) -> tuple[EncoderConfig, PyTree]:
    """Return the config and the params of a folder's encoder."""
    parts = read_bi_encoder(folder, pooling="mean")
    return parts.config.encoder, parts.params["encoder"]


FORWARD, STAGES = (  # one program for a test, instead of one for each operation
    jax.jit(function, static_argnums=0) for function in (encoders.forward, encoders.hidden_states)
)


def noted_dropouts(monkeypatch: pytest.MonkeyPatch) -> tuple[list, list]:
    """Return two lists, for jsbert and for torch: each gets (shape, rate) of every dropout from now
    on, which drops nothing."""
    ours: list = []
    theirs: list = []

    def note(places, x, rate):  # the shape at a place, without axes that only one side has
        places.append(([size for size in x.shape if size > 1], rate))
        return x

    monkeypatch.setattr(Dropout, "_drop", lambda self, x, rate, words, entry: note(ours, x, rate))
    monkeypatch.setattr(
        torch.nn.functional,
        "dropout",
        lambda x, p=0.5, training=True, inplace=False: note(theirs, x, p) if training and p else x,
    )
    return ours, theirs
