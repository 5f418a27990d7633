"""The closest pair among n sentences: by cross-encoder, n(n-1)/2 passes, and by bi-encoder, n
passes and a matrix product.

The claim of Reimers & Gurevych 2019 is 65 hours against 5 seconds for n = 10,000 on a V100. Here
both ways have one trunk. Measured and extrapolated figures have columns of their own.

  python -m benchmarks.pairwise                      the default model; two minutes on two cores
  python -m benchmarks.pairwise --shape bert-base    a BERT base with random weights
"""

import dataclasses
import functools
import itertools
import os
import pathlib
import statistics
from types import ModuleType
from typing import Any

import jax
import numpy as np

import jsbert
from benchmarks.lib import report
from benchmarks.lib.sentences import docstring_sentences, file_sentences, fingerprint, shuffled
from jsbert import encoders
from jsbert.checkpoint import (
    BiEncoderParts,
    CrossEncoderParts,
    find_folder,
    new_cross_encoder,
    read_bi_encoder,
    read_cross_encoder,
)
from jsbert.encoders import bert
from jsbert.engine import Batch, length_ladder, pad, plan
from jsbert.outputs import pair_logits, sentence_vectors
from jsbert.search import most_similar_pair
from jsbert.tokenizer import Ragged

FULL = 10_000
PAPER = {"cross-encoder": 65 * 3600.0, "bi-encoder": 5.0}
"""Seconds for n = 10,000 on a V100 (the paper, section 1; the paper names neither lengths nor
precision)."""

ROWS = 32
"""The rows of a batch that is not fitted to a token budget."""

