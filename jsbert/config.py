"""Configs of encoders, bi-encoders and cross-encoders: frozen, hashable, static under `jit`."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jsbert.activations import ACTIVATIONS, activation_name
from jsbert.checks import COUNT, RATE, SIZE, Allowed, Range, check_value, shown
from jsbert.compute import Compute
from jsbert.modules import Module


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The sizes and rates that all encoder families share, under their names in BERT's config.json.

    The config of a family adds fields, sets transformers' defaults, and declares in the class
    variables how its config.json differs. `compute` says how the encoder is computed; it is never
    in a config.json.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """{field: its name in config.json}, for the fields whose name there is another."""

    ONLY: ClassVar[Mapping[str, Any]] = {}
    """Keys of config.json with only one supported value, and that value."""

    ALLOWED: ClassVar[Mapping[str, Allowed]] = {
        "num_hidden_layers": Range(1, 1001, "an integer from 1 to 1,000"),
        "hidden_act": tuple(ACTIVATIONS),
        "pad_token_id": COUNT,
    }
    """The allowed values of fields that differ from the rule for their type. The rule: an int is a
    `SIZE`, a float is a `RATE`, a string is anything. The number of layers has an upper bound
    because ALBERT's tensors do not show how many layers there are."""

    IN_TENSORS: ClassVar[tuple[str, ...]] = ("vocab_size", "hidden_size", "intermediate_size")
    """Fields that equal the length of an axis of some tensor."""

    LAYERS: ClassVar[tuple[str, ...]] = ("num_hidden_layers",)
    """Fields whose product is the number of layers with params of their own."""

    DROPS_BEHIND: ClassVar[tuple[str, ...]] = ("attention", "output")
    """The parts of a post-norm layer that are followed by dropout."""

    model_type: str = ""
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    compute: Compute = Compute()

    def __post_init__(self):
        self.check(vars(self))

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Raise ValueError for values that no encoder of this family can have; `values` holds every
        field."""
        for field in dataclasses.fields(cls):
            if field.name != "compute":
                cls.check_field(field.name, values[field.name], cls.json_name(field.name))
        if "head_dim" not in values and values["hidden_size"] % values["num_attention_heads"]:
            raise ValueError(
                f"{cls.json_name('num_attention_heads')} {values['num_attention_heads']} does not "
                "divide "
                f"{cls.json_name('hidden_size')} {values['hidden_size']}"
            )

    @classmethod
    def check_field(cls, name: str, value: Any, key: str) -> None:
        """Raise ValueError for a value that the field `name` cannot have. `key` is the name of the
        field in the message."""
        kinds = cls._kinds(name)
        usual = SIZE if int in kinds else RATE if float in kinds else None
        check_value(value, kinds, name=key, allowed=cls.ALLOWED.get(name, usual))

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> "EncoderConfig":
        """The config that a HuggingFace config.json describes. Keys that do not change the vectors
        are ignored.

        Raises:
            ValueError: for sizes, activations or variants that are not supported; the message
                names `where`.
        """
        for name, allowed in cls.ONLY.items():
            value = values.get(name, allowed)
            if value != allowed or isinstance(value, bool) != isinstance(allowed, bool):
                raise ValueError(
                    f"{where}: {name} is {shown(value)}; only {allowed!r} is supported"
                )
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        known = defaults.keys() - {"compute"}
        chosen = {
            name: values[cls.json_name(name)] for name in known if cls.json_name(name) in values
        }
        if "hidden_act" in chosen:
            chosen["hidden_act"] = activation_name(chosen["hidden_act"], where=where)
        try:
            cls.check(defaults | chosen)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        for name, value in chosen.items():
            if isinstance(value, int) and float in cls._kinds(name):
                chosen[name] = float(value)
        return cls(**chosen)

    def to_json(self) -> dict[str, Any]:
        """The config.json from which transformers builds the same encoder. It lacks the key
        "architectures", which the writer of a folder adds."""
        own = {name: value for name, value in vars(self).items() if name != "compute"}
        values = {self.json_name(name): value for name, value in own.items()}
        return dict(self.ONLY) | values | {"dtype": "float32"}  # of the tensors in the file

    @property
    def max_tokens(self) -> int:
        """The number of tokens of the longest possible text, special tokens included."""
        return self.max_position_embeddings

    @property
    def num_layers(self) -> int:
        """The number of layers that a text passes: one less than the number of hidden states."""
        return self.num_hidden_layers

    @property
    def is_bidirectional(self) -> bool:
        """Whether a token sees the tokens behind it, too."""
        return True

    @property
    def classifier_rate(self) -> float:
        """The rate of the dropout in a cross-encoder's head."""
        return (
            self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
        )

    @classmethod
    def _kinds(cls, name):
        kind = cls.__dataclass_fields__[name].type
        return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)

    @classmethod
    def json_name(cls, name: str) -> str:
        """What config.json calls a field."""
        return cls.RENAMED.get(name, name)


