"""Errors that a client is told, in the form of the API that the client speaks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Form = Literal["openai", "tei", "cohere"]
"""Whose form an error has: OpenAI's, text-embeddings-inference's, or Cohere's and Jina's."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of error.

    Attributes:
        status: the HTTP status.
        openai_type, openai_code: the words of OpenAI's `error` object.
        tei_type: the word of text-embeddings-inference's `error_type`.
    """

    status: int
    openai_type: str
    openai_code: str | None
    tei_type: str


KINDS: Mapping[str, Kind] = {
    "malformed": Kind(400, "invalid_request_error", None, "validation"),
    "empty": Kind(400, "invalid_request_error", None, "empty"),
    "invalid": Kind(422, "invalid_request_error", None, "validation"),
    "tokenizer": Kind(422, "invalid_request_error", None, "tokenizer"),
    "too long": Kind(413, "invalid_request_error", "context_length_exceeded", "validation"),
    "too much": Kind(413, "invalid_request_error", "request_too_large", "validation"),
    "unauthorized": Kind(401, "invalid_request_error", "invalid_api_key", "unauthorized"),
    "no model": Kind(404, "invalid_request_error", "model_not_found", "not_found"),
    "no path": Kind(404, "invalid_request_error", "unknown_url", "not_found"),
    "method": Kind(405, "invalid_request_error", "method_not_allowed", "validation"),
    "slow": Kind(408, "invalid_request_error", "request_timeout", "validation"),
    "full": Kind(429, "rate_limit_error", "rate_limit_exceeded", "overloaded"),
    "unready": Kind(503, "server_error", "unavailable", "unhealthy"),
    "late": Kind(503, "server_error", "timeout", "overloaded"),
    "failed": Kind(500, "server_error", "internal_error", "backend"),
}
"""All kinds of errors by name."""

OPENAI_STATUS = {422: 400}
"""OpenAI answers 400 where the others answer 422."""


class ServeError(Exception):
    """An error that ends a request and is told to the client.

    Attributes:
        kind: a key of `KINDS`.
        message: what was given, what is allowed, what to do. It holds no text and no key.
        field: the field of the request that is wrong, if one is.
        retry_seconds: the time after which the client may try again, if it may.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        field: str | None = None,
        retry_seconds: int | None = None,
    ):
        super().__init__(message)
        self.kind, self.message, self.field = kind, message, field
        self.retry_seconds = retry_seconds

    def status(self, form: Form) -> int:
        """The HTTP status, in an API's form."""
        status = KINDS[self.kind].status
        return OPENAI_STATUS.get(status, status) if form == "openai" else status

    def body(self, form: Form) -> dict[str, Any]:
        """The JSON body, in an API's form."""
        kind = KINDS[self.kind]
        named = f"{self.field}: {self.message}" if self.field else self.message
        if form == "openai":
            error = {"message": named, "type": kind.openai_type}
            return {"error": error | {"param": self.field, "code": kind.openai_code}}
        return {"message": named} if form == "cohere" else {
            "error": named, "error_type": kind.tei_type
        }  # fmt: skip

    def headers(self) -> dict[str, str]:
        """The HTTP headers that belong to the error."""
        headers = {} if self.retry_seconds is None else {"retry-after": str(self.retry_seconds)}
        return headers | ({"www-authenticate": "Bearer"} if self.kind == "unauthorized" else {})


def form_of(path: str) -> Form:
    """Whose form the errors of a path have.

    >>> form_of("/v1/embeddings"), form_of("/v1/rerank"), form_of("/embed")
    ('openai', 'cohere', 'tei')
    """
    if path in ("/v1/rerank", "/v2/rerank"):
        return "cohere"
    return "openai" if path.startswith("/v1/") else "tei"


def of_validation(errors: Sequence[Mapping[str, Any]]) -> ServeError:
    """The error for what pydantic found in a body. It names the field, and shows no value.

    >>> error = of_validation([{"loc": ("body", "ids", 3), "type": "int", "msg": "No integer"}])
    >>> error.field, error.message
    ('ids', 'No integer (item 3)')
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        return ServeError("malformed", "the body is no valid JSON")
    places = [part for part in first["loc"] if part != "body"]
    if not places:
        return ServeError(
            "malformed",
            "the body must be a JSON object, with the header 'content-type: application/json'",
        )
    # A field of several allowed types has an error for each of them. Show the type that fits
    # longest: the one whose first wrong item comes last.
    same = [error for error in errors if places[0] in error["loc"]]
    item = max(map(_item, same))
    words = dict.fromkeys(error["msg"] for error in same if _item(error) == item)
    where = f" (item {item})" if item >= 0 else ""
    return ServeError("invalid", "; or ".join(list(words)[:4]) + where, field=str(places[0]))


def _item(error: Mapping[str, Any]) -> int:
    """The place of the wrong item in a list; -1 if the error is not about an item."""
    return next((part for part in error["loc"] if isinstance(part, int)), -1)
