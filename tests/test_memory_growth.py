"""GPUs: their memory is taken as it is needed, whatever a command does first."""

import pytest
import tensorflow as tf

from flp_tf import pretrained
from flp_tf.meta import distribution


@pytest.fixture
def asked(monkeypatch):
    """The GPUs for which growth was asked, of two that seem to be there."""
    found, gpus = [], [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(2)]
    listed = tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus if kind == "GPU" else listed(kind))
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, enable: found.append((gpu.name[-1], enable))
    )
    return found


def test_meta_training_asks_for_growth(asked):
    distribution.strategy("none")
    assert asked == [("0", True), ("1", True)]


def test_loading_a_network_asks_for_growth(asked):
    pretrained.load("sine_iid_flp2")
    assert asked == [("0", True), ("1", True)]


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_a_gpu_that_is_in_use_stays_as_it_is(error, asked, monkeypatch):
    def refuses(gpu, enable):
        asked.append(gpu.name[-1])
        raise error

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuses)
    distribution.allow_memory_growth()
    assert asked == ["0"]
