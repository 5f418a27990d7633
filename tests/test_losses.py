"""Losses computed by hand, and what holds for all of them; parity/ compares with
sentence-transformers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsbert import losses

BATCH, DIM, CLASSES, WIDTH = 6, 10, 4, 7

GENERATOR = np.random.default_rng(0)


def draw(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


SCORES = np.float32([0.9, 0.1, 0.5, 0.5, 0.0, 1.0])
BINARY = np.array([1, 0, 1, 0, 0, 1])
CLASS = np.array([3, 0, 1, 2, 1, 0])
GROUP = np.array([7, 7, -2, 5, -2, 7])
KERNEL, BIAS = draw(3 * DIM, CLASSES), draw(CLASSES)

BOUND = {
    "softmax": (
        functools.partial(losses.softmax_classification, {"kernel": KERNEL, "bias": BIAS}),
        2,
        CLASS,
    ),
    "cosine": (losses.cosine_regression, 2, SCORES),
    "triplet": (losses.triplet, 3, None),
    "triplet-cosine": (functools.partial(losses.triplet, distance="cosine"), 3, None),
    "triplet-manhattan": (functools.partial(losses.triplet, distance="manhattan"), 3, None),
    "ranking": (losses.multiple_negatives_ranking, 4, None),
    "ranking-symmetric": (
        functools.partial(losses.multiple_negatives_ranking, symmetric=True),
        2,
        None,
    ),
    "ranking-dot": (
        functools.partial(losses.multiple_negatives_ranking, similarity="dot", scale=1.0),
        3,
        None,
    ),
    "batch-all": (losses.batch_all_triplet, 1, GROUP),
    "batch-all-cosine": (
        functools.partial(losses.batch_all_triplet, distance="cosine", margin=0.5),
        1,
        GROUP,
    ),
    "batch-hard": (losses.batch_hard_triplet, 1, GROUP),
    "batch-hard-soft": (losses.batch_hard_soft_margin_triplet, 1, GROUP),
    "batch-semi-hard": (losses.batch_semi_hard_triplet, 1, GROUP),
    "batch-semi-hard-manhattan": (
        functools.partial(losses.batch_semi_hard_triplet, distance="manhattan"),
        1,
        GROUP,
    ),
    "contrastive": (losses.contrastive, 2, BINARY),
    "contrastive-euclidean": (
        functools.partial(losses.contrastive, distance="euclidean", margin=9.0),
        2,
        BINARY,
    ),
    "online": (losses.online_contrastive, 2, BINARY),
    "online-euclidean": (
        functools.partial(losses.online_contrastive, distance="euclidean", margin=9.0),
        2,
        BINARY,
    ),
    "cosent": (losses.cosent, 2, SCORES),
    "angle": (losses.angle, 2, SCORES),
    "angle-negatives": (losses.angle, 3, None),
    "global-orthogonal": (losses.global_orthogonal_regularization, 2, None),
    "guided": (losses.guided_negatives_ranking, 3, draw(3, BATCH, WIDTH)),
    "guided-relative": (
        functools.partial(
            losses.guided_negatives_ranking, margin=0.1, margin_strategy="relative", temperature=1.0
        ),
        2,
        draw(2, BATCH, WIDTH),
    ),
    "margin-mse": (losses.margin_mse, 4, draw(BATCH, 2)),
    "kl-distillation": (losses.kl_distillation, 4, draw(BATCH, 3)),
    "embedding-mse": (losses.embedding_mse, 2, draw(BATCH, DIM)),
    "similarity": (losses.similarity_distillation, 2, draw(2, BATCH, WIDTH)),
    "matryoshka": (losses.matryoshka(losses.multiple_negatives_ranking, dims=(10, 3)), 2, None),
    "matryoshka-triplet": (losses.matryoshka(losses.triplet, dims=(10, 3)), 3, None),
}
"""Losses on embeddings, with the number of towers and the labels."""


def on_logits(loss):
    """Return a loss of embeddings: `loss` of the logits that one tower's embeddings hold."""
    return lambda embeddings, labels: loss(embeddings[0], labels)


