"""Texts to token ids: ragged, truncated to a limit, never padded.

The library `tokenizers` reads `tokenizer.json` and `vocab.txt`. All other files are read by
`transformers.AutoTokenizer`, which is imported only then.
"""

from jsbert.tokenizer.chat import ChatTokenizer, Template, read_template
from jsbert.tokenizer.ragged import Ragged
from jsbert.tokenizer.settings import FILES, SETTINGS, VOCABULARIES
from jsbert.tokenizer.tokenizer import SHORTEST, UNLIMITED, Tokenizer

__all__ = [
    "FILES", "SETTINGS", "SHORTEST", "UNLIMITED", "VOCABULARIES", "ChatTokenizer", "Ragged",
    "Template", "Tokenizer", "read_template",
]  # fmt: skip
