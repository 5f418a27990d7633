"""The settings of a server, with their checks; and the keys that clients must show."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

from jsbert.inputs import check_positive

KEYS_VARIABLE = "JSBERT_API_KEYS"
"""The environment variable with the keys, separated by white space or commas."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""The hosts that only programs on the same machine can reach."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a server allows, and where it listens.

    Attributes:
        host: the address to listen on.
        port: the port, 0 for a free one.
        keys: the keys of which a client must show one; none: everyone may ask.
        max_queue_tokens: the number of tokens that may wait or be computed at a time.
        max_request_texts: the number of texts of one request.
        max_body_mb: the size of one request's body, in units of 2**20 bytes.
        timeout_seconds: the time for a client to send a body, the time for an answer, and the time
            that queued requests have to finish when the server ends.
        cors: the origins whose pages may call the server; "*" for all.
        truncate: whether texts past the model's limit are cut; else they are an error, unless a
            request says otherwise.
        warm_tokens: programs for texts of up to this many tokens are compiled before the server is
            ready. Others are compiled when the first such text comes.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    keys: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    max_queue_tokens: int = 200_000
    max_request_texts: int = 2048
    max_body_mb: int = 8
    timeout_seconds: float = 60.0
    cors: tuple[str, ...] = ()
    truncate: bool = True
    warm_tokens: int = 64

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if a number is out of range.
        """
        for name in ("max_queue_tokens", "max_request_texts", "max_body_mb"):
            check_positive(name, getattr(self, name), or_none=False)
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port is {self.port}; it must be from 0 to {2**16 - 1}")
        if not 0 < self.timeout_seconds <= 86_400:
            raise ValueError(
                f"timeout is {self.timeout_seconds} seconds; it must be above 0 and at most 86400"
            )

    @property
    def max_body_bytes(self) -> int:
        """The size of one request's body."""
        return self.max_body_mb << 20

    @property
    def max_held_bytes(self) -> int:
        """The size of all bodies that are being read or answered together."""
        return 16 * self.max_body_bytes


def read_keys(
    file: str | os.PathLike | None, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Return the keys of a file, one a line, and of the environment variable `JSBERT_API_KEYS`.
    Blank lines, and lines that begin with #, are left out.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file has no key, or a key has other characters than visible ASCII. The
            message does not show the key.
    """
    lines = environment.get(KEYS_VARIABLE, "").replace(",", " ").split()
    if file is not None:
        content = pathlib.Path(file).read_text(encoding="utf8")
        found = [line.strip() for line in content.splitlines()]
        found = [line for line in found if line and not line.startswith("#")]
        if not found:
            raise ValueError(f"{file} has no key; write one key a line")
        lines += found
    for number, key in enumerate(lines, 1):
        if not all("!" <= letter <= "~" for letter in key):
            raise ValueError(
                f"key {number} has a character that a header cannot hold; use letters, digits and "
                "punctuation of ASCII, without spaces"
            )
    return tuple(dict.fromkeys(lines))
