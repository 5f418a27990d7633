"""Texts to token ids: ragged, truncated to a limit, never padded.

The library `tokenizers` reads `tokenizer.json` and `vocab.txt`. All other files are read by
`transformers.AutoTokenizer`, which is imported only then.
"""

from jsbert.tokenizer.ragged import Ragged
from jsbert.tokenizer.settings import FILES, VOCABULARIES
from jsbert.tokenizer.tokenizer import SHORTEST, UNLIMITED, Tokenizer

__all__ = ["FILES", "SHORTEST", "UNLIMITED", "VOCABULARIES", "Ragged", "Tokenizer"]
