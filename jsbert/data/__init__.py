"""Data sets: examples of several texts and a label, from files or from `datasets`."""

from jsbert.data.examples import Examples
from jsbert.data.files import read_examples

__all__ = ["Examples", "read_examples"]
