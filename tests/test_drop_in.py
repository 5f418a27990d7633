"""`jsbert.sentence_transformers`: what is honoured, and what is refused by name."""

import pickle

import jax
import numpy as np
import pytest

import jsbert
from jsbert.data import Examples
from jsbert.sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    InputExample,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SimilarityFunction,
    losses,
    util,
)
from jsbert.sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
from jsbert.sentence_transformers.losses import TripletDistanceMetric
from jsbert.sentence_transformers.training_args import BatchSamplers, MultiDatasetBatchSamplers
from jsbert.train import Recipe, Source, fit, objective

TEXTS = ["a cat", "the old house", "green hills and rain"]
PAIRS = [("a cat", "a dog"), ("the old house", "rain")]


@pytest.fixture(scope="module")
def model(tiny_folder):
    return SentenceTransformer(tiny_folder)


@pytest.fixture(scope="module")
def cross(tiny_cross_folder):
    return CrossEncoder(tiny_cross_folder, model_kwargs={"attn_implementation": "sdpa"})


def test_a_model_gives_the_vectors_of_jsbert(model, tiny):
    np.testing.assert_array_equal(model.encode(TEXTS), tiny.encode(TEXTS))
    np.testing.assert_array_equal(model.encode_document(TEXTS), tiny.encode_document(TEXTS))
    assert isinstance(model.encode(TEXTS, convert_to_tensor=True), jax.Array)
    assert pickle.loads(pickle.dumps(model)).encode("a cat").shape == model.encode("a cat").shape


def test_a_cross_encoder_gives_the_scores_of_jsbert(cross, tiny_cross):
    np.testing.assert_array_equal(cross.predict(PAIRS), tiny_cross.predict(PAIRS))
    arguments = ("a cat", TEXTS, 2, True)
    assert cross.rank(*arguments) == tiny_cross.rank(*arguments)


def test_options_of_transformers_become_those_of_jsbert(tiny_folder):
    model = SentenceTransformer(
        tiny_folder,
        model_kwargs={"torch_dtype": "bfloat16", "attn_implementation": "eager"},
        tokenizer_kwargs={"model_max_length": 9},
        similarity_fn_name=SimilarityFunction.DOT_PRODUCT,
    )
    assert (model.dtype, model.attn_implementation, model.max_seq_length) == (
        "bfloat16",
        "eager",
        9,
    )
    assert model.similarity_fn_name == "dot"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_remote_code": True}, "never runs code from a checkpoint"),
        ({"backend": "tensorrt"}, "choose one of 'torch', 'jax', 'onnx', 'openvino'"),
        ({"model_kwargs": {"dtype": "float16"}}, "choose float32, bfloat16, int8 or auto"),
        ({"model_kwargs": {"quantization_config": 4}}, "quantization_config=4 is not supported"),
        ({"processor_kwargs": {"padding_side": "left"}}, "allowed is model_max_length"),
        ({"config_kwargs": {"num_labels": 3}}, "change the config.json"),
        ({"model_card_data": {"license": "mit"}}, "edit its README.md"),
    ],
)
def test_an_option_that_jsbert_lacks_is_refused_by_name(tiny_folder, options, message):
    with pytest.raises(ValueError, match=message):
        SentenceTransformer(tiny_folder, **options)


def test_a_method_that_jsbert_lacks_is_refused_by_name(model, cross, tmp_path):
    with pytest.raises(AttributeError, match="has no fit: train with SentenceTransformerTrainer"):
        model.fit()
    with pytest.raises(AttributeError, match="has no to: open the model with device="):
        cross.to("cuda")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        model.nothing  # noqa: B018
    with pytest.raises(ValueError, match="jsbert writes safetensors"):
        model.save(tmp_path / "x", safe_serialization=False)
    with pytest.raises(ValueError, match="local_model_path='x' is not supported"):
        model.push_to_hub("owner/name", local_model_path="x")


def test_a_name_that_jsbert_lacks_says_what_to_use():
    with pytest.raises(ImportError, match=r"has no SparseEncoder: jsbert has bi-encoders"):
        from jsbert.sentence_transformers import SparseEncoder  # noqa: F401
    with pytest.raises(ImportError, match=r"has no MegaBatchMarginLoss: jsbert\.losses has"):
        from jsbert.sentence_transformers.losses import MegaBatchMarginLoss  # noqa: F401
    assert not hasattr(util, "no_such_name")


