"""Evaluators on models whose vectors are known, checked by hand; parity/ compares with
sentence-transformers."""

import csv
import gzip
import json
import math

import numpy as np
import pytest

from jsbert import evaluate, similarity
from tests import models

ANGLES = {"east": 0, "northeast": 45, "north": 90, "west": 180}


class Compass:
    """A model of four words, which are unit vectors. The model counts what it encodes."""

    similarity_fn_name = "cosine"

    def __init__(self):
        self.encoded = []

    def encode(self, texts, truncate_dim=None, **options):
        self.encoded += texts
        angles = np.radians([ANGLES[text] for text in texts])
        return (
            np.stack([np.cos(angles), np.sin(angles)], axis=1)
            .astype(np.float32)
            .round(6)[:, :truncate_dim]
        )


class Judge:
    """A cross-encoder whose score is the difference in length."""

    def predict(self, pairs, **options):
        return np.float32([len(a) - len(b) for a, b in pairs])


PAIRS = (["east", "east", "east", "north"], ["east", "northeast", "west", "west"])
RETRIEVAL = ({"q": "east"}, {"c": "west", "b": "north", "a": "northeast"}, {"q": {"b"}})
SAMPLES = [{"query": "east", "positive": ["north"], "negative": ["northeast", "west"]}]
CLASSIFIER = {"kernel": np.float32([[1, 0], [0, 1]]), "bias": np.float32([0, 0])}

EVALUATORS = {
    "similarity": lambda **o: evaluate.EmbeddingSimilarityEvaluator(*PAIRS, [5, 4, 0, 2], **o),
    "binary": lambda **o: evaluate.BinaryClassificationEvaluator(*PAIRS, [1, 1, 0, 1], **o),
    "triplet": lambda **o: evaluate.TripletEvaluator(
        ["east"] * 2, ["northeast"] * 2, ["north", "northeast"], **o
    ),
    "retrieval": lambda **o: evaluate.InformationRetrievalEvaluator(*RETRIEVAL, **o),
    "reranking": lambda **o: evaluate.RerankingEvaluator(SAMPLES, **o),
    "mining": lambda **o: evaluate.ParaphraseMiningEvaluator(
        {"1": "east", "2": "west", "3": "northeast"}, [("1", "2")], **o
    ),
    "label": lambda **o: evaluate.LabelAccuracyEvaluator(
        ["east", "north"], ["west"] * 2, [0, 0], CLASSIFIER, ("u",), **o
    ),
    "mse": lambda **o: evaluate.MSEEvaluator(["east", "north"], ["west", "north"], Compass(), **o),
}
CROSS = {
    "correlation": lambda **o: evaluate.CrossEncoderCorrelationEvaluator([("aaa", "a"), ("a", "a"), ("a", "aaa")], [3, 2, 1], **o),
    "classification": lambda **o: evaluate.CrossEncoderClassificationEvaluator([("aa", "a"), ("a", "aa")], [1, 0], **o),
    "cross reranking": lambda **o: evaluate.CrossEncoderRerankingEvaluator(
        [{"query": "aaa", "positive": "aa", "documents": ["aaaa", "a", "aa"]}], **o
    ),
}  # fmt: skip

BY_HAND = {
    "similarity": {"pearson_cosine": 0.9941, "spearman_cosine": 1.0},
    "binary": {
        "cosine_accuracy": 1.0,
        "cosine_accuracy_threshold": -0.5,
        "cosine_f1": 1.0,
        "cosine_f1_threshold": -0.5,
        "cosine_precision": 1.0,
        "cosine_recall": 1.0,
        "cosine_ap": 1.0,
        "cosine_mcc": 1.0,
    },
    "triplet": {"cosine_accuracy": 0.5},
    "reranking": {"map": 0.5, "mrr@10": 0.5, "ndcg@10": 1 / math.log2(3)},
    "mining": {
        "average_precision": 1 / 3,
        "f1": 0.5,
        "precision": 1 / 3,
        "recall": 1.0,
        "threshold": -1.0,
    },
    "label": {"accuracy": 0.5},
    "mse": {"negative_mse": -100.0},
    "correlation": {"pearson": 1.0, "spearman": 1.0},
    "cross reranking": {
        "map": 0.5,
        "mrr@10": 0.5,
        "ndcg@10": 1 / math.log2(3),
        "base_map": 1 / 3,
        "base_mrr@10": 1 / 3,
        "base_ndcg@10": 0.5,
    },
}


