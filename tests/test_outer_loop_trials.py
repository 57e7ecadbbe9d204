"""The plugins of docs/outer_loop_trials.py: fewer sines in shorter lifetimes, and queries at half of a lifetime."""

import importlib.util

import commands
import numpy as np
import pytest
import tensorflow as tf
from documents import registrations
from helpers import assert_close, in_order, newborn_learner

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.meta.estimators import ESTIMATORS
from flp_tf.meta.estimators.base import weights_of
from flp_tf.tasks import TASKS

SHAPE = {"num_sines": 4, "lifetime": 16, "batch_size": 3, "query_size": 2, "continual": True}
DATA = ("support_x", "support_y", "query_x", "query_y")


@pytest.fixture(autouse=True)
def plugins():
    spec = importlib.util.spec_from_file_location("outer_loop_trials", commands.ROOT / "docs" / "outer_loop_trials.py")
    with registrations():
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        yield


def in_float64(episode):
    return episode._replace(**{name: tf.cast(part, tf.float64) for name, part in zip(DATA, episode)})


def test_shorter_lifetimes_are_the_beginning_of_the_whole_one():
    task = TASKS["growing_sines"](**SHAPE)
    whole = TASKS["sine"](**SHAPE).sample(0, 3, 2, "train")
    assert_close(task.sample(0, 3, 2, "train"), whole, 0.0)
    shorter = task.with_lifetime(12).with_lifetime(8).with_lifetime(8).sample(0, 3, 2, "train")
    assert_close(shorter[:2], (whole.support_x[:8], whole.support_y[:8]), 0.0)
    assert_close(shorter[2:4], (whole.query_x[:, :4], whole.query_y[:, :4]), 0.0)


@pytest.mark.parametrize("steps", [6, 20, 0])
def test_parts_of_sines_are_refused(steps):
    with pytest.raises(InputError, match="--curriculum: .*legal are multiples of 4 up to 16"):
        TASKS["growing_sines"](**SHAPE).with_lifetime(steps)


def test_shuffled_sines_are_refused():
    shuffled = SHAPE | {"continual": False}
    with pytest.raises(InputError, match="--nocontinual: .*continual order alone"):
        TASKS["growing_sines"](**shuffled)
    with pytest.raises(InputError, match="--nocontinual: .*continual order alone"):
        ESTIMATORS["halves"]().estimate(None, TASKS["sine"](**shuffled), None)


def test_queries_of_the_first_half_count_after_half_of_the_lifetime(float64):
    """Loss and gradient are the means of those of a lifetime of the first half of the sines, and of the whole."""
    task = TASKS["sine"](**SHAPE)
    learner = newborn_learner(task, network="8-8", num_plastic_layers=2)
    episode = in_float64(task.sample(0, 3, 2, "train"))
    found = ESTIMATORS["halves"]().estimate(learner, task, episode)
    half = in_float64(TASKS["growing_sines"](**SHAPE).with_lifetime(8).sample(0, 3, 2, "train"))
    plain = ESTIMATORS["backprop"](segment_length=lifetime.PLAIN)
    parts = [plain.estimate(learner, task, data) for data in (half, episode)]
    np.testing.assert_allclose(found.loss, (parts[0].loss + parts[1].loss) / 2, rtol=1e-12)
    np.testing.assert_allclose(found.error, parts[1].error, rtol=1e-12)
    expected = tf.nest.map_structure(lambda a, b: (a + b) / 2, parts[0].gradients, parts[1].gradients)
    tf.nest.assert_same_structure(found.gradients, weights_of(learner))
    assert_close(in_order(learner, found.gradients), in_order(learner, expected))