def test_a_model_is_saved_evaluated_and_searched(model, tmp_path):
    model.save(str(tmp_path / "copy"), None, False)
    copy = SentenceTransformer.load(str(tmp_path / "copy")).eval()
    np.testing.assert_allclose(copy.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    evaluator = EmbeddingSimilarityEvaluator(
        TEXTS, TEXTS[::-1], [0.0, 1.0, 0.2], main_similarity=SimilarityFunction.COSINE
    )
    assert model.evaluate(evaluator) == jsbert.SentenceTransformer(tmp_path / "copy").evaluate(
        evaluator
    )
    assert util.semantic_search(model.encode(TEXTS), model.encode(TEXTS))[1][0]["corpus_id"] == 1
    assert model.supports("text")
    assert not model.supports("image")
    assert model.get_backend() == "jax"


def test_onnx_is_a_backend(tiny_folder, tiny_cross_folder, model, cross):
    found = SentenceTransformer(tiny_folder, backend="onnx")
    np.testing.assert_allclose(found.encode(TEXTS), model.encode(TEXTS), atol=1e-5)
    assert found.get_backend() == "onnx"
    scores = CrossEncoder(tiny_cross_folder, backend="onnx").predict(PAIRS)
    np.testing.assert_allclose(scores, cross.predict(PAIRS), atol=1e-5)


def test_similarity_functions_have_the_peers_names():
    assert SimilarityFunction.possible_values() == ["cosine", "dot", "euclidean", "manhattan"]
    assert SimilarityFunction.to_similarity_fn("dot") is util.dot_score
    assert SimilarityFunction.to_similarity_pairwise_fn("cosine") is util.pairwise_cos_sim


def test_an_input_example_holds_texts_and_a_label():
    assert InputExample(texts=["a", "b"], label=0.5) == InputExample("", ["a", "b"], 0.5)


def trainer_of(model, folder, loss, columns, **options):
    dataset = pytest.importorskip("datasets").Dataset.from_dict(columns)
    options = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
    } | options
    args = SentenceTransformerTrainingArguments(
        folder, report_to="none", disable_tqdm=True, **options
    )
    return SentenceTransformerTrainer(model, args, dataset, loss=loss)


ANCHORS = ["a cat", "the old house", "green hills", "rain", "a dog", "the river"]
SCORES = [0.1, 0.9, 0.4, 0.5, 0.0, 1.0]
LOSSES = {
    "CosineSimilarityLoss": ({}, {"score": SCORES}),
    "CoSENTLoss": ({}, {"score": SCORES}),
    "AnglELoss": ({}, {"score": SCORES}),
    "ContrastiveLoss": ({"margin": 0.4}, {"label": [0, 1, 0, 1, 0, 1]}),
    "OnlineContrastiveLoss": ({}, {"label": [0, 1, 0, 1, 0, 1]}),
    "SoftmaxLoss": ({"embedding_dimension": 24, "num_labels": 3}, {"label": [0, 1, 2, 0, 1, 2]}),
    "MultipleNegativesRankingLoss": ({"similarity_fct": util.dot_score, "scale": 1}, {}),
    "MultipleNegativesSymmetricRankingLoss": ({}, {}),
    "CachedMultipleNegativesRankingLoss": ({"mini_batch_size": 2}, {}),
    "CachedMultipleNegativesSymmetricRankingLoss": ({"mini_batch_size": 2}, {}),
    "TripletLoss": ({"distance_metric": TripletDistanceMetric.COSINE}, {"n": ANCHORS[2:] * 2}),
    "DistillKLDivLoss": (
        {"temperature": 2},
        {"n": ANCHORS[2:] * 2, "label": [[score, 1 - score] for score in SCORES]},
    ),
    "GlobalOrthogonalRegularizationLoss": ({"mean_weight": None}, {}),
    "MarginMSELoss": ({}, {"n": ANCHORS[2:] * 2, "label": SCORES}),
}


