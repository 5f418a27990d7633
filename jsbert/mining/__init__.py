"""Hard negatives: texts that a model finds near a query although they do not answer it."""

from jsbert.mining.mine import mine_hard_negatives

__all__ = ["mine_hard_negatives"]
