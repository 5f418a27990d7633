"""The README.md of a saved model: facts about the model, and an example of a call."""

from collections.abc import Mapping
from typing import Any

FILE = "README.md"


def model_card(
    facts: Mapping[str, Any], *, is_cross_encoder: bool, origin: str = "", sections: str = ""
) -> str:
    """A model card for the Hub, in Markdown.

    Args:
        facts: the rows of the table, {name: value}.
        is_cross_encoder: whether the model scores pairs.
        origin: text behind the title, such as " trained with jsbert".
        sections: Markdown that follows the example of a call.
    """
    kind, task, title = "SentenceTransformer", "sentence-similarity", "A sentence encoder"
    if is_cross_encoder:
        kind, task, title = "CrossEncoder", "text-ranking", "A cross-encoder"
        call = 'scores = model.predict([("one text", "another")])'
    else:
        call = 'vectors = model.encode(["one text", "another"])\n'
        call += "print(model.similarity(vectors, vectors))"
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
library_name: sentence-transformers
pipeline_tag: {task}
tags:
- sentence-transformers
- {task}
- jsbert
---

# {title}{origin}

| | |
|---|---|
{rows}

```python
from jsbert import {kind}  # or: from sentence_transformers import {kind}

model = {kind}("this folder or repository")
{call}
```
{sections}"""