@pytest.mark.parametrize("name", BY_HAND)
def test_values_by_hand(name):
    model = Judge() if name in CROSS else Compass()
    assert (EVALUATORS | CROSS)[name]()(model) == pytest.approx(BY_HAND[name], abs=1e-4)


def test_retrieval_by_hand():
    evaluator = EVALUATORS["retrieval"](
        precision_recall_at_k=[1, 2, 4]
    )  # a, b, c in this order; b is wanted
    results = evaluator(Compass())
    assert results["cosine_accuracy@1"] == 0
    assert results["cosine_accuracy@3"] == results["cosine_recall@2"] == 1
    assert [results[f"cosine_precision@{k}"] for k in (1, 2, 4)] == [0, 0.5, 0.25]
    assert results["cosine_mrr@10"] == results["cosine_map@100"] == 0.5
    assert (
        results[evaluator.primary_metric]
        == results["cosine_ndcg@10"]
        == pytest.approx(1 / math.log2(3))
    )


@pytest.mark.parametrize("name", EVALUATORS | CROSS)
def test_a_name_is_put_before_keys_and_into_the_csv_file(name, tmp_path):
    model = Judge() if name in CROSS else Compass()
    plain, named = ((EVALUATORS | CROSS)[name](name=text) for text in ("", "cosine"))
    assert plain.primary_metric is None
    results = plain(model)
    assert plain.primary_metric in results
    assert named(model, tmp_path / "deep" / "er", 2, 50) == {
        f"cosine_{key}": value for key, value in results.items()
    }
    assert named.primary_metric == f"cosine_{plain.primary_metric}"
    named(model, tmp_path / "deep" / "er")
    (file,) = (tmp_path / "deep" / "er").iterdir()
    assert "cosine" in file.name
    header, first, second = csv.reader(file.read_text().splitlines())
    assert header[:2] == ["epoch", "steps"]
    assert (first[:2], second[:2], first[2:]) == (["2", "50"], ["-1", "-1"], second[2:])
    assert all(type(value) is float for value in results.values())


def test_no_csv_file_without_a_folder_or_where_it_is_not_wanted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    EVALUATORS["mse"]()(Compass())
    EVALUATORS["mse"](write_csv=False)(Compass(), tmp_path / "out")
    assert [*tmp_path.iterdir()] == []


