"""The graphs that `benchmarks.encode` gives to other libraries are the same models."""

import dataclasses

import numpy as np
import pytest

from benchmarks.lib.engines import OnnxRuntime
from jsbert import SentenceTransformer, encoders
from jsbert.checkpoint import write_bi_encoder
from jsbert.encoders import bert, mpnet
from tests import models

TEXTS = ["a b", "the cat sat", "a dog ran to the cat", "b"]


@pytest.mark.filterwarnings("ignore")  # warnings of torch's exporter
@pytest.mark.parametrize("family", [bert, mpnet])
def test_a_graph_takes_what_its_model_does_and_gives_its_vectors(family, tmp_path):
    sizes = {
        name: size
        for name, size in models.SIZES.items()
        if family is bert or name != "type_vocab_size"
    }
    encoder = family.Config(**sizes)
    model = models.parts(tmp_path / "vocabulary")
    config = dataclasses.replace(model.config, encoder=encoder)
    params = {"encoder": models.perturbed(encoders.shapes(encoder))}
    write_bi_encoder(tmp_path / "model", dataclasses.replace(model, config=config, params=params))
    engine = OnnxRuntime(str(tmp_path / "model"), "float32", "cpu")
    assert ("types" in engine.input_names) == (family is bert)
    ours = SentenceTransformer(tmp_path / "model").encode(TEXTS)
    for batch_size in (1, 3):
        np.testing.assert_allclose(engine.encode(TEXTS, batch_size=batch_size), ours, atol=1e-5)
