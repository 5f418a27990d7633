"""Write models as files that run without jsbert: token ids in, final vectors or logits out."""

from jsbert.export.onnx import to_onnx
from jsbert.export.stablehlo import Program, load, to_stablehlo

__all__ = ["Program", "load", "to_onnx", "to_stablehlo"]