ON_LOGITS = {
    "binary-cross-entropy": (on_logits(losses.binary_cross_entropy), (1, BATCH, 1), SCORES),
    "cross-entropy": (on_logits(losses.cross_entropy), (1, BATCH, CLASSES), CLASS),
    "mse": (on_logits(losses.mse), (1, BATCH, 1), SCORES),
}

ALL = {
    name: (loss, (towers, BATCH, DIM), labels) for name, (loss, towers, labels) in BOUND.items()
} | ON_LOGITS


@functools.lru_cache
def compiled(name):
    """Compute values (B,) and their Jacobian (B, T, B, D) by the embeddings, as one program."""
    loss, _, labels = ALL[name]
    return jax.jit(
        lambda embeddings: (loss(embeddings, labels), jax.jacrev(loss)(embeddings, labels))
    )


@pytest.mark.parametrize("name", ALL)
def test_a_loss_is_one_finite_number_an_example(name):
    values, jacobian = compiled(name)(draw(*ALL[name][1]))
    assert values.shape == (BATCH,)
    assert jnp.isfinite(values).all()
    assert jnp.isfinite(jacobian).all()


@pytest.mark.parametrize(
    "given, wanted", [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
@pytest.mark.parametrize("name", ALL)
def test_losses_are_computed_in_at_least_float32(name, given, wanted):
    loss, shape, labels = ALL[name]
    with jax.enable_x64(True):
        labels = labels if labels is None or labels.dtype == int else labels.astype(wanted)
        assert jax.eval_shape(loss, jax.ShapeDtypeStruct(shape, given), labels).dtype == wanted


@pytest.mark.parametrize("name", BOUND)
def test_gradients_are_finite_at_equal_vectors_and_at_zero_vectors(name):
    shape = ALL[name][1]
    vectors = draw(BATCH, DIM)
    vectors[2] = 0
    equal = np.broadcast_to(vectors, shape).copy()
    one_zero = draw(*shape)
    one_zero[1:2] = 0
    for embeddings in (equal, one_zero, np.zeros_like(equal)):
        values, jacobian = compiled(name)(embeddings)
        assert jnp.isfinite(values).all()
        assert jnp.isfinite(jacobian).all()


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("online")])
def test_only_in_batch_losses_let_examples_see_each_other(name):
    loss, shape, _ = ALL[name]
    _, jacobian = compiled(name)(draw(*shape))
    of_others = jacobian.transpose(0, 2, 1, 3)[~np.eye(BATCH, dtype=bool)]
    assert of_others.any() == losses.is_in_batch(loss)


def test_triplet_by_hand():
    embeddings = np.float32([[[0, 0]], [[3, 4]], [[0, 2]]])
    assert losses.triplet(embeddings, None).tolist() == [5 - 2 + 1]
    assert losses.triplet(embeddings, None, distance="manhattan", margin=-1.5).tolist() == [
        7 - 2 - 1.5
    ]
    assert losses.triplet(embeddings[[0, 2, 1]], None).tolist() == [0]
    assert losses.triplet(embeddings[[1, 1, 2]], None, distance="cosine")[0] == pytest.approx(
        0 - 0.2 + 1
    )


def test_contrastive_by_hand():
    embeddings = np.float32([[[0, 0]] * 4, [[3, 4], [3, 4], [0, 1], [0, 1]]])
    values = losses.contrastive(
        embeddings, np.float32([1, 0, 0, 0.25]), distance="euclidean", margin=4.0
    )
    assert values.tolist() == [12.5, 0, 4.5, 0.25 * 0.5 + 0.75 * 4.5]


def test_online_contrastive_counts_hard_pairs_alone():
    # Positives have distances 1, 5, 2, and negatives 3, 7. Hard are 5 (above 3) and 3 (below 5).
    embeddings = np.zeros((2, 5, 1), np.float32)
    embeddings[0, :, 0] = [1, 5, 2, 3, 7]
    values = losses.online_contrastive(
        embeddings, np.array([1, 1, 1, 0, 0]), distance="euclidean", margin=4.0
    )
    assert values.tolist() == [0, 5 * 25, 0, 5 * 1, 0]