SINGLE = {
    "BatchAllTripletLoss": {"margin": 2},
    "BatchHardTripletLoss": {"distance_metric": "cosine"},
    "BatchSemiHardTripletLoss": {},
    "BatchHardSoftMarginTripletLoss": {},
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_trainer_takes_single_texts_with_classes(tiny_folder, tmp_path, name):
    model = SentenceTransformer(tiny_folder)
    columns = {"text": [*ANCHORS, *ANCHORS[:2]], "label": [0, 1, 0, 1, 0, 1, 1, 0]}
    loss = getattr(losses, name)(model, **SINGLE[name])
    sampler = {"batch_sampler": BatchSamplers.GROUP_BY_LABEL}
    output = trainer_of(model, tmp_path / "run", loss, columns, **sampler).train()
    assert np.isfinite(output.training_loss)


@pytest.mark.parametrize("name", LOSSES)
def test_a_trainer_trains_the_model_in_place(tiny_folder, tmp_path, name):
    options, more = LOSSES[name]
    model = SentenceTransformer(tiny_folder)
    columns = {"anchor": ANCHORS, "positive": ANCHORS[::-1]} | {
        column: values[:6] for column, values in more.items()
    }
    before = model.encode(TEXTS)
    trainer = trainer_of(model, tmp_path / "run", getattr(losses, name)(model, **options), columns)
    output = trainer.train()
    assert output.global_step == 2
    assert np.isfinite(output.training_loss)
    assert np.abs(model.encode(TEXTS) - before).max() > 1e-5
    np.testing.assert_allclose(
        jsbert.SentenceTransformer(tmp_path / "run").encode(TEXTS), model.encode(TEXTS), atol=1e-6
    )


@pytest.mark.parametrize("is_cached", [False, True])
def test_a_trainer_gives_the_guides_vectors_to_the_loss(tiny_folder, tmp_path, is_cached):
    model, guide = SentenceTransformer(tiny_folder), jsbert.SentenceTransformer(tiny_folder)
    columns = {"a": ANCHORS, "b": ANCHORS[::-1]}
    if is_cached:
        loss = losses.CachedGISTEmbedLoss(model, guide, 0.1, 3, margin=0.2)
    else:
        loss = losses.GISTEmbedLoss(model, guide, temperature=0.1, margin=0.2)
    options = {"per_device_train_batch_size": 6, "max_steps": 1, "warmup_steps": 0}
    trainer_of(model, tmp_path / "run", loss, columns, **options).train()
    recipe = Recipe(
        batch_size=6, learning_rate=1e-3, warmup=0, weight_decay=0.0, seed=42, max_steps=1,
        no_duplicates=False, chunk_size=3 if is_cached else None,
    )  # fmt: skip
    vectors = np.stack([guide.encode(column) for column in columns.values()], axis=1)
    source = Source(
        Examples.from_columns(columns | {"label": vectors}),
        objective("guided-negatives-ranking", temperature=0.1, margin=0.2),
    )
    expected = fit(jsbert.SentenceTransformer(tiny_folder), source, tmp_path / "fit", recipe)
    np.testing.assert_array_equal(model.encode(TEXTS), expected.encode(TEXTS))


def test_layers_and_widths_that_the_peer_draws_have_their_mean_weight(model):
    layers = model.config.encoder.num_layers
    inner = losses.CosineSimilarityLoss(model)
    loss = losses.Matryoshka2dLoss(model, inner, [24, 12], [2, 1], kl_div_weight=3)
    assert loss.options["matryoshka_weights"] == (1.0, 0.5)
    assert loss.options["adaptive_layers"]["kl_div_weight"] == 3 / layers
    loss.objective()(model.config, name="train")
    all_of_them = losses.AdaptiveLayerLoss(model, inner, -1, layer_weighting="log")
    assert all_of_them.options["adaptive_layers"]["kl_div_weight"] == 1.0
    assert all_of_them.kind == "cosine"
    with pytest.raises(ValueError, match="layer_weighting is a function"):
        losses.AdaptiveLayerLoss(model, inner, layer_weighting=lambda layer: 1.0)


def test_a_trainer_gives_the_params_of_fit(tiny_folder, tmp_path):
    model = SentenceTransformer(tiny_folder)
    columns = {"a": ANCHORS, "b": ANCHORS[::-1], "score": SCORES}
    loss = losses.MatryoshkaLoss(model, losses.CosineSimilarityLoss(model), [24, 12], [1, 0.5])
    trainer_of(
        model, tmp_path / "run", loss, columns, num_train_epochs=1.5, warmup_ratio=0.5
    ).train()
    recipe = Recipe(
        epochs=2, batch_size=4, learning_rate=1e-3, warmup=0.5, weight_decay=0.0, seed=42,
        max_steps=3, no_duplicates=False,
    )  # fmt: skip
    chosen = objective("cosine", matryoshka_dims=(24, 12), matryoshka_weights=(1.0, 0.5))
    source = Source(Examples.from_columns(columns), chosen)
    expected = fit(jsbert.SentenceTransformer(tiny_folder), source, tmp_path / "fit", recipe)
    np.testing.assert_array_equal(model.encode(TEXTS), expected.encode(TEXTS))


def test_a_trainer_of_several_data_sets_and_of_a_cross_encoder(
    tiny_folder, tiny_cross_folder, tmp_path
):
    datasets = pytest.importorskip("datasets")
    scored = datasets.Dataset.from_dict({"a": ANCHORS, "b": ANCHORS[::-1], "score": SCORES})
    pairs = scored.remove_columns("score")
    model = SentenceTransformer(tiny_folder)
    args = SentenceTransformerTrainingArguments(
        tmp_path / "two", num_train_epochs=1, disable_tqdm=True, bf16=True, max_steps=2,
        multi_dataset_batch_sampler=MultiDatasetBatchSamplers.ROUND_ROBIN,
        eval_strategy="steps", eval_steps=1, load_best_model_at_end=True, optim="adamw_torch",
        report_to=["none"],
        batch_sampler=BatchSamplers.NO_DUPLICATES,
    )  # fmt: skip
    evaluator = EmbeddingSimilarityEvaluator(ANCHORS, ANCHORS[::-1], SCORES)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset={"scored": scored, "pairs": pairs},
        loss={
            "scored": losses.CoSENTLoss,
            "pairs": losses.MultipleNegativesRankingLoss(model),
        },
        evaluator=evaluator,
    )
    assert trainer.train().global_step == 2
    found = evaluator(model)
    assert trainer.evaluate() == {f"eval_{name}": value for name, value in found.items()}
    cross = CrossEncoder(tiny_cross_folder)
    before = cross.predict(PAIRS)
    args = CrossEncoderTrainingArguments(tmp_path / "cross", max_steps=1, disable_tqdm=True)
    CrossEncoderTrainer(cross, args, scored).train()
    assert np.abs(cross.predict(PAIRS) - before).max() > 0