@dataclasses.dataclass(frozen=True)
class Router:
    """Several routes for a text; the task chooses one. sentence-transformers' Router, formerly
    Asym.

    Attributes:
        routes: (name, target) of each route. `Config` and the readers say what a target is.
        default: the name of the route for texts without a task; None if a task is required.
        tasks: (task, name of its route) for tasks whose route has another name. The task None
            matches all tasks that are not listed.
    """

    routes: tuple[tuple[str, Any], ...]
    default: str | None = None
    tasks: tuple[tuple[str | None, str], ...] = ()

    def route_name(self, task: str | None) -> str:
        """The name of the route for `task`, by sentence-transformers' rules for texts: first
        `tasks`, then the route named like the task, then the route "text", and without a task the
        default.

        Raises:
            ValueError: if the task has no route.
        """
        names, tasks = [name for name, _ in self.routes], dict(self.tasks)
        for asked in (task, None):
            if asked in tasks:
                return tasks[asked]
        for name in (task, "text"):
            if name in names:
                return name
        if task is None and self.default is not None:
            return self.default
        raise ValueError(
            f"no route for task {task!r}; the model's routes are {names}, say which with task="
        )

    def route(self, task: str | None) -> Any:
        """The target of the route for `task`."""
        return dict(self.routes)[self.route_name(task)]

    def map(self, change: Callable[[Any], Any]) -> "Router":
        """A router with the same names, in which each target is `change(target)`."""
        return dataclasses.replace(
            self, routes=tuple((name, change(route)) for name, route in self.routes)
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """A bi-encoder from token ids to vectors: encoder, pooling, and the modules behind the pooling.

    Its params are a dict. Only "encoder" is always there:
        encoder: the params of the encoder.
        head: {i: params of `modules[i]`}, for the modules that have params.
        pooling: {mode: params of that pooling}, for the poolings that have params.
        layer_weights: the weights of the layers, if there is a `layer_start`.

    Attributes:
        encoder: the config of the encoder family.
        pooling: keys of `pooling.POOLINGS`. The pooled vectors are concatenated in this order.
        include_prompt: False leaves the prompt's tokens out of the pooling.
        modules: the modules behind the pooling.
        layer_start: None pools the last layer. A number pools the weighted mean of the hidden
            states from this number on; number 0 is the embeddings (WeightedLayerPooling).
        router: each target is a tuple of places in `modules`; the vectors pass these modules in
            that order. None: the vectors pass all modules.
    """

    encoder: EncoderConfig
    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    modules: tuple[Module, ...] = ()
    layer_start: int | None = None
    router: Router | None = None

    def for_task(self, task: str | None) -> "Config":
        """The config with the route of `task` alone; without a router, the config itself. The
        params stay the same.

        Raises:
            ValueError: if there is no route for the task.
        """
        if self.router is None:
            return self
        name = self.router.route_name(task)
        return dataclasses.replace(self, router=Router(((name, self.router.route(task)),), name))

    @property
    def active(self) -> tuple[int, ...]:
        """The places in `modules` of the modules that the vectors pass, in order.

        Raises:
            ValueError: if there are several routes; `for_task` chooses one.
        """
        routes = self._routes
        if self.router is not None and len(routes) > 1:
            names = [name for name, _ in self.router.routes]
            raise ValueError(
                f"the model has the routes {names}; choose one with config.for_task, or encode's "
                "task="
            )
        return routes[0]

    @property
    def embedding_dimension(self) -> int:
        """The length of the vectors that `siamese.encode` returns; with several routes, the length
        for the first route."""
        width = len(self.pooling) * self.encoder.hidden_size
        for index in self._routes[0]:
            width = self.modules[index].width(width)
        return width

    @property
    def is_normalized(self) -> bool:
        """Whether the vectors have length 1, on all routes."""
        return all(self._normalizes(route) for route in self._routes)

    def _normalizes(self, route):
        is_normalized = False
        for index in route:
            is_normalized = self.modules[index].normalizes(is_normalized)
        return is_normalized

    @property
    def _routes(self):
        return (
            [tuple(range(len(self.modules)))]
            if self.router is None
            else [route for _, route in self.router.routes]
        )


@dataclasses.dataclass(frozen=True)
class CrossConfig:
    """A cross-encoder from token ids to scores. Its params are {"encoder": ..., "head": ...}.

    Attributes:
        encoder: the config of the encoder family; the family also defines the classifier.
        num_labels: the number of scores of a pair.
        activation: what `CrossEncoder.predict` applies to the raw scores; a key of
            `activations.ACTIVATIONS`.
        answers: for a causal language model as a reranker: the ids of the token that says yes, and
            of the one that says no, if there is one. The raw score is the logit of the first, minus
            that of the second. () for a classifier.
    """

    encoder: EncoderConfig
    num_labels: int = 1
    activation: str = "sigmoid"
    answers: tuple[int, ...] = ()