@pytest.mark.parametrize(
    "label, wanted", [(1, [0, 4 * 25, 0, 4 * 16]), (0, [4 * 9, 0, 4 * 4, 0]), (2, [0] * 4)]
)
def test_online_contrastive_of_one_kind_compares_with_the_mean(label, wanted):
    embeddings = np.zeros((2, 4, 1), np.float32)
    embeddings[0, :, 0] = [1, 5, 2, 4]  # mean 3
    values = losses.online_contrastive(
        embeddings, np.full(4, label), distance="euclidean", margin=4.0
    )
    assert values.tolist() == wanted


LINE = np.float32([[[0], [2], [3], [7]]])
"""Four texts at these places, of the classes 0, 0, 1, 1 in the tests below."""


def test_batch_triplets_by_hand():
    classes = np.array([0, 0, 1, 1])
    # d(a, p) - d(a, n) + 1.5: text 0: 2 - 3, 2 - 7; 1: 2 - 1, 2 - 5; 2: 4 - 3, 4 - 1; 3: 4 - 7, 4 - 5
    values = losses.batch_all_triplet(LINE, classes, margin=1.5)
    wanted = np.array([0.5, 2.5, 2.5 + 4.5, 0.5])
    assert values.tolist() == pytest.approx((4 * wanted / 5).tolist())
    values = losses.batch_hard_triplet(LINE, classes, margin=1.5)
    assert values.tolist() == [0.5, 2.5, 4.5, 0.5]
    values = losses.batch_hard_soft_margin_triplet(LINE, classes)
    assert values.tolist() == pytest.approx(np.log1p(np.exp([-1, 1, 3, -1])).tolist())
    # The negative is the nearest one behind the positive: 3, 5, none behind 4: 3, 5.
    values = losses.batch_semi_hard_triplet(LINE, classes, margin=1.5)
    assert values.tolist() == [0.5, 0, 2.5, 0.5]


def test_batch_triplets_of_one_class_and_of_classes_of_one_text():
    one, each = np.zeros(4, int), np.arange(4)
    hard = functools.partial(losses.batch_hard_triplet, margin=1.5)
    assert losses.batch_all_triplet(LINE, one).tolist() == [0] * 4
    assert losses.batch_all_triplet(LINE, each).tolist() == [0] * 4
    assert losses.batch_semi_hard_triplet(LINE, each).tolist() == [0] * 4
    assert hard(LINE, each).tolist() == [0, 0.5, 0.5, 0]
    assert hard(LINE, one).tolist() == [1.5] * 4
    assert not jax.grad(lambda x: hard(x, one).sum())(jnp.asarray(LINE)).any()


def test_cosent_compares_pairs_of_different_labels():
    embeddings = np.float32([[[1, 0]] * 3, [[1, 0], [0, 1], [3, 4]]])  # cosines 1, 0, 0.6
    wanted = np.log(1 + np.exp(2 * (1 - 0)) + np.exp(2 * (0.6 - 0)))
    assert losses.cosent(embeddings, np.array([0, 1, 0]), scale=2.0).tolist() == pytest.approx(
        [wanted] * 3
    )
    assert losses.cosent(embeddings, np.array([7, 7, 7])).tolist() == [0, 0, 0]


def test_angle_by_hand():
    # (3 + 4i) / 5 times conjugate(i) = (4 - 3i) / 5, so |cos + sin| = 1/5; the second pair: 1
    embeddings = np.float32([[[3, 4], [1, 0]], [[0, 1], [1, 0]]])
    wanted = np.log(1 + np.exp(1 - 0.2))
    assert losses.angle(embeddings, np.float32([1, 0]), scale=1.0).tolist() == pytest.approx(
        [wanted] * 2
    )


def test_margin_mse_takes_margins_and_scores():
    embeddings = np.float32(
        [[[1, 0]], [[2, 5]], [[-1, 5]], [[1, 5]]]
    )  # scores 2, -1, 1: margins 3, 1
    assert losses.margin_mse(embeddings, np.float32([[2, 4]])).tolist() == [(1 + 9) / 2]
    assert losses.margin_mse(embeddings, np.float32([[5, 3, 1]])).tolist() == [(1 + 9) / 2]
    assert losses.margin_mse(embeddings[:3], np.float32([1])).tolist() == [4]


