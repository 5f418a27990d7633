"""LangChain, LlamaIndex, Haystack and Chroma."""

import asyncio

import numpy as np
import pytest

from jsbert import SentenceTransformer
from tests import models

TEXTS = [text for text in models.sentences(40, seed=3) if text][:12]
QUERY = "the red cat on the tree"
PROMPTS = {"query": "query : ", "document": "passage : "}


@pytest.fixture(scope="module")
def prompted(tiny_folder, tmp_path_factory):
    """A folder of the tiny model, with prompts for queries and documents."""
    folder = tmp_path_factory.mktemp("prompted") / "model"
    SentenceTransformer(tiny_folder, prompts=PROMPTS).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def order(prompted):
    """The positions of `TEXTS`, best first, as jsbert finds them itself."""
    model = SentenceTransformer(prompted)
    scores = model.similarity(model.encode_query(QUERY), model.encode_document(TEXTS))[0]
    return np.argsort(-np.asarray(scores), kind="stable")


@pytest.fixture(scope="module")
def ranking(tiny_cross):
    """The positions of `TEXTS` and their scores, as jsbert's reranker finds them itself."""
    hits = tiny_cross.rank(QUERY, TEXTS)
    return [hit["corpus_id"] for hit in hits], [hit["score"] for hit in hits]


def test_langchain_finds_what_jsbert_finds(client, prompted, order):
    stores = client("langchain_core.vectorstores")
    from jsbert.integrations.langchain import JsbertEmbeddings

    store = stores.InMemoryVectorStore(JsbertEmbeddings(prompted))
    store.add_texts(TEXTS)
    found = store.similarity_search(QUERY, k=5)
    assert [document.page_content for document in found] == [TEXTS[i] for i in order[:5]]
    retriever = store.as_retriever(search_kwargs={"k": 1})
    assert asyncio.run(retriever.ainvoke(QUERY))[0].page_content == TEXTS[order[0]]
    short = JsbertEmbeddings(prompted, truncate_dim=5).embed_query(QUERY)
    assert len(short) == 5
    assert isinstance(short[0], float)


def test_langchain_reranks(client, tiny_cross, ranking):
    documents = client("langchain_core.documents")
    from jsbert.integrations.langchain import JsbertReranker

    given = [
        documents.Document(page_content=text, metadata={"at": i}) for i, text in enumerate(TEXTS)
    ]
    best = JsbertReranker(model=tiny_cross, top_n=4).compress_documents(given, QUERY)
    assert [document.metadata["at"] for document in best] == ranking[0][:4]
    assert [document.metadata["relevance_score"] for document in best] == pytest.approx(
        ranking[1][:4]
    )
    assert "relevance_score" not in given[0].metadata
    assert list(JsbertReranker(model=tiny_cross).compress_documents([], QUERY)) == []


def test_llama_index_finds_what_jsbert_finds(client, prompted, order):
    core = client("llama_index.core")
    from jsbert.integrations.llama_index import JsbertEmbedding

    embedding = JsbertEmbedding(prompted)
    index = core.VectorStoreIndex.from_documents(
        [core.Document(text=text) for text in TEXTS],
        embed_model=embedding,
        transformations=[client("llama_index.core.node_parser").SentenceSplitter()],
    )
    found = index.as_retriever(similarity_top_k=5).retrieve(QUERY)
    assert [node.text for node in found] == [TEXTS[i] for i in order[:5]]
    assert asyncio.run(embedding.aget_query_embedding(QUERY)) == embedding.get_query_embedding(
        QUERY
    )
    vectors = asyncio.run(embedding.aget_text_embedding_batch(TEXTS))
    np.testing.assert_allclose(
        vectors, SentenceTransformer(prompted).encode_document(TEXTS), atol=1e-6
    )
    assert JsbertEmbedding.from_dict(embedding.to_dict()).get_text_embedding("a") == pytest.approx(
        embedding.get_text_embedding("a")
    )


