"""A failing run says which versions have moved. A test whose reference cannot run is skipped, and
no other test is."""

import pytest

from tests import versions

pytestmark = pytest.mark.once


def test_only_what_is_here_and_differs_has_moved():
    before = {"torch": "2.13.0", "peft": "0.21.2", "jax": "0.10.2"}
    now = {"torch": "2.13.0", "peft": "0.22.0", "grain": "0.3"}
    assert versions.moved(before, now) == ["peft 0.21.2 -> 0.22.0", "grain not recorded -> 0.3"]


def test_the_recorded_versions_are_of_known_packages():
    assert set(versions.last_green()) == set(versions.PACKAGES)


def test_recording_changes_the_table_alone(tmp_path, monkeypatch):
    before = versions.PROJECT.read_text(encoding="utf8")
    monkeypatch.setattr(versions, "PROJECT", tmp_path / "pyproject.toml")
    versions.PROJECT.write_text(before, encoding="utf8")
    monkeypatch.setattr(versions, "installed", lambda: {"torch": "9.9"})
    versions.write()
    assert versions.last_green() == {"torch": "9.9"}
    head, _, tail = before.partition(versions.TABLE)
    after = versions.PROJECT.read_text(encoding="utf8")
    assert after.startswith(head)
    assert after.endswith(tail.partition("\n\n")[2])


@pytest.mark.parity
@pytest.mark.parametrize(
    "error, skipped",
    [
        (
            ValueError(
                "The version of PEFT you are using is not compatible, please use a version >= 0.22.0"
            ),
            True,
        ),
        (ImportError("peft>=0.22 is required for this, but found version 0.21"), True),
        (ValueError("hidden size 24 is not a multiple of 5"), False),
        (ImportError("cannot import name 'BertModel'"), False),
    ],
)
def test_only_a_refused_version_skips(error, skipped):
    reference = pytest.importorskip("tests.parity.reference")
    with (
        pytest.raises(pytest.skip.Exception if skipped else type(error)),
        reference.skips_what_the_reference_refuses(),
    ):
        raise error
