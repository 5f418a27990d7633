"""Training: `fit` for a whole run, and the parts of `fit` as pure functions for other loops."""

try:
    import optax  # noqa: F401
    import orbax.checkpoint  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"training needs {error.name}, of the extra 'train': pip install 'jsbert[train]'"
    ) from None

from jsbert.train.batches import Source
from jsbert.train.held_out import HeldOutLoss
from jsbert.train.loop import fit
from jsbert.train.lora import adapted, init_lora, merge
from jsbert.train.objectives import (
    BI_ENCODER,
    CROSS_ENCODER,
    OBJECTIVES,
    Objective,
    objective,
    of_embeddings,
    of_logits,
)
from jsbert.train.recipe import Recipe, learning_rate, make_optimizer
from jsbert.train.spec import Spec
from jsbert.train.step import (
    State,
    example_keys,
    gradients,
    init_state,
    make_step,
    per_example_grads,
)

__all__ = [
    "BI_ENCODER",
    "CROSS_ENCODER",
    "OBJECTIVES",
    "HeldOutLoss",
    "Objective",
    "Recipe",
    "Source",
    "Spec",
    "State",
    "adapted",
    "example_keys",
    "fit",
    "gradients",
    "init_lora",
    "init_state",
    "learning_rate",
    "make_optimizer",
    "make_step",
    "merge",
    "objective",
    "of_embeddings",
    "of_logits",
    "per_example_grads",
]
