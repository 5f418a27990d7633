"""The bi-encoder as an object: shapes, order, batching, prompts, truncation, errors, threads,
devices."""

import itertools
import subprocess
import sys
import textwrap
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsbert
from jsbert.engine import num_shapes
from jsbert.modules import Normalize
from tests import models

TEXTS = models.sentences(120, seed=5, longest=25)


def test_shapes_order_and_types(tiny):
    one = tiny.encode("a cat")
    assert (one.shape, one.dtype) == ((24,), np.float32)
    many = tiny.encode(TEXTS)
    assert (many.shape, many.dtype) == ((120, 24), np.float32)
    assert many == pytest.approx(np.stack([tiny.encode(text) for text in TEXTS]), abs=1e-6)
    assert tiny.encode([]).shape == (0, 24)
    assert tiny.encode([], truncate_dim=5).shape == (0, 5)
    assert tiny.encode(tuple(TEXTS[:3])).shape == tiny.encode(np.array(TEXTS[:3])).shape == (3, 24)
    tensor = tiny.encode(TEXTS[:3], convert_to_tensor=True)
    assert isinstance(tensor, jax.Array)
    assert tensor.shape == (3, 24)
    as_list = tiny.encode(TEXTS[:3], convert_to_numpy=False)
    assert [vector.shape for vector in as_list] == [(24,)] * 3


def test_a_unit_vector_depends_on_its_text_alone(tiny):
    whole = tiny.encode(TEXTS)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(1, abs=1e-6)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert np.abs(tiny.encode([TEXTS[i] for i in order]) - whole[order]).max() <= 1e-6
    for batch_size in (1, 3, 50):
        assert np.abs(tiny.encode(TEXTS, batch_size=batch_size) - whole).max() <= 1e-6
    assert np.abs(tiny.encode(TEXTS[10:20]) - whole[10:20]).max() <= 1e-6


def test_texts_equal_their_token_ids(tiny):
    wanted = tiny.encode(["the cat sat", "a dog"])
    ids = [
        list(map(int, tiny.tokenize([text])["input_ids"][0])) for text in ("the cat sat", "a dog")
    ]
    assert np.array_equal(tiny.encode(ids), wanted)
    assert np.array_equal(tiny.encode([np.array(row) for row in ids]), wanted)
    assert np.array_equal(tiny.encode(ids[0]), tiny.encode("the cat sat"))
    assert tiny.encode(np.array([ids[1], ids[1]])).shape == (2, 24)


def test_tokenize_gives_what_the_pure_functions_take(tiny):
    features = tiny.tokenize(TEXTS[:7])
    assert features["input_ids"].shape == features["attention_mask"].shape
    vectors = jsbert.siamese.encode(
        tiny.config, tiny.params, features["input_ids"], features["attention_mask"]
    )
    assert np.abs(vectors - tiny.encode(TEXTS[:7])).max() <= 1e-6


def test_truncate_dim_and_normalisation(tiny_folder, tiny):
    cut = tiny.encode(TEXTS, truncate_dim=7)
    assert np.array_equal(cut, tiny.encode(TEXTS)[:, :7])
    assert np.linalg.norm(
        tiny.encode(TEXTS, truncate_dim=7, normalize_embeddings=True), axis=1
    ) == pytest.approx(1)
    short = jsbert.SentenceTransformer(tiny_folder, truncate_dim=7)
    assert np.array_equal(short.encode(TEXTS), cut)
    assert short.get_embedding_dimension() == short.get_sentence_embedding_dimension() == 7
    assert short.encode([]).shape == (0, 7)
    assert tiny.get_embedding_dimension() == 24


def test_output_values(tiny):
    texts = ["a cat", "the red dog sat"]
    tokens = tiny.encode(texts, output_value="token_embeddings")
    assert [vectors.shape for vectors in tokens] == [(4, 24), (6, 24)]
    everything = tiny.encode(texts, output_value=None)
    assert everything[1]["input_ids"].tolist() == tiny.tokenize([texts[1]])["input_ids"][0].tolist()
    assert everything[0]["attention_mask"].tolist() == [1, 1, 1, 1]
    assert np.abs(everything[0]["sentence_embedding"] - tiny.encode("a cat")).max() <= 1e-6
    assert tiny.encode("a cat", output_value="token_embeddings").shape == (4, 24)
    cut = {"truncate_dim": 7, "normalize_embeddings": True}
    for text, found in zip(texts, tiny.encode(texts, output_value=None, **cut), strict=True):
        assert np.abs(found["sentence_embedding"] - tiny.encode(text, **cut)).max() <= 1e-6
        assert found["token_embeddings"].shape[1] == 24


