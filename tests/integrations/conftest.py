"""Tests with the real client libraries. They run with `-m integrations`; a test whose library is not
installed is skipped."""

import importlib
import os

import pytest

os.environ["ANONYMIZED_TELEMETRY"] = "False"  # Chroma
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"


def pytest_collection_modifyitems(items):
    for item in items:
        if "integrations" in item.path.parts:  # the libraries' own warnings are not ours
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def client():
    """A function that imports a library, or skips the test."""

    def imported(name: str):
        pytest.importorskip(
            name.split(".")[0],
            reason=f"needs {name.split('.')[0]}: pip install 'jsbert[integrations]'",
        )
        return importlib.import_module(name)

    return imported