Row = dict[str, Any]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    options = _parser().parse_args(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    sentences = file_sentences(options.sentences) if options.sentences else docstring_sentences()
    print(
        f"{len(sentences)} distinct sentences, sha256 {fingerprint(sentences)}; "
        f"random order, seed {options.seed}"
    )
    sentences = shuffled(sentences, options.seed)
    largest = max(*options.bi_ladder, *options.ladder)
    if len(sentences) < largest:
        raise SystemExit(
            f"{len(sentences)} sentences are too few for n = {largest}; "
            "give --sentences or smaller ladders"
        )

    parts = _trunk(options.shape)
    cross_parts, trained = _cross_parts(parts, options)
    note = "The cross-encoder's head is untrained: the time is real, the answer means nothing."
    if trained:
        note = ""
    if options.shape:
        note = "All weights are random: the time is real, the answers mean nothing."
    print(note)
    rows = [
        *cross_rows(cross_parts, sentences, options),
        *bi_rows(parts, sentences, options),
        *(
            torch_rows(parts, cross_parts, sentences, options)
            if report.has_torch() and not options.no_torch
            else []
        ),
    ]
    _print_rows(rows)
    summary = _summary(rows)
    values |= {
        "options": {
            name: report.without_places(str(value)) for name, value in vars(options).items()
        },
        "num_sentences": len(sentences),
        "sentences_sha256": fingerprint(sentences),
        "note": note,
        "rows": rows,
        "paper_seconds": PAPER,
        "summary": summary,
    }
    name = f"pairwise-{options.shape or 'default'}"
    print("written:", report.write_json(name, values, options.out))
    _draw(rows, options.out / f"{name}.png")
    print(summary["text"])
    return values


def cross_rows(parts: CrossEncoderParts, sentences: list[str], options: Any) -> list[Row]:
    """Time the cross-encoder in the paper's arrangement and at its best, for each n of the
    ladder."""
    exact = jsbert.CrossEncoder.from_parts(parts)
    half = jsbert.CrossEncoder.from_parts(parts, dtype="bfloat16")
    trial = list(itertools.combinations(sentences[:8], 2))
    rates = {}
    for model in (exact, half):
        model.predict(trial)
        seconds, _ = report.measure(functools.partial(model.predict, trial))
        rates[model.dtype] = statistics.median(seconds)
    best = half if rates["bfloat16"] < rates["float32"] else exact
    length = options.fixed_length
    arrangements = [
        (
            f"cross-encoder, length {length}, float32",
            exact,
            length,
            _in_order(exact, pair_logits(exact.config), lambda _: length),
        ),
        (
            f"cross-encoder, sorted, budgeted, {best.dtype}",
            best,
            None,
            _sorted(best, pair_logits(best.config), 1),
        ),
    ]
    rows = []
    for n in options.ladder:
        pairs = list(itertools.combinations(range(n), 2))
        texts = [(sentences[i], sentences[j]) for i, j in pairs]
        for name, model, cut, (warm_up, compute) in arrangements:
            tokenize_seconds, tokens = report.measure(functools.partial(model.tokenizer, texts))
            tokens = _cut(tokens, cut) if cut else tokens
            compile_seconds = warm_up(tokens)
            compute_seconds, (scores, passes) = report.measure(functools.partial(compute, tokens))
            pair = [sentences[i] for i in pairs[int(np.argmax(scores))]]
            seconds = compile_seconds, tokenize_seconds, compute_seconds, [0.0]
            rows.append(_row(name, n, passes, *seconds, *pair))
    return rows


def bi_rows(parts: Any, sentences: list[str], options: Any) -> list[Row]:
    """Time the bi-encoder in the given order of the texts and sorted, for each n of its ladder; and
    the comparison of the vectors alone."""
    model = jsbert.SentenceTransformer.from_parts(parts)
    function, width, ladder = (
        sentence_vectors(model.config),
        model.get_embedding_dimension(),
        length_ladder(model.max_seq_length),
    )
    unsorted = _in_order(
        model, function, lambda longest: next(length for length in ladder if length >= longest)
    )
    arrangements = [
        ("bi-encoder, unsorted, float32", options.unsorted_up_to, unsorted),
        ("bi-encoder, sorted, budgeted, float32", FULL, _sorted(model, function, width)),
    ]
    rows = []
    for n, (name, most, (warm_up, compute)) in itertools.product(options.bi_ladder, arrangements):
        texts = sentences[:n]
        if n <= most:
            tokenize_seconds, tokens = report.measure(functools.partial(model.tokenizer, texts))
            compile_seconds = warm_up(tokens)
            compute_seconds, (vectors, passes) = report.measure(functools.partial(compute, tokens))
            most_similar_pair(vectors)
            search_seconds, pair = report.measure(functools.partial(most_similar_pair, vectors))
            seconds = compile_seconds, tokenize_seconds, compute_seconds, search_seconds
            row = _row(name, n, passes, *seconds, texts[pair.first], texts[pair.second])
            is_equal = _equals_brute_force(vectors, pair, n)
            rows.append(row | {"cosine": pair.score, "equals_brute_force": is_equal})
    return rows


def torch_rows(
    parts: Any, cross_parts: CrossEncoderParts, sentences: list[str], options: Any
) -> list[Row]:
    """Time the same job with sentence-transformers, which sorts by length itself, with the same
    threads in float32."""
    import tempfile

    import sentence_transformers
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        jsbert.SentenceTransformer.from_parts(parts).save_pretrained(f"{folder}/bi")
        jsbert.CrossEncoder.from_parts(cross_parts).save_pretrained(f"{folder}/cross")
        bi = sentence_transformers.SentenceTransformer(f"{folder}/bi", device="cpu")
        cross = sentence_transformers.CrossEncoder(f"{folder}/cross", device="cpu")
        for n in options.ladder:
            pairs = list(itertools.combinations(sentences[:n], 2))
            seconds, scores = report.measure(functools.partial(cross.predict, pairs))
            pair, name = pairs[int(scores.argmax())], "cross-encoder, torch, float32"
            rows.append(_row(name, n, len(pairs), 0.0, [0.0], seconds, [0.0], *pair))
        for n in options.bi_ladder:
            seconds, vectors = report.measure(
                functools.partial(bi.encode, sentences[:n], convert_to_tensor=True)
            )

            def search(vectors=vectors):
                return sentence_transformers.util.paraphrase_mining_embeddings(
                    vectors, top_k=1, max_pairs=1
                )[0]

            search_seconds, (score, first, second) = report.measure(search)
            pair, name = (sentences[first], sentences[second]), "bi-encoder, torch, float32"
            row = _row(name, n, n, 0.0, [0.0], seconds, search_seconds, *pair)
            rows.append(row | {"cosine": score})
    return rows


def _row(name, n, passes, compile_seconds, tokenize, compute, search, first, second) -> Row:
    total = statistics.median(tokenize) + statistics.median(compute) + statistics.median(search)
    row = {
        "name": name,
        "n": n,
        "passes": passes,
        "compile_seconds": compile_seconds,
        "tokenize_seconds": tokenize,
        "compute_seconds": compute,
        "search_seconds": search,
        "total_seconds": total,
        "pair": [first, second],
    }
    if name.startswith("cross-encoder") and n < FULL:
        row["extrapolated_seconds_at_10000"] = total / passes * FULL * (FULL - 1) / 2
    print(f"  {name}, n = {n}: {total:.2f} s", flush=True)
    return row


def _sorted(model, function, width):
    """Arrange batches as the library does: sorted by length, with one token budget, packed by the
    host ahead of the device."""

    def batches(tokens):
        budget = model.engine.placement.token_budget
        return plan(
            tokens.lengths,
            max_length=model.max_seq_length,
            token_budget=budget,
            multiple=len(model.devices),
        )

    def compute(tokens):
        found, passes = np.empty((len(tokens.lengths), width), np.float32), 0
        for positions, outputs in model.engine.stream(function, tokens):
            found[positions] = outputs
            passes += len(positions)
        return found, passes

    return functools.partial(_warm_up, model, function, batches), compute


def _in_order(model, function, length):
    """Arrange batches of `ROWS` in the given order, padded to `length(longest)`."""

    def batches(tokens):
        count = len(tokens.lengths)
        for start in range(0, count, ROWS):
            indices = np.arange(start, min(start + ROWS, count))
            yield Batch(indices, ROWS, length(int(tokens.lengths[indices].max())))

    def compute(tokens):
        found, passes = [], 0
        for batch in batches(tokens):
            outputs = model.engine.compute(function, pad(tokens, batch))
            found.append(np.asarray(outputs)[: len(batch.indices)])
            passes += len(batch.indices)
        return np.concatenate(found), passes

    return functools.partial(_warm_up, model, function, batches), compute


def _warm_up(model, function, batches, tokens):
    """Run the first batch of every shape, and return the seconds spent on compiling."""
    before = model.compile_seconds
    for batch in {(batch.rows, batch.length): batch for batch in batches(tokens)}.values():
        np.asarray(model.engine.compute(function, pad(tokens, batch)))
    return model.compile_seconds - before


def _cut(tokens, length):
    keep = [
        slice(start, min(stop, start + length)) for start, stop in itertools.pairwise(tokens.starts)
    ]
    return Ragged.from_lists(
        [tokens.ids[part] for part in keep], [tokens.token_types[part] for part in keep]
    )


def _equals_brute_force(vectors, pair, n):
    """Return whether the whole matrix of cosines has the same closest pair; None if the matrix
    would be too large."""
    if n > 4096:
        return None
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.triu(unit @ unit.T, 1) + np.tril(np.full((n, n), -2.0, np.float32))
    first, second = np.unravel_index(np.argmax(cosines), cosines.shape)
    return bool(
        (first, second) == (pair.first, pair.second)
        and abs(cosines[first, second] - pair.score) < 1e-5
    )


def _trunk(shape):
    parts = read_bi_encoder(find_folder())
    if shape is None:
        return parts
    return base_shape(parts)


def base_shape(parts: BiEncoderParts, family: ModuleType = bert, **sizes: int) -> BiEncoderParts:
    """Return a bi-encoder with the tokenizer and the settings of `parts`, and the family's base
    size, or other `sizes`, with random weights."""
    config = family.Config(vocab_size=parts.config.encoder.vocab_size, **sizes)
    params = {"encoder": jax.jit(encoders.init, static_argnums=0)(config, jax.random.key(0))}
    return dataclasses.replace(
        parts, config=dataclasses.replace(parts.config, encoder=config), params=params
    )


def _cross_parts(parts, options):
    """Return (the cross-encoder, whether its head is trained)."""
    trained = report.WORK / "cross-encoder"
    if options.cross_encoder or (options.shape is None and (trained / "config.json").is_file()):
        return read_cross_encoder(find_folder(options.cross_encoder or trained)), True
    return new_cross_encoder(parts, 1, jax.random.key(0)), False


def _print_rows(rows):
    print()
    header = ["arrangement", "n", "passes", "compile s", "tokenise s", "compute s", "search s"]
    header += ["total s", "EXTRAPOLATED to n = 10,000"]
    cells = []
    for row in rows:
        far = row.get("extrapolated_seconds_at_10000")
        times = [
            report.spread(row[name], 4) if any(row[name]) else "-"
            for name in ("tokenize_seconds", "compute_seconds", "search_seconds")
        ]
        compile_seconds = f"{row['compile_seconds']:.2f}" if row["compile_seconds"] else "-"
        extrapolated = f"{far / 3600:,.1f} h (from {row['passes']:,} pairs)" if far else "-"
        cells.append(
            [
                row["name"],
                f"{row['n']:,}",
                f"{row['passes']:,}",
                compile_seconds,
                *times,
                f"{row['total_seconds']:.4f}",
                extrapolated,
            ]
        )
    report.print_table(header, cells)
    for row in rows:
        if row["n"] == max(other["n"] for other in rows if other["name"] == row["name"]):
            checked = {True: "; equals brute force", False: "; DIFFERS FROM BRUTE FORCE"}.get(
                row.get("equals_brute_force"), ""
            )
            cosine = f" (cosine {row['cosine']:.4f}{checked})" if "cosine" in row else ""
            print(f"{row['name']}, n = {row['n']:,}, closest pair{cosine}:")
            print(f"    {row['pair'][0]}\n    {row['pair'][1]}")
    checks = [
        row["equals_brute_force"] for row in rows if row.get("equals_brute_force") is not None
    ]
    print(
        f"blocked search equals brute force in {sum(checks)} of {len(checks)} rows "
        "with the whole matrix computed\n"
    )


def _summary(rows):
    cross = [row for row in rows if row["name"].startswith("cross-encoder, length")][-1]
    fair = [row for row in rows if row["name"].startswith("cross-encoder, sorted")][-1]
    fast = [row for row in rows if row["name"].startswith("bi-encoder, sorted")][-1]
    seconds = {
        name: row["extrapolated_seconds_at_10000"]
        for name, row in (("paper", cross), ("best", fair))
    }
    ratios = None
    compared = f"; no ratio, because the bi-encoder ran at n = {fast['n']:,} only"
    if fast["n"] == FULL:
        ratios = {name: slow / fast["total_seconds"] for name, slow in seconds.items()}
        compared = f"; ratio {ratios['paper']:,.0f} and {ratios['best']:,.0f}"
    text = (
        f"n = 10,000: cross-encoder {seconds['paper'] / 3600:,.1f} h in the paper's arrangement, "
        f"{seconds['best'] / 3600:,.1f} h at its best "
        f"(extrapolated from {cross['passes']:,} pairs); "
        f"bi-encoder {fast['total_seconds']:.1f} s (measured at n = {fast['n']:,}){compared}; "
        "the paper: 65 h, 5 s, ratio 46,800. "
        "The counts: 49,995,000 passes against 10,000 and one matrix product."
    )
    return {
        "cross_encoder_seconds_extrapolated": seconds,
        "bi_encoder_seconds_measured": fast["total_seconds"],
        "bi_encoder_n": fast["n"],
        "ratios": ratios,
        "text": text,
    }


def _draw(rows, file):
    plt = report.pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(figsize=(8, 5.5))
    fitted = {}
    for name in dict.fromkeys(row["name"] for row in rows):
        points = [(row["n"], row["total_seconds"]) for row in rows if row["name"] == name]
        (line,) = axes.loglog(*zip(*points, strict=True), "o-", label=name, markersize=4)
        n, seconds = points[-1]
        power = 2 if name.startswith("cross-encoder") else 1
        fitted[name] = seconds / n**power
        if n < FULL:
            axes.loglog(
                [n, FULL], [seconds, seconds * (FULL / n) ** power], ":", color=line.get_color()
            )
    slow = next(name for name in fitted if name.startswith("cross-encoder, sorted"))
    fast = next(name for name in fitted if name.startswith("bi-encoder, sorted"))
    crossing = fitted[fast] / fitted[slow]
    axes.axvline(max(crossing, 2), color="grey", linewidth=0.8, linestyle="--")
    axes.annotate(
        f"the curves meet near n = {max(crossing, 2):.0f}",
        (max(crossing, 2), 0.3),
        rotation=90,
        fontsize=8,
        ha="right",
    )
    for name, seconds in PAPER.items():
        axes.plot(FULL, seconds, "k*", markersize=11)
        axes.annotate(
            f"paper, {name}",
            (FULL, seconds),
            textcoords="offset points",
            xytext=(-8, 6),
            ha="right",
            fontsize=8,
        )
    axes.set(
        xlabel="sentences n",
        ylabel="seconds to the closest pair",
        title="Closest pair: measured (solid), extrapolated (dotted)",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    report.save_figure(figure, file)


def _parser():
    def ladder(text):
        return tuple(sorted(int(part) for part in text.split(",")))

    parser = report.parser(__doc__)
    parser.add_argument(
        "--sentences",
        type=pathlib.Path,
        help="a text file, one sentence a line, instead of docstrings",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the random order of the sentences (default 0)"
    )
    parser.add_argument(
        "--shape",
        choices=["bert-base"],
        help="random weights of this shape instead of the default model",
    )
    parser.add_argument(
        "--cross-encoder",
        metavar="FOLDER",
        help="a trained cross-encoder; by default the model that benchmarks.tradeoff left, "
        "or else the trunk with a random head",
    )
    parser.add_argument(
        "--ladder",
        type=ladder,
        default=(8, 16, 32),
        help="n for the cross-encoder (default 8,16,32)",
    )
    parser.add_argument(
        "--bi-ladder",
        type=ladder,
        default=(10, 100, 1000, FULL),
        help="n for the bi-encoder (default 10,100,1000,10000)",
    )
    parser.add_argument(
        "--unsorted-up-to",
        type=int,
        default=1000,
        help="largest n of the unsorted bi-encoder (default 1000)",
    )
    parser.add_argument(
        "--fixed-length",
        type=int,
        default=128,
        help="tokens of a pair in the paper's arrangement (default 128)",
    )
    parser.add_argument(
        "--no-torch",
        action="store_true",
        help="leave sentence-transformers out even if it is installed",
    )
    return parser


if __name__ == "__main__":
    main()