def test_prompts_by_name_by_text_and_by_default(tiny_folder):
    model = jsbert.SentenceTransformer(
        tiny_folder, prompts={"query": "query : ", "passage": "passage : "}
    )
    wanted = model.encode("query : a cat")
    assert np.array_equal(model.encode("a cat", prompt_name="query"), wanted)
    assert np.array_equal(model.encode("a cat", prompt="query : "), wanted)
    assert np.array_equal(model.encode_query("a cat"), wanted)
    assert np.array_equal(
        model.encode_document("a cat"), model.encode("a cat")
    )  # "document" is "" and comes first
    model.default_prompt_name = "query"
    assert np.array_equal(model.encode("a cat"), wanted)
    assert np.array_equal(model.encode("a cat", prompt=""), tiny_vector(tiny_folder, "a cat"))


def tiny_vector(folder, text):
    return jsbert.SentenceTransformer(folder).encode(text)


def test_similarity_follows_its_name(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, similarity_fn_name="euclidean")
    a, b = model.encode(TEXTS[:3]), model.encode(TEXTS[3:8])
    assert model.similarity(a, b).shape == (3, 5)
    assert model.similarity(a, a).diagonal() == pytest.approx(0)
    model.similarity_fn_name = "cosine"
    assert model.similarity_pairwise(a, a) == pytest.approx(1)
    with pytest.raises(ValueError, match="similarity_fn_name is 'cos'"):
        model.similarity_fn_name = "cos"


LONG = "the " * 50


