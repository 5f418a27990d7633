"""Evaluators and metrics against sentence_transformers', scipy's and scikit-learn's.

`Table` models look vectors and scores up, so that both sides see the same numbers, with exact ties.
The tiny models run on both sides through the code of each side.
"""

import csv
import types

import numpy as np
import pytest
import scipy.stats
import sentence_transformers
import sklearn.metrics
import torch
import transformers
from sentence_transformers import InputExample
from sentence_transformers import util as st_util
from sentence_transformers.cross_encoder import evaluation as st_cross
from sentence_transformers.sentence_transformer import evaluation as st
from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
from sentence_transformers.util.similarity import SimilarityFunction

import jsbert
from jsbert import evaluate, metrics, similarity
from tests import models
from tests.parity import reference

ALL = ["cosine", "dot", "euclidean", "manhattan"]
CARD = types.SimpleNamespace(set_evaluation_metrics=lambda *arguments: None)


class Table:
    """A model whose vectors are small integers, so that dot products and distances tie exactly."""

    model_card_data = CARD

    def __init__(self, texts, seed, dim=3, similarity_fn_name="dot", high=3):
        generator = np.random.default_rng(seed)
        self.vectors = {
            text: generator.integers(-1, high, dim).astype(np.float32) for text in texts
        }
        self.similarity_fn_name = similarity_fn_name
        self.similarity = SimilarityFunction.to_similarity_fn(similarity_fn_name)

    def encode(self, texts, convert_to_tensor=False, truncate_dim=None, **options):
        found = np.array([self.vectors[text] for text in texts])[:, :truncate_dim]
        return torch.tensor(found) if convert_to_tensor else found

    encode_query = encode_document = encode


