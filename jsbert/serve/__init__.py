"""An HTTP server for embeddings and reranking, with the endpoints of OpenAI,
text-embeddings-inference, Cohere and Jina."""

import importlib

__all__ = ["check_installed"]

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "orjson")
"""The libraries of the extra `serve`."""


def check_installed() -> None:
    """Raise ImportError, which names the extra, if a library is missing."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"serving needs {error.name}, of the extra 'serve': pip install 'jsbert[serve]'"
            ) from None