class Noting:
    """A callback that notes what it is called with, and stops after some evaluations."""

    def __init__(self, patience=9):
        self.events, self.patience = [], patience

    def on_train_begin(self, args, state, control, model, **others):
        self.events.append(("begin", state.max_steps))

    def on_log(self, args, state, control, logs, **others):
        self.events.append(("log", state.global_step, sorted(logs)))

    def on_evaluate(self, args, state, control, metrics, **others):
        self.events.append(("evaluate", state.global_step, state.best_metric))
        self.patience -= 1
        control.should_training_stop = self.patience == 0

    def on_train_end(self, args, state, control, **others):
        self.events.append(("end", state.global_step, state.epoch))


def test_a_trainer_scores_held_out_examples_and_calls_callbacks(tiny_folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"a": ANCHORS, "b": ANCHORS[::-1], "score": SCORES})
    model, noting = SentenceTransformer(tiny_folder), Noting(patience=2)
    args = SentenceTransformerTrainingArguments(
        tmp_path / "run", per_device_train_batch_size=3, per_device_eval_batch_size=2,
        num_train_epochs=2, eval_strategy="steps", eval_steps=1, logging_steps=2,
        disable_tqdm=True, load_best_model_at_end=False, run_name="mine",
    )  # fmt: skip
    loss = losses.CosineSimilarityLoss(model)
    data = {"one": rows, "two": rows.select(range(3))}
    trainer = SentenceTransformerTrainer(model, args, rows, data, loss, callbacks=[noting])
    before = trainer.evaluate()
    assert set(before) == {"eval_loss", "eval_one_loss", "eval_two_loss"}
    squared = np.square(model.similarity_pairwise(*map(model.encode, (ANCHORS, ANCHORS[::-1])))
                        - np.asarray(SCORES))  # fmt: skip
    assert before["eval_one_loss"] == pytest.approx(squared.mean(), abs=1e-6)
    assert before["eval_two_loss"] == pytest.approx(squared[:3].mean(), abs=1e-6)
    assert before["eval_loss"] == pytest.approx((squared.sum() + squared[:3].sum()) / 9, abs=1e-6)

    output = trainer.train()
    assert output.global_step == 2  # stopped by the callback after two evaluations of four
    assert [event[:2] for event in noting.events] == [
        ("begin", 4), ("log", 1), ("evaluate", 1), ("log", 2), ("log", 2), ("evaluate", 2),
        ("end", 2),
    ]  # fmt: skip
    assert noting.events[2][2] is None
    assert noting.events[-1][2] == 1.0
    history = [line for line in trainer.state.log_history if "eval_loss" in line]
    assert trainer.state.best_metric == min(line["eval_loss"] for line in history)
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(history[-1]["eval_one_loss"])
    assert (args.metric_for_best_model, args.greater_is_better) == ("loss", False)
    assert args.run_name == "mine"
    assert args.to_dict()["per_device_eval_batch_size"] == 2