class PairTable:
    """A cross-encoder whose scores are small integers."""

    model_card_data = CARD

    def __init__(self, seed, num_labels=1):
        self.seed, self.num_labels = seed, num_labels

    def predict(self, pairs, **options):
        rows = [
            np.random.default_rng([self.seed, *map(ord, "\0".join(pair))]).integers(
                0, 4, self.num_labels
            )
            for pair in pairs
        ]
        return np.float32(rows) if self.num_labels > 1 else np.float32(rows)[:, 0]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same model with prompts, in jsbert and in sentence-transformers."""
    folder = tmp_path_factory.mktemp("both")
    settings = models.Settings({"query": "query: ", "document": "passage: "}, None, "cosine", None)
    models.write_folder(folder / "model", head=(), settings=settings)
    there = sentence_transformers.SentenceTransformer(str(folder / "model"), device="cpu")
    return jsbert.SentenceTransformer(folder / "model"), there


def texts_of(count, seed):
    """Return different texts of 3 to 12 words."""
    found = [text for text in models.sentences(4 * count, seed=seed) if len(text.split()) > 2]
    return [*dict.fromkeys(found)][:count]


def assert_same(ours, theirs, our_model, their_model=None, output=None, tolerance=1e-5):
    wanted = theirs(their_model or our_model, *([str(output / "theirs")] if output else []))
    got = ours(our_model, *([output / "ours"] if output else []))
    assert [*got] == [*wanted]
    assert got == pytest.approx(wanted, abs=tolerance, nan_ok=True)
    assert all(type(value) is float for value in got.values())
    assert ours.primary_metric == theirs.primary_metric
    if output:
        (mine,), (reference_file,) = (output / "ours").glob("*"), (output / "theirs").glob("*")
        assert mine.name == reference_file.name
        with open(mine, newline="") as a, open(reference_file, newline="") as b:
            (header, row), (wanted_header, wanted_row) = csv.reader(a), csv.reader(b)
        assert header == wanted_header
        assert [*map(float, row)] == pytest.approx([*map(float, wanted_row)], abs=tolerance)
    return got


@pytest.mark.parametrize("seed", range(25))
def test_metrics_with_many_ties(seed):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 30))
    labels = generator.integers(0, 2, n)
    labels[0] = 1
    scores = generator.integers(0, int(generator.integers(2, 12)), n).astype(np.float32) / 7
    reals = generator.integers(0, 6, n)
    if np.ptp(scores) and np.ptp(reals):
        assert metrics.pearson(reals, scores) == pytest.approx(
            scipy.stats.pearsonr(reals, scores)[0], abs=1e-6
        )
        assert metrics.spearman(reals, scores) == pytest.approx(
            scipy.stats.spearmanr(reals, scores)[0], abs=1e-12
        )
    assert metrics.average_precision(labels, scores) == pytest.approx(
        sklearn.metrics.average_precision_score(labels, scores)
    )
    for k in (1, 3, n, n + 5):
        assert metrics.ndcg(labels, scores, k=k) == pytest.approx(
            sklearn.metrics.ndcg_score([labels], [scores], k=k)
        )
    assert metrics.matthews(labels, scores > 0.5) == pytest.approx(
        sklearn.metrics.matthews_corrcoef(labels, scores > 0.5)
    )
    finders = st.BinaryClassificationEvaluator
    assert metrics.best_accuracy(labels, scores) == pytest.approx(
        finders.find_best_acc_and_threshold(scores, labels, True)
    )
    assert metrics.best_f1(labels, scores) == pytest.approx(
        finders.find_best_f1_and_threshold(scores, labels, True)
    )
    classes = generator.integers(0, 4, n)
    wanted = [
        sklearn.metrics.f1_score(reals, classes, average=average)
        for average in ("macro", "micro", "weighted")
    ]
    assert metrics.f1_scores(reals, classes) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"similarity_fn_names": ALL, "name": "dev"},
        {"main_similarity": "manhattan"},
        {"main_similarity": "dot", "similarity_fn_names": ["euclidean", "dot"]},
        {"truncate_dim": 7, "similarity_fn_names": ALL},
        {"precision": "float32", "similarity_fn_names": ALL, "name": "x"},
        {"precision": "int8", "similarity_fn_names": ALL},
        {"precision": "uint8", "similarity_fn_names": ALL},
        {"precision": "binary", "similarity_fn_names": ALL},
        {"precision": "ubinary", "similarity_fn_names": ALL},
    ],
    ids=str,
)
def test_embedding_similarity(both, tmp_path, options):
    columns = texts_of(40, 1), texts_of(40, 2), np.random.default_rng(3).integers(0, 6, 40).tolist()
    ours, theirs = evaluate.EmbeddingSimilarityEvaluator, st.EmbeddingSimilarityEvaluator
    # Codes have few values, so pairs tie. A difference in the last digit is then another rank.
    tolerance = 1e-5 if options.get("precision") in (None, "float32") else 1e-2
    evaluators = ours(*columns, **options), theirs(*columns, **options)
    assert_same(*evaluators, *both, tmp_path, tolerance)


@pytest.mark.parametrize("seed", range(2))
def test_evaluators_of_pairs_with_ties(seed, tmp_path):
    generator = np.random.default_rng(seed)
    texts = texts_of(9, seed)
    first, second = ([texts[i] for i in generator.integers(0, len(texts), 30)] for _ in range(2))
    model = Table(texts, seed, high=5)
    scores, labels = generator.integers(0, 4, 30).tolist(), generator.integers(0, 2, 30).tolist()
    for name in ("EmbeddingSimilarityEvaluator", "BinaryClassificationEvaluator"):
        columns = first, second, scores if "Similarity" in name else labels
        # On both sides, cosines of equal directions may differ in the last bit.
        for options in ({}, {"similarity_fn_names": ALL[1:], "name": "a b"}):
            assert_same(
                getattr(evaluate, name)(*columns, **options),
                getattr(st, name)(*columns, **options),
                model,
            )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"similarity_fn_names": ALL, "name": "dev"},
        {"truncate_dim": 5, "similarity_fn_names": ["dot"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("share", [0.3, 0.0])
def test_binary_classification(both, tmp_path, options, share):
    first, second = texts_of(40, 3), texts_of(40, 4)
    second[:6] = first[
        :6
    ]  # distances of 0 and cosines of 1 may differ in the last bit, so they share one label
    labels = (
        [int(share > 0)] * 6 + [int(x < share) for x in np.random.default_rng(5).random(33)] + [1]
    )
    ours, theirs = evaluate.BinaryClassificationEvaluator, st.BinaryClassificationEvaluator
    assert_same(
        ours(first, second, labels, **options),
        theirs(first, second, labels, **options),
        *both,
        tmp_path,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"similarity_fn_names": ALL, "name": "dev"},
        {"main_similarity_function": "euclidean", "margin": 0.05},
        {"similarity_fn_names": ALL, "margin": {"cosine": 0.01, "manhattan": -2.0}},
    ],
    ids=str,
)
def test_triplets(both, tmp_path, options):
    columns = [texts_of(30, seed) for seed in (5, 6, 7)]
    ours, theirs = (
        evaluate.TripletEvaluator(*columns, **options),
        st.TripletEvaluator(*columns, **options),
    )
    assert_same(ours, theirs, *both, tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_a_triplet_with_equal_similarities_is_wrong(seed):
    texts = texts_of(20, seed)
    columns = [
        [texts[i] for i in np.random.default_rng([seed, c]).integers(0, 20, 50)] for c in range(3)
    ]
    options = {"similarity_fn_names": ALL[1:], "margin": 1.0}
    assert_same(
        evaluate.TripletEvaluator(*columns, **options),
        st.TripletEvaluator(*columns, **options),
        Table(texts, seed),
    )


def retrieval(seed, num_queries=12, num_documents=60):
    generator = np.random.default_rng(seed)
    queries = {f"q{i}": text for i, text in enumerate(texts_of(num_queries, seed))}
    names = generator.permutation(num_documents)
    corpus = {
        f"d{i}": text for i, text in zip(names, texts_of(num_documents, seed + 100), strict=True)
    }
    relevant = {
        query: {
            f"d{i}"
            for i in generator.integers(0, num_documents + 3, int(generator.integers(0, 15)))
        }
        for query in queries
    }
    del relevant["q3"]
    relevant["not asked"] = {"d1"}
    return queries, corpus, relevant


DEPTHS = dict(
    mrr_at_k=[3, 100], ndcg_at_k=[5, 10, 200], accuracy_at_k=[2], precision_recall_at_k=[4, 70], map_at_k=[1, 8]
)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "dev", "corpus_chunk_size": 17} | DEPTHS,
        {"truncate_dim": 9, "query_prompt_name": "document", "corpus_prompt": "the red "},
        {"score_functions": ("dot_score", "cos_sim", "euclidean_sim", "manhattan_sim")},
        {"score_functions": ("dot_score", "cos_sim"), "main_score_function": "dot"},
    ],
    ids=str,
)
def test_information_retrieval(both, tmp_path, options):
    options, there = dict(options), dict(options)
    if functions := options.get("score_functions"):
        short = [function.split("_")[0].replace("cos", "cosine") for function in functions]
        options["score_functions"] = {
            name: getattr(similarity, f) for name, f in zip(short, functions, strict=True)
        }
        there["score_functions"] = {
            name: getattr(st_util, f) for name, f in zip(short, functions, strict=True)
        }
    ours = evaluate.InformationRetrievalEvaluator(*retrieval(1), **options)
    assert_same(ours, st.InformationRetrievalEvaluator(*retrieval(1), **there), *both, tmp_path)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("similarity_fn_name", ["dot", "euclidean"])
@pytest.mark.parametrize("corpus_chunk_size", [7, 1000])
def test_information_retrieval_with_ties(seed, similarity_fn_name, corpus_chunk_size):
    data = retrieval(seed)
    model = Table(
        [*data[0].values(), *data[1].values()], seed, similarity_fn_name=similarity_fn_name
    )
    options = DEPTHS | {"corpus_chunk_size": corpus_chunk_size, "mrr_at_k": [3], "ndcg_at_k": [5]}
    for depth in ([4, 20], [4, 70]):  # below and above the size of the corpus
        options["precision_recall_at_k"] = depth
        ours = evaluate.InformationRetrievalEvaluator(*data, **options)
        assert_same(ours, st.InformationRetrievalEvaluator(*data, **options), model)


def samples(seed, count=15, *, empty=True):
    generator = np.random.default_rng(seed)
    texts = texts_of(80, seed + 50)
    found = []
    for query in texts_of(count, seed):
        some, others = (
            generator.integers(0 if empty else 1, 5),
            generator.integers(0 if empty else 1, 20),
        )
        chosen = [texts[i] for i in generator.permutation(80)[: some + others]]
        found.append({"query": query, "positive": chosen[:some], "negative": chosen[some:]})
    found[2] = {"query": "the cat", "positive": texts[0], "negative": texts[1]}
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"at_k": 3, "name": "dev"}, {"truncate_dim": 6}, {"use_batched_encoding": False}],
    ids=str,
)
def test_reranking(both, tmp_path, options):
    ours = evaluate.RerankingEvaluator(samples(1), **options)
    assert_same(ours, st.RerankingEvaluator(samples(1), **options), *both, tmp_path)
    named = {str(i): sample for i, sample in enumerate(samples(1))}
    ours = evaluate.RerankingEvaluator(named, similarity_fct=similarity.manhattan_sim)
    assert_same(ours, st.RerankingEvaluator(named, similarity_fct=st_util.manhattan_sim), *both)


@pytest.mark.parametrize("seed", range(2))
def test_reranking_with_ties_differs_in_the_reciprocal_rank_alone(seed):
    rows = samples(seed)
    texts = [text for row in rows for text in (row["query"], *row["negative"], *row["positive"], row["positive"])
             if isinstance(text, str)]  # fmt: skip
    model = Table(texts, seed)
    options = {"similarity_fct": similarity.dot_score}
    got = evaluate.RerankingEvaluator(rows, **options)(model)
    wanted = st.RerankingEvaluator(rows, similarity_fct=st_util.dot_score)(model)
    assert got.pop("mrr@10") <= wanted.pop(
        "mrr@10"
    )  # their sort leaves the positives in front, because they are listed first
    assert got == pytest.approx(wanted)


def test_a_model_that_tells_nothing_apart_gets_a_perfect_reciprocal_rank_there_and_not_here():
    rows = [{"query": "a", "positive": ["b"], "negative": [f"n{i}" for i in range(9)]}]
    model = Table(["a", "b", *rows[0]["negative"]], 0, high=0)  # all vectors -1
    assert st.RerankingEvaluator(rows)(model)["mrr@10"] == 1
    assert evaluate.RerankingEvaluator(rows)(model)["mrr@10"] == pytest.approx(1 / 10)


def duplicates(keys, seed, count=12):
    generator = np.random.default_rng(seed)
    return [
        tuple(keys[i] for i in generator.choice(len(keys), 2, replace=False)) for _ in range(count)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "dev", "add_transitive_closure": True},
        {"top_k": 3},
        {"max_pairs": 40, "truncate_dim": 8},
    ],
    ids=str,
)
def test_paraphrase_mining(both, tmp_path, options):
    sentences = {f"s{i}": text for i, text in enumerate(texts_of(40, 8))}
    pairs = [*duplicates([*sentences], 9), ("s1", "unknown")]
    ours = evaluate.ParaphraseMiningEvaluator(sentences, pairs, **options)
    assert_same(ours, st.ParaphraseMiningEvaluator(sentences, pairs, **options), *both, tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_paraphrase_mining_with_ties(seed):
    sentences = {f"s{i}": text for i, text in enumerate(texts_of(30, seed))}
    model = Table(sentences.values(), seed)
    # Vectors of length 1 at half and quarter turns have exact cosines.
    units = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    model.vectors = {text: units[i % 5] for i, text in enumerate(sentences.values())}
    pairs = duplicates([*sentences], seed, 20)
    assert_same(
        evaluate.ParaphraseMiningEvaluator(sentences, pairs),
        st.ParaphraseMiningEvaluator(sentences, pairs),
        model,
    )


def test_paraphrase_mining_of_a_dict_of_duplicates(both):
    sentences = {f"s{i}": text for i, text in enumerate(texts_of(25, 4))}

    def graph():
        found = st.ParaphraseMiningEvaluator(
            sentences, []
        ).duplicates  # a plain dict raises KeyError in sentence-transformers
        for a, b in duplicates([*sentences], 6):
            found[a][b] = True
        found["s0"]["s1"] = False
        found["gone"]["s2"] = True
        return found

    for closure in (False, True):
        ours = evaluate.ParaphraseMiningEvaluator(
            sentences, duplicates_dict=graph(), add_transitive_closure=closure
        )
        theirs = st.ParaphraseMiningEvaluator(
            sentences, duplicates_dict=graph(), add_transitive_closure=closure
        )
        assert_same(ours, theirs, *both)


CONCATENATIONS = {
    ("u", "v", "|u-v|"): {},
    ("|u-v|", "u*v"): dict(
        concatenation_sent_rep=False,
        concatenation_sent_difference=True,
        concatenation_sent_multiplication=True,
    ),
}


@pytest.mark.parametrize("concatenation", CONCATENATIONS, ids=str)
def test_label_accuracy(both, tmp_path, concatenation):
    ours, theirs = both
    first, second = texts_of(30, 3), texts_of(30, 4)
    labels = np.random.default_rng(1).integers(0, 3, 30).tolist()
    loss = reference.perturb(
        SoftmaxLoss(theirs, 24, 3, **CONCATENATIONS[concatenation]).classifier, 2
    )
    head = SoftmaxLoss(theirs, 24, 3, **CONCATENATIONS[concatenation])
    head.classifier.load_state_dict(loss.state_dict())
    examples = [
        InputExample(texts=[a, b], label=label)
        for a, b, label in zip(first, second, labels, strict=True)
    ]
    loader = torch.utils.data.DataLoader(examples, batch_size=7)
    classifier = {"kernel": loss.weight.detach().numpy().T, "bias": loss.bias.detach().numpy()}
    mine = evaluate.LabelAccuracyEvaluator(
        first, second, labels, classifier, concatenation, name="nli"
    )
    got = assert_same(mine, st.LabelAccuracyEvaluator(loader, "nli", head), ours, theirs, tmp_path)
    assert 0 < got["nli_accuracy"] < 1


@pytest.mark.parametrize("options", [{}, {"name": "dev", "truncate_dim": 5}], ids=str)
def test_mse(both, tmp_path, options):
    ours, theirs = both
    source, target = texts_of(20, 3), texts_of(20, 4)
    mine = evaluate.MSEEvaluator(source, target, ours, **options)
    assert_same(mine, st.MSEEvaluator(source, target, theirs, **options), ours, theirs, tmp_path)


def test_sequential(both):
    columns = texts_of(20, 1), texts_of(20, 2)
    labels = [0, 1] * 10
    for options in ({}, {"main_score_function": lambda scores: sum(scores) / len(scores)}):
        parts = (
            [
                package.BinaryClassificationEvaluator(*columns, labels),
                package.EmbeddingSimilarityEvaluator(*columns, labels, name="sts"),
                lambda model, *_: 0.25,
            ]
            for package in (evaluate, st)
        )
        ours, theirs = (
            package.SequentialEvaluator(evaluators, **options)
            for package, evaluators in zip((evaluate, st), parts, strict=True)
        )
        assert_same(ours, theirs, *both)


@pytest.fixture(scope="module", params=[1, 3])
def cross(request, tmp_path_factory):
    """The same cross-encoder, in jsbert and in sentence-transformers."""
    folder = tmp_path_factory.mktemp("cross")
    sizes = transformers.BertConfig(**models.SIZES, num_labels=request.param)
    reference.write_trunk(
        folder, reference.perturb(transformers.BertForSequenceClassification(sizes), 4)
    )
    return jsbert.CrossEncoder(folder), sentence_transformers.CrossEncoder(
        str(folder), device="cpu"
    )


def pairs_of(count, seed):
    return [*zip(texts_of(count, seed), texts_of(count, seed + 1), strict=True)]


def test_cross_encoders(cross, tmp_path):
    pairs, generator = pairs_of(40, 3), np.random.default_rng(2)
    labels = generator.integers(0, 2 if cross[0].num_labels == 1 else 3, 40).tolist()
    ours = evaluate.CrossEncoderClassificationEvaluator(pairs, labels, name="dev")
    assert_same(
        ours,
        st_cross.CrossEncoderClassificationEvaluator(pairs, labels, name="dev"),
        *cross,
        tmp_path / "a",
    )
    if cross[0].num_labels > 1:
        return
    scores = generator.random(40).tolist()
    ours = evaluate.CrossEncoderCorrelationEvaluator(pairs, scores)
    assert_same(
        ours, st_cross.CrossEncoderCorrelationEvaluator(pairs, scores), *cross, tmp_path / "b"
    )
    ours = evaluate.CrossEncoderRerankingEvaluator(samples(4, 6, empty=False), at_k=4)
    theirs = st_cross.CrossEncoderRerankingEvaluator(lists(samples(4, 6, empty=False)), at_k=4)
    assert_same(ours, theirs, *cross, tmp_path / "c")


def lists(rows):
    """Return lists. sentence-transformers takes a single text for a positive, not for a
    negative."""
    return [
        row | {"negative": [row["negative"]]} if isinstance(row.get("negative"), str) else row
        for row in rows
    ]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("num_labels", [1, 3])
def test_cross_encoders_with_ties(seed, num_labels):
    pairs, generator = pairs_of(30, seed), np.random.default_rng(seed)
    pairs[7] = pairs[8]
    labels = generator.integers(0, 2 if num_labels == 1 else 5, 30).tolist()
    model = PairTable(seed, num_labels)
    ours = evaluate.CrossEncoderClassificationEvaluator(pairs, labels)
    assert_same(ours, st_cross.CrossEncoderClassificationEvaluator(pairs, labels), model)
    if num_labels == 1:
        ours = evaluate.CrossEncoderCorrelationEvaluator(pairs, labels, name="x")
        assert_same(ours, st_cross.CrossEncoderCorrelationEvaluator(pairs, labels, name="x"), model)


class Distinct(PairTable):
    """Scores without ties, because the sort of sentence-transformers does not define the order of
    ties."""

    def predict(self, pairs, **options):
        return np.float32(
            [
                np.random.default_rng([self.seed, *map(ord, "\0".join(pair))]).random()
                for pair in pairs
            ]
        )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("always_rerank_positives", [True, False])
def test_reranking_what_a_first_search_found(seed, always_rerank_positives, tmp_path):
    generator, rows = np.random.default_rng(seed), samples(seed, empty=False)
    for index, row in enumerate(lists(rows)):
        positive = [row["positive"]] if isinstance(row["positive"], str) else row["positive"]
        found = [*row["negative"], *positive[: int(generator.integers(0, len(positive) + 1))]]
        # There, scikit-learn refuses to rank a single document.
        found += ["a dog", "a cat"]
        documents = [found[i] for i in generator.permutation(len(found))]
        rows[index] = {"query": row["query"], "positive": row["positive"], "documents": documents}
    options = {"always_rerank_positives": always_rerank_positives, "name": "dev", "at_k": 5}
    ours = evaluate.CrossEncoderRerankingEvaluator(rows, **options)
    got = assert_same(
        ours,
        st_cross.CrossEncoderRerankingEvaluator(rows, **options),
        Distinct(seed),
        None,
        tmp_path,
    )
    assert len(got) == 6


def test_both_kinds_of_samples_at_once():
    rows = [
        *samples(3, 5, empty=False),
        {"query": "q", "positive": ["a", "b"], "documents": ["c", "b", "d"]},
    ]
    rows.append({"query": "r", "positive": [], "negative": ["a", "b"]})
    theirs = st_cross.CrossEncoderRerankingEvaluator(lists(rows))
    assert_same(evaluate.CrossEncoderRerankingEvaluator(rows), theirs, Distinct(1))
