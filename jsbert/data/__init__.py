"""Data sets: examples of several texts and a label, from files or `datasets`; their order, their batches, and the
mining of hard negatives."""

from jsbert.data.examples import Examples
from jsbert.data.files import read_examples
from jsbert.data.masking import masked
from jsbert.data.mining import mine_hard_negatives
from jsbert.data.order import epoch_batches, mixed_batches
from jsbert.data.prefetch import prefetched

__all__ = [
    "Examples",
    "epoch_batches",
    "masked",
    "mine_hard_negatives",
    "mixed_batches",
    "prefetched",
    "read_examples",
]