def test_a_csv_file_of_other_columns_is_left_alone(tmp_path):
    EVALUATORS["triplet"]()(Compass(), tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.read_text()
    with pytest.raises(
        ValueError,
        match="has the columns epoch, steps, accuracy_cosine, this evaluation .*accuracy_dot",
    ):
        EVALUATORS["triplet"](similarity_fn_names=["dot"])(Compass(), tmp_path)
    assert file.read_text() == before


def test_each_text_is_encoded_once():
    model = Compass()
    EVALUATORS["binary"]()(model)
    assert sorted(model.encoded) == sorted(ANGLES)


def test_the_similarity_is_that_of_the_model_at_hand():
    evaluator, dotted = EVALUATORS["similarity"](), Compass()
    dotted.similarity_fn_name = "dot"
    assert [*evaluator(Compass())] == ["pearson_cosine", "spearman_cosine"]
    assert [*evaluator(dotted)] == ["pearson_dot", "spearman_dot"]


def test_the_largest_correlation_passes_over_nan():
    evaluator = evaluate.EmbeddingSimilarityEvaluator(
        ["north"] * 2,
        ["east", "northeast"],
        [1, 2],
        similarity_fn_names=["dot", "manhattan"],
        truncate_dim=1,
    )
    results = evaluator(Compass())  # one dimension: both dot products are 0
    assert math.isnan(results["spearman_dot"])
    assert results["spearman_max"] == results["spearman_manhattan"] == pytest.approx(1)
    constant = evaluate.EmbeddingSimilarityEvaluator(["east", "north"], ["west", "east"], [1, 1])
    assert math.isnan(constant(Compass())["spearman_cosine"])


def test_thresholds_of_distances_are_distances():
    results = EVALUATORS["binary"](similarity_fn_names=["euclidean"])(Compass())
    assert results["euclidean_accuracy_threshold"] == pytest.approx((2 + 2**0.5) / 2)
    assert results["euclidean_f1_threshold"] == results["euclidean_accuracy_threshold"]


def test_queries_and_documents_get_their_prompts(tiny_folder):
    from jsbert import SentenceTransformer

    model = SentenceTransformer(tiny_folder, prompts={"query": "query: ", "document": "passage: "})
    queries, documents = models.sentences(5, seed=1), models.sentences(20, seed=2)
    data = (
        {f"q{i}": text for i, text in enumerate(queries)},
        {f"d{i:02}": text for i, text in enumerate(documents)},
        {f"q{i}": {f"d{i:02}", "d09"} for i in range(5)},
    )
    results = evaluate.InformationRetrievalEvaluator(*data)(model)
    plain = evaluate.InformationRetrievalEvaluator(*data, query_prompt="", corpus_prompt="")(model)
    assert results != plain
    assert plain == evaluate.InformationRetrievalEvaluator(*data)(SentenceTransformer(tiny_folder))


def test_ties_and_chunks_do_not_depend_on_the_order_of_the_corpus():
    queries, relevant = {"q": "east"}, {"q": {"d3", "d8"}}
    corpus = {f"d{i}": ("north", "northeast")[i % 2] for i in range(10)}
    results = [
        evaluate.InformationRetrievalEvaluator(
            queries, dict(order), relevant, corpus_chunk_size=size
        )(Compass())
        for order in ([*corpus.items()], [*corpus.items()][::-1])
        for size in (3, 100)
    ]
    assert all(found == results[0] for found in results)
    # d1, d3, d5, d7, d9, then d0, d2, d4, d6, d8
    assert results[0]["cosine_map@100"] == pytest.approx((1 / 2 + 2 / 10) / 2)


def test_a_relevant_document_that_is_not_in_the_corpus_was_not_found():
    found = evaluate.InformationRetrievalEvaluator(
        {"q": "east"}, {"a": "east"}, {"q": ["a", "gone"]}
    )(Compass())
    assert found["cosine_recall@10"] == 0.5


def test_sequential_results_are_joined_and_their_last_primary_counts(tmp_path):
    parts = [EVALUATORS["reranking"](name="a"), EVALUATORS["triplet"](), lambda *_: 0.25]
    evaluator = evaluate.SequentialEvaluator(parts)
    results = evaluator(Compass(), tmp_path)
    assert (
        results["evaluator_2"]
        == results[evaluator.primary_metric]
        == results["sequential_score"]
        == 0.25
    )
    assert {"a_map", "cosine_accuracy"} < set(results)
    assert len([*tmp_path.iterdir()]) == 2
    mean = evaluate.SequentialEvaluator(
        parts, lambda scores: sum(scores) / len(scores), name="all"
    )(Compass())
    assert mean["all_sequential_score"] == pytest.approx((1 / math.log2(3) + 0.5 + 0.25) / 3)


def test_sequential_results_of_one_key_are_an_error():
    twice = evaluate.SequentialEvaluator([EVALUATORS["triplet"](), EVALUATORS["triplet"]()])
    with pytest.raises(
        ValueError, match="two evaluators return 'cosine_accuracy'; give each a name"
    ):
        twice(Compass())


def test_sts_subsets_are_one_correlation():
    subsets = {
        "news": (["east", "east"], ["east", "west"], [5, 1]),
        "forum": (["north"], ["northeast"], [2]),
    }
    results = evaluate.sts_subsets(subsets)(Compass())
    joined = evaluate.EmbeddingSimilarityEvaluator(
        ["east", "east", "north"], ["east", "west", "northeast"], [5, 1, 2]
    )
    assert results == {f"all_{key}": value for key, value in joined(Compass()).items()}
    assert (
        results["all_spearman_cosine"] == 1
    )  # alone, one subset would give 1 and the other nothing
    assert "s_spearman_dot" in evaluate.sts_subsets(subsets, name="s", similarity_fn_names=["dot"])(
        Compass()
    )
    with pytest.raises(ValueError, match="forum's sentences1 has 2, forum's sentences2 has 1"):
        evaluate.sts_subsets(subsets | {"forum": (["north", "east"], ["east"], [1])})


def test_duplicates_of_duplicates():
    sentences = {str(i): text for i, text in enumerate(ANGLES)}
    graph = {"0": {"x": True}, "x": {"2": True}, "1": {"3": False}}
    for closure, count in ((False, 0), (True, 1)):
        evaluator = evaluate.ParaphraseMiningEvaluator(
            sentences, duplicates_dict=graph, add_transitive_closure=closure
        )
        assert (evaluator(Compass())["recall"] > 0) == bool(count)


def test_a_text_is_no_duplicate_of_itself():
    sentences = {"1": "east", "2": "northeast", "3": "west"}
    evaluator = evaluate.ParaphraseMiningEvaluator(sentences, [("1", "1"), ("1", "2")])
    assert evaluator(Compass())["average_precision"] == 1


def test_a_single_document_can_be_ranked():
    evaluator = evaluate.CrossEncoderRerankingEvaluator(
        [{"query": "a", "positive": ["b"], "negative": []}]
    )
    assert set(evaluator(Judge()).values()) == {1}


def test_a_first_search_that_found_nothing():
    sample = {"query": "aaa", "positive": ["a"], "documents": []}
    found = evaluate.CrossEncoderRerankingEvaluator([sample])(Judge())
    assert (found["map"], found["base_map"]) == (1, 0)
    found = evaluate.CrossEncoderRerankingEvaluator([sample], always_rerank_positives=False)(
        Judge()
    )
    assert (found["map"], found["base_map"]) == (0, 0)


def test_on_real_models_of_this_library(tiny, tiny_cross_folder):
    from jsbert import CrossEncoder

    first, second = models.sentences(12, seed=1), models.sentences(12, seed=2)
    assert np.isfinite(
        [*evaluate.EmbeddingSimilarityEvaluator(first, second, range(12))(tiny).values()]
    ).all()
    pairs = [*zip(first, second, strict=True)]
    cross = evaluate.CrossEncoderCorrelationEvaluator(pairs, range(12))(
        CrossEncoder(tiny_cross_folder)
    )
    assert np.isfinite([*cross.values()]).all()


ERRORS = {
    "sentences1 has 1, sentences2 has 2, scores has 1": lambda: evaluate.EmbeddingSimilarityEvaluator(["a"], ["b", "c"], [1]),
    "sentences1 has 0": lambda: evaluate.BinaryClassificationEvaluator([], [], []),
    "label 1 is 2; give 1 for similar": lambda: evaluate.BinaryClassificationEvaluator(["a"] * 2, ["b"] * 2, [1, 2]),
    "similarity_fn_names is 'cos'": lambda: EVALUATORS["similarity"](similarity_fn_names=["cos"]),
    "the main similarity is 'dot'; choose one of 'cosine'": lambda: EVALUATORS["similarity"](
        main_similarity="dot", similarity_fn_names=["cosine"]
    ),
    "precision is 'int4'; choose one of 'float32', 'int8'": lambda: EVALUATORS["similarity"](precision="int4"),
    "a name in margin is 'cos'": lambda: EVALUATORS["triplet"](margin={"cos": 1}),
    "of 1 queries 0 have relevant documents": lambda: evaluate.InformationRetrievalEvaluator({"q": "a"}, {"d": "b"}, {"q": []}),
    "an entry of map_at_k is 0": lambda: EVALUATORS["retrieval"](map_at_k=[0]),
    "ndcg_at_k is empty": lambda: EVALUATORS["retrieval"](ndcg_at_k=[]),
    "the similarity is <built-in function max>; give jsbert.util's": lambda: EVALUATORS["retrieval"](
        score_functions={"max": max}
    ),
    "main_score_function is 'dot'": lambda: EVALUATORS["retrieval"](
        score_functions={"cosine": similarity.cos_sim}, main_score_function="dot"
    ),
    "sample 0 has no 'negative', only query, positive": lambda: evaluate.RerankingEvaluator([{"query": "a", "positive": "b"}]),
    "none of 1 samples": lambda: evaluate.RerankingEvaluator([{"query": "a", "positive": "b", "negative": []}]),
    "give either 'negative' or 'documents'": lambda: evaluate.CrossEncoderRerankingEvaluator([{"query": "a", "positive": "b"}]),
    "sentences_map holds 1 texts": lambda: evaluate.ParaphraseMiningEvaluator({"1": "a"}),
    "label 1 is 2; the classifier knows 0 to 1": lambda: evaluate.LabelAccuracyEvaluator(["a"] * 2, ["b"] * 2, [1, 2], CLASSIFIER),
    "the model's vectors make 6 features a pair, the classifier takes 2": lambda: evaluate.LabelAccuracyEvaluator(
        ["east"], ["west"], [1], CLASSIFIER
    )(Compass()),
    "the teacher's vectors have 2 dimensions, the model's 24": lambda: None,
    "evaluators is empty": lambda: evaluate.SequentialEvaluator([]),
    "subsets is empty": lambda: evaluate.sts_subsets({}),
}  # fmt: skip


@pytest.mark.parametrize("message", ERRORS)
def test_wrong_arguments_are_told(message, request):
    def mse():
        return evaluate.MSEEvaluator(["east"], ["the cat"], Compass())(
            request.getfixturevalue("tiny")
        )

    with pytest.raises(ValueError, match=message):
        mse() if "teacher" in message else ERRORS[message]()


def test_models_of_several_labels_are_refused_where_one_score_is_needed():
    class Three:
        def predict(self, pairs, **options):
            return np.zeros((len(pairs), 3), np.float32)

    for name in ("correlation", "cross reranking"):
        with pytest.raises(ValueError, match="needs one score a pair; this model gives 3"):
            CROSS[name]()(Three())


def write_beir(folder, corpus, queries, qrels):
    (folder / "qrels").mkdir(parents=True)
    with gzip.open(folder / "corpus.jsonl.gz", "wt", encoding="utf8") as file:
        file.write("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text(
        "\n".join(map(json.dumps, queries)) + "\n\n", encoding="utf8"
    )
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + qrels, encoding="utf8"
    )
    return folder