def test_kl_distillation_of_equal_probabilities_is_zero():
    embeddings = draw(4, BATCH, DIM)
    scores = jnp.sum(embeddings[0] * embeddings[1:], axis=-1).T
    values = losses.kl_distillation(embeddings, scores + 3)
    assert np.allclose(values, 0, atol=1e-5)
    values = losses.kl_distillation(
        embeddings, 2 * scores, temperature=0.5, teacher_temperature=1.0
    )
    assert np.allclose(values, 0, atol=1e-5)
    far = np.float32([[200, 0, -200]] * BATCH)  # the teacher is sure
    assert jnp.isfinite(losses.kl_distillation(embeddings, far)).all()


def test_global_orthogonal_regularization_by_hand():
    # Cosines 0.6 and 0 between the texts of a tower; in the second tower all are orthogonal.
    embeddings = np.float32([[[1, 0, 0], [3, 4, 0], [0, 0, 2]], np.eye(3)])
    mean, square = (0.6 + 0 + 0) / 3, 0.36 / 3
    find = losses.global_orthogonal_regularization
    assert find(embeddings, None).tolist() == pytest.approx([mean**2 / 2] * 3)
    weights = dict(mean_weight=0.0, second_moment_weight=2.0, aggregation="sum")
    assert find(embeddings, None, **weights).tolist() == [0] * 3  # 0.12 is below 1/3
    short = find(embeddings[:, :2], None, **weights)
    assert short.tolist() == pytest.approx([2 * (0.36 - 1 / 3)] * 2)
    assert square < 1 / 3
    assert find(embeddings[:, :1], None).tolist() == [0]


def test_the_guide_takes_negatives_away():
    embeddings, guide = draw(3, 4, DIM), np.zeros((3, 4, 4), np.float32)
    guide[:] = np.eye(4)  # each pair alone, so that all other texts are negatives
    find = functools.partial(losses.guided_negatives_ranking, temperature=0.05)
    plain = find(embeddings[:2], guide[:2], contrast_anchors=False, contrast_positives=False)
    wanted = losses.multiple_negatives_ranking(embeddings[:2], None, scale=20.0)
    assert np.allclose(plain, wanted, rtol=1e-4)
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    guide[1, 2] = guide[0, 1]  # positive 2 is as near to anchor 1 as its own positive is
    values = find(embeddings, guide, margin=0.1)
    cosines = 20 * np.concatenate(
        [unit[0] @ unit[1].T, unit[0] @ unit[0].T, unit[1] @ unit[1].T, unit[0] @ unit[2].T], axis=1
    )
    # Away from example 1 are positive 2, itself twice, positive 2 again, and its hard negative.
    left = [n for n in range(16) if n not in (2, 4 + 1, 8 + 1, 8 + 2, 12 + 1)]
    wanted = np.log(np.exp(cosines[1, left]).sum()) - cosines[1, 1]
    assert values[1] == pytest.approx(wanted, rel=1e-4)


def test_a_text_is_not_its_own_guided_negative():
    same = np.broadcast_to(draw(4, DIM), (2, 4, DIM))  # the guide's cosine of each pair is 1
    values = losses.guided_negatives_ranking(same, np.eye(4)[None].repeat(2, axis=0))
    assert values.max() < 0.1


def test_embedding_mse_is_the_mean_over_towers_and_dimensions():
    embeddings = np.float32([[[1, 2]], [[3, 6]]])
    assert losses.embedding_mse(embeddings, np.float32([[1, 1]])).tolist() == [(0 + 1 + 4 + 25) / 4]
    assert losses.embedding_mse(embeddings, np.float32([[[1, 1]], [[3, 3]]])).tolist() == [
        (0 + 1 + 0 + 9) / 4
    ]


def test_similarity_distillation_by_hand_and_across_widths():
    student = np.float32([[[1, 0], [0, 1]]])
    teacher = np.float32([[1, 0, 0], [3, 4, 0]])  # the cosine is 0.6; the student's is 0
    assert losses.similarity_distillation(student, teacher).tolist() == pytest.approx(
        [0.36 / 2] * 2
    )
    assert losses.similarity_distillation(student, np.float32([[0, 0, 2], [0, 5, 0]])).tolist() == [
        0,
        0,
    ]


