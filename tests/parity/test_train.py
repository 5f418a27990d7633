"""Updates, schedule and trained folders against torch, transformers and sentence-transformers."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer as Theirs
from sentence_transformers.sentence_transformer import losses as their_losses

from jsbert import SentenceTransformer
from jsbert.data import Examples
from jsbert.train import Recipe, Source, fit, learning_rate, make_optimizer
from jsbert.train.batches import plan
from tests import models
from tests.train_process import texts

COUNT, RECIPE = (
    24,
    Recipe(
        batch_size=8, epochs=2, learning_rate=1e-2, warmup=0.2, dropout=False, max_grad_norm=0.3
    ),
)


def columns():
    generator = np.random.default_rng(1)
    return {
        "sentence1": texts(COUNT, 1),
        "sentence2": texts(COUNT, 2),
        "score": generator.random(COUNT).tolist(),
    }


def train_with_torch(folder, examples, updates):
    """Make the same updates with torch's AdamW and clipping, transformers' schedule, and
    sentence-transformers' loss."""
    model = Theirs(str(folder), device="cpu").eval()  # eval: no dropout
    loss_of = their_losses.CosineSimilarityLoss(model)
    is_matrix = {id(p): p.ndim > 1 for p in model.parameters()}
    groups = [
        {
            "params": [p for p in model.parameters() if is_matrix[id(p)]],
            "weight_decay": RECIPE.weight_decay,
        },
        {"params": [p for p in model.parameters() if not is_matrix[id(p)]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RECIPE.learning_rate)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, int(np.ceil(0.2 * len(updates))), len(updates)
    )
    for update in updates:
        texts, scores = examples.rows(update.indices)
        features = [
            model.preprocess(column) if hasattr(model, "preprocess") else model.tokenize(column)
            for column in texts
        ]
        loss_of(features, torch.tensor(scores)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("packing", [True, False])
def test_a_run_makes_the_updates_of_torch(tiny_folder, tmp_path, packing):
    examples = Examples.from_columns(columns())
    model, recipe = SentenceTransformer(tiny_folder), dataclasses.replace(RECIPE, packing=packing)
    source = Source(examples, "cosine")
    updates = plan([source], [source.build(model.config)], recipe)
    assert len(updates) == 6
    ours = fit(model, source, tmp_path / "out", recipe)
    theirs = train_with_torch(tiny_folder, examples, updates)
    texts = models.sentences(30, 9)
    wanted = theirs.encode(texts)
    assert np.abs(wanted - model.encode(texts)).max() > 0.05  # it has learned something
    np.testing.assert_allclose(
        ours.encode(texts), wanted, atol=1e-4
    )  # Adam magnifies the rounding errors of a gradient of 0
    assert np.array_equal(
        Theirs(str(tmp_path / "out"), device="cpu").encode(texts).shape, wanted.shape
    )
    np.testing.assert_allclose(
        Theirs(str(tmp_path / "out"), device="cpu").encode(texts), ours.encode(texts), atol=1e-5
    )


@pytest.mark.parametrize("num_steps, warmup", [(37, 0.1), (10, 0.0), (8, 1.0)])
def test_the_schedule_is_that_of_transformers(num_steps, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-5)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, int(np.ceil(warmup * num_steps)), num_steps
    )
    rate = learning_rate(Recipe(warmup=warmup), num_steps)
    for step in range(num_steps):
        assert float(rate(step)) == pytest.approx(schedule.get_last_lr()[0], rel=1e-5, abs=1e-12)
        optimizer.step()
        schedule.step()


def test_weight_decay_and_moments_are_those_of_torch():
    recipe = Recipe(
        learning_rate=0.1, warmup=0.0, schedule="constant", weight_decay=0.3, max_grad_norm=None
    )
    start = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    gradient = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    theirs = torch.tensor(start, requires_grad=True)
    torch_optimizer = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.3)
    optimizer, ours = make_optimizer(recipe, 10), {"kernel": start}
    state = optimizer.init(ours)
    for scale in (1.0, -0.5, 2.0):
        theirs.grad = torch.tensor(scale * gradient)
        torch_optimizer.step()
        updates, state = optimizer.update({"kernel": scale * gradient}, state, ours)
        ours = jax.tree.map(np.add, ours, updates)
    # optax computes the bias corrections in float32, torch in Python's floats.
    np.testing.assert_allclose(ours["kernel"], theirs.detach().numpy(), atol=5e-6)
