"""Names of devices are resolved to devices."""

import dataclasses

import jax
import numpy as np
import pytest

from jsbert import SentenceTransformer, encoders
from jsbert.config import Config
from jsbert.encoders import bert, qwen3
from jsbert.engine import Placement, resolve_devices
from tests import models


def test_names_indices_devices_and_lists():
    everything = jax.devices("cpu")
    assert resolve_devices() == (everything[0],)
    assert resolve_devices("cpu") == (everything[0],)
    assert resolve_devices("cpu:3") == (everything[3],)
    assert resolve_devices(everything[2]) == (everything[2],)
    assert resolve_devices(["cpu:1", everything[4]]) == (everything[1], everything[4])


@pytest.mark.parametrize(
    "device, error, message",
    [
        ("gpux", ValueError, "unknown device 'gpux'; give 'cpu', 'gpu', 'cuda' or 'tpu'"),
        ("cpu:", None, None),
        ("cpu:-1", ValueError, "unknown device 'cpu:-1'"),
        ("cpu:8", ValueError, "no device 'cpu:8' here; JAX sees"),
        ("cuda:0", ValueError, r"no device 'cuda:0' here; JAX sees .*install jsbert\[gpu\]"),
        ("tpu", ValueError, "no device 'tpu' here"),
        ([], ValueError, "device is an empty list"),
        (["cpu", "cpu:0"], ValueError, "each may be named once"),
        (0, TypeError, "device is 0; give a name"),
        ([0], TypeError, "device is 0; give a name"),
    ],
)
def test_devices_that_are_not_there(device, error, message):
    if error is None:
        assert resolve_devices(device) == resolve_devices("cpu")
        return
    with pytest.raises(error, match=message):
        resolve_devices(device)


def test_the_budget_grows_with_the_devices():
    everything = jax.devices("cpu")
    assert Placement(everything).token_budget == 8 * Placement(everything[:1]).token_budget


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_sharded_params_give_the_vectors_of_one_device(family, dtype, tmp_path):
    """Matrices whose outputs 8 devices can share are cut; the others stay whole."""
    config = CONFIGS[family]
    parts = dataclasses.replace(
        SentenceTransformer(models.write_folder(tmp_path / "model")).parts,
        config=Config(config, ("mean",)),
        params={"encoder": encoders.init(config, jax.random.key(0))},
    )
    texts = [" ".join(models.WORDS[:n]) for n in (1, 3, 9, 2, 5, 7, 4)]
    one = SentenceTransformer.from_parts(parts, dtype=dtype)
    several = SentenceTransformer.from_parts(
        parts, dtype=dtype, device=jax.devices(), shard_params=True
    )
    leaves = jax.tree.leaves(several.params)
    cut = [leaf for leaf in leaves if not leaf.sharding.is_fully_replicated]
    assert len(cut) >= 10
    assert all(leaf.addressable_shards[0].data.shape[-1] * 8 == leaf.shape[-1] for leaf in cut)
    np.testing.assert_allclose(several.encode(texts), one.encode(texts), atol=TOLERANCES[dtype])
    several.params = one.params  # a new tree is cut in the same way
    assert [leaf.sharding for leaf in jax.tree.leaves(several.params)] == [
        leaf.sharding for leaf in leaves
    ]
    copy = several.parts.params["encoder"]
    jax.tree.map(
        np.testing.assert_array_equal, encoders.unstacked(copy), one.parts.params["encoder"]
    )


TOLERANCES = {"float32": 1e-6, "bfloat16": 1e-2, "int8": 2e-2}
CONFIGS = {
    "bert": bert.Config(
        vocab_size=len(models.WORDS) + 50, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=48, max_position_embeddings=40,
    ),
    "qwen3": qwen3.Config(
        vocab_size=len(models.WORDS) + 50, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=48,
    ),
}  # fmt: skip
