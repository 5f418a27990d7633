"""Read the checkpoints of transformers' former Flax models: `flax_model.msgpack`."""

import flax.serialization
import flax.traverse_util
import numpy as np

LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight"}
"""{Flax's name of a leaf: torch's name}. Other leaves have the same name in both."""


def torch_tensors(content: bytes) -> list[tuple[str, np.ndarray]]:
    """The tensors in the content of a file, under torch's names and in torch's layout: kernels are
    transposed.

    Raises:
        ValueError: if the content is not a Flax checkpoint.
    """
    try:
        tree = flax.serialization.msgpack_restore(content)
        leaves = flax.traverse_util.flatten_dict(tree)
        if not all(isinstance(key, str) for path in leaves for key in path):
            raise TypeError("names that are no strings")
    except Exception as error:
        raise ValueError(f"not a checkpoint of Flax ({type(error).__name__}: {error})") from None
    tensors = []
    for path, leaf in leaves.items():
        array = np.asarray(leaf)
        name = ".".join((*path[:-1], LEAVES.get(path[-1], path[-1])))
        tensors.append((name, array.T if path[-1] == "kernel" else array))
    return tensors
