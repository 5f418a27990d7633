"""`jsbert train`: train a model on data with an objective, and write the trained model's folder."""

import dataclasses
import json
import pathlib
import sys
from typing import Annotated, Any, Literal

from typer import BadParameter, Option
from typer.core import TyperCommand, TyperOption

from jsbert.cli import options


class TrainCommand(TyperCommand):
    """`jsbert train`, whose help lists the objectives.

    The table of objectives is imported only when a user asks for the help, because `jsbert.train`
    needs packages that the other commands do not need.
    """

    # typer has no public name for the class of `ctx`.
    def get_help(self, ctx: Any) -> str:
        """Return the help, with the names of the objectives in place of {bi_encoder},
        {cross_encoder} and {numeric}."""
        from jsbert.cli.sources import numeric
        from jsbert.train.objectives import names_for

        names = {
            "bi_encoder": ", ".join(names_for("bi-encoder")),
            "cross_encoder": ", ".join(names_for("cross-encoder")),
            "numeric": ", ".join(numeric("bi-encoder") + numeric("cross-encoder")),
        }
        for option in self.params:
            if isinstance(option, TyperOption) and option.help:
                option.help = option.help.format(**names)
        return super().get_help(ctx)


def train(
    data: Annotated[
        list[str],
        Option(
            help="A tsv, csv, jsonl or parquet file; may be repeated. OBJECTIVE:FILE gives the "
            "file an objective of its own.",
            metavar="[OBJECTIVE:]FILE",
        ),
    ],
    out: Annotated[
        pathlib.Path,
        Option(
            "--out",
            "-o",
            help="The folder to make. The same command again continues an unfinished run.",
        ),
    ],
    model: options.Model = None,
    pooling: options.Pooling = None,
    num_labels: Annotated[
        int | None,
        Option(
            help="Make a cross-encoder from the model's encoder, with a new classifier for this "
            "number of labels.",
            min=1,
        ),
    ] = None,
    objective: Annotated[
        str | None,
        Option(help="The objective: {bi_encoder}; for cross-encoders {cross_encoder}."),
    ] = None,
    objective_option: Annotated[
        list[str] | None,
        Option(
            help="An option of the objective, such as scale=20 or distance=cosine; may be "
            "repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    columns: options.Columns = None,
    label: options.Label = None,
    label_names: options.LabelNames = None,
    label_range: Annotated[
        str | None,
        Option(
            help="The lowest and the highest score, such as 0,5. Scores are scaled to 0..1, for "
            "these objectives: {numeric}.",
            metavar="LOW,HIGH",
        ),
    ] = None,
    skip_bad_rows: options.SkipBadRows = False,
    eval_data: Annotated[
        list[str] | None,
        Option(
            help="Score the model on this task, as `jsbert eval` does: sts, binary, ...; the best "
            "model is kept.",
            metavar="TASK:FILE",
        ),
    ] = None,
    epochs: Annotated[int, Option(help="Passes over the data.", min=1)] = 1,
    batch_size: Annotated[int, Option(help="Examples in a batch.", min=1)] = 16,
    learning_rate: Annotated[
        float, Option(help="The largest rate, at the end of the warm-up.")
    ] = 2e-5,
    warmup: Annotated[
        float, Option(help="Share of the updates over which the rate rises.", min=0, max=1)
    ] = 0.1,
    schedule: Annotated[
        Literal["linear", "constant"], Option(help="After the warm-up: a decay to 0, or none.")
    ] = "linear",
    weight_decay: Annotated[float, Option(help="AdamW's, for matrices.", min=0)] = 0.01,
    max_grad_norm: Annotated[
        float, Option(help="Scale longer gradients to this norm; 0: never.", min=0)
    ] = 1.0,
    accumulate: Annotated[int, Option(help="Batches whose gradients make one update.", min=1)] = 1,
    chunk_size: Annotated[
        int | None,
        Option(
            help="Examples computed at a time (cached gradients).", min=1, show_default="the batch"
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"], Option(help="The dtype of the matrix products.")
    ] = "float32",
    remat: Annotated[
        bool, Option("--remat", help="Compute layers again in the backward pass, to save memory.")
    ] = False,
    packing: Annotated[
        bool, Option(help="Put several texts in a row, to compute almost no padding.")
    ] = True,
    frozen: Annotated[
        list[str] | None,
        Option(
            help="Pattern of params that are not trained, such as encoder/embeddings; may be "
            "repeated.",
            metavar="REGEX",
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        Option(
            help="Train low-rank matrices that are added to the kernels, not the encoder itself.",
            min=1,
            show_default="no",
        ),
    ] = None,
    lora_alpha: Annotated[
        float, Option(help="Scale the matrices' product by alpha / rank.")
    ] = 16.0,
    lora_targets: Annotated[
        list[str] | None,
        Option(
            "--lora-target",
            help="Pattern of the kernels that get such matrices; may be repeated.",
            metavar="REGEX",
            show_default="all",
        ),
    ] = None,
    no_dropout: Annotated[
        bool, Option("--no-dropout", help="No dropout, instead of the model's rates.")
    ] = False,
    seed: Annotated[int, Option(help="The seed of order, dropout and new params.")] = 0,
    mix: Annotated[
        Literal["proportional", "round-robin"], Option(help="How several files take turns.")
    ] = "proportional",
    no_duplicates: Annotated[
        bool | None,
        Option(
            "--no-duplicates/--duplicates",
            help="No text twice in a batch.",
            show_default="for in-batch negatives",
        ),
    ] = None,
    group_by_label: Annotated[
        bool | None,
        Option(
            "--group-by-label/--no-group-by-label",
            help="Several texts of a class in each batch.",
            show_default="for batch-all-triplet and its like",
        ),
    ] = None,
    max_steps: Annotated[
        int | None, Option(help="Stop after this number of updates.", min=1, show_default="none")
    ] = None,
    eval_steps: Annotated[
        int | None, Option(help="Updates between evaluations.", min=1, show_default="an epoch's")
    ] = None,
    keep_best: Annotated[
        bool,
        Option("--keep-best/--keep-last", help="With --eval-data, which state the run ends with."),
    ] = True,
    checkpoint_steps: Annotated[int, Option(help="Updates between checkpoints.", min=1)] = 500,
    log_steps: Annotated[int, Option(help="Updates between lines of metrics.jsonl.", min=1)] = 10,
    num_workers: Annotated[int, Option(help="Threads that read and tokenise ahead.", min=1)] = 1,
    device: options.Device = None,
) -> None:
    """Train a bi-encoder or a cross-encoder; the defaults are those of the Sentence-BERT paper.

    The command prints the recipe to stderr. It writes the recipe into the folder, with the model, a
    model card, metrics.jsonl and a picture of loss and score. If a run was killed, the same command
    continues it from its last checkpoint. At the end the command prints the folder's path.
    """
    # Most options are fields of `Recipe` by name; the others differ in form from the field.
    given = locals() | {
        "dropout": False if no_dropout else None,
        "max_grad_norm": max_grad_norm or None,
    }
    given |= {"frozen": tuple(frozen or ()), "lora_targets": lora_targets and tuple(lora_targets)}

    from jsbert.cli.evaluators import make_scorer
    from jsbert.cli.models import find_model, is_cross_encoder, open_bi_encoder, open_cross_encoder
    from jsbert.cli.sources import make_sources
    from jsbert.train import Recipe, fit

    names = [field.name for field in dataclasses.fields(Recipe)]
    recipe = Recipe(**{name: given[name] for name in names if name in given})

    # Read the data, for the kind of model that the folder holds.
    folder = find_model(model)
    is_cross = is_cross_encoder(folder) or num_labels is not None
    if is_cross and pooling is not None:
        raise BadParameter("a cross-encoder does not pool", param_hint="'--pooling'")
    sources = make_sources(
        data,
        objective,
        objective_option or [],
        cross_encoder=is_cross,
        label_range=label_range,
        columns=options.split(columns),
        label=label,
        label_names=options.split(label_names),
        skip_bad_rows=skip_bad_rows,
    )
    scorer = make_scorer(eval_data or [], cross_encoder=is_cross)

    # Open the model, print the recipe, and train.
    opened: Any  # `fit` takes either class, but no union of both
    if is_cross:
        opened = open_cross_encoder(folder, device=device, num_labels=num_labels)
    else:
        opened = open_bi_encoder(folder, device=device, pooling=pooling)
    shown = {"model": str(folder), "objective": objective, "data": data} | recipe.to_json()
    print(json.dumps(shown, indent=2), file=sys.stderr)
    fit(opened, sources, out, recipe, evaluator=scorer, show_progress_bar=options.show_progress())
    print(out)
