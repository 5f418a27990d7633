"""What the two objects take and offer beside `encode` and `predict` themselves: columns of other
libraries, the peer's names, processes."""

import multiprocessing
import os
import pickle
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import jsbert
from jsbert.evaluate import EmbeddingSimilarityEvaluator
from jsbert.similarity import cos_sim

TEXTS = ["a cat", "the old house", "green hills and rain"]

COLUMNS = {
    "tuple": tuple(TEXTS),
    "numpy": np.array(TEXTS),
    "numpy of objects": np.array(TEXTS, object),
    "numpy's own strings": np.array(TEXTS, np.dtypes.StringDType()),
    "pandas": pd.Series(TEXTS, index=[7, 7, -1]),
    "pandas, categories": pd.Series(TEXTS, dtype="category"),
    "pyarrow": pa.array(TEXTS),
    "pyarrow in chunks": pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
    "pyarrow's dictionary": pa.array(TEXTS).dictionary_encode(),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=list(COLUMNS))
def test_a_column_of_any_library_gives_the_vectors_of_its_list(tiny, column):
    np.testing.assert_array_equal(tiny.encode(column), tiny.encode(TEXTS))


def test_a_column_of_datasets_gives_the_vectors_of_its_list(tiny):
    dataset = pytest.importorskip("datasets").Dataset.from_dict({"text": TEXTS})
    np.testing.assert_array_equal(tiny.encode(dataset["text"]), tiny.encode(TEXTS))


@pytest.mark.parametrize("one", [np.array("a cat"), pa.scalar("a cat"), np.str_("a cat")])
def test_a_scalar_of_another_library_is_one_text(tiny, one):
    np.testing.assert_array_equal(tiny.encode(one), tiny.encode("a cat"))


@pytest.mark.parametrize(
    "column",
    [
        ["a", None],
        ["a", float("nan")],
        pd.Series(["a", None], dtype="string"),
        pd.Series(["a", np.nan], dtype=object),
        pa.array(["a", None]),
    ],
)
def test_a_missing_text_is_named_with_what_to_do(tiny, column):
    with pytest.raises(TypeError, match=r"text 1 is .*missing value; leave it out, or give ''"):
        tiny.encode(column)


def test_a_missing_text_of_a_pair_is_named(tiny_cross):
    with pytest.raises(TypeError, match="a text of pair 1 is None, a missing value"):
        tiny_cross.predict([("a", "b"), ("c", None)])


@pytest.mark.parametrize(
    "table", [pd.DataFrame({"text": TEXTS}), pa.table({"text": TEXTS})], ids=["pandas", "pyarrow"]
)
def test_a_whole_table_is_refused(tiny, table):
    with pytest.raises(TypeError, match=r"a table.*give one of its columns"):
        tiny.encode(table)


def test_the_first_argument_has_the_names_of_the_peer(tiny, tiny_cross):
    expected = tiny.encode(TEXTS)
    np.testing.assert_array_equal(tiny.encode(inputs=TEXTS), expected)
    np.testing.assert_array_equal(tiny.encode(sentences=TEXTS), expected)
    np.testing.assert_array_equal(tiny.encode_query(sentences=TEXTS), expected)
    pairs = [("a cat", "a dog")]
    assert tiny_cross.predict(sentences=pairs) == tiny_cross.predict(pairs=pairs)
    with pytest.raises(TypeError, match="sentences is another name of inputs"):
        tiny.encode(TEXTS, sentences=TEXTS)


def test_similarity_takes_vectors_of_every_kind_and_no_texts(tiny):
    vectors = tiny.encode(TEXTS)
    expected = np.asarray(cos_sim(vectors, vectors))
    same = tiny.similarity(embeddings1=vectors, embeddings2=list(vectors))
    np.testing.assert_allclose(same, expected, atol=1e-6)
    for texts in ("a", ["a", "b"], np.array(["a", "b"])):
        with pytest.raises(TypeError, match="the similarity is of vectors"):
            tiny.similarity(texts, vectors)


@pytest.mark.parity
def test_similarity_takes_tensors_of_torch(tiny):
    torch = pytest.importorskip("torch")
    vectors = tiny.encode(TEXTS)
    tensor = torch.from_numpy(vectors).requires_grad_()
    expected = np.asarray(cos_sim(vectors, vectors))
    np.testing.assert_allclose(tiny.similarity(tensor, list(tensor)), expected, atol=1e-6)
    half = tiny.similarity(tensor.to(torch.bfloat16), tensor)
    np.testing.assert_allclose(half, expected, atol=1e-2)


def test_the_device_of_a_call_is_the_models(tiny, tiny_cross):
    assert tiny.device == tiny.devices[0]
    np.testing.assert_array_equal(tiny.encode(TEXTS, device="cpu"), tiny.encode(TEXTS))
    with pytest.raises(ValueError, match="open a model with that device"):
        tiny.encode(TEXTS, device="cpu:1")
    with pytest.raises(ValueError, match="open a model with that device"):
        tiny_cross.predict([("a", "b")], device="cpu:1")


