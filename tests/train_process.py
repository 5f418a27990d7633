"""A training run for a process of its own, to be killed."""

import os
import pathlib
import random

from jsbert import SentenceTransformer
from jsbert.data import Examples
from jsbert.train import Recipe, Source, fit
from tests import models, programs

RECIPE = Recipe(
    batch_size=4, learning_rate=1e-3, epochs=5, checkpoint_steps=1, eval_steps=9, log_steps=1
)
"""A checkpoint after every update, so that kills happen while a checkpoint is written."""


def first_number(model) -> dict[str, float]:
    """Return a score that depends on the weights."""
    return {"first": float(model.encode("the cat sat")[0]), "second": 1.0}


def texts(count: int, seed: int) -> list[str]:
    """Return random sentences of 3 to 6 words. The lengths are unequal but give one array length,
    because each array length is a step to compile."""
    generator = random.Random(seed)
    return [
        " ".join(generator.choices(models.WORDS, k=generator.randint(3, 6))) for _ in range(count)
    ]


def triplets(count: int = 44) -> Examples:
    """Return random anchors, positives and negatives."""
    return Examples.from_columns({name: texts(count, seed) for seed, name in enumerate("apn")})


def run(out: pathlib.Path, folder: pathlib.Path) -> None:
    """Train, or continue a run."""
    programs.share(pathlib.Path(os.environ["JSBERT_TEST_PROGRAMS"]))
    programs.optimised = False
    fit(
        SentenceTransformer(folder),
        Source(triplets(), "multiple-negatives-ranking"),
        out,
        RECIPE,
        evaluator=first_number,
    )
