"""The networks that ship do what their result says."""

from pathlib import Path

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf
from helpers import to_numpy, weights_by_layer

import flp_tf
from flp_tf import pretrained
from flp_tf.errors import InputError
from flp_tf.meta.evaluation import Evaluator
from flp_tf.runs.checkpoints import Checkpoints
from flp_tf.runs.directory import RunDirectory

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
ARCHIVES = ROOT.parent / "shared" / "data" / "omniglot_full"


# Those that take long to repeat: 50 lifetimes of 400 steps of the paper's networks.
LARGE = [name for name in pretrained.names() if "paper" in name]
SMALL = sorted({*pretrained.names()} - {*LARGE})


def encode_once(run, monkeypatch):
    """Sends every drawing of meta-test through the trunk once: lifetimes show the same ones again and again."""
    features = run.learner.encode(tf.image.convert_image_dtype(run.task.images["test"], tf.float32))
    monkeypatch.setitem(run.task.images, "test", features)
    monkeypatch.setattr(run.task, "input_shape", tuple(features.shape[2:]))
    monkeypatch.setattr(run.learner, "encode", tf.identity)


@pytest.mark.parametrize("name", SMALL)
def test_meta_test_is_repeated(name, monkeypatch):
    data = {}
    if RunDirectory(pretrained.HERE / name).config().task == "omniglot":
        if not ARCHIVES.exists():
            pytest.skip(f"no Omniglot archives in {ARCHIVES}")
        data = {"omniglot_archives": str(ARCHIVES)}
    run = pretrained.load(name, **data)
    if data:
        encode_once(run, monkeypatch)
    result = run.result()
    measured = Evaluator(run.learner, run.task)(run.config.seed, result["meta_test"]["episodes"]).meta_test()
    assert measured == pytest.approx(result["meta_test"], rel=0.01)


def in_numpy(weights, x):
    """Returns activities of the network's trunk, all of a lifetime's at once: nothing changes it."""
    kernels = [layer["W"] for layer in weights]
    return numpy_reference.relu(numpy_reference.forward(weights, kernels, x)[-1])


def oja(rule, kernel, pre, post):
    """Does what `numpy_reference.local_update` does, all synapses at once."""
    assert rule == "oja"
    return pre.T @ post - kernel * np.sum(post**2, 0)


@pytest.mark.parametrize("name", LARGE)
def test_lifetimes_are_those_of_numpy(name, monkeypatch):
    """The first two lifetimes of the meta-test, written out in NumPy; the stored mean is one of such lifetimes."""
    monkeypatch.setattr(numpy_reference, "local_update", oja)
    run = pretrained.load(name)
    config, stored = run.config, run.result()["meta_test"]
    assert (config.rule, config.initial, config.feedback) == ("oja", "fixed", "direct")
    settings = {"feedback_signal": config.feedback_signal, "clamp_output": config.clamp_output}
    settings["plasticity_scale"] = config.plasticity_scale
    settings["hidden_plasticity_factor"] = config.hidden_plasticity_factor
    weights = to_numpy(weights_by_layer(run.learner))
    trunk, head = ([layer for layer in weights if ("a" in layer) == plastic] for plastic in (False, True))
    episodes = to_numpy(run.task.compiled_sample(tf.constant(config.seed), tf.constant(0), 2, "test"))
    expected = []
    for i in range(2):
        features, asked = (in_numpy(trunk, x) for x in (episodes.support_x[:, i], episodes.query_x[i]))
        fast = numpy_reference.lifetime(head, features, episodes.support_y[:, i], **settings).fast
        outputs = numpy_reference.forward(head, fast, asked)[-1]
        expected.append(numpy_reference.mean_squared_error(outputs, episodes.query_y[i]))
    measured = Evaluator(run.learner, run.task, jit_compile=False)(config.seed, 2)
    assert measured.errors == pytest.approx(expected, rel=0.01)
    spread = stored["stderr"] * stored["episodes"] ** 0.5
    assert np.mean(expected) == pytest.approx(stored["mean"], abs=4 * spread / 2**0.5)


@pytest.mark.parametrize("path", sorted((ROOT / "networks").glob("*/*")), ids=lambda path: path.name)
def test_networks_of_the_tables_can_be_read(path):
    """Those that have no weights here ship with the library, or were not kept."""
    directory = RunDirectory(path)
    config, result = directory.config(), directory.read("result.json")
    for name in ("task", "method", "num_plastic_layers", "seed", "episodes"):
        assert getattr(config, name) == result[name]
    if not (path / "checkpoints").exists():
        return
    if config.task == "sine":
        assert flp_tf.load(path).progress()["episodes"] == result["episodes"]
    else:  # The images may not be here.
        assert Checkpoints(path / "checkpoints", {}).newest().content.keys()


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("flp_tf/pretrained/*/checkpoints/*")), ids=lambda path: path.parts[-3]
)
def test_stored_weights_are_those_of_the_network_alone(path):
    with np.load(path) as content:
        assert all(name.startswith("learner/") and content[name].dtype == np.float32 for name in content)
        size = sum(content[name].nbytes for name in content)
    assert path.stat().st_size < size + 10_000


def test_networks_are_loaded_by_name(tmp_path, monkeypatch):
    """Of the library, whatever the working directory is."""
    monkeypatch.chdir(tmp_path)
    run = flp_tf.load("sine_continual_flp2", eval_episodes=3)
    assert run.path == pretrained.HERE / "sine_continual_flp2"
    assert (run.config.continual, run.config.num_plastic_layers, run.config.eval_episodes) == (True, 2, 3)
    assert run.config.trunk_precision == "float32"
    assert flp_tf.load("sine_continual_flp2", trunk_precision="bfloat16").config.trunk_precision == "bfloat16"


def test_weights_alone_are_not_trained_further():
    run = flp_tf.load("sine_iid_flp2")
    with pytest.raises(InputError, match="holds the network's weights alone"):
        flp_tf.meta_train(run.config, run.path, progress=False)
    assert sorted(path.name for path in run.path.iterdir()) == ["checkpoints", "config.json", "result.json"]


def test_unknown_name_names_the_legal_ones():
    with pytest.raises(InputError, match="sine_continual_flp2"):
        pretrained.load("nothing")
    with pytest.raises(
        InputError, match=r"nowhere does not exist, and is no network that ships; those are .*sine_iid_flp2"
    ):
        flp_tf.load("nowhere")
