"""`jsbert info`: print what a model's folder holds."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jsbert.cli import options

if TYPE_CHECKING:
    from jsbert.config import EncoderConfig
    from jsbert.cross_encoder import CrossEncoder
    from jsbert.sentence_transformer import SentenceTransformer
    from jsbert.text_model import TextModel


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A folder, a bundled model's name or a hub name.", show_default="the default model"
        ),
    ] = None,
    pooling: options.Pooling = None,
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    plan: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Also plan the batches of a file's lines for --device cpu, gpu or tpu, which need "
            "not be there: the programs to compile, and the share of padding.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Print what a model's folder holds and on which device the model would run. The command opens
    the model, and so checks the folder."""
    platform, device = device, None if plan else device
    from jsbert.cli.models import find_model, is_cross_encoder, open_bi_encoder, open_cross_encoder

    folder = find_model(model)
    if is_cross_encoder(folder):
        facts = _cross_encoder_facts(open_cross_encoder(folder, device=device, dtype=dtype))
    else:
        facts = _bi_encoder_facts(
            open_bi_encoder(folder, device=device, dtype=dtype, pooling=pooling)
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = {"folder": str(folder)} | facts
    if plan:
        opened = open_cross_encoder(folder) if is_cross_encoder(folder) else open_bi_encoder(folder)
        facts["plan"] = _plan(opened, plan, platform or "cpu")
    facts["files"] = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}:" if value else f"{name}: none")
            width = max(map(len, value), default=0)
            for key, entry in value.items():
                print(
                    f"  {key:{width}}  {f'{entry:>15,}' if isinstance(entry, int) else repr(entry)}"
                )
        else:
            print(f"{name + ':':22} {f'{value:,}' if isinstance(value, int) else value}")


def _plan(model: "SentenceTransformer | CrossEncoder", path: str, platform: str) -> dict[str, Any]:
    import numpy as np

    from jsbert.cli.inputs import read_texts
    from jsbert.engine import plan_for

    platform = {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform)
    lengths = model.tokenizer(list(read_texts(path))).lengths
    found = plan_for(platform, lengths, max_length=model.max_seq_length)
    shapes = sorted({(batch.rows, batch.length) for batch in found.batches})
    return {
        "platform": platform,
        "texts": len(lengths),
        "tokens": int(np.sum(lengths)),
        "batches": len(found.batches),
        "programs": found.num_programs,
        "shapes": ", ".join(f"{rows} x {length}" for rows, length in shapes),
        "padding": round(found.padding, 4),
    }


def _bi_encoder_facts(model: "SentenceTransformer") -> dict[str, Any]:
    from jsbert.encoders import static

    config = model.config
    trunk = [
        "Transformer",
        *([] if config.layer_start is None else ["WeightedLayerPooling"]),
        "Pooling",
    ]
    trunk = ["StaticEmbedding"] if isinstance(config.encoder, static.Config) else trunk
    modules = [*trunk, *(type(module).__name__ for module in config.modules)]
    router = model.router or config.router
    return {
        "kind": "bi-encoder (SentenceTransformer)",
        **_encoder_facts(model, config.encoder),
        "modules": ", ".join(modules),
        "routes": ", ".join(name for name, _ in router.routes) if router else "none",
        "pooling": ", ".join(config.pooling),
        "embedding dimension": model.get_embedding_dimension(),
        "similarity": model.similarity_fn_name,
        "default prompt": model.default_prompt_name or "none",
        "prompts": {name: text for name, text in model.prompts.items() if text},
    }


def _cross_encoder_facts(model: "CrossEncoder") -> dict[str, Any]:
    return {
        "kind": "cross-encoder (CrossEncoder)",
        **_encoder_facts(model, model.config.encoder),
        "labels": model.num_labels,
        "activation": model.activation_fn,
    }


def _encoder_facts(model: "TextModel", encoder: "EncoderConfig") -> dict[str, Any]:
    import jax

    sizes = {
        name: value for name, value in dataclasses.asdict(encoder).items() if type(value) is int
    }
    return {
        "family": encoder.model_type,
        "sizes": {name: value for name, value in sizes.items() if name != "pad_token_id"},
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.params)),
        "max_seq_length": model.max_seq_length,
        "dtype": model.dtype,
        "device": ", ".join(f"{one} ({one.device_kind})" for one in model.devices),
    }
