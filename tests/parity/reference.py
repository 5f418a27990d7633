"""Torch references, random and then perturbed, written as folders."""

import contextlib
import pathlib
import re

import numpy as np
import pytest
import torch
import transformers

from tests import models

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@contextlib.contextmanager
def skips_what_the_reference_refuses():
    """Skip the test if code of the reference, in this block, refuses the version of another
    package.

    There is no list of versions here, because the reference itself says what it cannot work with.
    Every other error fails the test.
    """
    try:
        yield
    except (ImportError, ValueError) as error:
        if not (
            re.search(r"\bversion\b", str(error))
            and re.search(r">=|==|compatible|required", str(error))
        ):
            raise
        pytest.skip(f"the reference cannot do this here: {error}")


def perturb(module: torch.nn.Module, seed: int = 0, scale: float = 0.2) -> torch.nn.Module:
    """Move every parameter off its initial value. All biases of a new BERT are 0 and all scales 1,
    so swapped tensors would pass."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def bert(seed: int = 0, **sizes) -> transformers.BertModel:
    return perturb(transformers.BertModel(transformers.BertConfig(**models.SIZES | sizes)), seed)


def write_trunk(
    folder: pathlib.Path, model: transformers.PreTrainedModel, **tokenizer
) -> pathlib.Path:
    """Write a plain HuggingFace folder: config, weights, vocab.txt."""
    model.save_pretrained(folder)
    models.write_vocabulary(folder, **tokenizer)
    return folder


def tokens(seed: int = 0, batch: int = 6, length: int = 13, side: str = "right"):
    """Return random ids, and a mask of rows of unequal lengths, padded on one side."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(5, models.SIZES["vocab_size"], (batch, length))
    lengths = generator.permutation(np.arange(batch) * 2 % length + 1)
    places = np.arange(length)[None]
    mask = places < lengths[:, None] if side == "right" else places >= length - lengths[:, None]
    return ids, mask.astype(np.int64)


def hidden_states(
    model: transformers.PreTrainedModel, ids, mask, **options
) -> tuple[torch.Tensor, ...]:
    """Return the model's token vectors at every stage."""
    with torch.no_grad():
        return model(
            torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            output_hidden_states=True,
            **options,
        ).hidden_states


def assert_same_stages(ours, theirs, mask) -> None:
    """Check that both have the same number of stages, and that the stages agree to 1e-5 at the
    unmasked tokens."""
    counted = mask.astype(bool)
    for depth, (mine, stage) in enumerate(zip(ours, theirs, strict=True)):
        difference = largest_difference(np.asarray(mine)[counted], stage[counted])
        assert difference <= 1e-5, f"first difference after stage {depth}"


def largest_difference(ours, theirs) -> float:
    """Return max |ours - theirs| over max(1, largest entry)."""
    theirs = (
        theirs.detach().float().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    )
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max(initial=0) / max(1, np.abs(theirs).max(initial=0)))
