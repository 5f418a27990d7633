"""The encoder against transformers' BertModel, stage by stage."""

import numpy as np
import pytest
import torch
import transformers

from jsbert import encoders
from tests.parity import reference
from tests.parity.families import opened


def theirs(model, ids, mask, token_types=None):
    types = None if token_types is None else torch.tensor(token_types)
    return reference.hidden_states(model, ids, mask, token_type_ids=types)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"hidden_act": "relu"},
        {"hidden_act": "gelu_new"},
        {"layer_norm_eps": 0.1},
        {"type_vocab_size": 1},
    ],
    ids=str,
)
def test_every_stage_equals_transformers(tmp_path, sizes, side):
    model = reference.bert(**sizes)
    config, params = opened(reference.write_trunk(tmp_path, model))
    ids, mask = reference.tokens(side=side)
    types = np.random.default_rng(5).integers(0, config.type_vocab_size, ids.shape)
    stages = theirs(model, ids, mask, types)
    assert len(stages) == 1 + config.num_hidden_layers
    ours = encoders.hidden_states(config, params, ids, mask, token_types=types)
    reference.assert_same_stages(ours, stages, mask)


def test_large_means_do_not_cost_precision(tmp_path):
    # LayerNorm's fast variance would differ by 5e-4 here. Rounding of numbers around 30 differs by
    # about 1e-5 on both sides.
    model = reference.bert()
    with torch.no_grad():
        model.embeddings.word_embeddings.weight += 30.0
    config, params = opened(reference.write_trunk(tmp_path, model))
    ids, mask = reference.tokens()
    assert config.layer_norm_eps == 1e-12
    hidden = np.asarray(encoders.forward(config, params, ids, mask))[mask.astype(bool)]
    assert (
        reference.largest_difference(
            hidden, theirs(model, ids, mask)[-1].numpy()[mask.astype(bool)]
        )
        <= 4e-5
    )


@pytest.mark.parametrize(
    "head", ["BertForMaskedLM", "BertForSequenceClassification", "BertForPreTraining"]
)
def test_checkpoints_with_heads_open_as_trunks(tmp_path, head):
    whole = reference.perturb(
        getattr(transformers, head)(transformers.BertConfig(**reference.models.SIZES))
    )
    config, params = opened(reference.write_trunk(tmp_path, whole))
    ids, mask = reference.tokens()
    hidden = np.asarray(encoders.forward(config, params, ids, mask))[mask.astype(bool)]
    assert (
        reference.largest_difference(
            hidden, theirs(whole.bert, ids, mask)[-1].numpy()[mask.astype(bool)]
        )
        <= 1e-5
    )


def test_sharded_and_half_precision_checkpoints(tmp_path):
    model = reference.bert()
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("model-*-of-*.safetensors"))) > 2
    reference.models.write_vocabulary(tmp_path / "sharded")
    _, whole = opened(reference.write_trunk(tmp_path / "whole", model))
    _, sharded = opened(tmp_path / "sharded")
    _, half = opened(reference.write_trunk(tmp_path / "half", model.half()))
    _, brain = opened(reference.write_trunk(tmp_path / "brain", model.bfloat16()))
    kernel = np.asarray(whole["layers"][1]["intermediate"]["kernel"])
    assert np.array_equal(kernel, sharded["layers"][1]["intermediate"]["kernel"])
    assert np.array_equal(
        kernel.astype(np.float16).astype(np.float32), half["layers"][1]["intermediate"]["kernel"]
    )
    assert brain["layers"][1]["intermediate"]["kernel"].dtype == np.float32
    assert np.allclose(kernel, brain["layers"][1]["intermediate"]["kernel"], rtol=1e-2)
