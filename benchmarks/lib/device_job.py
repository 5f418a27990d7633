"""What the parts of `benchmarks.accelerator` share: the job, its sizes, its texts, and the file of
a part's results.

python -m benchmarks.lib.device_job JOB RESULTS
makes the model and the texts of a job, and writes the machine's facts into RESULTS.
"""

import dataclasses
import importlib.metadata
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax

from benchmarks.lib import report
from benchmarks.lib.sentences import docstring_sentences, documents, fingerprint, shuffled
from benchmarks.pairwise import base_shape
from jsbert.checkpoint import find_folder, read_bi_encoder, write_bi_encoder
from jsbert.engine import platform_of, resolve_devices
from jsbert.files import write_text

SENTENCES = 4000
"""The number of distinct sentences that the texts are made from; reading more takes too long."""

WORDS = (90, 150, 210)
"""The least numbers of words of long texts."""

LIBRARIES = (
    "jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "libtpu",
    "accelerate", "datasets",
)  # fmt: skip
"""Packages on which speed depends, in addition to those of `report.PACKAGES`."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        mixed, short: the number of texts of the two loads; one of five mixed texts is long.
        shapes: texts and tokens of each text of the single batches.
        calls: the number of batches, one after the other, of a measurement.
        checked: the number of float32 vectors that are compared with the CPU's.
        corpus, queries: the number of vectors of the search.
        steps: the number of updates of a training run.
        pairs: the number of pairs of a batch for each objective.
        singles: the number of texts that are encoded one at a time.
        repeats: the number of turns.
        encoder: sizes of the random model in place of BERT base's.
    """

    mixed: int = 10_000
    short: int = 20_000
    shapes: tuple[tuple[int, int], ...] = ((256, 128), (64, 512), (2048, 16))
    calls: int = 10
    checked: int = 32
    corpus: int = 1_000_000
    queries: int = 1_000
    steps: int = 100
    pairs: tuple[tuple[str, int], ...] = (("cosine", 16), ("multiple-negatives-ranking", 128))
    singles: int = 100
    repeats: int = 5
    encoder: tuple[tuple[str, int], ...] = ()


SMALL = Sizes(
    mixed=15,
    short=40,
    shapes=((8, 16), (2, 64)),
    calls=2,
    checked=4,
    corpus=2_000,
    queries=20,
    steps=12,
    pairs=(("multiple-negatives-ranking", 4),),
    singles=5,
    repeats=3,
    encoder=(
        ("hidden_size", 36),
        ("num_hidden_layers", 2),
        ("num_attention_heads", 3),
        ("intermediate_size", 48),
    ),
)


@dataclasses.dataclass(frozen=True)
class Job:
    """What each part is told.

    Attributes:
        folder: holds the texts, and the random model if there is one.
        model: the folder of the large model; None: a BERT base of random weights in `folder`.
        device: "cpu", "gpu" or "tpu"; None: JAX's first device.
        is_small: whether every size is shrunk.
        peers: whether torch is measured, too.
    """

    folder: str
    model: str | None
    device: str | None
    is_small: bool
    peers: bool

    @property
    def sizes(self) -> Sizes:
        """The sizes that are measured."""
        return SMALL if self.is_small else Sizes()

    @property
    def base(self) -> str:
        """The folder of the large model."""
        return self.model or str(pathlib.Path(self.folder) / "bert-base-shape")

    @property
    def bundled(self) -> str:
        """The folder of the bundled model."""
        return str(find_folder())

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The device that is measured."""
        return resolve_devices(self.device)

    @property
    def platform(self) -> str:
        """The device's platform."""
        return platform_of(self.devices)

    def texts(self, load: str) -> list[str]:
        """Return the texts of a load: "mixed" or "short"."""
        file = pathlib.Path(self.folder) / f"{load}.json"
        return json.loads(file.read_text(encoding="utf8"))

    def write(self, file: pathlib.Path) -> None:
        """Write the job as JSON."""
        write_text(file, json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, file: str) -> "Job":
        """Read a job that `write` has written."""
        return cls(**json.loads(pathlib.Path(file).read_text(encoding="utf8")))


class Notes:
    """The results of a part. Each new result is written at once, so that a part that is killed
    leaves what it has found.

    Attributes:
        values: the results so far.
    """

    def __init__(self, file: str):
        self._file, self.values = pathlib.Path(file), {}

    def add(self, *names: str, **values: Any) -> None:
        """Add results, under `names` if there are any."""
        place = self.values
        for name in names:
            place = place.setdefault(name, {})
        place.update(values)
        write_text(self._file, json.dumps(self.values))


def prepare(job: Job, notes: Notes) -> None:
    """Note the machine's facts, then make the texts and the random model.

    Raises:
        SystemExit: if the device does not exist.
    """
    try:
        job.devices  # noqa: B018, it looks for the device
    except ValueError as error:
        raise SystemExit(str(error)) from None
    notes.add(
        **report.circumstances(),
        platform=job.platform,
        card=_card() or job.devices[0].device_kind,
        libraries={name: found for name in LIBRARIES if (found := _version(name))},
    )
    if job.platform == "cpu" and job.device != "cpu":
        return  # the command ends here
    folder, sizes = pathlib.Path(job.folder), job.sizes
    short, mixed = _texts(sizes)
    for load, texts in {"short": short, "mixed": mixed}.items():
        write_text(folder / f"{load}.json", json.dumps(texts))
        notes.add("sha256", **{load: fingerprint(texts)})
    if job.model is None:
        bundled = read_bi_encoder(find_folder())
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            parts = base_shape(bundled, **dict(sizes.encoder))
            tokenizer = parts.tokenizer.with_max_length(parts.config.encoder.max_tokens)
            write_bi_encoder(
                pathlib.Path(job.base), dataclasses.replace(parts, tokenizer=tokenizer)
            )


def _texts(sizes: Sizes) -> tuple[list[str], list[str]]:
    """Return (short texts, mixed texts). All short texts differ."""
    sentences = docstring_sentences(min(SENTENCES, sizes.short))
    short = list(itertools.islice(_distinct(sentences), sizes.short))
    num_long = sizes.mixed // 5
    rest, long = _distinct(sentences[::-1]), []
    for i, words in enumerate(WORDS):
        count = num_long // len(WORDS) + (i < num_long % len(WORDS))
        long += documents(rest, count, words, lambda text: len(text.split()))
    return short, shuffled(short[: sizes.mixed - num_long] + long, 1)


def _distinct(sentences: list[str]) -> Iterator[str]:
    """Yield each sentence, in an order of its own, then each again with a number behind it."""
    for turn in itertools.count():
        for sentence in shuffled(sentences, turn):
            yield f"{sentence} {turn}" if turn else sentence


def _card() -> str | None:
    """Return name, memory and driver of NVIDIA's cards; None without them."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "; ".join(found.stdout.split("\n")).strip("; ") or None


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    prepare(Job.read(sys.argv[1]), Notes(sys.argv[2]))
