"""Write states of a run to disk, and load the newest after a kill."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from jsbert.train.step import State


class Checkpoints:
    """The checkpoints of a run in a folder. Orbax writes each checkpoint to a temporary folder and
    renames it, so that every checkpoint is complete."""

    def __init__(self, folder: pathlib.Path):
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2,
                cleanup_tmp_directories=True,  # left by a kill
                # Async checkpointing would read arrays while the next step writes to their memory,
                # because a step reuses the memory of its state.
                enable_async_checkpointing=False,
            ),
        )

    def save(self, state: State, notes: dict[str, Any]) -> None:
        """Write a state, without its frozen params, and notes that json can hold. Then remove all
        checkpoints except the newest two.

        Raises:
            OSError: if the state cannot be written; the earlier checkpoints stay.
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
        """Load the newest checkpoint: (state, notes). Without a checkpoint: (`state`, {}).

        `state` gives the tree, the shapes and the devices. Its trained arrays are deleted first, to
        free their memory; its frozen params are kept.
        """
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
        """End Orbax's threads."""
        self._manager.close()


def _abstract(leaf):
    """The shape, dtype and sharding of an array."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
