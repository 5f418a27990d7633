"""The versions with which the suite last passed, and the versions that have moved since.

`python -m tests.versions` prints them. With `--write` the command records the installed versions in
pyproject.toml, after a run that passed.
"""

import importlib.metadata
import pathlib
import sys
import tomllib

PROJECT = pathlib.Path(__file__).parents[1] / "pyproject.toml"
TABLE = "[tool.jsbert.last-green]\n"
PACKAGES = [
    "torch", "transformers", "sentence-transformers", "peft", "accelerate", "tokenizers", "jax",
    "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy", "safetensors",
    "huggingface-hub", "datasets", "pyarrow", "onnx", "onnxruntime", "typer", "fastapi", "uvicorn",
    "openai", "pytest", "hypothesis", "beartype", "jaxtyping",
]  # fmt: skip


def last_green() -> dict[str, str]:
    """Return {package: version} as pyproject.toml states them."""
    return tomllib.loads(PROJECT.read_text(encoding="utf8"))["tool"]["jsbert"]["last-green"]


def installed() -> dict[str, str]:
    """Return {package: version} of the packages of PACKAGES that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]  # without "+cpu"
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def moved(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return a line for each package whose version has moved. Packages that are not installed do
    not count."""
    return [
        f"{name} {before.get(name, 'not recorded')} -> {version}"
        for name, version in now.items()
        if before.get(name) != version
    ]


def summary() -> str:
    """Return one line on what has moved since the last run that passed."""
    changes = moved(last_green(), installed())
    return "moved since the last green run: " + (", ".join(changes) or "nothing")


def write() -> None:
    """Record the installed versions in pyproject.toml."""
    head, _, rest = PROJECT.read_text(encoding="utf8").partition(TABLE)
    _, blank, tail = rest.partition("\n\n")
    lines = [f'{name} = "{version}"' for name, version in installed().items()]
    PROJECT.write_text(head + TABLE + "\n".join(lines) + blank + tail, encoding="utf8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    print(
        "last green with: "
        + ", ".join(f"{name} {version}" for name, version in last_green().items())
    )
    print(summary())
