"""The parts of a run: objectives, updates, steps, and a model for scoring and saving."""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from jsbert.adapters import save_adapter
from jsbert.cross_encoder import CrossEncoder
from jsbert.encoders import unstacked
from jsbert.engine import Placement
from jsbert.train import folder
from jsbert.train.batches import collate, plan
from jsbert.train.description import comparable, described
from jsbert.train.lora import adapted, init_lora, merged
from jsbert.train.recipe import Recipe, make_optimizer
from jsbert.train.step import all_params, init_state, make_step


class Run:
    """What `fit` makes once: objectives, updates, steps, and the placement of arrays.

    Attributes:
        sources, recipe, evaluator: as given to `fit`.
        pairs: whether the model is a cross-encoder, which reads two texts as one sequence.
        model: a copy of the given model. It gets the params that are scored or saved.
        packing: whether rows hold several texts.
        objectives: the objective of each source.
        updates: all updates, in order.
        description: what identifies the run, as json.
        optimizer: the optimizer of all steps.
        steps: the step for each (number of the source, number of micro-batches).
        placement: the devices, and how arrays are placed on them.
        key: the key of dropout and new params.
    """

    def __init__(self, model, sources, recipe, evaluator):
        if model.dtype != "float32":
            raise ValueError(
                f"the model computes in {model.dtype}; open it in float32, and say dtype in the "
                "recipe"
            )
        if getattr(model, "router", None) is not None:
            names = [name for name, _ in model.router.routes]
            raise ValueError(
                f"the model's routes {names} have encoders of their own, and a run trains one; "
                "train the model of one "
                "route: from_parts(dataclasses.replace(model.router.route(task).parts, "
                "router=None))"
            )
        if not sources or len({source.name for source in sources}) < len(sources):
            raise ValueError(
                f"the sources are named {[source.name for source in sources]}; give each a name of "
                "its own"
            )
        self.sources, self.recipe, self.evaluator = sources, recipe, evaluator
        self.pairs = isinstance(model, CrossEncoder)
        # A copy, because it gets the params that are scored or saved.
        computed_as = {
            "device": model.devices,
            "attn_implementation": model.config.encoder.compute.attn_implementation,
        }
        self.model = type(model).from_parts(model.parts, **computed_as)
        # Rows are packed only if one device computes whole batches.
        is_whole = recipe.chunk_size is None and recipe.accumulate == 1 and len(model.devices) == 1
        self.packing = recipe.packing and is_whole
        # The objectives, the updates, and a step for each kind of update: each compiles once.
        config = _training_config(model.config, recipe)
        self.objectives = [source.build(config) for source in sources]
        if recipe.lora_rank is not None:
            self.objectives = [
                adapted(objective, recipe.lora_alpha) for objective in self.objectives
            ]
        self.updates = plan(sources, self.objectives, recipe)
        self.description = self._describe()
        self.optimizer = make_optimizer(recipe, len(self.updates))
        self.steps = {
            (source, accumulate): make_step(
                self.objectives[source],
                self.optimizer,
                chunk_size=recipe.chunk_size,
                accumulate=accumulate,
            )
            for source, accumulate in {
                (update.source, update.accumulate) for update in self.updates
            }
        }
        self.placement = Placement(model.devices)
        self.key = self.placement.put(jax.random.key(recipe.seed))

    def _describe(self):
        """What identifies the run: recipe, model, data, evaluator and number of updates."""
        params = hashlib.sha256()
        for leaf in jax.tree.leaves(self._params):
            params.update(np.ascontiguousarray(leaf))
        evaluator = (
            None
            if self.evaluator is None
            else getattr(self.evaluator, "__qualname__", type(self.evaluator).__name__)
        )
        return {
            "recipe": self.recipe.to_json(),
            "model": {
                "config": described(self.model.config),
                "params": params.hexdigest(),
                "max_seq_length": self.model.max_seq_length,
            },
            "data": {source.name: source.description() for source in self.sources},
            "evaluator": evaluator,
            "updates": len(self.updates),
        }

    def comparable(self, description):
        """Normalise a run's description before comparing it with an older one: leave out what does
        not make another run, and fill in the recipe's fields that did not exist yet."""
        model = description.get("model", {})
        model = model | {"config": comparable(model.get("config"), self.model.config)}
        return description | {
            "model": model,
            "recipe": Recipe().to_json() | description.get("recipe", {}),
        }

    @property
    def _params(self):
        """The params of `self.model`, with a tree for each layer: before the first call of
        `load_into_model` the params at which the run begins."""
        params = self.model.params
        return params | {"encoder": unstacked(params["encoder"])}

    def disk_bytes(self):
        """The largest number of bytes that the run needs on disk: three checkpoints, each of params
        and two moments, and three models."""
        return (3 * 3 + 3) * sum(leaf.nbytes for leaf in jax.tree.leaves(self._params))

    def first_state(self):
        """The state before the first update. Its arrays are copies, because a step reuses the
        memory of its state, and the model keeps its params."""
        own = {
            objective.name: objective.init(jax.random.fold_in(self.key, number))
            for number, objective in enumerate(self.objectives)
            if objective.init is not None
        }
        params, frozen = (
            dict(self._params) | ({"objectives": own} if own else {}),
            self.recipe.frozen,
        )
        if (rank := self.recipe.lora_rank) is not None:
            key = jax.random.fold_in(self.key, len(self.objectives))
            params["lora"] = init_lora(
                params["encoder"], key, rank=rank, targets=self.recipe.lora_targets
            )
            frozen = (*frozen, "^encoder/")
        state = init_state(params, self.optimizer, frozen=frozen)
        return jax.tree.map(lambda leaf: self.placement.put(jnp.copy(leaf)), state)

    def collate(self, update):
        """The arrays and counts of an update, on the host."""
        return collate(
            self.sources[update.source],
            self.objectives[update.source],
            self.model.tokenizer,
            update.indices,
            pairs=self.pairs,
            packing=self.packing,
            seed=self.recipe.seed,
            epoch=update.epoch,
        )

    def to_devices(self, arrays):
        """Spread a batch over the devices."""
        return self.placement.put_rows(arrays, len(arrays["lengths"]))

    def load_into_model(self, state):
        """Copy the params of `state` into `self.model`, low-rank matrices merged. Return (the
        model, the objectives' own params)."""
        params = dict(merged(all_params(state.params, state.frozen), self.recipe.lora_alpha))
        own = params.pop("objectives", {})
        self.model.params = jax.tree.map(jnp.copy, params)
        return self.model, own

    def save(self, state, path):
        """Write the model with the params of `state`, the params of the objectives, and the
        low-rank matrices as an adapter."""
        folder.save_model(*self.load_into_model(state), path)
        if self.recipe.lora_rank is not None:
            lora = all_params(state.params, state.frozen)["lora"]
            save_adapter(self.model, lora, path / folder.ADAPTER, alpha=self.recipe.lora_alpha)


def _training_config(config, recipe):
    """The model's config with the recipe's dtype and remat."""
    compute = dataclasses.replace(config.encoder.compute, dtype=recipe.dtype, remat=recipe.remat)
    encoder = dataclasses.replace(config.encoder, compute=compute)
    return dataclasses.replace(config, encoder=encoder)