def test_similarity_distillation_sees_the_cosines_between_towers():
    student = np.float32([[[1, 0]], [[0, 1]]])
    assert losses.similarity_distillation(student, np.float32([[[1, 0]], [[1, 0]]])).tolist() == [
        0.5
    ]
    assert losses.similarity_distillation(student, np.float32([[1, 0]])).tolist() == [0.5]


def test_concatenate_keeps_the_given_order():
    embeddings = np.float32([[[1, 2]], [[4, 0]]])
    assert losses.concatenate(embeddings).tolist() == [[1, 2, 4, 0, 3, 2]]
    assert losses.concatenate(embeddings, ("u*v", "v")).tolist() == [[4, 0, 4, 0]]


@pytest.mark.parametrize("concatenation", [(), ("u", "w"), ("u", "u"), "uv", "u"])
def test_bad_concatenations_are_refused(concatenation):
    with pytest.raises((ValueError, TypeError)):  # the tests' type checker refuses a string first
        losses.concatenate(draw(2, 3, 4), concatenation)
    with pytest.raises((ValueError, TypeError)):
        losses.init_classifier(jax.random.key(0), 4, 3, concatenation)


def test_init_classifier_fits_and_stays_within_its_bound():
    classifier = losses.init_classifier(jax.random.key(0), DIM, CLASSES, ("u", "u*v"))
    assert {name: leaf.shape for name, leaf in classifier.items()} == {
        "kernel": (20, CLASSES),
        "bias": (CLASSES,),
    }
    for leaf in classifier.values():
        assert 0.5 * 20**-0.5 < jnp.abs(leaf).max() <= 20**-0.5
    values = losses.softmax_classification(
        classifier, draw(2, BATCH, DIM), CLASS, concatenation=("u", "u*v")
    )
    assert values.shape == (BATCH,)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_class_out_of_range_is_nan_not_another_class(label):
    values = losses.cross_entropy(draw(2, CLASSES), np.array([label, 0]))
    assert jnp.isnan(values).tolist() == [True, False]


def test_binary_cross_entropy_by_hand_and_far_out():
    values = losses.binary_cross_entropy(
        np.float32([[2], [2], [200]]), np.float32([1, 0.25, 0]), pos_weight=3.0
    )
    sigmoid = 1 / (1 + np.exp(-2))
    wanted = [-3 * np.log(sigmoid), -3 * 0.25 * np.log(sigmoid) - 0.75 * np.log(1 - sigmoid), 200]
    assert values.tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, losses.mse])
def test_losses_of_one_logit_refuse_several(loss):
    with pytest.raises(ValueError, match=r"\(6, 4\).*use cross_entropy"):
        loss(draw(BATCH, CLASSES), SCORES)


def test_masked_lm_weighs_each_token_of_the_batch_the_same():
    logits = np.zeros((2, 3, 4), np.float32)
    logits[0, 0, 1] = 50  # the first row is sure and right; the other two guess among 4
    weights = np.array([[1, 1, 0], [1, 0, 0]])
    values = losses.masked_lm(logits, np.array([[1, 0, 0], [3, 0, 0]]), weights)
    assert values.tolist() == pytest.approx([2 * np.log(4) / 3] * 2)
    unchosen = losses.masked_lm(
        logits, np.array([[1, 0, -100], [3, 99, -100]]), weights.astype(bool)
    )
    assert unchosen.tolist() == values.tolist()


def test_masked_lm_without_chosen_tokens_is_zero_with_a_finite_gradient():
    logits, targets, weights = jnp.asarray(draw(2, 3, 4)), np.zeros((2, 3), int), np.zeros((2, 3))
    assert losses.masked_lm(logits, targets, weights).tolist() == [0, 0]
    assert not jax.grad(lambda x: losses.masked_lm(x, targets, weights).sum())(logits).any()


