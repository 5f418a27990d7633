"""Search in collections of BEIR's layout: nDCG@10, MRR@10 and recall@100 of any models, with and
without reranking, beside BM25, with the seconds that each takes.

python -m benchmarks.retrieval --data FOLDER [MODEL ...] [--reranker MODEL]

FOLDER is a collection (corpus.jsonl, queries.jsonl, qrels/test.tsv; the jsonl files may be .gz), or
holds collections. A MODEL is a folder or a name, as for `benchmarks.sts`; without one, the default
model is measured. --reranker names a cross-encoder, which sorts the first --top results of each
ranking again. BM25 is that of the package bm25s (extra `bench`), Lucene's form with k1 = 1.5 and b
= .75, English stop words, no stemming; without the package its row is left out.

A document is relevant if its grade is above 0. The seconds: `index` makes the vectors of the
documents, or BM25's index; `search` answers all queries, their vectors included; `rerank` scores
the pairs. Programs are compiled before the clock starts.
"""

import argparse
import functools
import importlib.util
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.lib import report
from benchmarks.sts import model_name, open_model
from jsbert import CrossEncoder, SentenceTransformer
from jsbert.evaluate import Beir, read_beir
from jsbert.metrics import ndcg_at_k, recall_at_k, reciprocal_rank_at_k
from jsbert.search import top_k

DEPTH = 100
"""The length of a ranking."""

MEASURES = ("nDCG@10", "MRR@10", "recall@100")


class Ranking(NamedTuple):
    """The rankings of all queries.

    Attributes:
        places: places in the corpus, best first, (queries, at most DEPTH).
        seconds: the seconds of each stage.
    """

    places: np.ndarray
    seconds: dict[str, float]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure the models, and return what is written as JSON."""
    options = _options(argv)
    collections = dict(find_collections(options.data))
    if not collections:
        raise SystemExit(
            f"{options.data} holds no collection; give --data a folder with corpus.jsonl, "
            "queries.jsonl and qrels/test.tsv, or a folder of such folders"
        )
    values = report.circumstances()
    report.print_circumstances(values)
    rankers: dict[str, Callable[[Beir], Ranking]] = {}
    if importlib.util.find_spec("bm25s"):
        rankers["BM25"] = rank_by_bm25
    else:
        print("no row of BM25: pip install 'jsbert[bench]' for bm25s")
    for text in options.models:
        name, model = open_model(text)
        rankers[name] = functools.partial(rank_by_vectors, model)
    reranker = CrossEncoder(options.reranker) if options.reranker else None
    rows = []
    for collection, folder in collections.items():
        data = read_beir(folder)
        size = {"documents": len(data.corpus), "queries": len(data.queries)}
        for name, rank in rankers.items():
            ranking = rank(data)
            rows.append(row(collection, size, name, ranking, data))
            if reranker is not None:
                again = rerank(reranker, data, ranking, options.top)
                both = f"{name} + {model_name(options.reranker)}"
                rows.append(row(collection, size, both, again, data))
        of_collection = [found for found in rows if found["collection"] == collection]
        print(f"{collection}: {size['documents']:,} documents, {size['queries']:,} queries")
        stages = list(dict.fromkeys(s for found in of_collection for s in found["seconds"]))
        report.print_table(
            ["ranking", *MEASURES, *(f"{stage} (s)" for stage in stages)],
            [_cells(found, stages) for found in of_collection],
        )
    values |= {"top": options.top if reranker else None, "rows": rows}
    print("written:", report.write_json("retrieval", values, options.out))
    return values


def find_collections(data: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Yield (name, folder) of the collections in a folder, or of the folder itself."""
    folders = [data] if (data / "qrels").is_dir() else sorted(data.glob("*/"))
    for folder in folders:
        if (folder / "qrels" / "test.tsv").is_file():
            yield folder.resolve().name, folder


