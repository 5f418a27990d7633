"""Read retrieval data in BEIR's folder layout."""

import os
import pathlib
from typing import NamedTuple

from jsbert.lines import read_lines, read_objects, without_end


class Beir(NamedTuple):
    """A retrieval data set: the first three arguments of `InformationRetrievalEvaluator`."""

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant_docs: dict[str, set[str]]


def read_beir(folder: str | os.PathLike, split: str = "test") -> Beir:
    """Read the data set in a folder with corpus.jsonl, queries.jsonl (each may be .gz) and
    qrels/{split}.tsv.

    The text of a document is its title, a space and its "text". The queries are those that the
    split judges. A document with a score above 0 is relevant, also if the corpus does not hold it.

    Raises:
        OSError: if a file does not exist.
        ValueError: if a line is malformed, an id occurs twice, or a judged query has no text; the
            message names file and line.
    """
    folder = pathlib.Path(folder)
    corpus = {
        key: f"{row.get('title') or ''} {row['text']}".strip()
        for key, row in _rows(folder / "corpus.jsonl")
    }
    texts = {key: row["text"] for key, row in _rows(folder / "queries.jsonl")}
    relevant: dict[str, set[str]] = {}
    qrels = folder / "qrels" / f"{split}.tsv"
    for line, ended in read_lines(qrels):
        if not (text := without_end(ended)):
            continue
        fields = text.split("\t")
        if line == 1 and fields[0] == "query-id":
            continue
        if len(fields) != 3 or not _is_number(fields[2]):
            raise ValueError(
                f"{qrels}, line {line}: {text!r:.80}; give query-id, corpus-id and score, with "
                "tabs between"
            )
        query, document, score = fields
        if query not in texts:
            raise ValueError(f"{qrels}, line {line}: query {query!r} is not in queries.jsonl")
        documents = relevant.setdefault(query, set())
        if float(score) > 0:
            documents.add(document)
    return Beir({query: texts[query] for query in relevant}, corpus, relevant)


def _rows(path):
    """Yield (id, row) of each line of a jsonl file, or of its .gz if the file does not exist."""
    path = path if path.exists() else path.with_name(f"{path.name}.gz")
    seen = set()
    for line, row in read_objects(path):
        if not all(isinstance(row.get(key), str) for key in ("_id", "text")):
            raise ValueError(
                f"{path}, line {line}: {row!r:.80}; "
                'give an object with the strings "_id" and "text"'
            )
        if row["_id"] in seen:
            raise ValueError(f"{path}, line {line}: _id {row['_id']!r} occurs for the second time")
        seen.add(row["_id"])
        yield row["_id"], row


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
