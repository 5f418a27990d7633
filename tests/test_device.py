"""Names of devices are resolved to devices."""

import jax
import pytest

from jsbert.engine import Placement, resolve_devices


def test_names_indices_devices_and_lists():
    everything = jax.devices("cpu")
    assert resolve_devices() == (everything[0],)
    assert resolve_devices("cpu") == (everything[0],)
    assert resolve_devices("cpu:3") == (everything[3],)
    assert resolve_devices(everything[2]) == (everything[2],)
    assert resolve_devices(["cpu:1", everything[4]]) == (everything[1], everything[4])


@pytest.mark.parametrize(
    "device, error, message",
    [
        ("gpux", ValueError, "unknown device 'gpux'; give 'cpu', 'gpu', 'cuda' or 'tpu'"),
        ("cpu:", None, None),
        ("cpu:-1", ValueError, "unknown device 'cpu:-1'"),
        ("cpu:8", ValueError, "no device 'cpu:8' here; JAX sees"),
        ("cuda:0", ValueError, r"no device 'cuda:0' here; JAX sees .*install jsbert\[gpu\]"),
        ("tpu", ValueError, "no device 'tpu' here"),
        ([], ValueError, "device is an empty list"),
        (["cpu", "cpu:0"], ValueError, "each may be named once"),
        (0, TypeError, "device is 0; give a name"),
        ([0], TypeError, "device is 0; give a name"),
    ],
)
def test_devices_that_are_not_there(device, error, message):
    if error is None:
        assert resolve_devices(device) == resolve_devices("cpu")
        return
    with pytest.raises(error, match=message):
        resolve_devices(device)


def test_the_budget_grows_with_the_devices():
    everything = jax.devices("cpu")
    assert Placement(everything).token_budget == 8 * Placement(everything[:1]).token_budget
