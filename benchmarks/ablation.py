"""The paper's ablation (Table 6) at reduced scale: poolings and concatenations, scored on the STS
benchmark's development set.

python -m benchmarks.ablation --data DATA --start NAME=MODEL [--start NAME=MODEL ...]

DATA holds nli/nli-train.tsv.gz and sts/stsb-{train,dev}.tsv. From each start, and for each seed,
nine models are tuned on NLI (softmax) and three on STSb (cosine regression). The untuned start is
scored too. A start's own modules behind the pooling, such as Normalize, are left out. Every cell is
saved when the cell is done. If the command was stopped, the same command continues with the missing
cells.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import operator
import pathlib
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.lib import report
from jsbert import SentenceTransformer
from jsbert.checkpoint import Settings, find_folder, read_bi_encoder
from jsbert.data import read_examples
from jsbert.evaluate import EmbeddingSimilarityEvaluator
from jsbert.train import Recipe, Source, fit, objective


class Cell(NamedTuple):
    """What a model is tuned on, how its tokens are pooled, and the paper's score."""

    tuned_on: str
    pooling: str
    paper: float | None
    concatenation: tuple[str, ...] = ()


CELLS = {
    "untuned-mean": Cell("untuned", "mean", None),
    "untuned-max": Cell("untuned", "max", None),
    "untuned-cls": Cell("untuned", "cls", None),
    "nli-mean": Cell("NLI", "mean", 80.78, ("u", "v", "|u-v|")),
    "nli-max": Cell("NLI", "max", 79.07, ("u", "v", "|u-v|")),
    "nli-cls": Cell("NLI", "cls", 79.80, ("u", "v", "|u-v|")),
    "nli-uv": Cell("NLI", "mean", 66.04, ("u", "v")),
    "nli-diff": Cell("NLI", "mean", 69.78, ("|u-v|",)),
    "nli-product": Cell("NLI", "mean", 70.54, ("u*v",)),
    "nli-diff-product": Cell("NLI", "mean", 78.37, ("|u-v|", "u*v")),
    "nli-uv-product": Cell("NLI", "mean", 77.44, ("u", "v", "u*v")),
    "nli-uv-diff-product": Cell("NLI", "mean", 80.44, ("u", "v", "|u-v|", "u*v")),
    "stsb-mean": Cell("STSb", "mean", 87.44),
    "stsb-max": Cell("STSb", "max", 69.92),
    "stsb-cls": Cell("STSb", "cls", 86.62),
}
"""Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084, Table 6."""

UNTUNED = tuple(name for name, cell in CELLS.items() if cell.tuned_on == "untuned")
POOLINGS = tuple(
    name
    for name, cell in CELLS.items()
    if cell.concatenation in ((), CELLS["nli-mean"].concatenation)
)
CONCATENATIONS = tuple(name for name, cell in CELLS.items() if cell[:2] == ("NLI", "mean"))


