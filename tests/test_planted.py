"""What others put into folders: it is refused, is not lost, and is not waited for."""

import json
import os
import shutil
import sys

import matplotlib.figure
import numpy as np
import pytest
from analysis_runs import sine_run
from commands import ROOT, contents, refusal

from flp_tf.analysis.result import Curve, check_output, save
from flp_tf.analysis.series import in_series
from flp_tf.errors import InputError
from flp_tf.export import saved_model
from flp_tf.files import partial
from flp_tf.runs import locks, summaries
from flp_tf.runs.checkpoints import Checkpoints
from flp_tf.runs.config import Config, configure
from flp_tf.runs.directory import RunDirectory
from flp_tf.runs.run import PRETRAINED, changed
from flp_tf.tasks import Omniglot
from flp_tf.tasks.images.cache import cached

sys.path.append(str(ROOT / "tools"))
import bad_inputs


def refused(function, *arguments, **named) -> str:
    """Calls a function that has to refuse; returns what it says."""
    with pytest.raises(InputError) as refusal:
        function(*arguments, **named)
    return str(refusal.value)


def lock(folder, name):
    with locks.locked(folder, name):
        pass


@pytest.mark.parametrize("content", ["mine", "{}", "[1]", "3", "null", '{"pid": 1}', '{"pid": 1, "host": "a", "b": 1}'])
@pytest.mark.parametrize("name", [locks.LOCK, f".evaluation.json{locks.LOCK}"])
def test_a_lock_file_of_someone_else_stays(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert f"{tmp_path / name} is not a lock file of flp_tf" in refused(lock, tmp_path, name)
    assert contents(tmp_path) == {name: content.encode()}


@pytest.mark.parametrize("content", ["", '{"pid": 1, "host": "a"}'])
def test_a_lock_file_of_a_dead_process_is_taken_over(content, tmp_path):
    (tmp_path / locks.LOCK).write_text(content)
    with locks.locked(tmp_path):
        assert json.loads((tmp_path / locks.LOCK).read_text())["pid"] == os.getpid()
    assert contents(tmp_path) == {}


def test_what_took_the_place_of_the_lock_file_stays(tmp_path):
    with locks.locked(tmp_path):
        (tmp_path / "new").write_text("mine")
        (tmp_path / "new").replace(tmp_path / locks.LOCK)
    assert contents(tmp_path) == {locks.LOCK: b"mine"}


def claim(folder, config=None):
    with RunDirectory(folder).claimed(config or configure()):
        pass


def write_result(folder, config, name="evaluation.json", home=None):
    with RunDirectory(folder, "output").results([name], config, home):
        pass


@pytest.mark.parametrize("versions", bad_inputs.NOT_VERSIONS, ids=str)
def test_versions_that_do_not_read(versions, tmp_path):
    """A file that holds such is not of a run, unless the name of flp_tf stands in it."""
    content = {"task": "sine", "versions": versions}
    (tmp_path / "config.json").write_text(json.dumps(content))
    before = contents(tmp_path)
    refused(Config.from_dict, content)
    if isinstance(versions, dict):
        refused(write_result, tmp_path, configure())
    else:
        assert "has a config.json that is not of a run" in refused(claim, tmp_path)
        write_result(tmp_path, configure())
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["evaluation.json", "litert.json", "model.tflite"])
def test_a_pipe_in_the_place_of_a_result_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    assert f"{tmp_path / name} is in the way: flp_tf did not write it" in refused(
        write_result, tmp_path, configure(), name
    )


@pytest.mark.parametrize("name", ["saved_model.pb", saved_model.LABEL])
def test_a_pipe_in_a_saved_model_is_not_waited_for(name, tmp_path):
    for file in ("saved_model.pb", saved_model.LABEL):
        (tmp_path / "export" / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "export" / file).write_text("{}")
    (tmp_path / "export" / name).unlink()
    os.mkfifo(tmp_path / "export" / name)
    assert "is in the way: flp_tf did not write it" in refused(write_result, tmp_path, configure(), "export")