def test_masked_lm_in_float64_stays_there():
    with jax.enable_x64(True):
        head = losses.init_masked_lm_head(jax.random.key(0), DIM, WIDTH)
        logits = losses.masked_lm_logits(
            head, jnp.asarray(draw(2, 3, DIM), jnp.float64), draw(WIDTH, DIM)
        )
        assert logits.shape == (2, 3, WIDTH)
        assert logits.dtype == jnp.float64
        assert losses.masked_lm(logits, np.ones((2, 3), int), np.ones((2, 3))).dtype == jnp.float64


def test_masked_lm_head_begins_as_bert_does():
    head = losses.init_masked_lm_head(jax.random.key(0), 40, 90, initializer_range=0.1)
    assert np.std(head["dense"]["kernel"]) == pytest.approx(0.1, rel=0.1)
    assert (head["norm"]["scale"] == 1).all()
    assert head["bias"].shape == (90,)
    assert not any(
        leaf.any() for leaf in (head["dense"]["bias"], head["norm"]["bias"], head["bias"])
    )


def test_masked_lm_head_is_as_wide_as_the_word_vectors():
    head = losses.init_masked_lm_head(jax.random.key(0), DIM, WIDTH, embedding_size=5)
    assert losses.masked_lm_logits(head, draw(2, 3, DIM), draw(WIDTH, 5)).shape == (2, 3, WIDTH)


def test_matryoshka_adds_up_the_weighted_widths():
    embeddings = draw(2, BATCH, DIM)
    nested = losses.matryoshka(losses.cosine_regression, dims=(4, 10), weights=(0.5, 2.0))
    parts = [losses.cosine_regression(embeddings[..., :dim], SCORES) for dim in (4, 10)]
    assert np.allclose(nested(embeddings, SCORES), 0.5 * parts[0] + 2 * parts[1], rtol=1e-5)


def test_matryoshka_passes_options_on_and_takes_bound_ones():
    embeddings = draw(3, BATCH, DIM)
    given = losses.matryoshka(losses.triplet, dims=(3,))(embeddings, None, margin=2.0)
    bound = losses.matryoshka(functools.partial(losses.triplet, margin=2.0), dims=(3,))(
        embeddings, None
    )
    assert given.tolist() == bound.tolist()


def test_matryoshka_fits_the_classifier_to_short_vectors():
    classifier = {"kernel": KERNEL, "bias": BIAS}
    embeddings = draw(2, BATCH, DIM)
    short = embeddings[..., :4] / np.linalg.norm(embeddings[..., :4], axis=-1, keepdims=True)
    rows = np.concatenate(
        [np.arange(4) + DIM * part for part in range(3)]
    )  # the rows with which short vectors are compared
    wanted = losses.softmax_classification({"kernel": KERNEL[rows], "bias": BIAS}, short, CLASS)
    values = losses.matryoshka(losses.softmax_classification, dims=(4,))(
        classifier, embeddings, CLASS
    )
    assert np.allclose(values, wanted, rtol=1e-5)


def test_matryoshka_keeps_the_teacher_of_similarities_whole():
    student, teacher = draw(1, BATCH, DIM), draw(BATCH, DIM)
    values = losses.matryoshka(losses.similarity_distillation, dims=(4,))(student, teacher)
    assert np.allclose(values, losses.similarity_distillation(student[..., :4], teacher), rtol=1e-4)