def test_truncated_texts_are_counted_and_reported_once(tiny):
    with pytest.warns(UserWarning, match="2 of 3 texts are longer than 32 tokens") as caught:
        tiny.encode([LONG, "a cat", LONG])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.raises(
        ValueError, match="text 1 is longer than 32 tokens, and so are 1 more of the texts up to 3;"
    ):
        tiny.encode(["a cat", LONG, "a", LONG], on_truncate="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.encode([LONG], on_truncate="ignore")
        tiny.encode(["the " * 30])  # with its two special tokens exactly at the limit


def test_max_seq_length_can_be_set(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder)
    assert model.max_seq_length == 32
    model.max_seq_length = 6
    assert np.array_equal(
        model.encode("a cat sat on a red tree", on_truncate="ignore"), model.encode("a cat sat on")
    )
    for value in (33, 2, 0, None, "8", True):
        with pytest.raises(ValueError, match="max_seq_length is"):
            model.max_seq_length = value


def test_encode_iter_streams_an_endless_iterable(tiny):
    read = itertools.count()

    def endless():
        for i in read:
            yield TEXTS[i % 120]

    stream = tiny.encode_iter(endless(), chunk_size=50)
    first = list(itertools.islice(stream, 130))
    assert (
        np.abs(
            np.stack(first) - np.concatenate([tiny.encode(TEXTS), tiny.encode(TEXTS[:10])])
        ).max()
        <= 1e-6
    )
    assert next(read) <= 151  # only the current chunk has been read
    assert list(tiny.encode_iter([])) == []
    one_by_one = tiny.encode_iter(iter(["a cat", "a dog"]), chunk_size=1)
    assert np.abs(next(one_by_one) - tiny.encode("a cat")).max() <= 1e-6


def test_positions_in_messages_count_through_windows_and_chunks(tiny, monkeypatch):
    monkeypatch.setattr("jsbert.engine.stream.WINDOW", 20)
    with pytest.raises(ValueError, match="text 50 is no valid Unicode"):
        tiny.encode(["a"] * 50 + ["\ud800"])
    with pytest.raises(ValueError, match="text 45 has token ids from 2 to 999"):
        tiny.encode([[2, 3]] * 45 + [[2, 999]])
    with pytest.raises(ValueError, match="text 30 is longer than 32 tokens"):
        tiny.encode(["a"] * 30 + [LONG], on_truncate="error")
    with pytest.raises(ValueError, match="text 12 is no valid Unicode"):
        list(tiny.encode_iter(["a"] * 12 + ["\ud800"], chunk_size=5))
    assert (
        np.abs(
            tiny.encode(TEXTS) - np.concatenate([tiny.encode(TEXTS[:60]), tiny.encode(TEXTS[60:])])
        ).max()
        <= 1e-6
    )


def test_encode_iter_takes_no_single_text(tiny):
    for texts in ("a cat", b"a", 5):
        with pytest.raises(TypeError, match="encode_iter takes an iterable of strings"):
            tiny.encode_iter(texts)
    with pytest.raises(TypeError, match="text 0 is 5"):
        list(tiny.encode_iter([5, 6, 7]))


def test_config_cannot_be_exchanged_under_the_compiled_programs(tiny):
    with pytest.raises(AttributeError):
        tiny.config = tiny.config


def test_warmup_covers_prompts_that_are_left_out(tmp_path):
    model = jsbert.SentenceTransformer(
        models.write_folder(tmp_path / "model", include_prompt=False)
    )
    made = model.warmup(lengths=[6])
    model.encode(["a cat sat on"], prompt="")
    model.encode(["cat sat on"], prompt="a ")
    assert model.num_compilations == made


def test_results_are_the_callers_own(tiny, tiny_folder):
    for found in (tiny.encode(TEXTS[:3]), *tiny.encode(TEXTS[:3], output_value="token_embeddings")):
        found[:] = 0
    tensor = jsbert.SentenceTransformer(tiny_folder, device="cpu:3").encode(
        "a cat", convert_to_tensor=True
    )
    assert tensor.devices() == {jax.devices("cpu")[3]}


def test_encode_iter_reports_truncation_at_its_end(tiny):
    with pytest.warns(UserWarning, match="3 of 4 texts are longer than 32 tokens") as caught:
        list(tiny.encode_iter([LONG, "a", LONG, LONG], chunk_size=2))
    assert len(caught) == 1


@pytest.mark.parametrize(
    "sentences, error, message",
    [
        (None, TypeError, "the input is None"),
        (7, TypeError, "the input is int 7"),
        (float("nan"), TypeError, "the input is float nan"),
        (b"bytes", TypeError, "the input is bytes"),
        ({"a": 1}, TypeError, "the input is dict"),
        ({"a"}, TypeError, "the input is set"),
        ((text for text in TEXTS), TypeError, "for an iterator use encode_iter"),
        (["a", None], TypeError, "text 1 is None"),
        (["a", "b", 3.5], TypeError, "text 2 is float 3.5"),
        (["a", b"b"], TypeError, "text 1 is bytes"),
        ([["a", "b"]], TypeError, "text 0 is a list of str"),
        (["a", [1, 2]], TypeError, "some texts are strings and some are token ids"),
        (np.array([0.5, 1.0]), TypeError, r"text 0 is (np\.)?float64"),
        ([True, False], TypeError, "text 0 is bool True"),
        (
            ["fine", "half \ud83d a pair"],
            ValueError,
            "text 1 is no valid Unicode: surrogates not allowed at character 5",
        ),
        ([[2, 999, 3]], ValueError, "text 0 has token ids from 2 to 999; 0 to 104 are allowed"),
        ([[2, 5, 3], [2, -1, 3]], ValueError, "text 1 has token ids from -1 to 3"),
        ([[2, 5, 3], []], ValueError, "text 1 has 0 token ids; 1 to 32"),
        ([[2] * 33], ValueError, "text 0 has 33 token ids; 1 to 32"),
    ],
)
def test_inputs_that_are_no_texts(tiny, sentences, error, message):
    with pytest.raises(error, match=message):
        tiny.encode(sentences)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"truncate_dim": 0}, "truncate_dim is 0"),
        ({"on_truncate": "stop"}, "on_truncate is 'stop'; choose one of 'warn', 'error', 'ignore'"),
        ({"output_value": "tokens"}, "output_value is 'tokens'"),
        ({"precision": "int4"}, "precision is 'int4'; choose one of 'float32'"),
        (
            {"prompt_name": "qeury"},
            r"unknown prompt_name 'qeury'; the model's prompts are \['document', 'query'\]",
        ),
    ],
)
def test_options_that_do_not_exist(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        tiny.encode(["a"], **options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'batchsize'"):
        tiny.encode(["a"], batchsize=3)
    with pytest.raises(ValueError, match="a prompt cannot be put before token ids"):
        tiny.encode([[2, 3]], prompt="query")


def test_constructor_options_that_do_not_exist(tiny_folder):
    for options, message in [
        ({"dtype": "float16"}, "dtype is 'float16'; choose one of 'float32', 'bfloat16'"),
        ({"pooling": "median"}, r"pooling=: unknown pooling \['median'\]; supported: cls, max"),
        ({"default_prompt_name": "none"}, "default_prompt_name 'none' is not in the prompts"),
        ({"similarity_fn_name": "jaccard"}, "similarity_fn_name is 'jaccard'"),
        ({"truncate_dim": -1}, "truncate_dim is -1"),
        ({"device": "tpux"}, "unknown device 'tpux'"),
        ({"pooling": 5}, "pooling= 5: give a pooling's name"),
        ({"prompts": "x"}, "prompts is 'x'; give a dict"),
        ({"prompts": {"q": 5}}, "prompts is {'q': 5}; give a dict"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            jsbert.SentenceTransformer(tiny_folder, **options)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        jsbert.SentenceTransformer(tiny_folder, trust=True)


def test_pooling_can_be_overruled(tiny_folder):
    first = jsbert.SentenceTransformer(tiny_folder, pooling=("cls", "max"))
    assert first.get_embedding_dimension() == 48
    assert first.config.pooling == ("cls", "max")


def test_compilations_are_bounded_and_counted(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder)
    assert model.num_compilations == 0
    generator = np.random.default_rng(3)
    for _ in range(1000):
        ids = generator.integers(5, 100, generator.integers(1, 33)).tolist()
        model.encode([ids] * int(generator.integers(1, 4)))
    most = num_shapes(32, token_budget=model.engine.placement.token_budget)
    assert 15 < model.num_compilations <= 2 * len(range(4, 33, 2)) <= most  # only rows 1 and 8
    before = model.num_compilations
    model.encode(["a cat", "a dog"])
    assert model.num_compilations == before
    assert model.compile_seconds > 0


def test_warmup_leaves_nothing_to_compile(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder)
    made = model.warmup(lengths=[3, 7, 9])
    assert (
        made == model.num_compilations == 12
    )  # lengths 4, 8 and 10; rows 1, 8, 64 and the full batch
    model.encode(["a cat"] * 200)
    assert model.num_compilations == made


def test_eight_threads_get_the_same_vectors(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder)
    wanted = jsbert.SentenceTransformer(tiny_folder).encode(TEXTS)
    found = [None] * 8
    barrier = threading.Barrier(8)

    def work(index):
        barrier.wait()
        found[index] = [model.encode(TEXTS) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vectors in itertools.chain.from_iterable(found):
        assert np.array_equal(vectors, wanted)


def test_a_call_keeps_the_params_with_which_it_began(tmp_path, monkeypatch):
    bi_encoder = jsbert.SentenceTransformer(models.write_folder(tmp_path / "bi", head=()))
    cross_encoder = jsbert.CrossEncoder(
        models.write_cross_folder(tmp_path / "cross"), activation_fn="identity"
    )
    monkeypatch.setattr("jsbert.engine.stream.WINDOW", 4)
    texts = models.sentences(10, seed=5)

    calls = [
        (bi_encoder, lambda: bi_encoder.encode(texts, batch_size=1)),
        (
            bi_encoder,
            lambda: np.stack([*bi_encoder.encode_iter(texts, chunk_size=2, batch_size=1)]),
        ),
        (
            cross_encoder,
            lambda: cross_encoder.predict([*zip(texts, texts[::-1], strict=True)], batch_size=1),
        ),
    ]
    for model, call in calls:
        old, new, packed = (
            model.params,
            jax.tree.map(lambda leaf: leaf * 1.5, model.params),
            itertools.count(1),
        )
        before = call()

        def pad(tokens, batch, slots, model=model, new=new, packed=packed):
            if next(packed) == 2:  # as another thread may at any time
                model.params = new
            return jsbert.engine.batching.pad(tokens, batch, slots)

        with monkeypatch.context() as patch:
            patch.setattr("jsbert.engine.stream.pad", pad)
            assert np.array_equal(call(), before)
        assert np.abs(call() - before).max() > 0.01
        model.params = old


def test_rows_are_spread_over_eight_devices(tiny_folder, tiny):
    model = jsbert.SentenceTransformer(tiny_folder, device=jax.devices("cpu"))
    assert len(model.devices) == 8
    wanted = tiny.encode(TEXTS)
    assert np.abs(model.encode(TEXTS) - wanted).max() <= 1e-6
    assert np.abs(model.encode(TEXTS[0]) - wanted[0]).max() <= 1e-6
    shards = sharded_output(model)
    assert {shard.device for shard in shards} == set(
        jax.devices("cpu")
    )  # each device has computed its own eighth
    assert all(
        shard.data.shape[0] * 8 == sum(other.data.shape[0] for other in shards) for shard in shards
    )


def sharded_output(model):
    outputs, compute = [], model.engine.compute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            model.engine, "compute", lambda *a, **o: outputs.append(compute(*a, **o)) or outputs[-1]
        )
        model.encode(TEXTS)
    return outputs[0].addressable_shards


def test_a_chosen_device_computes(tiny_folder):
    device = jax.devices("cpu")[5]
    for name in (device, "cpu:5"):
        model = jsbert.SentenceTransformer(tiny_folder, device=name)
        assert model.devices == (device,)
        assert all(leaf.devices() == {device} for leaf in jax.tree.leaves(model.params))
        assert model.encode("a cat").shape == (24,)


def test_bfloat16_is_close_and_its_params_are_half(tiny_folder, tiny):
    half = jsbert.SentenceTransformer(tiny_folder, dtype="bfloat16")
    assert (half.encode(TEXTS) * tiny.encode(TEXTS)).sum(axis=1).min() > 0.999
    layer = half.params["encoder"]["layers"][0]
    assert layer["output"]["kernel"].dtype == jnp.bfloat16
    assert layer["output"]["bias"].dtype == layer["output_norm"]["scale"].dtype == jnp.float32
    assert half.encode("a cat").dtype == np.float32


def test_the_shortcut_keeps_the_model_and_notices_a_changed_folder(tmp_path):
    from jsbert import shortcut

    folder = models.write_folder(tmp_path / "model", seed=1)
    first = jsbert.encode(["a cat", "a dog"], folder)
    opened = list(shortcut._models)
    assert (
        np.abs(jsbert.encode("a cat", str(folder), normalize_embeddings=True) - first[0]).max()
        <= 1e-6
    )
    assert np.array_equal(jsbert.encode(["a cat", "a dog"], folder), first)
    assert list(shortcut._models) == opened
    assert jsbert.encode("a cat", folder, pooling=("cls", "max"), dtype="bfloat16").shape == (48,)
    models.write_folder(tmp_path / "model", seed=2)
    assert np.abs(jsbert.encode("a cat", folder) - first[0]).max() > 0.01
    model = jsbert.SentenceTransformer(folder)
    assert np.array_equal(jsbert.encode("a cat", model), model.encode("a cat"))
    with pytest.raises(ValueError, match="dtype belong to the model that was given"):
        jsbert.encode("a cat", model, dtype="bfloat16")


COUNT = """
    import sys, jax
    events = []
    jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
    jax.numpy.ones(3) + 1  # JAX has compiled something before jsbert sets the cache
    events.clear()
    import jsbert
    model = jsbert.SentenceTransformer(sys.argv[1])
    model.encode(["a cat", "a dog sat", "the red tree"])
    requests = events.count("/jax/compilation_cache/compile_requests_use_cache")
    print(requests, requests - events.count("/jax/compilation_cache/cache_hits"), jax.config.jax_compilation_cache_dir)
"""


def count_compilations(folder, environment):
    import os

    code = textwrap.dedent(COUNT)
    environment = {
        name: value for name, value in os.environ.items() if name != "XLA_FLAGS"
    } | environment
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    requests, compiled, cache = done.stdout.split()
    return int(requests), int(compiled), cache


def test_a_second_process_compiles_nothing(tiny_folder, tmp_path):
    first = count_compilations(tiny_folder, {"XDG_CACHE_HOME": str(tmp_path)})
    assert first[1] > 0
    assert first[2].startswith(str(tmp_path))
    requests, compiled, _ = count_compilations(tiny_folder, {"XDG_CACHE_HOME": str(tmp_path)})
    assert (requests > 0, compiled) == (True, 0)


def test_a_cache_folder_of_the_users_own_stays(tiny_folder, tmp_path):
    own = str(tmp_path / "own")
    assert (
        count_compilations(
            tiny_folder, {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": own}
        )[2]
        == own
    )
    assert not (tmp_path / "jsbert").exists()


def test_several_cpu_devices_have_no_cache(tiny_folder, tmp_path):
    several = {
        "XDG_CACHE_HOME": str(tmp_path),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    assert count_compilations(tiny_folder, several)[2] == "None"


def test_saved_and_opened_again_it_is_the_same(tmp_path):
    settings = models.Settings({"query": "query : "}, "query", "dot", 9)
    parts = models.parts(
        tmp_path / "v",
        pooling=("mean", "cls"),
        head=(Normalize(),),
        settings=settings,
        include_prompt=False,
    )
    model = jsbert.SentenceTransformer.from_parts(parts)
    model.save_pretrained(tmp_path / "saved")
    again = jsbert.SentenceTransformer(tmp_path / "saved")
    assert again.config == model.config
    assert (again.default_prompt_name, again.similarity_fn_name, again.truncate_dim) == (
        "query",
        "dot",
        9,
    )
    assert again.max_seq_length == model.max_seq_length
    assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_progress_is_shown_if_asked_for(tiny, capsys):
    tiny.encode(TEXTS, show_progress_bar=True)
    assert "120/120" in capsys.readouterr().err
    tiny.encode(TEXTS)
    assert capsys.readouterr().err == ""
