"""Plugins and components that are registered, on the command line."""

import dataclasses

import commands
import pytest

from flp_tf.commandline import read
from flp_tf.errors import InputError
from flp_tf.plasticity import RULES
from flp_tf.registry import option
from flp_tf.runs.config import resolve
from flp_tf.tasks import TASKS, Sine

pytestmark = pytest.mark.slow


def test_registered_components_have_flags_and_help(monkeypatch, capsys):
    """What a test registers is a legal value, has flags, and stands in the help."""
    options = dataclasses.make_dataclass(
        "TiltedOptions", [("tilt", float, option(0.5, "Slope that is added."))], bases=(Sine.Options,), frozen=True
    )

    class Tilted(Sine):
        Options = options

        def __init__(self, tilt: float = 0.5, **of_sine):
            super().__init__(**of_sine)
            self.tilt = tilt

    monkeypatch.setitem(TASKS._components, "tilted", Tilted)
    line = read(["--task=tilted", "--tilt=2", "--lifetime=20"])
    config = resolve(line.given)
    assert config.tilt == 2.0 and config.make_task().tilt == 2.0 and config.make_task().steps == 20
    assert config.network == "sine_compact", "the recipe of Sine"
    with pytest.raises(InputError, match="^--tilt does not go with --task=sine; it goes with --task=tilted$"):
        resolve(read(["--tilt=2"]).given)
    commands.run("--help")
    out = capsys.readouterr().out
    assert "Task: tilted:\n  --tilt: Slope that is added. A number. Default: 0.5." in out
    assert "Task: sine, tilted:" in out
    assert "One of: sine, omniglot, mini_imagenet, imitation, tilted." in " ".join(out.split())


PLUGIN = """
import tensorflow as tf
from flp_tf.plasticity import RULES

@RULES.register("{name}")
def rule(kernel, pre, post):
    return tf.matmul(pre, post, transpose_a=True)
"""


def test_plugins_register_components_before_flags_are_read(tmp_path):
    """A file is imported once per process, from the command line or from a flagfile."""
    file = tmp_path / "own rules.py"
    file.write_text(PLUGIN.format(name="of_a_plugin"))
    flagfile = tmp_path / "mine.cfg"
    flagfile.write_text(f"# Mine.\n--plugins={file}\n--rule=of_a_plugin\n")
    try:
        with pytest.raises(InputError, match="^--rule=of_a_plugin is unknown"):
            resolve(read(["--rule=of_a_plugin"]).given)
        for arguments in ([f"--plugins={file}", "--rule=of_a_plugin"], [f"--flagfile={flagfile}"]):
            assert resolve(read(arguments).given).rule == "of_a_plugin"
    finally:
        RULES._components.pop("of_a_plugin", None)


def test_plugins_that_fail_keep_their_traceback(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import no_such_module_of_the_plugin\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_the_plugin"):
        commands.run(f"--plugins={file}")
    file.write_text("x = 1\n")
    commands.run(f"--plugins={file}", "--help")