def test_llama_index_reranks(client, tiny_cross, ranking):
    schema = client("llama_index.core.schema")
    from jsbert.integrations.llama_index import JsbertRerank

    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text), score=0.5) for text in TEXTS]
    best = JsbertRerank(tiny_cross, top_n=4).postprocess_nodes(nodes, query_str=QUERY)
    assert [node.text for node in best] == [TEXTS[i] for i in ranking[0][:4]]
    assert [node.score for node in best] == pytest.approx(ranking[1][:4])


def test_a_haystack_pipeline_is_saved_and_finds_what_jsbert_finds(
    client, prompted, order, tiny_cross_folder, ranking
):
    haystack = client("haystack")
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    from jsbert.integrations.haystack import (
        JsbertDocumentEmbedder,
        JsbertRanker,
        JsbertTextEmbedder,
    )

    store = InMemoryDocumentStore(embedding_similarity_function="cosine", index="jsbert-test")
    documents = [haystack.Document(content=text) for text in TEXTS]
    store.write_documents(JsbertDocumentEmbedder(prompted).run(documents)["documents"])
    assert documents[0].embedding is None
    pipeline = haystack.Pipeline()
    pipeline.add_component("embedder", JsbertTextEmbedder(prompted))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=len(TEXTS)))
    pipeline.add_component("ranker", JsbertRanker(str(tiny_cross_folder), top_k=4))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    pipeline.connect("retriever", "ranker")
    again = haystack.Pipeline.loads(
        pipeline.dumps(), allowed_modules=["jsbert.integrations.haystack"]
    )
    found = again.run(
        {"embedder": {"text": QUERY}, "ranker": {"query": QUERY}},
        include_outputs_from={"retriever"},
    )
    texts = [document.content for document in found["retriever"]["documents"]]
    assert texts == [TEXTS[i] for i in order]
    best = found["ranker"]["documents"]
    assert [document.content for document in best] == [TEXTS[i] for i in ranking[0][:4]]
    assert [document.score for document in best] == pytest.approx(ranking[1][:4])


def test_haystack_joins_meta_and_content(client, prompted):
    haystack = client("haystack")
    from jsbert.integrations.haystack import JsbertDocumentEmbedder

    options = {
        "model_options": {"truncate_dim": 7},
        "encode_options": {"normalize_embeddings": True},
    }
    embedder = JsbertDocumentEmbedder(prompted, meta_fields_to_embed=["title"], **options)
    embedder = JsbertDocumentEmbedder.from_dict(embedder.to_dict())
    document = haystack.Document(content="a dog", meta={"title": "red"})
    (found,) = embedder.run([document])["documents"]
    wanted = SentenceTransformer(prompted, truncate_dim=7).encode_document(
        "red\na dog", normalize_embeddings=True
    )
    assert found.embedding == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_chroma_collection_is_opened_again_without_naming_the_function(
    client, prompted, order, tmp_path
):
    chromadb = client("chromadb")
    from jsbert.integrations.chromadb import JsbertEmbeddingFunction

    function = JsbertEmbeddingFunction(prompted, truncate_dim=23)
    opened = chromadb.PersistentClient(str(tmp_path))
    collection = opened.create_collection("texts", embedding_function=function)
    collection.add(ids=[str(i) for i in range(len(TEXTS))], documents=TEXTS)
    again = opened.get_collection("texts")  # the function comes from the stored configuration
    found = again.query(query_texts=[QUERY], n_results=len(TEXTS))["ids"][0]
    model = SentenceTransformer(prompted, truncate_dim=23)
    scores = model.similarity(model.encode_query(QUERY), model.encode_document(TEXTS))[0]
    assert found == [str(i) for i in np.argsort(-np.asarray(scores), kind="stable")]
    stored = again.get(ids=["3"], include=["embeddings"])["embeddings"][0]
    np.testing.assert_allclose(stored, model.encode_document(TEXTS[3]), atol=1e-6)
