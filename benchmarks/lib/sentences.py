"""Real English sentences that every machine has: the sentences of the docstrings in Python's
standard library and the installed packages."""

import ast
import hashlib
import pathlib
import random
import re
import sysconfig
from collections.abc import Callable, Iterator

ENOUGH = 15_000
"""The number of distinct sentences after which the search stops."""

SKIPPED = {
    "test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages",
    "__pycache__",
}  # fmt: skip
_END = re.compile(r"(?<=[.!?])\s+")
_ENGLISH = re.compile(r"[A-Z][A-Za-z0-9 ,;:'\"()/%-]*[a-z)][.!?]")


def docstring_sentences(enough: int | None = None) -> list[str]:
    """Return sentences of 5 to 40 words, distinct without case, by file name, standard library
    first.

    Args:
        enough: the number of distinct sentences after which the search stops; by default `ENOUGH`.
    """
    enough = ENOUGH if enough is None else enough
    found: dict[str, str] = {}
    for file in _python_files():
        for docstring in _docstrings(file):
            for paragraph in re.split(r"\n\s*\n", docstring):
                if not re.search(r">>>|::|--", paragraph):
                    for sentence in _END.split(" ".join(paragraph.split())):
                        if 5 <= len(sentence.split()) <= 40 and _ENGLISH.fullmatch(sentence):
                            found.setdefault(sentence.lower(), sentence)
        if len(found) >= enough:
            break
    return list(found.values())


def file_sentences(file: pathlib.Path) -> list[str]:
    """Return the distinct lines of a text file, without empty lines."""
    lines = (line.strip() for line in file.read_text(encoding="utf8").splitlines())
    return list(dict.fromkeys(filter(None, lines)))


def documents(
    sentences: Iterator[str], count: int, at_least: int, num_tokens: Callable[[str], int]
) -> list[str]:
    """Return `count` documents. Each document joins as many sentences, in order, as make `at_least`
    tokens.

    Raises:
        ValueError: if there are too few sentences.
    """
    made, document = [], ""
    while len(made) < count:
        if (sentence := next(sentences, None)) is None:
            raise ValueError(
                f"{count} documents of {at_least} tokens asked for; the sentences make {len(made)}"
            )
        document = f"{document} {sentence}" if document else sentence
        if num_tokens(document) >= at_least:
            made.append(document)
            document = ""
    return made


def shuffled(sentences: list[str], seed: int) -> list[str]:
    """Return a copy in an order that depends on the seed alone."""
    return random.Random(seed).sample(sentences, len(sentences))


def fingerprint(sentences: list[str]) -> str:
    """Return the first digits of the sentences' sha256: equal sentences have equal digits."""
    return hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:12]


def _python_files() -> Iterator[pathlib.Path]:
    paths = sysconfig.get_paths()
    for root in (paths["stdlib"], paths["purelib"]):
        for file in sorted(pathlib.Path(root).rglob("*.py")):
            if not SKIPPED & set(file.relative_to(root).parts[:-1]):
                yield file


def _docstrings(file):
    try:
        tree = ast.parse(file.read_text(encoding="utf8"))
    except (SyntaxError, ValueError, OSError, RecursionError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        text
        for node in ast.walk(tree)
        if isinstance(node, kinds) and (text := ast.get_docstring(node))
    ]