def test_matryoshka_refuses_widths_that_do_not_fit():
    loss = losses.triplet
    for dims in ((), (4, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            losses.matryoshka(loss, dims=dims)
    with pytest.raises(ValueError, match="3 weights for 2 dims"):
        losses.matryoshka(loss, dims=(4, 2), weights=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="the embeddings have 10 dimensions"):
        losses.matryoshka(loss, dims=(11, 4))(draw(3, BATCH, DIM), None)


def test_adaptive_layers_by_hand():
    embeddings = draw(3, 2, BATCH, DIM)
    find = functools.partial(losses.adaptive_layers, losses.cosine_regression)
    cosines = [losses.cosine_regression(layer, SCORES) for layer in embeddings]
    values = find(last_layer_weight=2.0, prior_layers_weight=0.5, kl_temperature=0.0)(
        embeddings, SCORES
    )
    assert np.allclose(values, 2 * cosines[2] + 0.5 * (cosines[0] + cosines[1]) / 2, rtol=1e-5)
    values = find(layer_weighting="linear", kl_div_weight=0.0)(embeddings, SCORES)
    assert np.allclose(values, cosines[2] + (cosines[0] + cosines[1] / 2) / 2, rtol=1e-5)
    equal = np.broadcast_to(embeddings[2], embeddings.shape)
    assert np.allclose(find()(equal, SCORES), 2 * cosines[2], rtol=1e-5)
    assert np.allclose(find()(embeddings[2:], SCORES), cosines[2], rtol=1e-5)


def test_adaptive_layers_keep_params_options_and_the_mark():
    classifier = {"kernel": KERNEL, "bias": BIAS}
    embeddings = draw(2, 2, BATCH, DIM)
    layered = losses.adaptive_layers(losses.softmax_classification, kl_temperature=0.0)
    parts = [losses.softmax_classification(classifier, layer, CLASS) for layer in embeddings]
    assert np.allclose(layered(classifier, embeddings, CLASS), parts[0] + parts[1], rtol=1e-5)
    triplets = losses.adaptive_layers(losses.batch_all_triplet)
    assert losses.is_in_batch(triplets)
    assert not losses.is_in_batch(layered)
    assert jnp.isfinite(triplets(embeddings[:, :1], GROUP, margin=0.5)).all()


def test_in_batch_losses_are_known_through_their_wrappings():
    assert all(map(losses.is_in_batch, (losses.masked_lm, losses.angle, losses.online_contrastive)))
    assert losses.is_in_batch(jax.jit(functools.partial(losses.cosent, scale=3.0)))
    assert losses.is_in_batch(
        losses.matryoshka(functools.partial(losses.angle, scale=3.0), dims=(4,))
    )
    assert not losses.is_in_batch(losses.matryoshka(losses.triplet, dims=(4,)))
    own = losses.in_batch(functools.partial(losses.triplet, margin=2.0))
    assert losses.is_in_batch(jax.jit(losses.matryoshka(own, dims=(4,))))
    assert not losses.is_in_batch(losses.triplet)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: losses.triplet(draw(3, 2, 4), None, distance="dot"),
            "distance is 'dot'; choose one of: euclidean, cosine",
        ),
        (
            lambda: losses.multiple_negatives_ranking(draw(2, 2, 4), None, similarity="l2"),
            "similarity is 'l2'.*cosine, dot",
        ),
        (
            lambda: losses.margin_mse(draw(3, 2, 4), draw(2, 2, 1)[0], similarity="euclidean"),
            "similarity is 'euclidean'",
        ),
        (
            lambda: losses.margin_mse(draw(3, 2, 4), draw(2, 5)),
            r"labels have shape \(2, 5\).*margins \(2, 1\).*scores \(2, 2\)",
        ),
        (lambda: losses.angle(draw(2, 2, 4), None), "pairs and no labels"),
        (
            lambda: losses.kl_distillation(draw(4, 2, 4), draw(2, 2)),
            r"shape \(2, 2\), for 2 examples with 3 candidates; .* each: \(2, 3\)",
        ),
        (
            lambda: losses.global_orthogonal_regularization(draw(2, 2, 4), None, aggregation="max"),
            "aggregation is 'max'.*mean, sum",
        ),
        (
            lambda: losses.guided_negatives_ranking(
                draw(2, 2, 4), draw(2, 2, 3), margin_strategy="none"
            ),
            "margin_strategy is 'none'.*absolute, relative",
        ),
        (
            lambda: losses.adaptive_layers(losses.triplet, layer_weighting="none"),
            "layer_weighting is 'none'.*uniform, log, linear",
        ),
        (
            lambda: losses.adaptive_layers(losses.triplet, kl_temperature=-1.0),
            "kl_temperature is -1.0",
        ),
        (lambda: losses.kl_distillation(draw(2, 2, 4), draw(2, 1)), "two candidates or more"),
        (
            lambda: losses.kl_distillation(draw(3, 2, 4), draw(2, 2), temperature=0.0),
            "temperatures are 0.0 and 0.0",
        ),
    ],
)
def test_bad_options_and_labels_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
