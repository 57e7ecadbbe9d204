"""A network is exported where the data that it was trained on are not."""

import commands
import numpy as np
import pytest
import tensorflow as tf

from flp_tf import learners, pretrained
from flp_tf.errors import InputError
from flp_tf.export import litert
from flp_tf.registry import Choice
from flp_tf.runs.config import configure
from flp_tf.tasks import SPLITS, TASKS
from flp_tf.tasks.classification import Dataset

NAME = "omniglot_compact_continual_flp2"


@pytest.fixture
def no_data(tmp_path):
    """The flags of a run of Omniglot whose archives are not there."""
    missing = str(tmp_path / "missing")
    with pytest.raises(InputError, match="--omniglot_archives"):
        pretrained.load(NAME, omniglot_archives=missing)
    where = [f"--logdir={pretrained.HERE / NAME}", f"--output={tmp_path / 'out'}"]
    return ["--mode=export", *where, f"--omniglot_archives={missing}"]


@pytest.mark.slow
def test_a_saved_model_needs_no_data(no_data, tmp_path):
    commands.run(*no_data)
    model = tf.saved_model.load(str(tmp_path / "out"))
    before = model.predict(tf.ones([3, 28, 28, 1]))
    model.learn(tf.ones([1, 28, 28, 1]), [[1.0, 0, 0, 0, 0]])
    assert before.shape == (3, 5)
    assert np.max(np.abs(model.predict(tf.ones([3, 28, 28, 1])) - before)) > 1e-3


@pytest.mark.slow
def test_a_litert_file_is_written_but_not_measured(no_data, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    commands.run(*no_data, "--format=litert", "--batch=1")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "measured" in line]
    assert line.startswith(f"It was not measured: --omniglot_archives={tmp_path / 'missing'}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [litert.FILE]
    model = litert.Interpreted(tmp_path / "out" / litert.FILE)
    assert model.predict(np.ones([3, 28, 28, 1], np.float32)).shape == (3, 5)


class Noise(Dataset):
    """Images of the user's own, of which nothing is known before they are read."""

    read = 0

    @staticmethod
    def load_images(options):
        Noise.read += 1
        shape = (5, 20, options.image_size, options.image_size, 2)
        return dict.fromkeys(SPLITS, np.arange(np.prod(shape)).reshape(shape).astype(np.uint8))


@pytest.mark.parametrize("channels, reads", [(None, 1), (2, 0)])
def test_images_of_one_s_own_are_read_unless_their_channels_are_known(channels, reads, monkeypatch):
    monkeypatch.setattr(Noise, "channels", channels)
    monkeypatch.setattr(Noise, "read", 0)
    signature = Choice(Noise.signature, Noise.Options(image_size=8))()
    assert (signature.input_shape, signature.num_outputs, signature.loss) == ((8, 8, 2), 5, Noise.loss)
    assert Noise.read == reads


@pytest.mark.parametrize("task", ["sine", "imitation"])
def test_other_tasks_are_their_own_signature(task):
    config = configure(task=task)
    assert isinstance(config.task_signature(), TASKS[task])
    assert learners.build(config, config.task_signature()).network.example_shape == config.make_task().input_shape
