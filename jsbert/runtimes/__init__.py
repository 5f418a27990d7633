"""Other runtimes than JAX: onnxruntime and OpenVINO compute the graph that jsbert.export writes."""

from jsbert.runtimes.engine import RuntimeEngine
from jsbert.runtimes.facts import BACKENDS, Backend, Facts, check_options
from jsbert.runtimes.graphs import graph_folder, open_graph

__all__ = [
    "BACKENDS",
    "Backend",
    "Facts",
    "RuntimeEngine",
    "check_options",
    "graph_folder",
    "open_graph",
]
