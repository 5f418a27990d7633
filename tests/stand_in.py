"""An encoder that needs no model, for tests of what is around the model."""

import hashlib

import numpy as np

DIM = 8


class StandIn:
    """Makes vectors of the sha256 of the texts."""

    def __init__(self, sha256="a stand-in"):
        self.sha256 = sha256
        self.calls = []

    def __repr__(self):
        return "StandIn()"

    def get_embedding_dimension(self):
        return DIM

    def encode_document(self, inputs, show_progress_bar=False, **options):
        self.calls.append(list(inputs))
        if not isinstance(show_progress_bar, bool):
            show_progress_bar.update(len(inputs))
        digests = b"".join(hashlib.sha256(text.encode()).digest()[:DIM] for text in inputs)
        vectors = np.frombuffer(digests, np.uint8).reshape(-1, DIM).astype(np.float32) / 128 - 1
        return vectors[:, : options["truncate_dim"]]