class Start(NamedTuple):
    """A model to start from."""

    folder: pathlib.Path
    sha256: str
    pooling: str
    learning_rate: float
    num_seeds: int


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the cells that are missing, and return what is written as JSON."""
    options = _options(argv)
    values = report.circumstances() | {"command": _command(options)}
    report.print_circumstances(values)
    starts = {name: _start(options, name, model) for name, model in options.start.items()}
    saved = {job: _saved(options, starts[job[0]], *job) for job in _jobs(starts)}
    scores: dict[str, dict[str, list[float]]] = {
        name: {cell: [] for cell in CELLS} for name in starts
    }
    measured = set()
    for (name, cell, seed), found in saved.items():
        if found is None and not options.only_table:
            found = _run(options, starts[name], name, cell, seed)
        if found is not None:
            scores[name][cell].append(found["score"])
            measured.add(", ".join(found[key] for key in ("date", "commit", "machine", "device")))
    judged = {name: claims(own) for name, own in scores.items()}
    _print(starts, scores, judged)
    values |= {
        "starts": {name: start._asdict() | {"folder": name} for name, start in starts.items()},
        "measured": sorted(measured),
        "paper": {name: cell.paper for name, cell in CELLS.items()},
        "results": scores,
        "claims": judged,
    }
    print("written:", report.write_json("ablation", values, options.out))
    _draw(scores, options.out / "ablation.png")
    return values


def claims(scores: Mapping[str, Sequence[float]]) -> dict[str, tuple[bool | None, str]]:
    """Return {claim: (whether the claim holds for the means over seeds, the numbers)}.

    `scores` has {cell: scores, one for each seed} of one start. A claim is None if a cell that the
    claim needs has no score.
    """
    return {
        "tuning is what gives meaning": _compared(scores, CONCATENATIONS, operator.gt, UNTUNED),
        "|u-v| is what matters": _difference(scores),
        "MEAN >= CLS, NLI": _compared(scores, ("nli-mean",), operator.ge, ("nli-cls",)),
        "MEAN >= CLS, STSb": _compared(scores, ("stsb-mean",), operator.ge, ("stsb-cls",)),
        "MAX is worst for regression": _compared(
            scores, ("stsb-mean", "stsb-cls"), operator.gt, ("stsb-max",)
        ),
    }


def _compared(scores, upper, compare, lower):
    """Return whether the mean of each cell of `upper` compares in this way with the mean of each
    cell of `lower`, and the closest two cells."""
    if missing := [cell for cell in (*upper, *lower) if not scores.get(cell)]:
        return None, f"missing: {', '.join(missing)}"
    means = {cell: float(np.mean(scores[cell])) for cell in (*upper, *lower)}
    closest = min(upper, key=means.get), max(lower, key=means.get)
    holds = all(compare(means[high], means[low]) for high in upper for low in lower)
    return holds, ", ".join(f"{cell} {means[cell]:.2f}" for cell in closest)


def _difference(scores):
    """Return whether |u-v| added to (u, v) beats (u, v) alone, and (u, v, |u-v|) is no lower than
    the lowest seed of the best concatenation."""
    if missing := [cell for cell in CONCATENATIONS if not scores.get(cell)]:
        return None, f"missing: {', '.join(missing)}"
    beats, numbers = _compared(
        scores, ("nli-mean", "nli-uv-diff-product"), operator.gt, ("nli-uv",)
    )
    best, chosen = (
        max(CONCATENATIONS, key=lambda cell: np.mean(scores[cell])),
        float(np.mean(scores["nli-mean"])),
    )
    numbers += (
        f"; nli-mean {chosen:.2f}, the best {best} {np.mean(scores[best]):.2f}, "
        f"from {min(scores[best]):.2f}"
    )
    return beats and chosen >= min(scores[best]), numbers


def without_head(folder: pathlib.Path, pooling: str) -> SentenceTransformer:
    """Return the model with this pooling and no module behind the pooling, and without the prompts
    and settings of its folder."""
    parts = SentenceTransformer(folder, pooling=pooling).parts
    changes = dict(
        config=dataclasses.replace(parts.config, modules=()),
        params={"encoder": parts.params["encoder"]},
    )
    return SentenceTransformer.from_parts(
        dataclasses.replace(parts, **changes, settings=Settings())
    )


def _start(options, name, model):
    folder = find_folder(model)
    pooling = (
        "+".join(read_bi_encoder(folder).config.pooling)
        if (folder / "modules.json").is_file()
        else "none"
    )
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    rate, seeds = (
        values.get(name, values[""]) for values in (options.learning_rate, options.seeds)
    )
    return Start(folder, digest, pooling, rate, seeds)


def _jobs(starts) -> Iterator[tuple[str, str, int | None]]:
    """Yield (start, cell, seed) in the order of work: untuned cells, which have no seed, then seed
    by seed."""
    yield from ((name, cell, None) for name in starts for cell in UNTUNED)
    for seed in range(max(start.num_seeds for start in starts.values())):
        for name in (name for name, start in starts.items() if seed < start.num_seeds):
            yield from ((name, cell, seed) for cell in CELLS if cell not in UNTUNED)


def _file(options, *job):
    return (
        options.out
        / "ablation"
        / ("-".join(str(part) for part in job if part is not None) + ".json")
    )


def _settings(options, start, cell):
    """Return the settings that a saved cell must share with the cell that is wanted."""
    own = {"NLI": {"epochs": 1, "pairs": options.pairs}, "STSb": {"epochs": options.stsb_epochs}}
    tuned = {"learning_rate": start.learning_rate, "dtype": options.dtype} | own.get(
        CELLS[cell].tuned_on, {}
    )
    return {"start_sha256": start.sha256} | ({} if cell in UNTUNED else tuned)


def _saved(options, start, name, cell, seed):
    """Return the content of the cell's file, or None if the cell is still to be run."""
    file, asked = _file(options, name, cell, seed), _settings(options, start, cell)
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf8"))
    own = found["settings"]
    if differing := [
        f"{key} {own.get(key)!r}, asked for {asked[key]!r}"
        for key in asked
        if own.get(key) != asked[key]
    ]:
        raise ValueError(
            f"{file} is of {'; '.join(differing)}. Ask for the same, remove the file, "
            "or give another --out"
        )
    return found


