"""`jsbert convert` on folders that torch wrote."""

import json

import numpy as np
import sentence_transformers
import torch

from jsbert.cli import main
from tests import models
from tests.parity import reference

SENTENCES = [*models.sentences(20, seed=4), ""]


def test_a_pickled_checkpoint_becomes_a_folder_with_the_same_vectors_everywhere(tmp_path, capfd):
    folder = reference.write_trunk(tmp_path / "in", reference.bert())
    torch.save(reference.bert().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    modules = sentence_transformers.sentence_transformer.modules
    trunk = modules.Transformer(str(folder), max_seq_length=32)
    theirs = sentence_transformers.SentenceTransformer(
        modules=[trunk, modules.Pooling(24, "mean")], device="cpu"
    )
    wanted = theirs.encode(SENTENCES)
    for source, out in ((folder, "a"), (folder / "pytorch_model.bin", "b")):
        assert main(["convert", str(source), str(tmp_path / out), "--pooling", "mean"]) == 0
        assert json.loads(capfd.readouterr().out)["largest_difference"] <= 1e-6
        again = sentence_transformers.SentenceTransformer(str(tmp_path / out), device="cpu").encode(
            SENTENCES
        )
        assert np.abs(again - wanted).max() <= 1e-5
