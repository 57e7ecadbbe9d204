"""Checkpoints: the newest good one comes back whole, damage is passed over, others are refused."""

import numpy as np
import pytest
import tensorflow as tf

from flp_tf.meta.checkpoints import Checkpoints

SHAPES = ((3, 2), (), (4,))


def variables(value=0.0, shapes=SHAPES):
    return [tf.Variable(tf.fill(shape, float(value) + i)) for i, shape in enumerate(shapes)]


def restored(directory, shapes=SHAPES):
    """Returns what a fresh process would find, as the value that `variables` was given."""
    found = variables(-1, shapes)
    assert Checkpoints(directory, found).restore()
    values = {float(np.unique(variable.numpy() - i).item()) for i, variable in enumerate(found)}
    assert len(values) == 1, "all variables come from one checkpoint"
    return values.pop()


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints of outer steps 9, 10 and 11 (of four), holding 9.0, 10.0 and 11.0."""
    kept = variables()
    checkpoints = Checkpoints(tmp_path, kept)
    for step in (8, 9, 10, 11):
        for variable, value in zip(kept, variables(step)):
            variable.assign(value)
        checkpoints.save(step)
    return tmp_path


def files(directory, step):
    return sorted(directory.glob(f"ckpt-{step}.*"))


def test_nothing_to_restore(tmp_path):
    kept = variables(5)
    assert not Checkpoints(tmp_path, kept).restore()
    assert kept[0].numpy().min() == 5


def test_the_newest_is_restored(saved):
    """By outer step, not by name: 11 is newer than 9."""
    assert restored(saved) == 11
    assert not files(saved, 8)
    assert all(len(files(saved, step)) == 2 for step in (9, 10, 11))


@pytest.mark.parametrize("share", [0, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["data", "index"])
def test_truncated_checkpoints_are_passed_over(kind, share, saved, capsys):
    """One after the other, saying so; none is good in the end."""
    for step in (11, 10, 9):
        (path,) = [path for path in files(saved, step) if kind in path.name]
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        if step > 9:
            assert restored(saved) == step - 1
            assert f"checkpoint {saved}/ckpt-{step} is damaged; trying the one before it" in capsys.readouterr().err
    kept = variables(5)
    with pytest.raises(ValueError, match="^--logdir: none of the 3 checkpoints in .* can be read$"):
        Checkpoints(saved, kept).restore()
    assert kept[0].numpy().min() == 5


def test_missing_data_are_passed_over(saved):
    (path,) = [path for path in files(saved, 11) if "data" in path.name]
    path.unlink()
    assert restored(saved) == 10


def test_flipped_bits_are_passed_over(saved):
    """A file of the right size with wrong content."""
    (path,) = [path for path in files(saved, 11) if "data" in path.name]
    content = bytearray(path.read_bytes())
    content[3] ^= 0x40
    path.write_bytes(content)
    assert restored(saved) == 10


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 3), (), (4,)), r"weight 0 is \[3, 2\], the network's is \[3, 3\]"),
        (((3, 2), (), (4,), (5,)), r"weight 3 is missing, the network's is \[5\]"),
    ],
)
def test_other_architectures_are_refused(shapes, message, saved):
    """Nothing is restored and no older checkpoint tried; files stay as they are."""
    before = {path: path.read_bytes() for path in saved.iterdir()}
    kept = variables(5, shapes)
    with pytest.raises(ValueError, match=f"^--logdir: checkpoint .*ckpt-11 is of another architecture .{message}"):
        Checkpoints(saved, kept).restore()
    assert kept[0].numpy().min() == 5
    assert {path: path.read_bytes() for path in saved.iterdir()} == before


def test_first_variables_alone(saved):
    """Evaluation restores weights and leaves the optimizer."""
    assert restored(saved, SHAPES[:2]) == 11


def test_training_goes_on_after_damage(saved):
    """A later checkpoint takes the place of a damaged one of its step, and the oldest goes."""
    for path in files(saved, 11):
        path.write_bytes(b"")
    kept = variables()
    checkpoints = Checkpoints(saved, kept)
    assert checkpoints.restore()
    for step in (11, 12):
        for variable, value in zip(kept, variables(step + 0.5)):
            variable.assign(value)
        checkpoints.save(step)
        assert restored(saved) == step + 0.5
    assert [bool(files(saved, step)) for step in (9, 10, 11, 12)] == [False, True, True, True]