def _run(options, start, name, cell, seed):
    """Tune and score one cell, and write its file."""
    file, settings, started = (
        _file(options, name, cell, seed),
        _settings(options, start, cell),
        time.perf_counter(),
    )
    print(f"{file.stem} ...", end=" ", flush=True)
    model = without_head(start.folder, CELLS[cell].pooling)
    if cell not in UNTUNED:
        chosen = {name: settings[name] for name in ("epochs", "learning_rate", "dtype")}
        recipe = Recipe(**chosen, seed=seed, checkpoint_steps=10**9)
        with tempfile.TemporaryDirectory() as folder:
            model = fit(
                model, _source(options, CELLS[cell]), pathlib.Path(folder) / "model", recipe
            )
    dev = read_examples(options.data / "sts/stsb-dev.tsv")
    score = 100 * float(
        EmbeddingSimilarityEvaluator(*dev.texts, dev.labels)(model)["spearman_cosine"]
    )
    values = report.circumstances() | {
        "command": _command(options),
        "start": name,
        "cell": cell,
        "seed": seed,
    }
    values |= {"settings": settings, "score": score, "seconds": time.perf_counter() - started}
    report.write_json(file.stem, values, file.parent)
    print(f"{score:.2f}, {values['seconds']:.0f} s", flush=True)
    return values


def _source(options, cell):
    if cell.tuned_on == "STSb":
        return Source(
            read_examples(options.data / "sts/stsb-train.tsv", label_range=(0, 5)),
            objective("cosine"),
        )
    examples = read_examples(options.data / "nli/nli-train.tsv.gz")
    texts, labels = (
        tuple(column[: options.pairs] for column in examples.texts),
        examples.labels[: options.pairs],
    )
    learned = objective("softmax", num_labels=3, concatenation=cell.concatenation)
    return Source(dataclasses.replace(examples, texts=texts, labels=labels), learned)


def _print(starts, scores, judged):
    print(
        "\nSTSb development set, cosine Spearman x 100: "
        "mean over seeds [lowest .. highest] (number of seeds)\n"
    )
    rows = [[CELLS[cell].tuned_on, CELLS[cell].pooling, *_row(cell, scores)] for cell in POOLINGS]
    report.print_table(["tuned on", "pooling", "paper", *starts], rows)
    rows = [[", ".join(CELLS[cell].concatenation), *_row(cell, scores)] for cell in CONCATENATIONS]
    report.print_table(["concatenation (NLI, mean)", "paper", *starts], rows)
    own = ", ".join(f"{name} {start.pooling}" for name, start in starts.items())
    print(f"the pooling that each start comes with, and that it may favour: {own}\n")
    words = {True: "holds", False: "does not hold", None: "open"}
    rows = [
        [claim, name, words[holds], numbers]
        for name in scores
        for claim, (holds, numbers) in judged[name].items()
    ]
    report.print_table(["claim", "start", "", "numbers"], rows)


def _row(cell, scores):
    row = ["-" if CELLS[cell].paper is None else f"{CELLS[cell].paper:.2f}"]
    for own in (start[cell] for start in scores.values()):
        spread = (
            f" [{min(own):.2f} .. {max(own):.2f}] ({len(own)})"
            if own and cell not in UNTUNED
            else ""
        )
        row.append(f"{np.mean(own):.2f}{spread}" if own else "-")
    return row


