"""Exact search over vectors: arrays in, arrays out, in blocks on the device, never the whole matrix
of similarities."""

from jsbert.search.communities import communities
from jsbert.search.nearest import TopK, top_k
from jsbert.search.pairs import close_pairs, most_similar_pair
from jsbert.search.quantized import top_k_quantized
from jsbert.search.stored import StoredCorpus, merge_top_k, open_corpus

__all__ = [
    "StoredCorpus",
    "TopK",
    "close_pairs",
    "communities",
    "merge_top_k",
    "most_similar_pair",
    "open_corpus",
    "top_k",
    "top_k_quantized",
]