def test_max_length_is_max_seq_length(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder)
    model.max_length = 7
    assert model.max_seq_length == model.get_max_seq_length() == model.max_length == 7


def test_evaluate_calls_the_evaluator_and_makes_its_folder(tiny, tmp_path):
    evaluator = EmbeddingSimilarityEvaluator(TEXTS, TEXTS[::-1], [0.0, 1.0, 0.2], name="x")
    results = tiny.evaluate(evaluator, tmp_path / "new" / "folder")
    assert results == evaluator(tiny)
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1


def test_truncate_embeddings_ends_with_its_block(tiny):
    whole = tiny.encode(TEXTS)
    with tiny.truncate_embeddings(3):
        np.testing.assert_array_equal(tiny.encode(TEXTS), tiny.encode(TEXTS, truncate_dim=3))
    np.testing.assert_array_equal(tiny.encode(TEXTS), whole)

    def fail():
        with tiny.truncate_embeddings(3):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    np.testing.assert_array_equal(tiny.encode(TEXTS), whole)


def test_the_prompt_can_be_left_out_of_the_pooling(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder)
    with_prompt = model.encode(TEXTS, prompt="a dog ")
    model.set_pooling_include_prompt(False)
    assert np.abs(model.encode(TEXTS, prompt="a dog ") - with_prompt).max() > 1e-3
    model.set_pooling_include_prompt(True)
    np.testing.assert_array_equal(model.encode(TEXTS, prompt="a dog "), with_prompt)
    with pytest.raises(TypeError, match="include_prompt is 1"):
        model.set_pooling_include_prompt(1)


def test_the_cross_encoder_tokenizes_pairs(tiny_cross):
    found = tiny_cross.tokenize([("a cat", "a dog"), ("a", "b")])
    assert found["input_ids"].shape == found["attention_mask"].shape
    assert found["attention_mask"][0].all()
    assert not found["attention_mask"][1].all()


def test_a_pool_gives_the_results_of_one_process(tiny, tiny_cross):
    texts = [f"a cat and {number} dogs" for number in range(11)]
    long = "a cat " * 300
    with tiny.start_multi_process_pool(["cpu", "cpu"]) as pool:
        found = tiny.encode(texts, pool=pool, chunk_size=3, normalize_embeddings=True)
        np.testing.assert_allclose(found, tiny.encode(texts, normalize_embeddings=True), atol=1e-6)
        assert tiny.encode([], pool=pool).shape == tiny.encode([]).shape
        one = tiny.encode("a cat", pool=pool, prompt="the ")
        np.testing.assert_allclose(one, tiny.encode("a cat", prompt="the "), atol=1e-6)
        tokens = tiny.encode(texts, pool=pool, output_value="token_embeddings")
        assert [len(one) for one in tokens] == [
            len(one) for one in tiny.encode(texts, output_value="token_embeddings")
        ]
        with pytest.warns(UserWarning, match="longer than"):
            tiny.encode([long], pool=pool)
        with pytest.raises(ValueError, match="longer than"):
            tiny.encode([long], pool=pool, on_truncate="error")
    with pytest.raises(RuntimeError, match="the pool is closed; start another"):
        tiny.encode(texts, pool=pool)
    pool = tiny_cross.start_multi_process_pool(["cpu"])
    pairs = [(text, "a dog") for text in texts]
    found = tiny_cross.predict(pairs, pool=pool, activation_fn=lambda logits: 2 * logits)
    expected = tiny_cross.predict(pairs, activation_fn=lambda logits: 2 * logits)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    tiny_cross.stop_multi_process_pool(pool)


@pytest.mark.parametrize("devices", ["cpu", [], ["cuda:0"], ["cpu", "tpu"]])
def test_a_pool_is_of_cpu_processes(tiny, devices):
    with pytest.raises(ValueError, match="give a list with 'cpu' for each process"):
        tiny.start_multi_process_pool(devices)


def encode_in_another_process(connection, model):
    try:
        connection.send(model.encode(TEXTS))
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")


def in_process(method, model):
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=encode_in_another_process, args=(sender, model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of the fork
        process.start()
    try:
        assert receiver.poll(60 if method == "spawn" else 10), "the process hangs"
        return receiver.recv()
    finally:
        process.kill()
        process.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_raises_and_does_not_hang(tiny):
    tiny.encode(TEXTS)
    assert in_process("fork", tiny).startswith("RuntimeError: this process was forked")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_model_cannot_be_unpickled_in_a_forked_process(tiny):
    pickled = pickle.dumps(tiny)

    class Pickled:
        def encode(self, texts):
            return pickle.loads(pickled).encode(texts)

    assert in_process("fork", Pickled()).startswith("RuntimeError: this process was forked")


def test_a_spawned_process_gets_a_model_that_works(tiny):
    np.testing.assert_allclose(in_process("spawn", tiny), tiny.encode(TEXTS), atol=1e-6)
