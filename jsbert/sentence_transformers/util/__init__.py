"""The peer's `util`: similarities, search, mining and clustering, on arrays of NumPy and JAX."""

from jsbert.sentence_transformers.missing import raise_for
from jsbert.sentence_transformers.quantization import quantize_embeddings
from jsbert.sentence_transformers.similarity_functions import SimilarityFunction
from jsbert.util import (
    community_detection,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    mine_hard_negatives,
    normalize_embeddings,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    paraphrase_mining,
    paraphrase_mining_embeddings,
    pytorch_cos_sim,
    semantic_search,
    truncate_embeddings,
)

__all__ = [
    "SimilarityFunction",
    "community_detection",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "mine_hard_negatives",
    "normalize_embeddings",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "semantic_search",
    "truncate_embeddings",
]

__getattr__ = raise_for(
    __name__,
    {
        "batch_to_device": "jsbert places arrays itself",
        "http_get": "use urllib.request.urlretrieve",
        "is_sentence_transformer_model": "use jsbert.checkpoint.find_folder",
        "maxsim": "jsbert has one vector for each text",
        "maxsim_pairwise": "jsbert has one vector for each text",
        "mean_maxsim": "jsbert has one vector for each text",
        "mean_maxsim_pairwise": "jsbert has one vector for each text",
        "pairwise_angle_sim": "jsbert.losses.angle compares pairs by angles",
        "select_max_active_dims": "jsbert has dense vectors",
    },
)