CORPUS = [
    {"_id": "d1", "title": "A title", "text": "and a text"},
    {"_id": "d2", "title": "", "text": "Über"},
    {"_id": "d3", "text": ""},
]
QUERIES = [
    {"_id": "q1", "text": "one"},
    {"_id": "q2", "text": "two"},
    {"_id": "q3", "text": "of another split"},
]


def test_beir_folders(tmp_path):
    folder = write_beir(
        tmp_path / "set", CORPUS, QUERIES, "q2\td1\t2\r\nq2\td2\t0\nq2\tgone\t1\nq1\td3\t0\n"
    )
    queries, corpus, relevant = evaluate.read_beir(folder)
    assert queries == {"q2": "two", "q1": "one"}
    assert corpus == {"d1": "A title and a text", "d2": "Über", "d3": ""}
    assert relevant == {"q2": {"d1", "gone"}, "q1": set()}
    evaluate.InformationRetrievalEvaluator(*evaluate.read_beir(folder))


@pytest.mark.parametrize(
    "corpus, queries, qrels, message",
    [
        (
            CORPUS,
            QUERIES,
            "q1\td1\n",
            "test.tsv, line 2: 'q1\\\\td1'; give query-id, corpus-id and score",
        ),
        (CORPUS, QUERIES, "q1\td1\tyes\n", "test.tsv, line 2"),
        (CORPUS, QUERIES, "q9\td1\t1\n", "test.tsv, line 2: query 'q9' is not in queries.jsonl"),
        (
            CORPUS,
            [*QUERIES, QUERIES[0]],
            "",
            "queries.jsonl, line 4: _id 'q1' occurs for the second time",
        ),
        (
            [CORPUS[0], {"_id": 2, "text": "a"}],
            QUERIES,
            "",
            "corpus.jsonl.gz, line 2: .*give an object with the strings",
        ),
        ([CORPUS[0], {"_id": "2"}], QUERIES, "", "corpus.jsonl.gz, line 2"),
        (CORPUS, [["q1", "one"]], "", "queries.jsonl, line 1"),
    ],
)
def test_broken_beir_lines_are_told(tmp_path, corpus, queries, qrels, message):
    with pytest.raises(ValueError, match=message):
        evaluate.read_beir(write_beir(tmp_path / "set", corpus, queries, qrels))


def test_broken_beir_files_are_told(tmp_path):
    folder = write_beir(tmp_path / "set", CORPUS, QUERIES, "")
    packed = (folder / "corpus.jsonl.gz").read_bytes()
    for broken in (packed[:-12], b"no gzip", packed[:20] + b"\xff" * 20 + packed[40:]):
        (folder / "corpus.jsonl.gz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"corpus.jsonl.gz, after line \d: broken gzip"):
            evaluate.read_beir(folder)
    (folder / "corpus.jsonl.gz").unlink()
    for line, message in (
        (b'{"_id": "a"', "line 1: broken json"),
        (b'{"_id": "\xff"}', "line 1: not UTF-8"),
    ):
        (folder / "corpus.jsonl").write_bytes(line + b"\n")
        with pytest.raises(ValueError, match=message):
            evaluate.read_beir(folder)
    with pytest.raises(FileNotFoundError):
        evaluate.read_beir(tmp_path / "nowhere")
    (folder / "corpus.jsonl").write_text("")
    with pytest.raises(FileNotFoundError, match="dev.tsv"):
        evaluate.read_beir(folder, split="dev")
