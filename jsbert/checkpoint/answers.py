"""Causal language models as cross-encoders: the score is the logit of a token that says yes, minus
that of a token that says no (sentence-transformers' LogitScore, Qwen3-Reranker)."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jsbert.checkpoint.tensors import Named
from jsbert.checks import COUNT, typed
from jsbert.config import EncoderConfig
from jsbert.encoders import family, grouped
from jsbert.json_files import has_file, read_json, read_json_if_there, write_json
from jsbert.tokenizer import SETTINGS, ChatTokenizer, Tokenizer, read_template

FOLDER = "1_LogitScore"
"""The folder of the module in a written model."""

YES, NO = "yes", "no"
"""The answers of a folder that names none, as in sentence-transformers."""

TEMPLATE = "chat_template.jinja"

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""The families that can answer: those whose logits are `lm_head` times the last token's vector."""


def read_answers(folder: pathlib.Path) -> tuple[int, ...]:
    """The ids of the answers in the config of a LogitScore.

    Raises:
        OSError, ValueError: for a config that is not there, or not supported.
    """
    file = folder / "config.json"
    values = read_json(file)
    name = typed(values, "module_input_name", str, "causal_logits", where=file)
    if name != "causal_logits":
        raise ValueError(
            f"{file}: module_input_name is {name!r}; only 'causal_logits' is supported"
        )
    yes = typed(values, "true_token_id", int, where=file, allowed=COUNT)
    no = typed(values, "false_token_id", int, None, where=file, allowed=COUNT)
    return (yes,) if no is None else (yes, no)


def usual_answers(folder: pathlib.Path) -> tuple[int, ...]:
    """The ids of the tokens "yes" and "no" in the tokenizer of a folder.

    Raises:
        ValueError: if the vocabulary lacks one.
    """
    vocabulary = Tokenizer.from_folder(folder).backend.get_vocab()
    missing = [token for token in (YES, NO) if token not in vocabulary]
    if missing:
        raise ValueError(
            f"{folder}: a causal language model whose tokenizer lacks the tokens {missing}; name "
            "the answers in a LogitScore of modules.json"
        )
    return vocabulary[YES], vocabulary[NO]


def check_causal(values: Mapping[str, Any], file: pathlib.Path) -> None:
    """Raise ValueError unless the content of config.json, `file`, is that of a causal language
    model that can answer."""
    kind = values.get("model_type")
    if kind not in MODEL_TYPES or values.get("is_causal", True) is not True:
        raise ValueError(
            f"{file}: {kind!r} is no causal language model that can score pairs; supported: "
            f"{', '.join(MODEL_TYPES)}"
        )


def answers_of(
    tensors: Named,
    answers: tuple[int, ...],
    config: EncoderConfig,
    values: Mapping[str, Any],
    *,
    where: pathlib.Path,
) -> dict[str, Any]:
    """The params of `heads.answers_head`: rows of `lm_head`, or of the word vectors if they are
    tied.

    Args:
        tensors: of the checkpoint.
        answers: the ids of the rows.
        config: of the encoder.
        values: the content of config.json.
        where: the file of the tensors, for messages.

    Raises:
        ValueError: for an id beyond the vocabulary, and a checkpoint without the rows.
    """
    if max(answers) >= config.vocab_size:
        raise ValueError(
            f"{where}: the answers are the tokens {answers}, but config.json has vocab_size "
            f"{config.vocab_size}"
        )
    found, name = dict(tensors), "lm_head.weight"
    if name not in found and typed(values, "tie_word_embeddings", bool, False, where=where):
        name = f"{family(config).PREFIX}{grouped.NAMES['word']}.weight"
    matrix = found.get(name)
    if matrix is None or matrix.shape != (config.vocab_size, config.hidden_size):
        given = "is missing" if matrix is None else f"is {list(matrix.shape)}"
        raise ValueError(
            f"{where}: {name} {given}; it must be {[config.vocab_size, config.hidden_size]}"
        )
    return {"classifier": {"kernel": np.asarray(matrix[list(answers)], np.float32).T}}


def lm_head(
    params: Mapping[str, Any], answers: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], bool]:
    """({name: tensor} of the head, whether the head is tied to the word vectors).

    A head that is not tied is written as a matrix whose other rows are zero: no score needs them.
    """
    words = np.asarray(params["encoder"]["word"]["embedding"], np.float32)
    rows = np.asarray(params["head"]["classifier"]["kernel"], np.float32).T
    if np.array_equal(words[list(answers)], rows):
        return {}, True
    matrix = np.zeros_like(words)
    matrix[list(answers)] = rows
    return {"lm_head.weight": matrix}, False


def write_answers(folder: pathlib.Path, answers: tuple[int, ...]) -> None:
    """Write the config that `read_answers` reads."""
    yes, no = (*answers, None)[:2]
    values = {"true_token_id": yes, "false_token_id": no, "module_input_name": "causal_logits"}
    write_json(folder / FOLDER / "config.json", values)


def with_template(
    tokenizer: Tokenizer, folder: pathlib.Path, settings_file: pathlib.Path
) -> Tokenizer:
    """The tokenizer, with the folder's chat template around pairs if there is one.

    Args:
        tokenizer: of the folder.
        folder: the folder with the tokenizer's files.
        settings_file: the Transformer's config of sentence-transformers.

    Raises:
        ImportError: for a template without jinja2.
        ValueError: for a template that is not supported.
    """
    settings = read_json_if_there(settings_file)
    file, source = folder / TEMPLATE, None
    if has_file(file):
        try:
            source = file.read_text(encoding="utf8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: no text in UTF-8 ({error.reason})") from None
    else:
        file = folder / SETTINGS
        source = typed(read_json_if_there(file), "chat_template", str, None, where=file)
    modalities = typed(settings, "modality_config", dict, None, where=settings_file)
    if source is None or (modalities is not None and "message" not in modalities):
        return tokenizer
    message = typed(modalities or {}, "message", dict, {}, where=settings_file)
    forms = ("auto", "flat", "structured")
    form = typed(message, "format", str, "auto", where=settings_file, allowed=forms)
    options = typed(settings, "processing_kwargs", dict, {}, where=settings_file)
    options = typed(options, "chat_template", dict, {}, where=settings_file)
    refused = {"restore_suffix", "truncation", "max_length", "padding", "tokenize"} & set(options)
    if refused:
        raise ValueError(
            f"{settings_file}: processing_kwargs: chat_template has {sorted(refused)}; only "
            "variables of the template are supported"
        )
    names = {
        key: token["content"] if isinstance(token, dict) else token
        for key, token in tokenizer.settings.items()
        if key.endswith("_token")
    }
    template = read_template(source, names, options, form=form, where=file)
    return ChatTokenizer.around(tokenizer, template)
