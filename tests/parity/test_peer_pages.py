"""Scripts in the form of the peer's documentation pages: the import changes, and nothing else.

Each script runs twice, with the peer and with jsbert. What it puts into `found` must be the same:
numbers to 1e-4, everything else equal.
"""

import re
import textwrap
import warnings

import numpy as np
import pytest

pytestmark = pytest.mark.parity

PAGES = {
    "quickstart": """
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(MODEL)
        sentences = ["The harbour is quiet.", "No ship came today.", "She bakes bread."]
        embeddings = model.encode(sentences)
        found["shape"] = embeddings.shape
        similarities = model.similarity(embeddings, embeddings)
        found["similarities"] = similarities
        found["dimension"] = model.get_embedding_dimension()
        found["limit"] = model.max_seq_length
        model.max_seq_length = 8
        found["one"] = model.encode(sentences[0])
        found["truncated"] = model.encode(sentences, truncate_dim=5, normalize_embeddings=True)
        """,
    "cross-encoder quickstart": """
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(CROSS)
        query = "Who bakes bread?"
        passages = ["She bakes bread.", "The harbour is quiet.", "No ship came today."]
        found["ranks"] = model.rank(query, passages)
        found["some"] = model.rank(query, passages, return_documents=True, top_k=2)
        found["scores"] = model.predict([(query, passage) for passage in passages])
        """,
    "prompts": """
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            MODEL, prompts={"find": "find: ", "text": "text: "}, default_prompt_name="text"
        )
        found["default"] = model.encode("The harbour is quiet.")
        found["named"] = model.encode("The harbour is quiet.", prompt_name="find")
        found["given"] = model.encode(["The harbour is quiet."], prompt="ask: ")
        found["query"] = model.encode_query("a quiet harbour")
        found["document"] = model.encode_document(["The harbour is quiet."])
        """,
    "semantic search": """
        from sentence_transformers import SentenceTransformer, util

        embedder = SentenceTransformer(MODEL)
        corpus = [
            "A man repairs a boat.", "Rain fell on the hills.", "The cook tastes the soup.",
            "Two children fly a kite.", "The old clock stopped.",
        ]
        queries = ["Who repairs the boat?", "weather in the hills"]
        corpus_embeddings = embedder.encode_document(corpus, convert_to_tensor=True)
        top_k = min(3, len(corpus))
        for query in queries:
            query_embedding = embedder.encode_query(query, convert_to_tensor=True)
            scores = embedder.similarity(query_embedding, corpus_embeddings)[0]
            found[query] = scores
        query_embeddings = embedder.encode_query(queries, convert_to_tensor=True)
        hits = util.semantic_search(query_embeddings, corpus_embeddings, top_k=top_k)
        found["hits"] = hits
        found["best"] = [corpus[hit["corpus_id"]] for hit in hits[0]]
        normalized = util.normalize_embeddings(corpus_embeddings)
        found["dot"] = util.semantic_search(normalized, normalized, score_function=util.dot_score)
        """,
    "retrieve and rerank": """
        from sentence_transformers import CrossEncoder, SentenceTransformer, util

        bi_encoder, cross_encoder = SentenceTransformer(MODEL), CrossEncoder(CROSS)
        passages = ["A man repairs a boat.", "Rain fell on the hills.", "The old clock stopped."]
        embeddings = bi_encoder.encode(passages, convert_to_tensor=True, show_progress_bar=False)
        question = bi_encoder.encode("Who repairs the boat?", convert_to_tensor=True)
        hits = util.semantic_search(question, embeddings, top_k=3)[0]
        cross_inp = [["Who repairs the boat?", passages[hit["corpus_id"]]] for hit in hits]
        for hit, score in zip(hits, cross_encoder.predict(cross_inp)):
            hit["cross-score"] = float(score)
        found["hits"] = sorted(hits, key=lambda x: x["cross-score"], reverse=True)
        """,
    "paraphrase mining and clustering": """
        from sentence_transformers import SentenceTransformer, util

        model = SentenceTransformer(MODEL)
        sentences = [
            "The cat sits outside", "A man plays the lute", "I love pasta", "The new film is great",
            "The cat plays outside", "A woman watches a film", "Do you like pizza?",
        ]
        found["pairs"] = util.paraphrase_mining(model, sentences)[:3]
        embeddings = model.encode(sentences, convert_to_tensor=True)
        found["groups"] = util.community_detection(embeddings, min_community_size=2, threshold=0.9)
        """,
    "embedding quantization": """
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util.quantization import quantize_embeddings

        model = SentenceTransformer(MODEL)
        embeddings = model.encode(["A kite flies.", "The soup is hot.", "It rains."])
        found["bits"] = quantize_embeddings(embeddings, precision="binary")
        found["unsigned"] = model.encode(["A kite flies.", "It rains."], precision="ubinary")
        """,
    "modules": """
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

        transformer = Transformer(MODEL, max_seq_length=9)
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="cls")
        model = SentenceTransformer(modules=[transformer, pooling, Normalize()])
        found["kinds"] = [type(module).__name__ for module in model]
        found["vectors"] = model.encode(["A kite flies.", "The soup is hot."])
        model.save_pretrained(OUT + "/model")
        found["again"] = SentenceTransformer(OUT + "/model").encode("A kite flies.")
        """,
    "training overview": """
        from datasets import Dataset
        from sentence_transformers import (
            SentenceTransformer,
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
        )
        from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
        from sentence_transformers.sentence_transformer.training_args import BatchSamplers

        model = SentenceTransformer(MODEL)
        rows = {
            "anchor": ["a boat", "a kite", "hot soup", "the old clock"],
            "positive": ["a ship", "a dragon", "warm broth", "the ancient watch"],
            "negative": ["a tree", "a stone", "cold water", "the young dog"],
        }
        train_dataset, eval_dataset = Dataset.from_dict(rows), Dataset.from_dict(rows)
        loss = MultipleNegativesRankingLoss(model)
        args = SentenceTransformerTrainingArguments(
            output_dir=OUT + "/models/mine",
            num_train_epochs=1,
            per_device_train_batch_size=2,
            per_device_eval_batch_size=2,
            learning_rate=2e-5,
            warmup_steps=0.1,
            fp16=False,
            bf16=False,
            batch_sampler=BatchSamplers.NO_DUPLICATES,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="steps",
            save_steps=2,
            save_total_limit=2,
            logging_steps=1,
            run_name="mine",
            report_to="none",
        )
        dev_evaluator = TripletEvaluator(
            anchors=eval_dataset["anchor"],
            positives=eval_dataset["positive"],
            negatives=eval_dataset["negative"],
            name="dev",
        )
        found["before"] = dev_evaluator(model)
        trainer = SentenceTransformerTrainer(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            loss=loss,
            evaluator=dev_evaluator,
        )
        untrained = trainer.evaluate()
        found["loss"] = untrained["eval_loss"]
        found["accuracy"] = untrained["eval_dev_cosine_accuracy"]
        trainer.train()
        found["updates"] = trainer.state.global_step
        model.save_pretrained(OUT + "/models/final")
        found["saved"] = SentenceTransformer(OUT + "/models/final").encode("a boat").shape
        """,
    "several data sets": """
        from datasets import Dataset
        from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
        from sentence_transformers import SentenceTransformerTrainingArguments
        from sentence_transformers.losses import CoSENTLoss, MultipleNegativesRankingLoss
        from sentence_transformers.training_args import MultiDatasetBatchSamplers

        model = SentenceTransformer(MODEL)
        pairs = Dataset.from_dict({"a": ["a boat", "a kite"], "b": ["a ship", "a dragon"]})
        scored = pairs.add_column("score", [0.9, 0.2])
        args = SentenceTransformerTrainingArguments(
            OUT + "/run", max_steps=2, per_device_train_batch_size=2, report_to="none",
            multi_dataset_batch_sampler=MultiDatasetBatchSamplers.ROUND_ROBIN,
        )
        trainer = SentenceTransformerTrainer(
            model, args, {"pairs": pairs, "scored": scored},
            loss={"pairs": MultipleNegativesRankingLoss(model), "scored": CoSENTLoss(model)},
        )
        found["updates"] = trainer.train().global_step
        """,
    "cross-encoder training": """
        from datasets import Dataset
        from sentence_transformers.cross_encoder import (
            CrossEncoder,
            CrossEncoderTrainer,
            CrossEncoderTrainingArguments,
        )
        from sentence_transformers.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator
        from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

        model = CrossEncoder(CROSS, num_labels=1)
        rows = Dataset.from_dict({
            "sentence1": ["a boat", "a kite", "hot soup", "the old clock"],
            "sentence2": ["a ship", "a stone", "warm broth", "the young dog"],
            "label": [0.9, 0.1, 0.8, 0.3],
        })
        evaluator = CrossEncoderCorrelationEvaluator(
            sentence_pairs=list(zip(rows["sentence1"], rows["sentence2"])),
            scores=rows["label"],
            name="dev",
        )
        found["before"] = evaluator(model)
        args = CrossEncoderTrainingArguments(
            output_dir=OUT + "/run", num_train_epochs=1, per_device_train_batch_size=2,
            report_to="none",
        )
        trainer = CrossEncoderTrainer(
            model=model, args=args, train_dataset=rows, loss=BinaryCrossEntropyLoss(model)
        )
        found["updates"] = trainer.train().global_step
        """,
    "evaluation": """
        from sentence_transformers import SentenceTransformer, SimilarityFunction
        from sentence_transformers.evaluation import (
            EmbeddingSimilarityEvaluator,
            InformationRetrievalEvaluator,
            SequentialEvaluator,
        )

        model = SentenceTransformer(MODEL)
        scores = EmbeddingSimilarityEvaluator(
            sentences1=["a boat", "a kite", "hot soup", "rain"],
            sentences2=["a ship", "a stone", "warm broth", "a dry day"],
            scores=[0.9, 0.1, 0.8, 0.3],
            main_similarity=SimilarityFunction.COSINE,
            name="sts-dev",
        )
        found["sts"] = model.evaluate(scores)
        search = InformationRetrievalEvaluator(
            queries={"q1": "a boat", "q2": "soup"},
            corpus={"d1": "a ship", "d2": "warm broth", "d3": "a stone"},
            relevant_docs={"q1": {"d1"}, "q2": {"d2"}},
            name="mine",
        )
        found["search"] = search(model)
        found["primary"] = search.primary_metric
        found["both"] = SequentialEvaluator([scores, search])(model)
        """,
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_finds_the_same(page, tiny_folder, tiny_cross_folder, tmp_path):
    pytest.importorskip("datasets")
    script = textwrap.dedent(PAGES[page])
    moved = re.sub(
        r"^from sentence_transformers", "from jsbert.sentence_transformers", script, flags=re.M
    )
    assert moved.count("jsbert.") == script.count("from sentence_transformers")
    both = []
    for name, text in (("theirs", script), ("ours", moved)):
        found = {}
        names = {
            "MODEL": str(tiny_folder),
            "CROSS": str(tiny_cross_folder),
            "OUT": str(tmp_path / name),
            "found": found,
        }
        with warnings.catch_warnings():
            if name == "theirs":
                warnings.simplefilter("ignore")
            # The peer cuts long texts without a word.
            warnings.filterwarnings("ignore", "(?s).*were cut there", UserWarning)
            exec(compile(text, page, "exec"), names)
        both.append(found)
    theirs, ours = both
    assert ours.keys() == theirs.keys()
    for key, wanted in theirs.items():
        assert_alike(ours[key], wanted, key)


def assert_alike(ours, theirs, key):
    """Numbers to 1e-4, in the same containers."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), key
        for name in theirs:
            assert_alike(ours[name], theirs[name], f"{key}: {name}")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), key
        for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_alike(mine, other, f"{key}: {i}")
    elif isinstance(theirs, str):
        assert ours == theirs, key
    else:
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-4, err_msg=key)
