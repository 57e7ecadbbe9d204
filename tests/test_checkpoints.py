"""Checkpoints: the newest good one comes back whole, damage is passed over, others are refused."""

import os

import numpy as np
import pytest
import tensorflow as tf

from flp_tf.errors import InputError
from flp_tf.runs.checkpoints import Checkpoints

SHAPES = {"learner/kernel": (3, 2), "learner/layer/strength": (), "outer/momentum": (4,)}
LEARNER = {name: shape for name, shape in SHAPES.items() if name.startswith("learner/")}


def variables(value=0.0, shapes=SHAPES):
    return {name: tf.Variable(tf.fill(shape, float(value) + len(name))) for name, shape in shapes.items()}


def restored(directory, shapes=SHAPES):
    """Returns what a fresh process would find, as the value that `variables` was given."""
    found = variables(-1, shapes)
    assert Checkpoints(directory, found).restore()
    values = {float(np.unique(variable.numpy() - len(name)).item()) for name, variable in found.items()}
    assert len(values) == 1, "all variables come from one checkpoint"
    return values.pop()


def save_steps(directory, steps=(8, 9, 10, 11), shapes=SHAPES):
    kept = variables(shapes=shapes)
    checkpoints = Checkpoints(directory, kept)
    for step in steps:
        for name, variable in variables(step, shapes).items():
            kept[name].assign(variable)
        checkpoints.save(step)
    return directory


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints of outer steps 9, 10 and 11 (of four), holding 9.0, 10.0 and 11.0."""
    return save_steps(tmp_path / "checkpoints")


def file(directory, step):
    return directory / f"ckpt-{step}.npz"


def assert_refused(directory, shapes, message):
    """Nothing is restored and no older checkpoint tried; files stay as they are."""
    before = {path: path.read_bytes() for path in directory.iterdir()}
    kept = variables(5, shapes)
    with pytest.raises(InputError, match=message) as refused:
        Checkpoints(directory, kept).restore()
    assert "\n" not in str(refused.value)
    for name, variable in variables(5, shapes).items():
        np.testing.assert_array_equal(kept[name], variable)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_nothing_to_restore(tmp_path):
    kept = variables(5)
    assert Checkpoints(tmp_path / "none", kept).restore() is None
    np.testing.assert_array_equal(kept["outer/momentum"], variables(5)["outer/momentum"])


def test_the_newest_is_restored(saved):
    """By outer step, not by name: 11 is newer than 9."""
    assert restored(saved) == 11
    assert sorted(path.name for path in saved.iterdir()) == ["ckpt-10.npz", "ckpt-11.npz", "ckpt-9.npz"]


def test_files_hold_arrays_by_name_that_numpy_reads(saved):
    with np.load(file(saved, 11)) as content:
        assert {name: content[name].shape for name in content} == SHAPES
        for name in content:
            assert content[name].dtype == np.float32
            np.testing.assert_array_equal(content[name], np.full(SHAPES[name], 11.0 + len(name)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32", "int64", "bool"])
def test_all_types_come_back(dtype, tmp_path):
    values = tf.cast([[0.0, 1.0], [3.0, 7.0]], dtype)
    Checkpoints(tmp_path, {"x": tf.Variable(values)}).save(1)
    kept = tf.Variable(tf.zeros_like(values))
    assert Checkpoints(tmp_path, {"x": kept}).restore() == 1
    np.testing.assert_array_equal(kept.numpy(), values.numpy())


def test_the_order_of_variables_does_not_matter(saved):
    kept = dict(reversed(variables(-1).items()))
    assert Checkpoints(saved, kept).restore() == 11
    for name, variable in variables(11).items():
        np.testing.assert_array_equal(kept[name], variable)


@pytest.mark.parametrize("name", ["[1]", "a*b?c", "back\\slash", "with space, comma", "{x}", "ünï", "-f", "%d"])
def test_any_name_of_a_folder_works(name, tmp_path):
    directory = save_steps(tmp_path / name / "checkpoints")
    assert restored(directory) == 11
    assert len(list(directory.iterdir())) == 3


@pytest.mark.parametrize("share", [0, 0.5, 0.95])
def test_truncated_checkpoints_are_passed_over(share, saved, capsys):
    """One after the other, saying so; none is good in the end."""
    for step in (11, 10, 9):
        content = file(saved, step).read_bytes()
        file(saved, step).write_bytes(content[: int(share * len(content))])
        if step > 9:
            assert restored(saved) == step - 1
            assert f"checkpoint {saved}/ckpt-{step} is damaged; trying the one before it" in capsys.readouterr().err
    assert_refused(saved, SHAPES, "^--logdir: none of the 3 checkpoints in .* can be read; to train anew, ")


def test_every_truncation_is_noticed(saved):
    content = file(saved, 11).read_bytes()
    for length in range(0, len(content), 9):
        file(saved, 11).write_bytes(content[:length])
        assert restored(saved) == 10


def test_no_flipped_bit_is_silent(saved):
    """A file of the right size with wrong content is passed over, or holds what was saved."""
    content = file(saved, 11).read_bytes()
    checkpoints = Checkpoints(saved, {})
    good = checkpoints.newest().content
    steps = []
    for position in range(0, 8 * len(content), 11):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        file(saved, 11).write_bytes(damaged)
        found = checkpoints.newest()
        steps.append(found.step)
        if found.step == 11:  # The flip was in what carries nothing, such as the time of an entry.
            assert found.content.keys() == good.keys()
            for name, value in good.items():
                np.testing.assert_array_equal(found.content[name], value, strict=True)
    assert steps.count(10) > 0.5 * len(steps)


def test_a_missing_file_is_passed_over(saved):
    file(saved, 11).unlink()
    assert restored(saved) == 10


def test_stray_files_are_left_alone(saved):
    strays = ["ckpt-best.npz", "ckpt-.npz", "ckpt-12.npz.bak", "._ckpt-12.npz", "ckpt-12.data", "notes.txt"]
    for name in strays:
        (saved / name).write_bytes(b"?")
    assert restored(saved) == 11
    save_steps(saved, steps=(12, 13, 14))
    assert all((saved / name).exists() for name in strays)
    assert restored(saved) == 14


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (SHAPES | {"learner/kernel": (3, 3)}, r"weight learner/kernel is \[3, 2\], the network's is \[3, 3\]"),
        (SHAPES | {"learner/new": (5,)}, r"weight learner/new is missing, the network's is \[5\]"),
        (SHAPES | {"outer/new": (5,)}, r"weight outer/new is missing, the network's is \[5\]"),
        ({"learner/kernel": (3, 2)}, r"weight learner/layer/strength is \[\], the network's is missing"),
        (LEARNER | {"outer/count": ()}, r"weight outer/count is missing, .*; weight outer/momentum is \[4\], "),
    ],
)
def test_other_architectures_are_refused(shapes, message, saved):
    assert_refused(saved, shapes, f"^--logdir: checkpoint .*ckpt-11 is of another architecture .{message}")


def test_a_learner_alone_is_restored(saved):
    """Evaluation restores weights and leaves the optimizer."""
    assert restored(saved, LEARNER) == 11


def test_weights_alone_are_restored_but_not_continued(tmp_path):
    save_steps(tmp_path, shapes=LEARNER)
    assert restored(tmp_path, LEARNER) == 11
    assert_refused(tmp_path, SHAPES, "holds the network's weights alone; it can be evaluated, .*, but not trained")


def test_checkpoints_of_flp_tf_0_1_are_refused_with_what_to_do(tmp_path):
    tf.train.Checkpoint(variables=list(variables().values())).write(str(tmp_path / "ckpt-7"))
    assert list(tmp_path.glob("ckpt-7.index"))
    assert_refused(tmp_path, SHAPES, "are of flp_tf 0.1, .*; use them with flp_tf 0.1, or train anew in another folder")


def test_training_goes_on_after_damage(saved):
    """A later checkpoint takes the place of a damaged one of its step, and the oldest goes."""
    file(saved, 11).write_bytes(b"")
    kept = variables()
    checkpoints = Checkpoints(saved, kept)
    assert checkpoints.restore() == 10
    for step in (11, 12):
        for name, variable in variables(step + 0.5).items():
            kept[name].assign(variable)
        checkpoints.save(step)
        assert restored(saved) == step + 0.5
    assert [file(saved, step).exists() for step in (9, 10, 11, 12)] == [False, True, True, True]


def test_a_checkpoint_that_cannot_be_written_leaves_the_others(saved, monkeypatch):
    """As on a full disk: one line, and no rest of the file."""
    before = {path: path.read_bytes() for path in saved.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="ckpt-12.npz cannot be written: No space left on device"):
        Checkpoints(saved, variables(12)).save(12)
    assert {path: path.read_bytes() for path in saved.iterdir()} == before
