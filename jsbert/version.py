"""The version, here and not in package metadata: the folder also works vendored, or on PYTHONPATH
alone."""

VERSION = "0.1.0"
