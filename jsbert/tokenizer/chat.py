"""Chat templates around the pairs of a cross-encoder.

A chat template is a program of jinja that comes with a checkpoint. It is rendered a few times when
a model is opened, in jinja's sandbox, to find the literal text that it puts around the two texts of
a pair. Pairs are then written with that text alone. A template that does more is refused.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import tokenizers

from jsbert.tokenizer.ragged import Ragged
from jsbert.tokenizer.tokenizer import Tokenizer, refuse_surrogates

LONGEST = 100_000
"""The most characters of a chat template."""

MARKS = ("<~7instruction~>", "<~8query~>", "<~9document~>")
"""What stands for the three texts while a template is read."""

SPECIAL = tuple(f"{kind}_token" for kind in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"))

PROBES = (
    ("", ""),
    (" \n a ", "\tb\n\n"),
    ("<b>&amp;'\"\\ {{ x }} {% y %}", "None"),
    ("É 中 user", "system: \r\n query"),
)
"""Pairs that must come through a template unchanged."""

PADDING = frozenset(
    {"center", "expandtabs", "format", "indent", "ljust", "rjust", "wordwrap", "zfill"}
)
"""Methods of strings, and filters, that can make a long text of a short one."""

STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")
"""A template with one of these gets the content of a message as a list of parts, else as a string:
the rule of sentence-transformers (6.2)."""


@dataclasses.dataclass(frozen=True)
class Template:
    """The text that a chat template puts around a pair.

    Attributes:
        plain: the text before the query, between the query and the document, and behind it.
        told: the text before an instruction, and then as `plain`; () if the template takes no
            instruction.
        form: "flat" or "structured": how the template takes the content of messages.
        options: further variables of the template.
    """

    plain: tuple[str, ...] = ("", "", "")
    told: tuple[str, ...] = ()
    form: str = "flat"
    options: tuple[tuple[str, Any], ...] = ()

    def written(self, query: str, document: str, instruction: str = "") -> str:
        """The pair as the template writes it.

        Raises:
            ValueError: for an instruction, if the template takes none.
        """
        if not instruction:
            return _joined(self.plain, (query, document))
        if not self.told:
            raise ValueError("the model's chat template takes no prompt; leave prompt out")
        return _joined(self.told, (instruction, query, document))


def read_template(
    source: str,
    names: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    form: str = "auto",
    where: Any,
) -> Template:
    """The `Template` of a chat template.

    The pair is rendered as sentence-transformers (6.2) does: a message of the role "query" and one
    of the role "document". An instruction is a message of the role "system" in front of them.

    Args:
        source: the chat template.
        names: the special tokens that the template may name, such as {"eos_token": "</s>"}.
        options: further variables for the template.
        form: "flat" or "structured", of the content of messages; "auto" decides by `source`.
        where: the file, for messages.

    Raises:
        ImportError: without jinja2.
        ValueError: for a template that cannot be rendered, leaves a text out, repeats or changes
            one, or needs more than the texts.
    """
    if form == "auto":
        form = "structured" if any(part in source for part in STRUCTURED) else "flat"
    values = {**names, **options}
    if len(source) > LONGEST:
        raise ValueError(f"{where}: the chat template has {len(source):,} characters; refused")
    unnamed = [name for name in SPECIAL if name in source and not values.get(name)]
    if unnamed:
        raise ValueError(
            f"{where}: the chat template names {unnamed}, which tokenizer_config.json does not give"
        )
    render = functools.partial(_rendered, source, values, form, where)
    plain = _split(render(MARKS[1:]), MARKS[1:])
    if plain is None:
        raise ValueError(
            f"{where}: the chat template does not write the query once and then the document once; "
            "it must take messages of the roles 'query' and 'document'. Others are not supported"
        )
    told = _split(render(MARKS[1:], MARKS[0]), MARKS) or ()
    template = Template(plain, told, form, tuple(options.items()))
    for pair in PROBES:
        for instruction in ("", *(("Judge: <b> é\n",) if told else ())):
            if render(pair, instruction) != template.written(pair[0], pair[1], instruction):
                raise ValueError(
                    f"{where}: the chat template changes the texts that it writes, as {pair[0]!r}; "
                    "such templates are not supported"
                )
    return template


@dataclasses.dataclass(frozen=True)
class ChatTokenizer(Tokenizer):
    """A tokenizer that writes each pair with a chat template. It adds no other special tokens.

    If a pair is longer than the limit, the end of the template takes the place of the last tokens
    that are kept: what the model reads there is the same for all pairs. That is
    sentence-transformers' rule (6.2).

    Attributes:
        template: writes the pairs.
    """

    template: Template = Template()

    @classmethod
    def around(cls, tokenizer: Tokenizer, template: Template) -> "ChatTokenizer":
        """A tokenizer with the files and the limit of `tokenizer`.

        Raises:
            ValueError: for a tokenizer that runs in Python.
        """
        if not isinstance(tokenizer.backend, tokenizers.Tokenizer):
            raise ValueError("a chat template needs a tokenizer.json; the folder has none")
        fields = {f.name: getattr(tokenizer, f.name) for f in dataclasses.fields(Tokenizer)}
        return cls(**fields, template=template)

    def __call__(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], *, prompt: str = "", first: int = 0
    ) -> Ragged:
        """The token ids of pairs in the template, cut to `max_length`. `prompt` is the instruction.
        Single texts are tokenised without the template.

        Raises:
            ValueError: as for `Tokenizer`, and for a prompt that the template does not take.
        """
        if not len(texts) or isinstance(texts[0], str):
            return super().__call__(texts, prompt=prompt, first=first)
        written = [self.template.written(pair[0], pair[1], prompt) for pair in texts]
        try:
            encodings = self.backend.encode_batch_fast(written, add_special_tokens=False)
        except Exception:
            refuse_surrogates(texts, first)
            raise
        rows = [encoding.ids for encoding in encodings]
        full = [i for i, ids in enumerate(rows) if len(ids) >= self.max_length]
        end = self._end(prompt) if full else []
        for i in full:
            kept = min(len(end), len(rows[i]))
            rows[i][len(rows[i]) - kept :] = end[len(end) - kept :]
        return Ragged.from_lists(rows, None, [i for i in full if encodings[i].overflowing])

    @property
    def gives_types(self) -> bool:
        """False: a pair in a template is one text."""
        return False

    @functools.cached_property
    def description(self) -> str:
        """See `Tokenizer.description`."""
        return super().description + repr(self.template)

    @functools.cached_property
    def _whole(self) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.no_truncation()
        return backend

    def _end(self, prompt):
        """The ids at the end of each pair: the longest common end of two pairs of other texts."""
        pairs = [self.template.written(text, text, prompt) for text in ("0", "1 2 3 4")]
        one, other = (self._whole.encode(pair, add_special_tokens=False).ids for pair in pairs)
        shortest = min(len(one), len(other))
        count = next(
            (i for i in range(shortest) if one[-1 - i] != other[-1 - i]),
            0,  # no difference: then no end is known
        )
        return one[len(one) - count :]


def _joined(literals, texts):
    pieces = [piece for pair in zip(literals, texts, strict=False) for piece in pair]
    return "".join([*pieces, literals[-1]])


def _split(text, marks):
    """The text around the marks; None unless each mark comes once, in this order."""
    literals = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            return None
        literals.append(before)
    literals.append(text)
    return None if any(mark in piece for mark in MARKS for piece in literals) else tuple(literals)


def _rendered(source, values, form, where, pair, instruction=""):
    """What the template makes of a pair."""
    roles = {"system": instruction, "query": pair[0], "document": pair[1]}
    messages = [
        {
            "role": role,
            "content": text if form == "flat" else [{"type": "text", "text": text}],
        }
        for role, text in roles.items()
        if role != "system" or text
    ]
    try:
        template = _environment().from_string(source)
        return template.render(messages=messages, **{"add_generation_prompt": False, **values})
    except ImportError:
        raise
    except Exception as error:  # jinja's own, and any that a template's expressions raise
        raise ValueError(
            f"{where}: the chat template cannot be rendered ({type(error).__name__}: {error})"
        ) from None


@functools.cache
def _environment() -> Any:
    """The sandbox, with the settings of transformers (5.23). What makes a long text of a short one,
    and what differs from day to day, is left out. Nothing bounds the time of loops in loops."""
    try:
        from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
    except ImportError:
        raise ImportError(
            "the model has a chat template, which needs jinja2: pip install 'jsbert[chat]'"
        ) from None

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**", "%"])

        def call_binop(self, context, operator, left, right):
            if operator == "**" or not (isinstance(left, int) and isinstance(right, int)):
                raise SecurityError(f"{operator} is not supported in a chat template")
            return super().call_binop(context, operator, left, right)

        def wrap_str_format(self, value):
            if super().wrap_str_format(value) is not None:
                raise SecurityError("format is not supported in a chat template")

        def is_safe_attribute(self, obj, attr, value):
            return attr not in PADDING and super().is_safe_attribute(obj, attr, value)

    def raise_exception(message: str) -> NoReturn:
        raise ValueError(message)

    def to_json(value: Any, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **options)

    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    sandbox.globals = {"raise_exception": raise_exception}
    sandbox.filters = {name: one for name, one in sandbox.filters.items() if name not in PADDING}
    sandbox.filters["tojson"] = to_json
    return sandbox