def test_transformers_early_stopping_stops(tiny_folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"a": ANCHORS, "b": ANCHORS[::-1], "score": SCORES})
    model = SentenceTransformer(tiny_folder)
    args = SentenceTransformerTrainingArguments(
        tmp_path / "run", max_steps=9, eval_strategy="steps", eval_steps=1, disable_tqdm=True,
        load_best_model_at_end=True, metric_for_best_model="eval_pearson_cosine",
        learning_rate=1e-9,
    )  # fmt: skip
    evaluator = EmbeddingSimilarityEvaluator(ANCHORS, ANCHORS[::-1], SCORES)
    early = transformers.EarlyStoppingCallback(2, early_stopping_threshold=0.1)
    trainer = SentenceTransformerTrainer(
        model, args, rows, loss=losses.CosineSimilarityLoss, evaluator=evaluator, callbacks=[early]
    )
    assert trainer.train().global_step < 9
    assert trainer.state.global_step == 3


def test_a_callback_that_would_not_be_called_is_refused(model):
    class Each:
        def on_step_end(self, *arguments, **options):
            raise AssertionError

    with pytest.raises(ValueError, match="Each has on_step_end, which is not called"):
        SentenceTransformerTrainer(model, train_dataset={}, callbacks=[Each])
    trainer = SentenceTransformerTrainer(model, train_dataset={}, callbacks=[Noting])
    trainer.remove_callback(Noting)
    assert trainer.callbacks == []


def test_a_metric_that_is_not_there_is_named(tiny_folder, tmp_path):
    model = SentenceTransformer(tiny_folder)
    columns = {"a": ANCHORS, "b": ANCHORS[::-1], "score": SCORES}
    evaluator = EmbeddingSimilarityEvaluator(ANCHORS, ANCHORS[::-1], SCORES)
    loss = losses.CosineSimilarityLoss(model)
    options = {"eval_strategy": "epoch", "metric_for_best_model": "eval_accuracy"}
    trainer = trainer_of(model, tmp_path / "run", loss, columns, **options)
    trainer.evaluator = evaluator
    with pytest.raises(ValueError, match="is 'accuracy'; the metrics are pearson_cosine"):
        trainer.train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fp16": True}, "fp16=True is not supported; use bf16=True"),
        ({"report_to": "wandb"}, "losses are in metrics.jsonl"),
        ({"deepspeed": "x.json"}, "deepspeed='x.json' is not supported"),
        ({"use_cpu": True}, "open the model with device='cpu'"),
        ({"eval_strategy": "never"}, "choose 'no', 'epoch' or 'steps'"),
        ({"batch_sampler": "by_length"}, "by_length"),
    ],
)
def test_a_training_argument_that_jsbert_lacks_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SentenceTransformerTrainingArguments("x", **options)


