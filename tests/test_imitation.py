"""Imitation of learning algorithms: the targets are those of the algorithm in NumPy."""

import numpy as np
import pytest

import flp_tf
from flp_tf.errors import InputError
from flp_tf.meta.evaluation import Evaluator
from flp_tf.tasks import SPLITS, TASKS, imitation

Imitation = TASKS["imitation"]


def ridge(x, y, query, strength):
    """The minimum of the penalized squares, the intercept penalized as the rest, by least squares."""
    x, query = (np.hstack([part, np.ones((len(part), 1))]) for part in (x, query))
    padded = np.vstack([x, np.sqrt(strength) * np.eye(x.shape[1])])
    return query @ np.linalg.lstsq(padded, np.vstack([y, np.zeros((x.shape[1], 1))]), rcond=None)[0]


def nearest(x, y, query, strength):
    return np.array([y[min(range(len(x)), key=lambda i: np.linalg.norm(x[i] - q))] for q in query])


def kernel(x, y, query, strength):
    weights = np.array([[np.exp(-np.sum((q - one) ** 2) / (2 * strength**2)) for one in x] for q in query])
    return weights @ y / weights.sum(1, keepdims=True)


REFERENCES = {"ridge": ridge, "nearest": nearest, "kernel": kernel}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dimensions", [1, 3])
def test_targets_are_the_answers_of_the_algorithm(name, dimensions):
    strength = {} if name == "nearest" else {"strength": 0.5}
    task = Imitation(algorithm=name, dimensions=dimensions, lifetime=7, batch_size=3, query_size=9, **strength)
    episode = task.sample(0, 5, 2, "train")
    for i in range(2):
        x, y = (part.numpy()[:, i].reshape(21, -1).astype(float) for part in episode[:2])
        expected = REFERENCES[name](x, y, episode.query_x.numpy()[i].astype(float), 0.5)
        np.testing.assert_allclose(episode.query_y[i], expected, rtol=1e-4, atol=1e-5)


def test_data_are_a_function_of_variance_one_and_noise():
    quiet, loud = (Imitation(noise=noise, lifetime=50).compiled_sample(1, 0, 300, "train") for noise in (0.0, 0.5))
    np.testing.assert_array_equal(quiet.support_x, loud.support_x)
    assert np.var(quiet.support_y) == pytest.approx(1.0, rel=0.15)
    assert np.std(loud.support_y - quiet.support_y) == pytest.approx(0.5, rel=0.02)
    assert np.min(quiet.support_x) >= -1 and np.max(quiet.support_x) <= 1


def test_splits_have_other_functions():
    found = [Imitation(noise=0.0).sample(0, 0, 1, split) for split in SPLITS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.all(found[one].support_x != found[other].support_x)


def test_lengths_and_bad_options():
    task = Imitation(lifetime=8).with_lifetime(13)
    assert task.steps == 13 and task.sample(0, 0, 2, "test").support_x.shape == (13, 2, 1, 2)
    with pytest.raises(InputError, match="--algorithm=forest is unknown; legal values: kernel, nearest, ridge"):
        flp_tf.configure(task="imitation", algorithm="forest")
    with pytest.raises(InputError, match="--lifetime=0 is too small"):
        task.with_lifetime(0)


@pytest.mark.slow
def test_a_network_learns_to_imitate(bare, tmp_path):
    """After some meta-training a lifetime brings the answers closer to those of ridge regression."""
    flags = {"network": "16-16", "lifetime": 10, "batch_size": 4, "query_size": 16, "episodes": 200}
    config = flp_tf.configure(task="imitation", **flags, jit_compile=False, eval_every=200)
    run = flp_tf.meta_train(config, tmp_path / "run", progress=False)
    evaluation = Evaluator(run.learner, run.task, jit_compile=False)(0, 50)
    assert np.mean(evaluation.errors) < 0.8 * np.mean(evaluation.before)
    figure = run.task.draw(run.task.sample(0, 0, 1, "test"), np.zeros((1, 16, 1)), np.ones((1, 16, 1)))
    assert figure.axes[0].get_xlabel() == "answer of ridge"


def test_strength_of_an_algorithm_without_one():
    with pytest.raises(InputError, match="^--strength=9 does not go with --algorithm=nearest; it goes with ridge, ker"):
        Imitation(algorithm="nearest", strength=9.0)


@pytest.mark.parametrize("name", REFERENCES)
def test_what_needs_more_memory_than_there_is_is_refused(name, monkeypatch):
    options = {"algorithm": name, "dimensions": 50, "lifetime": 10, "query_size": 5}
    # The largest matrix by hand, in bytes: the equations of ridge regression, or differences to all queries.
    needed = 4 * (51 * 51 if name == "ridge" else 5 * 10 * 50)
    monkeypatch.setattr(imitation, "memory", lambda: needed)
    assert Imitation(**options).steps == 10
    monkeypatch.setattr(imitation, "memory", lambda: needed - 1)
    with pytest.raises(InputError, match=f"^--algorithm={name} needs .* GB for 50 dimensions, 10 steps .* lower --dim"):
        Imitation(**options)


def test_longer_lifetimes_are_checked_as_well(monkeypatch):
    task = Imitation(algorithm="nearest", lifetime=10)
    monkeypatch.setattr(imitation, "memory", lambda: 4 * 64 * 20 * 2)
    assert task.with_lifetime(20).steps == 20
    with pytest.raises(InputError, match="^--algorithm=nearest needs "):
        task.with_lifetime(21)