def rank_by_vectors(model: SentenceTransformer, data: Beir) -> Ranking:
    """Rank by a model's similarity of the vectors of queries and documents."""
    queries, documents = list(data.queries.values()), list(data.corpus.values())
    search = functools.partial(
        top_k, k=min(DEPTH, len(documents)), similarity=model.similarity_fn_name
    )
    # Compile everything with the same texts before the clock starts.
    vectors = model.encode_document(documents, on_truncate="ignore")
    search(model.encode_query(queries, on_truncate="ignore"), vectors)
    started = time.perf_counter()
    vectors = model.encode_document(documents, on_truncate="ignore")
    indexed = time.perf_counter()
    found = search(model.encode_query(queries, on_truncate="ignore"), vectors)
    places = np.asarray(found.indices)
    ended = time.perf_counter()
    return Ranking(places, {"index": indexed - started, "search": ended - indexed})


def rank_by_bm25(data: Beir) -> Ranking:
    """Rank by BM25."""
    import bm25s

    options = {"stopwords": "en", "show_progress": False}
    started = time.perf_counter()
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(data.corpus.values()), **options), show_progress=False)
    indexed = time.perf_counter()
    places, _ = index.retrieve(
        bm25s.tokenize(list(data.queries.values()), **options),
        k=min(DEPTH, len(data.corpus)),
        show_progress=False,
    )
    ended = time.perf_counter()
    return Ranking(np.asarray(places), {"index": indexed - started, "search": ended - indexed})


def rerank(model: CrossEncoder, data: Beir, ranking: Ranking, top: int) -> Ranking:
    """Sort the first `top` of each query's results by a cross-encoder's scores."""
    documents = list(data.corpus.values())
    first = ranking.places[:, :top]
    pairs = [
        (query, documents[place])
        for query, places in zip(data.queries.values(), first, strict=True)
        for place in places
    ]
    model.predict(pairs[: 4 * top], on_truncate="ignore", show_progress_bar=False)
    started = time.perf_counter()
    scores = model.predict(pairs, on_truncate="ignore").reshape(first.shape)
    seconds = time.perf_counter() - started
    order = np.argsort(-scores, axis=1, kind="stable")
    places = np.concatenate(
        [np.take_along_axis(first, order, axis=1), ranking.places[:, top:]], axis=1
    )
    return Ranking(places, ranking.seconds | {"rerank": seconds})


def measures(ranking: Ranking, data: Beir) -> dict[str, float]:
    """Return the means of `MEASURES`, times 100, over the queries with relevant documents."""
    ids = np.array(list(data.corpus))
    relevant = [data.relevant_docs[query] for query in data.queries]
    hits = np.array(
        [
            [name in wanted for name in ids[places]]
            for wanted, places in zip(relevant, ranking.places, strict=True)
        ]
    )
    counts = np.array([len(wanted) for wanted in relevant])
    found = (
        ndcg_at_k(hits, counts, 10),
        reciprocal_rank_at_k(hits, 10),
        recall_at_k(hits, counts, DEPTH),
    )
    has_any = counts > 0
    return {
        name: 100 * float(column[has_any].mean())
        for name, column in zip(MEASURES, found, strict=True)
    }


def row(
    collection: str, size: Mapping[str, int], name: str, ranking: Ranking, data: Beir
) -> dict[str, Any]:
    """Return the results of a ranking of a collection, for the JSON."""
    found = {"collection": collection, **size, "name": name}
    return found | measures(ranking, data) | {"seconds": ranking.seconds}


def _cells(found: Mapping[str, Any], stages: Sequence[str]) -> list[str]:
    seconds = (found["seconds"].get(stage) for stage in stages)
    return [
        found["name"],
        *(f"{found[measure]:.1f}" for measure in MEASURES),
        *("-" if value is None else f"{value:.2f}" for value in seconds),
    ]


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", default=[None], help="[NAME=]FOLDER or a name"
    )
    parser.add_argument("--data", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--reranker", metavar="MODEL", help="a cross-encoder's folder or name")
    parser.add_argument("--top", type=int, default=100, help="results that it sorts (100)")
    options = parser.parse_args(argv)
    if not 1 <= options.top <= DEPTH:
        parser.error(f"--top is {options.top}; give 1 to {DEPTH}")
    return options


if __name__ == "__main__":
    main()