def test_samplers_are_options_of_the_recipe():
    for sampler, wanted in (
        (BatchSamplers.BATCH_SAMPLER, (False, False)),
        (BatchSamplers.NO_DUPLICATES, (True, False)),
        (BatchSamplers.NO_DUPLICATES_HASHED, (True, False)),
        ("group_by_label", (False, True)),
    ):
        recipe = SentenceTransformerTrainingArguments("x", batch_sampler=sampler).recipe(9)
        assert (recipe.no_duplicates, recipe.group_by_label) == wanted


def test_arguments_of_the_trainer_and_the_losses_are_refused_by_name(model):
    with pytest.raises(ValueError, match="data_collator=.* is not supported"):
        SentenceTransformerTrainer(model, train_dataset={}, data_collator=len)
    trainer = SentenceTransformerTrainer(model, train_dataset={})
    with pytest.raises(ValueError, match="no evaluator and no eval_dataset"):
        trainer.evaluate()
    with pytest.raises(ValueError, match=r"checkpoint='x' .* goes on from output_dir"):
        trainer.train(resume_from_checkpoint="x")
    with pytest.raises(ValueError, match="train_dataset is None"):
        SentenceTransformerTrainer(model)
    with pytest.raises(ValueError, match="hardness_mode='hard_negatives' is not supported"):
        losses.MultipleNegativesRankingLoss(model, hardness_mode="hard_negatives")
    with pytest.raises(ValueError, match="directions="):
        losses.MultipleNegativesRankingLoss(model, directions=("doc_to_doc",))
    with pytest.raises(ValueError, match="similarity_fct="):
        losses.MarginMSELoss(model, similarity_fct=max)


def test_an_activation_of_torch_is_taken_by_its_class(cross):
    torch = pytest.importorskip("torch")
    for activation in ("Sigmoid", "Identity", "Tanh"):
        np.testing.assert_array_equal(
            cross.predict(PAIRS, activation_fn=getattr(torch.nn, activation)()),
            cross.predict(PAIRS, activation_fn=activation.lower()),
        )
    with pytest.raises(ValueError, match="unknown activation 'Softplus'"):
        cross.predict(PAIRS, activation_fn=torch.nn.Softplus())


def test_a_models_similarity_is_a_score_function(model):
    vectors = model.encode(TEXTS)
    assert util.semantic_search(vectors, vectors, score_function=model.similarity) == (
        util.semantic_search(vectors, vectors, score_function=util.cos_sim)
    )


def test_codes_take_the_ranges_of_their_vectors(model):
    vectors = model.encode(TEXTS)
    with pytest.warns(UserWarning, match="those of 3 vectors, which are few"):
        codes = util.quantize_embeddings(vectors, precision="int8")
    np.testing.assert_array_equal(codes, model.encode(TEXTS, precision="int8"))
    given = util.quantize_embeddings(vectors, "int8", calibration_embeddings=vectors)
    np.testing.assert_array_equal(codes, given)


def test_what_is_no_pool_is_named(model, cross):
    for call in (
        lambda **more: model.encode(TEXTS, **more),
        lambda **more: cross.predict(PAIRS, **more),
    ):
        with pytest.raises(TypeError, match="start_multi_process_pool"):
            call(pool={"input": 1})


def test_an_iterator_and_a_call_say_what_to_do(model, cross):
    with pytest.raises(TypeError, match=r"for an iterator use list\(\.\.\.\)"):
        cross.predict(zip("ab", "cd", strict=True))
    with pytest.raises(TypeError, match="cannot be called; call the pure functions"):
        model({"input_ids": [1]})


def test_a_trainer_takes_input_examples(tiny_folder, tmp_path):
    model = SentenceTransformer(tiny_folder)
    examples = [
        InputExample(texts=[a, b], label=score)
        for a, b, score in zip(ANCHORS, ANCHORS[::-1], SCORES, strict=True)
    ]
    args = SentenceTransformerTrainingArguments(tmp_path / "run", max_steps=1, disable_tqdm=True)
    for loss in (losses.CosineSimilarityLoss, losses.MultipleNegativesRankingLoss):
        args.output_dir = str(tmp_path / loss.__name__)
        trained = SentenceTransformerTrainer(model, args, examples, loss=loss(model)).train()
        assert trained.global_step == 1
