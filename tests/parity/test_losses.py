"""Every loss against the loss of sentence-transformers, run in the same test: value and gradient,
in float32 and in float64."""

import functools
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, util
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder import losses as st_cross
from sentence_transformers.sentence_transformer import losses as st
from sentence_transformers.sentence_transformer.losses import (
    SiameseDistanceMetric,
    TripletDistanceMetric,
)
from sentence_transformers.sentence_transformer.modules import Pooling

from jsbert import losses
from tests import models
from tests.parity import families, reference

BATCH, DIM, CLASSES = 9, 10, 4


class Given(torch.nn.Module):
    """A model whose sentence embeddings are its inputs."""

    device = "cpu"

    def forward(self, features):
        return dict(features)

    def get_embedding_dimension(self):
        return DIM


def st_losses(name, *arguments, **options):
    with (
        warnings.catch_warnings()
    ):  # the symmetric loss is deprecated; the same loss has a longer name
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(st, name)(Given(), *arguments, **options)


def draw(seed, *shape):
    """Return random rows of unequal lengths."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape) * generator.uniform(0.3, 2.0, (*shape[:-1], 1))


def scores(seed):
    """Return scores from 0 to 1, some of them equal."""
    return np.random.default_rng(seed).integers(0, 9, BATCH) / 8


def binary(seed):
    return np.random.default_rng(seed).permutation(np.arange(BATCH) % 2)


def close(ours, theirs, dtype):
    return reference.largest_difference(ours, theirs.detach().numpy()) <= (
        1e-5 if dtype == "float32" else 1e-10
    )


def assert_equal(ours, wanted, inputs, dtype):
    """Check that the mean of `ours`, a function of `inputs`, equals `wanted`, and that the
    gradients are equal.

    `wanted` is called with tensors, and returns one number.
    """
    with jax.enable_x64(dtype == "float64"):
        mean = jax.jit(jax.value_and_grad(lambda arrays: ours(*arrays).mean()))
        value, gradients = mean([jnp.asarray(x, dtype) for x in inputs])
    tensors = [torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True) for x in inputs]
    theirs = wanted(*tensors)
    theirs.backward()
    assert value.dtype == dtype
    assert close(value, theirs, dtype)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        assert tensor.grad.abs().max() > 1e-3  # there is something to compare
        assert close(gradient, tensor.grad, dtype)


def tower_features(embeddings):
    return [{"sentence_embedding": tower} for tower in embeddings.unbind(0)]


def labelled(labels, dtype):
    """Return the labels for both sides, floats in `dtype`."""
    if labels is None:
        return None, None
    labels = labels if labels.dtype == int else labels.astype(dtype)
    return labels, torch.tensor(labels)


CASES = {
    "cosine": (losses.cosine_regression, ("CosineSimilarityLoss", {}), 2, scores),
    "ranking": (losses.multiple_negatives_ranking, ("MultipleNegativesRankingLoss", {}), 2, None),
    "ranking-hard": (
        losses.multiple_negatives_ranking,
        ("MultipleNegativesRankingLoss", {}),
        5,
        None,
    ),
    "ranking-dot": (
        functools.partial(losses.multiple_negatives_ranking, similarity="dot", scale=0.7),
        ("MultipleNegativesRankingLoss", dict(similarity_fct=util.dot_score, scale=0.7)),
        3,
        None,
    ),
    "ranking-symmetric": (
        functools.partial(losses.multiple_negatives_ranking, symmetric=True),
        ("MultipleNegativesSymmetricRankingLoss", {}),
        2,
        None,
    ),
    "ranking-symmetric-hard": (
        functools.partial(losses.multiple_negatives_ranking, symmetric=True, scale=5.0),
        ("MultipleNegativesSymmetricRankingLoss", dict(scale=5.0)),
        4,
        None,
    ),
    "cosent": (losses.cosent, ("CoSENTLoss", {}), 2, scores),
    "cosent-scale": (
        functools.partial(losses.cosent, scale=3.0),
        ("CoSENTLoss", dict(scale=3.0)),
        2,
        scores,
    ),
    "cosent-classes": (losses.cosent, ("CoSENTLoss", {}), 2, binary),
    "angle": (losses.angle, ("AnglELoss", {}), 2, scores),
    "angle-scale": (
        functools.partial(losses.angle, scale=3.0),
        ("AnglELoss", dict(scale=3.0)),
        2,
        scores,
    ),
    "angle-negatives": (losses.angle, ("AnglELoss", {}), 4, None),
    "angle-negatives-labels": (losses.angle, ("AnglELoss", {}), 3, scores),
    "margin-mse": (losses.margin_mse, ("MarginMSELoss", {}), 3, scores),
    "margin-mse-negatives": (
        losses.margin_mse,
        ("MarginMSELoss", {}),
        5,
        lambda seed: draw(seed, BATCH, 3),
    ),
    "margin-mse-scores": (
        losses.margin_mse,
        ("MarginMSELoss", {}),
        5,
        lambda seed: draw(seed, BATCH, 4),
    ),
    "margin-mse-cosine": (
        functools.partial(losses.margin_mse, similarity="cosine"),
        ("MarginMSELoss", dict(similarity_fct=util.pairwise_cos_sim)),
        3,
        scores,
    ),
    "kl": (
        losses.kl_distillation,
        ("DistillKLDivLoss", {}),
        5,
        lambda seed: draw(seed, BATCH, 4),
    ),
    "kl-cosine": (
        functools.partial(losses.kl_distillation, similarity="cosine", temperature=0.5),
        ("DistillKLDivLoss", dict(similarity_fct=util.pairwise_cos_sim, temperature=0.5)),
        3,
        lambda seed: draw(seed, BATCH, 2),
    ),
    "kl-temperatures": (
        functools.partial(losses.kl_distillation, temperature=2.0, teacher_temperature=0.7),
        ("DistillKLDivLoss", dict(student_temperature=2.0, teacher_temperature=0.7)),
        4,
        lambda seed: draw(seed, BATCH, 3),
    ),
}
"""Our loss, their loss with its options, the number of towers, the labels."""

TRIPLET = {
    name: getattr(TripletDistanceMetric, name.upper())
    for name in ("euclidean", "cosine", "manhattan")
}
CASES |= {
    f"triplet-{name}-{margin}": (
        functools.partial(losses.triplet, distance=name, margin=margin),
        ("TripletLoss", dict(distance_metric=metric, triplet_margin=margin)),
        3,
        None,
    )
    for name, metric in TRIPLET.items()
    for margin in (1.0, 5.0)
}

CASES |= {
    f"{name}-cosine-{margin}": (
        functools.partial(loss, margin=margin),
        (theirs, dict(margin=margin)),
        2,
        binary,
    )
    for name, loss, theirs in (
        ("contrastive", losses.contrastive, "ContrastiveLoss"),
        ("online", losses.online_contrastive, "OnlineContrastiveLoss"),
    )
    for margin in (0.5, 1.5)
}

BATCH_TRIPLETS = {
    "batch-all": (losses.batch_all_triplet, "BatchAllTripletLoss"),
    "batch-hard": (losses.batch_hard_triplet, "BatchHardTripletLoss"),
    "batch-soft": (losses.batch_hard_soft_margin_triplet, "BatchHardSoftMarginTripletLoss"),
    "batch-semi-hard": (losses.batch_semi_hard_triplet, "BatchSemiHardTripletLoss"),
}
BATCH_DISTANCES = {
    name: getattr(st.BatchHardTripletLossDistanceFunction, f"{name}_distance")
    for name in ("euclidean", "cosine")
}
GROUPS = {
    "some": lambda seed: np.random.default_rng(seed).permutation([4, 4, 4, 4, 0, 0, 0, 9, -1]),
    "one": lambda seed: np.full(BATCH, 3),
}
CASES |= {
    f"{name}-{distance}-{number}-{groups}": (
        functools.partial(ours, distance=distance, **margin),
        (theirs, dict(distance_metric=BATCH_DISTANCES[distance], **margin)),
        1,
        GROUPS[groups],
    )
    for name, (ours, theirs) in BATCH_TRIPLETS.items()
    for distance in BATCH_DISTANCES
    for number in ("default", 0.3)
    for groups in GROUPS
    for margin in [{} if number == "default" else {"margin": number}]
    # The soft one has no margin. With one class only the semi-hard one has a gradient.
    if (name != "batch-soft" or number == "default")
    and (groups == "some" or name == "batch-semi-hard")
}


EXACT = (
    "cosine", "ranking-symmetric-hard", "cosent", "angle-negatives-labels", "margin-mse-scores",
    "kl-temperatures", "triplet-euclidean-5.0", "contrastive-cosine-0.5", "online-cosine-1.5",
    "batch-all-euclidean-0.3-some", "batch-hard-euclidean-0.3-some",
    "batch-soft-euclidean-default-some", "batch-semi-hard-euclidean-0.3-some",
)  # fmt: skip
"""One loss of each formula, compared in float64 too, because float64 shows a wrong small
constant."""


@pytest.mark.parametrize(
    "case, dtype", [*((case, "float32") for case in CASES), *((case, "float64") for case in EXACT)]
)
def test_losses_of_embeddings(case, dtype):
    ours, (name, options), towers, labels = CASES[case]
    ours_labels, st_labels = labelled(labels and labels(3), dtype)
    loss = st_losses(name, **options)
    assert_equal(
        lambda embeddings: ours(embeddings, ours_labels),
        lambda embeddings: loss(tower_features(embeddings), st_labels),
        [draw(5, towers, BATCH, DIM)],
        dtype,
    )


@pytest.mark.parametrize("metric", ["EUCLIDEAN", "MANHATTAN"])
@pytest.mark.parametrize(
    "name, ours",
    [("ContrastiveLoss", losses.contrastive), ("OnlineContrastiveLoss", losses.online_contrastive)],
)
def test_contrastive_losses_of_other_distances(name, ours, metric):
    # Only float32: torch's pairwise_distance adds 1e-6 to each difference.
    loss = st_losses(name, distance_metric=getattr(SiameseDistanceMetric, metric), margin=12.0)
    labels, st_labels = labelled(binary(3), "float32")
    assert_equal(
        lambda embeddings: ours(embeddings, labels, distance=metric.lower(), margin=12.0),
        lambda embeddings: loss(tower_features(embeddings), st_labels),
        [draw(5, 2, BATCH, DIM)],
        "float32",
    )


@pytest.mark.parametrize("label", [0, 1])
def test_online_contrastive_of_one_kind(label):
    loss = st_losses("OnlineContrastiveLoss", margin=1.5)
    labels, st_labels = labelled(np.full(BATCH, label), "float32")
    assert_equal(
        lambda embeddings: losses.online_contrastive(embeddings, labels, margin=1.5),
        lambda embeddings: loss(tower_features(embeddings), st_labels),
        [draw(5, 2, BATCH, DIM)],
        "float32",
    )


def test_angle_of_an_odd_width():
    loss = st_losses("AnglELoss")
    labels, st_labels = labelled(scores(3), "float64")
    assert_equal(
        lambda embeddings: losses.angle(embeddings, labels),
        lambda embeddings: loss(tower_features(embeddings), st_labels),
        [draw(5, 2, BATCH, 7)],
        "float64",
    )


@pytest.mark.parametrize(
    "concatenation",
    [
        ("u", "v", "|u-v|"),
        ("u", "v"),
        ("|u-v|",),
        ("u*v",),
        ("u", "v", "u*v"),
        ("|u-v|", "u*v"),
        ("u", "v", "|u-v|", "u*v"),
    ],
    ids=" ".join,
)
def test_softmax_classification(concatenation):
    loss = st_losses(
        "SoftmaxLoss",
        DIM,
        CLASSES,
        concatenation_sent_rep="u" in concatenation,
        concatenation_sent_difference="|u-v|" in concatenation,
        concatenation_sent_multiplication="u*v" in concatenation,
    )
    labels, st_labels = labelled(np.random.default_rng(1).integers(0, CLASSES, BATCH), "float32")

    def theirs(embeddings, kernel, bias):
        parameters = {"classifier.weight": kernel.T, "classifier.bias": bias}
        return torch.func.functional_call(loss, parameters, (tower_features(embeddings), st_labels))

    def ours(embeddings, kernel, bias):
        classifier = {"kernel": kernel, "bias": bias}
        return losses.softmax_classification(
            classifier, embeddings, labels, concatenation=concatenation
        )

    inputs = [
        draw(5, 2, BATCH, DIM),
        draw(6, len(concatenation) * DIM, CLASSES),
        draw(7, 1, CLASSES)[0],
    ]
    assert_equal(ours, theirs, inputs, "float32")


@pytest.mark.parametrize(
    "options, theirs, dtype",
    [
        ({}, {}, "float32"),
        ({"mean_weight": 0.5, "second_moment_weight": 3.0, "aggregation": "sum"}, {}, "float64"),
        ({"mean_weight": 0.0}, {}, "float32"),
        ({"second_moment_weight": 0.0}, {}, "float32"),
        ({"similarity": "dot"}, {"similarity_fct": util.dot_score}, "float32"),
    ],
)
def test_global_orthogonal_regularization(options, theirs, dtype):
    same = {name: value for name, value in options.items() if name != "similarity"}
    loss = st_losses("GlobalOrthogonalRegularizationLoss", **same, **theirs)
    assert_equal(
        lambda embeddings: losses.global_orthogonal_regularization(embeddings, None, **options),
        lambda embeddings: sum(loss(tower_features(embeddings)).values()),
        [draw(5, 3, BATCH, DIM) + 0.8],  # with a mean, so that both terms count
        dtype,
    )


@pytest.mark.parametrize(
    "towers, options, dtype",
    [
        (2, {"temperature": 0.1}, "float64"),
        (3, {"temperature": 0.1, "margin": 0.2}, "float32"),
        (3, {"margin": 0.3, "margin_strategy": "relative", "temperature": 0.5}, "float64"),
        (3, {"contrast_anchors": False, "temperature": 1.0}, "float32"),
        (2, {"contrast_positives": False, "temperature": 0.2}, "float32"),
    ],
)
def test_guided_negatives_ranking(towers, options, dtype):
    class Known(Given):
        """A model with a tokenizer, which the loss asks for and does not need."""

        max_seq_length = 8
        tokenizer = transformers.BertTokenizerFast(vocab={"[UNK]": 0})

        def __init__(self, key):
            super().__init__()
            self.key = key

        def forward(self, features):
            return {"sentence_embedding": features[self.key]}

    loss = st.GISTEmbedLoss(Known("student"), Known("guide"), **options)
    guide = draw(7, towers, BATCH, 6).astype(dtype) + 0.4
    features = [{"guide": torch.tensor(tower)} for tower in guide]
    assert_equal(
        lambda embeddings: losses.guided_negatives_ranking(embeddings, guide, **options),
        lambda embeddings: loss(
            [
                {"student": tower, **feature}
                for tower, feature in zip(embeddings.unbind(0), features, strict=True)
            ],
            None,
        ),
        [draw(5, towers, BATCH, DIM)],
        dtype,
    )


@pytest.mark.parametrize("each", [False, True])
def test_embedding_mse(each):
    teacher = draw(2, *((3, BATCH, DIM) if each else (BATCH, DIM))).astype("float32")
    st_labels = torch.tensor(
        teacher.swapaxes(0, 1).copy() if each else teacher
    )  # their towers are the second axis
    loss = st_losses("MSELoss")
    assert_equal(
        lambda embeddings: losses.embedding_mse(embeddings, teacher),
        lambda embeddings: loss(tower_features(embeddings), st_labels),
        [draw(5, 3, BATCH, DIM)],
        "float32",
    )


@pytest.mark.parametrize("each", [False, True])
def test_similarity_distillation(each):
    # They have no such loss, so this is its definition over their cos_sim.
    teacher = draw(2, *((3, BATCH, 13) if each else (BATCH, 13))).astype("float32")
    rows = torch.tensor(np.broadcast_to(teacher, (3, BATCH, 13)).reshape(-1, 13).copy())

    def theirs(embeddings):
        student = embeddings.reshape(-1, DIM)
        return torch.nn.functional.mse_loss(
            util.cos_sim(student, student), util.cos_sim(rows, rows)
        )

    ours = functools.partial(losses.similarity_distillation, labels=teacher)
    assert_equal(ours, theirs, [draw(5, 3, BATCH, DIM)], "float32")


@pytest.mark.parametrize(
    "case, weights",
    [
        ("cosine", None),
        *(
            (case, (0.5, 2.0, 1.5))
            for case in (
                "ranking-hard",
                "angle",
                "cosent",
                "triplet-euclidean-1.0",
                "online-cosine-1.5",
            )
        ),
    ],
)
def test_matryoshka(case, weights):
    ours, (name, options), towers, labels = CASES[case]
    labels, st_labels = labelled(labels and labels(3), "float32")
    inner = st_losses(name, **options)
    loss = st.MatryoshkaLoss(inner.model, inner, [3, DIM, 6], weights)
    assert_equal(
        lambda embeddings: losses.matryoshka(ours, dims=(3, DIM, 6), weights=weights)(
            embeddings, labels
        ),
        lambda embeddings: loss(tower_features(embeddings), st_labels),
        [draw(5, towers, BATCH, DIM)],
        "float32",
    )


@pytest.mark.parametrize("each", [False, True])
def test_matryoshka_of_embedding_mse(each):
    teacher = draw(2, *((3, BATCH, DIM) if each else (BATCH, DIM))).astype("float32")
    st_labels = torch.tensor(teacher.swapaxes(0, 1).copy() if each else teacher)
    inner = st_losses("MSELoss")
    loss = st.MatryoshkaLoss(inner.model, inner, [4, DIM])
    assert_equal(
        lambda embeddings: losses.matryoshka(losses.embedding_mse, dims=(4, DIM))(
            embeddings, teacher
        ),
        lambda embeddings: loss(tower_features(embeddings), st_labels),
        [draw(5, 3, BATCH, DIM)],
        "float32",
    )


class GivenLayers(Transformer):
    """A transformer whose token vectors are its inputs, those of each layer, with one token."""

    auto_model = types.SimpleNamespace(config=types.SimpleNamespace(output_hidden_states=False))

    def __init__(self):
        torch.nn.Module.__init__(self)

    def forward(self, features):
        layers = features["layers"]
        features |= {"token_embeddings": layers[-1], "all_layer_embeddings": list(layers)}
        return features


@pytest.mark.parametrize(
    "case, options, dims, dtype",
    [
        ("ranking-hard", {}, None, "float32"),
        ("ranking-hard", {"layer_weighting": "log", "kl_temperature": 0.7}, None, "float64"),
        ("cosine", {"kl_div_weight": 3.0, "layer_weighting": "linear"}, None, "float32"),
        (
            "triplet-euclidean-1.0",
            {"kl_temperature": 0.0, "last_layer_weight": 0.5},
            None,
            "float32",
        ),
        ("cosent-scale", {"prior_layers_weight": 2.0}, (3, DIM, 6), "float64"),
        ("ranking-hard", {}, (3, DIM), "float32"),
    ],
)
def test_adaptive_layers(case, options, dims, dtype):
    ours, (name, inner), towers, labels = CASES[case]
    labels, st_labels = labelled(labels and labels(3), dtype)
    model = SentenceTransformer(modules=[GivenLayers(), Pooling(DIM, "mean")], device="cpu")
    loss = getattr(st, name)(model, **inner)
    if dims is None:
        loss = st.AdaptiveLayerLoss(model, loss, n_layers_per_step=-1, **options)
    else:
        more = dict(n_layers_per_step=-1, n_dims_per_step=-1)
        loss = st.Matryoshka2dLoss(model, loss, list(dims), **more, **options)
        ours = losses.matryoshka(ours, dims=dims)

    def theirs(embeddings):
        mask = torch.ones(BATCH, 1, dtype=torch.int64)
        return loss(
            [
                {"layers": layers[:, :, None], "attention_mask": mask}
                for layers in embeddings.unbind(1)
            ],
            st_labels,
        )

    layered = losses.adaptive_layers(ours, **options)
    assert_equal(
        lambda embeddings: layered(embeddings, labels),
        theirs,
        [draw(5, 4, towers, BATCH, DIM)],
        dtype,
    )


class GivenLogits(CrossEncoder):
    """A cross-encoder whose logits are the second texts."""

    def __init__(self, classes):
        torch.nn.Module.__init__(self)
        self.classes = classes

    num_labels = property(lambda self: self.classes)
    device = property(lambda self: torch.device("cpu"))

    def preprocess(self, pairs, **_):
        return {"scores": torch.stack([logits for _, logits in pairs])}

    def forward(self, features):
        return features


@pytest.mark.parametrize(
    "ours, theirs, classes, labels",
    [
        (losses.binary_cross_entropy, st_cross.BinaryCrossEntropyLoss, 1, scores),
        (losses.binary_cross_entropy, st_cross.BinaryCrossEntropyLoss, 1, binary),
        (
            functools.partial(losses.binary_cross_entropy, pos_weight=3.5),
            functools.partial(st_cross.BinaryCrossEntropyLoss, pos_weight=torch.tensor(3.5)),
            1,
            scores,
        ),
        (losses.cross_entropy, st_cross.CrossEntropyLoss, CLASSES, binary),
        (losses.mse, st_cross.MSELoss, 1, scores),
    ],
    ids=["binary-scores", "binary-classes", "binary-weight", "cross-entropy", "mse"],
)
def test_losses_of_cross_encoders(ours, theirs, classes, labels):
    loss = theirs(GivenLogits(classes))
    labels, st_labels = labelled(labels(3), "float32")
    assert_equal(
        lambda logits: ours(logits, labels),
        lambda logits: loss([["text"] * BATCH, list(logits)], st_labels),
        [3 * draw(5, BATCH, classes)],
        "float32",
    )


@pytest.fixture(scope="module", params=["gelu", "relu"])
def bert(request):
    config = transformers.BertConfig(**models.SIZES, hidden_act=request.param, layer_norm_eps=1e-5)
    return reference.perturb(transformers.BertForMaskedLM(config))


def test_masked_lm_head_and_loss_are_those_of_bert_for_masked_lm(bert):
    width, vocab = bert.config.hidden_size, bert.config.vocab_size
    predictions = bert.cls.predictions
    assert predictions.decoder.weight is bert.bert.embeddings.word_embeddings.weight
    names = (
        "transform.dense.weight",
        "transform.dense.bias",
        "transform.LayerNorm.weight",
        "transform.LayerNorm.bias",
        "decoder.bias",
    )
    tensors = predictions.state_dict()
    inputs = [tensors[name].numpy() for name in names] + [
        bert.bert.embeddings.word_embeddings.weight.detach().numpy()
    ]
    inputs = [draw(1, 4, 7, width), inputs[0].T, *inputs[1:]]

    generator = np.random.default_rng(2)
    targets, chosen = generator.integers(0, vocab, (4, 7)), generator.random((4, 7)) < 0.4
    chosen[1] = False  # rows of unequal lengths, one with nothing chosen
    positions = np.argsort(~chosen, axis=1, kind="stable")[:, :6]
    weights = np.take_along_axis(chosen, positions, axis=1)

    def ours(vectors, kernel, bias, scale, shift, word_bias, word_embedding):
        head = {
            "dense": {"kernel": kernel, "bias": bias},
            "norm": {"scale": scale, "bias": shift},
            "bias": word_bias,
        }
        vectors = jnp.take_along_axis(vectors, positions[:, :, None], axis=1)
        logits = losses.masked_lm_logits(
            head,
            vectors,
            word_embedding,
            activation=bert.config.hidden_act,
            layer_norm_eps=bert.config.layer_norm_eps,
        )
        return losses.masked_lm(logits, np.take_along_axis(targets, positions, axis=1), weights)

    def theirs(vectors, kernel, bias, scale, shift, word_bias, word_embedding):
        values = dict(zip(names, (kernel.T, bias, scale, shift, word_bias), strict=True))
        values |= {"decoder.weight": word_embedding}
        logits = torch.func.functional_call(predictions, values, (vectors,))
        return bert.loss_function(logits, torch.tensor(np.where(chosen, targets, -100)), vocab)

    assert_equal(ours, theirs, inputs, "float32")


@pytest.mark.parametrize("name", ["albert", "electra"])
def test_narrow_word_vectors_are_met_by_a_head_of_their_width(name):
    model = families.build(name, "ForMaskedLM").eval()
    sizes = {
        "embedding_size": model.config.embedding_size,
        "initializer_range": model.config.initializer_range,
    }
    head = losses.init_masked_lm_head(
        jax.random.key(0), model.config.hidden_size, model.config.vocab_size, **sizes
    )
    tensors = model.state_dict()
    dense, norm, bias = {
        "albert": ("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
        "electra": (
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head.bias",
        ),
    }[name]
    theirs = {
        "dense": {
            "kernel": tensors[f"{dense}.weight"].numpy().T,
            "bias": tensors[f"{dense}.bias"].numpy(),
        },
        "norm": {
            "scale": tensors[f"{norm}.weight"].numpy(),
            "bias": tensors[f"{norm}.bias"].numpy(),
        },
        "bias": tensors[bias].numpy(),
    }
    assert jax.tree.map(jnp.shape, head) == jax.tree.map(jnp.shape, theirs)
    words = model.get_input_embeddings().weight.detach().numpy()
    ids = torch.tensor(np.random.default_rng(4).integers(5, model.config.vocab_size, (3, 7)))
    with torch.no_grad():
        wanted = model(ids, output_hidden_states=True)
    logits = losses.masked_lm_logits(
        theirs,
        wanted.hidden_states[-1].numpy(),
        words,
        activation=model.config.hidden_act,
        layer_norm_eps=model.config.layer_norm_eps,
    )
    np.testing.assert_allclose(logits, wanted.logits.numpy(), atol=1e-5)
