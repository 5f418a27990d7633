"""`jsbert serve`: answer requests for vectors and scores over HTTP."""

import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from jsbert.cli import options

if TYPE_CHECKING:
    from jsbert.serve.models import Catalogue


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, bundled names or hub names; NAME=FOLDER gives a model another name.",
            show_default="the default model",
        ),
    ] = None,
    reranker: Annotated[
        str | None, typer.Option(help="A cross-encoder's folder or hub name, or NAME=FOLDER.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for a free one.")] = 8080,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Texts that the page at / shows at its start: a text, csv or tsv file.",
            show_default="none",
        ),
    ] = None,
    api_key_file: Annotated[
        str | None,
        typer.Option(
            help="A file of keys, one a line; the environment variable JSBERT_API_KEYS adds more.",
            show_default="no key is needed",
        ),
    ] = None,
    max_queue_tokens: Annotated[
        int, typer.Option(min=1, help="The tokens that may wait or be computed at a time.")
    ] = 200_000,
    max_request_texts: Annotated[int, typer.Option(min=1, help="The texts of a request.")] = 2048,
    max_body_mb: Annotated[int, typer.Option(min=1, help="The size of a body in MiB.")] = 8,
    timeout: Annotated[
        float, typer.Option(help="Seconds for a body, for an answer, and for the end.")
    ] = 60.0,
    cors: Annotated[
        str | None,
        typer.Option(
            help="Origins whose pages may call the server, separated by commas; '*' for all.",
            show_default="none",
        ),
    ] = None,
    truncate: Annotated[
        bool,
        typer.Option(help="Cut texts past the model's limit; else they are an error."),
    ] = True,
    warm_tokens: Annotated[
        int,
        typer.Option(
            min=0, help="Before it is ready, compile for texts of up to this many tokens."
        ),
    ] = 64,
    dtype: options.Dtype = "float32",
    device: options.Device = None,
) -> None:
    """Answer requests for vectors and scores over HTTP, as OpenAI, text-embeddings-inference,
    Cohere and Jina do."""
    from jsbert.cli.models import find_model, is_cross_encoder, open_bi_encoder, open_cross_encoder
    from jsbert.cross_encoder import ORGANIZATION
    from jsbert.serve import check_installed

    check_installed()
    from jsbert.serve.corpus import read_corpus
    from jsbert.serve.server import serve as run
    from jsbert.serve.settings import Settings, read_keys

    settings = Settings(
        host=host,
        port=port,
        keys=read_keys(api_key_file),
        max_queue_tokens=max_queue_tokens,
        max_request_texts=max_request_texts,
        max_body_mb=max_body_mb,
        timeout_seconds=timeout,
        cors=tuple(options.split(cors) or ()),
        truncate=truncate,
        warm_tokens=warm_tokens,
    )
    if not settings.keys and host not in ("127.0.0.1", "::1", "localhost"):
        typer.echo(f"jsbert: warning: anyone who reaches {host} can use this server", err=True)
    start = None if corpus is None else read_corpus(corpus)
    # Find the folders now, so that a wrong name is an error before anything listens.
    folders = [(name, find_model(source)) for name, source in map(_named, models or ())]
    if not models:
        default = find_model(None)
        folders = [(default.name, default)]
    rerankers = set()
    if reranker is not None:
        name, source = _named(reranker)
        rerankers.add(name)
        folders.append((name, find_model(source, organization=ORGANIZATION)))

    def open_models(catalogue: "Catalogue") -> None:
        for name, folder in folders:
            is_cross = name in rerankers or is_cross_encoder(folder)
            opened = (open_cross_encoder if is_cross else open_bi_encoder)(
                folder, device=device, dtype=dtype
            )
            catalogue.add(name, opened)

    run(settings, open_models, start)


def _named(source: str) -> tuple[str, str]:
    """Return the name and the source of NAME=FOLDER. Without a name, a folder has its own name, and
    another source is its own name.

    >>> _named("mini=models/mini-v2"), _named("all-MiniLM-L6-v2")
    (('mini', 'models/mini-v2'), ('all-MiniLM-L6-v2', 'all-MiniLM-L6-v2'))
    """
    name, equals, folder = source.partition("=")
    if equals and name and folder and not pathlib.Path(source).exists():
        return name, folder
    return (
        pathlib.Path(source).resolve().name if pathlib.Path(source).is_dir() else source
    ), source