def _draw(scores, file):
    plt = report.pyplot()
    if plt is None:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5))
    _points(
        left,
        POOLINGS,
        [f"{CELLS[cell].pooling}\n{CELLS[cell].tuned_on}" for cell in POOLINGS],
        scores,
    )
    _points(
        right,
        CONCATENATIONS,
        ["\n".join(CELLS[cell].concatenation) for cell in CONCATENATIONS],
        scores,
    )
    left.set(title="Pooling", ylabel="STSb dev, cosine Spearman x 100")
    right.set(title="Concatenation (NLI, mean pooling)")
    left.legend(fontsize=8)
    report.save_figure(figure, file)


def _points(axes, cells, labels, scores):
    """Draw the paper's scores as stars, each start's mean as a dot, and the range over seeds as a
    bar."""
    axes.plot(
        range(len(cells)),
        [CELLS[cell].paper or np.nan for cell in cells],
        "k*",
        markersize=10,
        label="paper",
    )
    for number, (name, own) in enumerate(scores.items(), 1):
        places = np.arange(len(cells)) + 0.6 * number / (len(scores) + 1)
        low, mean, high = (
            np.array([of(own[cell] or [np.nan]) for cell in cells])
            for of in (np.min, np.mean, np.max)
        )
        axes.errorbar(
            places, mean, [mean - low, high - mean], fmt="o", markersize=4, capsize=3, label=name
        )
    axes.set_xticks(range(len(cells)), labels, fontsize=8)
    axes.grid(axis="y", alpha=0.3)


def _command(options):
    """Return the command, with names in place of local paths."""
    parts = [
        "python -m benchmarks.ablation --data DATA",
        *(f"--start {name}=MODEL" for name in options.start),
    ]
    for option, values in (("--learning-rate", options.learning_rate), ("--seeds", options.seeds)):
        parts += [f"{option} {name}{'=' if name else ''}{value}" for name, value in values.items()]
    parts.append(
        f"--pairs {options.pairs} --stsb-epochs {options.stsb_epochs} --dtype {options.dtype}"
    )
    return " ".join(parts)


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    add = parser.add_argument
    repeated = functools.partial(add, type=_named, action="append", default=[])
    add("--data", type=pathlib.Path, required=True, help="folder with sts/ and nli/")
    repeated(
        "--start", required=True, metavar="NAME=MODEL", help="a folder or name; can be repeated"
    )
    repeated(
        "--learning-rate",
        metavar="[NAME=]LR",
        help="of one start or all others (2e-5; a small raw BERT needs more)",
    )
    repeated("--seeds", metavar="[NAME=]N", help="seeds of one start, or of all others (3)")
    add("--pairs", type=int, default=20_000, help="NLI pairs, one epoch (20,000)")
    add("--stsb-epochs", type=int, default=1, help="epochs over STSb's training set (1)")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of training (float32)")
    add(
        "--only-table",
        action="store_true",
        help="train nothing; tables of the cells that are there",
    )
    options = parser.parse_args(argv)
    names, options.start = [name for name, _ in options.start], dict(options.start)
    options.learning_rate = {"": Recipe().learning_rate} | {
        name: float(rate) for name, rate in options.learning_rate
    }
    options.seeds = {"": 3} | {name: int(seeds) for name, seeds in options.seeds}
    unknown = {*options.learning_rate, *options.seeds} - {"", *names}
    if unknown or "" in names or len(options.start) < len(names):
        parser.error(
            f"the starts' names are {names}; give each one of its own, and no others "
            f"({sorted(unknown)})"
        )
    return options


def _named(text):
    """Return (name, value) of NAME=VALUE; the name is "" for VALUE alone."""
    name, _, value = text.partition("=") if "=" in text else ("", "", text)
    if not re.fullmatch(r"[\w.-]*", name):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=VALUE, NAME of letters, digits, '.', '_' and '-'"
        )
    return name, value


if __name__ == "__main__":
    main()
