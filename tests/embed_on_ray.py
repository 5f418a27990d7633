"""Embed a corpus on a Ray cluster on this machine, of which a part dies.

python -m tests.embed_on_ray CORPUS FOLDER NOTE CASE

CASE is "worker": a worker is killed in the middle of a shard; "node": a node is; "always": a shard
kills each worker. NOTE is a file by which the processes know that it has happened.
"""

import os
import pathlib
import signal
import sys
import time

from jsbert.embed import embed_corpus
from tests.stand_in import StandIn

DEADLY = "text 77"


class Mortal(StandIn):
    """Kills its process at a certain text: once, or each time."""

    def __init__(self, note, case):
        super().__init__()
        self.note, self.case = note, case

    def encode_document(self, inputs, **options):
        import ray

        if DEADLY in inputs and (self.case == "always" or not self.note.exists()):
            self.note.write_text(ray.get_runtime_context().get_node_id())
            if self.case == "node":
                time.sleep(60)  # its end comes from outside
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_document(inputs, **options)


def main(corpus, folder, note, case):
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    cluster.connect()
    note = pathlib.Path(note)
    if case == "node":
        kill_the_node_that_waits(cluster, nodes, note)
    found = embed_corpus(corpus, folder, Mortal(note, case), shard_rows=20, engine="ray", workers=2)
    print(len(found), note.exists())
    ray.shutdown()
    cluster.shutdown()


def kill_the_node_that_waits(cluster, nodes, note):
    """Start a thread that does it as soon as the note names the node."""
    import threading

    def wait():
        while not (note.exists() and note.read_text()):
            time.sleep(0.05)
        node = next(node for node in nodes if node.node_id == note.read_text())
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
