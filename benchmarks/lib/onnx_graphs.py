"""A model's folder as an ONNX graph from (ids, mask[, types]) to unit vectors, or to a
cross-encoder's logits."""

import json
import pathlib


def read_config(folder: str | pathlib.Path) -> dict:
    """Return the folder's config.json."""
    return json.loads((pathlib.Path(folder) / "config.json").read_text(encoding="utf8"))


def is_cross_encoder(folder: str | pathlib.Path) -> bool:
    """Return whether a folder holds a classifier of pairs."""
    return read_config(folder)["architectures"] == ["BertForSequenceClassification"]


def input_names(folder: str | pathlib.Path) -> list[str]:
    """Return the names of the graph's inputs; "types" only if the model has token types."""
    return ["ids", "mask", *(["types"] if "type_vocab_size" in read_config(folder) else [])]


def onnx_file(folder: str, graph: str, dtype: str) -> pathlib.Path:
    """Return the file of the graph. If the file is missing, write it from the torch reference.

    The graph is "plain" as exported, or has onnxruntime's "fused" attention. The weights are
    "float32", or "int8" by onnxruntime's dynamic quantisation.

    The function is for models with mean pooling and vectors of length 1, as in the benchmark, and
    for cross-encoders.
    """
    file = pathlib.Path(folder) / "onnx" / f"{graph}-{dtype}.onnx"
    if file.is_file():
        return file
    file.parent.mkdir(exist_ok=True)
    unfinished = file.with_suffix(".unfinished.onnx")
    if dtype == "int8":
        _quantize(onnx_file(folder, graph, "float32"), unfinished)
    elif graph == "fused":
        _fuse(folder, onnx_file(folder, "plain", "float32"), unfinished)
    else:
        _export(folder, unfinished)
    return unfinished.replace(file)


def _quantize(source, file):
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The type of tensors whose type onnxruntime's shape inference does not know.
    types = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    # One scale for each column is as fast as one for all, and much nearer to float32.
    quantize_dynamic(
        source, file, weight_type=QuantType.QInt8, per_channel=True, extra_options=types
    )


def _fuse(folder, source, file):
    from onnxruntime.transformers import optimizer

    config = read_config(folder)
    sizes = {"num_heads": config["num_attention_heads"], "hidden_size": config["hidden_size"]}
    optimizer.optimize_model(str(source), "bert", **sizes).save_model_to_file(str(file))


def _export(folder, file):
    import torch
    import transformers

    is_cross, names = is_cross_encoder(folder), input_names(folder)
    kind = transformers.AutoModelForSequenceClassification if is_cross else transformers.AutoModel

    class Pipeline(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = kind.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, ids, mask, types=None):
            options = {} if types is None else {"token_type_ids": types}
            found = self.trunk(input_ids=ids, attention_mask=mask, **options)
            if is_cross:
                return found.logits
            weights = mask[:, :, None].to(found.last_hidden_state.dtype)
            mean = (found.last_hidden_state * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(mean, dim=-1)

    example = tuple(torch.full((2, 8), int(name != "types")) for name in names)
    axes = {name: {0: "batch", 1: "length"} for name in names} | {"found": {0: "batch"}}
    torch.onnx.export(
        Pipeline(),
        example,
        str(file),
        input_names=names,
        output_names=["found"],
        dynamic_axes=axes,
        dynamo=False,
    )
