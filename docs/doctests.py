"""For mkdocs: show the doctests in docstrings as code. Markdown takes `>>>` for a quotation."""

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", flags=re.DOTALL | re.MULTILINE)


class Doctests(griffe.Extension):
    """Put fences around each paragraph that begins with `>>>`."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Change the docstring of each module, class, function and attribute that griffe finds."""
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
