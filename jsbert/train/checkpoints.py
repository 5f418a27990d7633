"""States on disk, whole or not at all, to go on from after a kill."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from jsbert.train.step import State


class Checkpoints:
    """The checkpoints of a run in a folder; the newest whole one counts. Orbax writes beside and
    renames."""

    def __init__(self, folder: pathlib.Path):
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2,
                cleanup_tmp_directories=True,  # what a kill left unfinished
                # In the background Orbax would read buffers on the CPU that the next step has been
                # given to write to.
                enable_async_checkpointing=False,
            ),
        )

    def save(self, state: State, notes: dict[str, Any]) -> None:
        """Writes a state and what json can hold of its surroundings; afterwards older ones go.

        Raises:
            OSError: if it cannot be written; the earlier checkpoints stay.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        trained = state._replace(frozen=None)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(trained._asdict()), notes=ocp.args.JsonSave(notes)
            ),
        )
        self._manager.wait_until_finished()

    def restore(self, state: State) -> tuple[State, dict[str, Any]]:
        """The newest state and its notes, in the form and on the devices of `state`, whose memory
        it takes and whose frozen params it keeps; `state` itself and no notes if there is no
        checkpoint."""
        step = self._manager.latest_step()
        if step is None:
            return state, {}
        trained = state._replace(frozen=None)._asdict()
        wanted = jax.tree.map(_abstract, trained)
        for leaf in jax.tree.leaves(trained):
            leaf.delete()
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(wanted), notes=ocp.args.JsonRestore()
            ),
        )
        return State(**found["state"] | {"frozen": state.frozen}), dict(found["notes"])

    def close(self) -> None:
        """Ends Orbax's threads."""
        self._manager.close()


def _abstract(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