def test_a_pipe_in_the_place_of_a_configuration_or_a_checkpoint_is_not_waited_for(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    os.mkfifo(tmp_path / "checkpoints" / "ckpt-3.npz")
    assert Checkpoints(tmp_path / "checkpoints", {}).restore() is None
    os.mkfifo(tmp_path / "config.json")
    assert "config.json cannot be read: " in refused(RunDirectory(tmp_path).read, "config.json")
    assert "holds no run" in refused(RunDirectory(tmp_path).config)
    refused(claim, tmp_path)
    write_result(tmp_path, configure())


@pytest.fixture
def trained(tmp_path):
    """A run of the test's own, a copy of a network that ships."""
    return shutil.copytree(PRETRAINED / "sine_continual_flp2", tmp_path / "run")


COMMANDS = {
    "export": ["--mode=export"],
    "litert": ["--mode=export", "--format=litert"],
    "analysis": ["--mode=analyze", "--analysis=readout"],
    "analysis/readout": ["--mode=analyze", "--analysis=readout"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_a_linked_folder_is_not_written_to(name, target, trained, tmp_path):
    (tmp_path / "victim").mkdir()
    (trained / name).parent.mkdir(exist_ok=True)
    (trained / name).symlink_to(tmp_path / target)
    before = contents(tmp_path)
    line = refusal(*COMMANDS[name], f"--logdir={trained}")
    assert contents(tmp_path) == before and not (tmp_path / "nowhere").exists()
    assert f"{trained / name} is in the way: it is a link; move it, or name another folder" in line


@pytest.mark.parametrize("target", ["victim", "nowhere"])
@pytest.mark.parametrize("of_run", [False, True])
def test_training_does_not_follow_linked_checkpoints(of_run, target, trained, tmp_path):
    folder, config = (trained, RunDirectory(trained).config()) if of_run else (tmp_path / "empty", configure())
    folder.mkdir(exist_ok=True)
    (trained / "checkpoints").rename(tmp_path / "victim")
    (folder / "checkpoints").symlink_to(tmp_path / target)
    (tmp_path / "victim" / partial(tmp_path / "a").name).write_text("mine")
    before = contents(tmp_path)
    refused(claim, folder, config)
    assert contents(tmp_path) == before and not (tmp_path / "nowhere").exists()


def draw(runs, output):
    """Writes a picture of nothing, as an analysis of some runs."""
    curves = [Curve(one, "error", "", "p", [0], np.zeros([2, 1])) for one in in_series(runs, "drawn")]
    return save("drawn", output, curves, matplotlib.figure.Figure((1, 1)), "x", "panel")


def test_an_analysis_of_another_run_stays(tmp_path):
    """Its own is replaced by one of the same run, of more runs, and of the run when it has become longer."""
    first, other, seed = sine_run("a"), sine_run("b", num_sines=2), sine_run("c", seed=1)
    longer = sine_run("a", episodes=first.config.episodes + 1)
    draw([first], tmp_path)
    before = contents(tmp_path)
    for runs, difference in (([other], "--num_sines=2 (the run has 3)"), ([seed, other], "--seed=1 (the run has 0)")):
        line = refused(draw, runs, tmp_path)
        assert f"{tmp_path / 'drawn.png'} is in the way: it is of another run: {difference}" in line
        assert contents(tmp_path) == before
    for runs in ([first], [seed, first], [first, seed, other], [longer, seed, other]):
        draw(runs, tmp_path)
    assert "--seed=1 (the run has 0)" not in (line := refused(draw, [first], tmp_path)) and "another run" in line


def test_an_analysis_that_says_nothing_is_replaced_in_the_folder_of_its_run_alone(tmp_path):
    run = sine_run(tmp_path / "run")
    for output in (home := tmp_path / "run" / "analysis" / "drawn", tmp_path / "other"):
        draw([run], output)
        matplotlib.figure.Figure((1, 1)).savefig(output / "drawn.png")
    check_output("drawn", home, [run])
    assert "it does not say which run it is of" in refused(check_output, "drawn", tmp_path / "other", [run])
    for content in (b"mine", (home / "drawn.png").read_bytes()[:20]):
        (home / "drawn.png").write_bytes(content)
        assert "flp_tf did not write it" in refused(check_output, "drawn", home, [run])


def test_a_file_does_not_decide_where_caches_are_written(tmp_path, capsys):
    """A `data_dir` that is not the command line's is used if it holds the very images, and not made."""
    archives = {
        "omniglot_archives": str(tmp_path / "archives"),
        "image_size": 16,
        "ways": 2,
        "shots": 1,
        "query_size": 1,
    }
    bad_inputs.omniglot(tmp_path / "archives")
    config = configure(task="omniglot", **archives, data_dir=str(tmp_path / "planted"))
    assert changed(config, {}).data_dir == "~/tensorflow_datasets"
    assert f"--data_dir={tmp_path / 'planted'} of the run's config.json lacks these images" in capsys.readouterr().err
    assert changed(config, {"data_dir": str(tmp_path / "mine")}).data_dir == str(tmp_path / "mine")
    assert changed(config, {"data_dir": config.data_dir}) == config
    for name in ("flp_tf", "omniglot", "mini_imagenet_ravi"):
        (tmp_path / "planted" / name).mkdir(parents=True)
    assert changed(config, {}) != config
    Omniglot.load_images(config.options("task"))
    assert changed(config, {}) == config
    (tmp_path / "archives" / "images_background").rename(tmp_path / "elsewhere")
    assert changed(config, {}) != config
    assert changed(configure(), {}) == configure()


def test_events_that_are_a_pipe_or_a_link_are_left_alone(tmp_path):
    """A pipe would be waited for, and a link cuts off a file elsewhere."""
    (tmp_path / "elsewhere").write_bytes(b"notes")
    pipe, link = (tmp_path / f"events.out.tfevents.{number}{summaries.SUFFIX}" for number in (1, 2))
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "elsewhere")
    summaries.purge(tmp_path, 3)
    assert pipe.is_fifo() and link.is_symlink() and (tmp_path / "elsewhere").read_bytes() == b"notes"


def test_a_pipe_in_the_place_of_decoded_images_is_refused(tmp_path):
    os.mkfifo(tmp_path / "images.npz")
    with pytest.raises(InputError, match="--data_dir: .*images.npz is in the way: it is no file"):
        cached(tmp_path / "images.npz", dict)
    assert (tmp_path / "images.npz").is_fifo()
