"""Pooling, Dense and Normalize against sentence-transformers' modules, padded on both sides, with
prompts left out."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer import modules as st

from jsbert import pooling
from jsbert.arrays import normalize
from jsbert.modules import dense
from tests.parity import reference


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("prompt_length", [0, 2])
@pytest.mark.parametrize("mode", pooling.POOLINGS)
def test_poolings(mode, prompt_length, side):
    _, mask = reference.tokens(side=side, length=14)
    mask[:, 7 - 7 * (side == "right") : 7 + 7 * (side == "left")] = 1  # more tokens than the prompt
    hidden = np.random.default_rng(8).standard_normal((*mask.shape, 5)).astype(np.float32)
    module = st.Pooling(5, mode, include_prompt=False)
    features = {
        "token_embeddings": torch.tensor(hidden),
        "attention_mask": torch.tensor(mask),
        "prompt_length": prompt_length,
    }
    wanted = module(features)["sentence_embedding"]
    assert (
        reference.largest_difference(
            pooling.pool(hidden, mask, (mode,), prompt_length=prompt_length), wanted
        )
        <= 1e-6
    )


@pytest.mark.parametrize(
    "activation", [torch.nn.Tanh, torch.nn.Identity, torch.nn.ReLU, torch.nn.GELU, torch.nn.SiLU]
)
@pytest.mark.parametrize("bias", [True, False])
def test_dense(activation, bias):
    module = reference.perturb(st.Dense(7, 4, bias=bias, activation_function=activation()), 2)
    vectors = np.random.default_rng(3).standard_normal((9, 7)).astype(np.float32) * 3
    params = {"kernel": jnp.asarray(module.linear.weight.detach().numpy().T)}
    if bias:
        params["bias"] = jnp.asarray(module.linear.bias.detach().numpy())
    wanted = module({"sentence_embedding": torch.tensor(vectors)})["sentence_embedding"]
    assert (
        reference.largest_difference(dense(params, vectors, activation.__name__.lower()), wanted)
        <= 1e-6
    )


def test_normalize():
    vectors = np.random.default_rng(3).standard_normal((9, 7)).astype(np.float32)
    vectors[4] = 0
    vectors[5] *= 1e-13  # shorter than the smallest length that counts
    wanted = torch.nn.functional.normalize(torch.tensor(vectors), dim=-1)
    assert reference.largest_difference(normalize(vectors), wanted) <= 1e-6
