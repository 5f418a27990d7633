"""Adapters for libraries that take an embedding model or a reranker, one file for each library.

    from jsbert.integrations.langchain import JsbertEmbeddings

A file imports its library; without the library the import raises an ImportError that says what to
install. Nothing else in jsbert imports this room.
"""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs(package: str) -> Iterator[None]:
    """Within a `with` block, say which package to install if an import fails.

    >>> with needs("some-client"):
    ...     import some_client
    Traceback (most recent call last):
    ImportError: this adapter needs some-client: pip install some-client

    Raises:
        ImportError: if a module is not found.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"this adapter needs {package}: pip install {package}"
        raise ImportError(message, name=error.name) from error
