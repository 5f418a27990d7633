"""Texts to token ids: ragged, truncated to a limit, never padded.

`tokenizers` is used directly, from `tokenizer.json` or `vocab.txt`; `transformers.AutoTokenizer`
(imported only then) reads the rest.
"""

from jsbert.tokenizer.ragged import Ragged
from jsbert.tokenizer.settings import FILES, VOCABULARIES
from jsbert.tokenizer.tokenizer import SHORTEST, UNLIMITED, Tokenizer

__all__ = ["FILES", "SHORTEST", "UNLIMITED", "VOCABULARIES", "Ragged", "Tokenizer"]
