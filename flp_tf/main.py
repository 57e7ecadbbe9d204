"""Meta-trains networks that learn with feedback and local plasticity.

    python -m flp_tf.main --flagfile=flags/quick.cfg --logdir=runs/quick
    python -m flp_tf.main --task=sine --continual --method=flp --num_plastic_layers=2
    python -m flp_tf.main --mode=evaluate --logdir=runs/quick --eval_episodes=200
    python -m flp_tf.main --mode=analyze --analysis=learning_curves --logdir=runs/quick
    python -m flp_tf.main --mode=export --logdir=runs/quick

Ctrl-C saves and leaves; the same command continues.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from absl import app, flags, logging


@contextlib.contextmanager
def startup() -> Iterator[None]:
    """Loads TensorFlow without what its libraries print, and with a Ctrl-C that only ends.

    They write to file descriptor 2 whatever the log level; TF_CPP_MIN_LOG_LEVEL=0
    shows it. Exceptions show as ever: Python prints them, and later.
    """
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    stderr = os.dup(2)
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "0":
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        signal.signal(signal.SIGINT, interrupt)


with startup():
    import tensorflow as tf

    from flp_tf import config as configuration
    from flp_tf import modes
    from flp_tf.analysis import ANALYSES

    tf.config.list_physical_devices()

configuration.define_flags()
flags.adopt_module_key_flags(configuration)
flags.DEFINE_string("mode", "train", f"What to do. One of: {', '.join(modes.MODES)}.")
flags.DEFINE_string(
    "logdir",
    "runs/sine",
    "Run directory: configuration, events, checkpoints, results, SavedModel. --mode=analyze takes several, "
    "joined by commas.",
)
flags.DEFINE_string("analysis", "", f"What --mode=analyze draws. One of: {', '.join(ANALYSES)}.")
flags.DEFINE_string("output", "", "Where --mode=analyze writes; DIR/analysis/NAME of the first run by default.")


def main(argv: list[str]) -> None:
    """Runs `--mode` and turns bad input into one line and a non-zero exit."""
    if len(argv) > 1:
        sys.exit(f"flp_tf: {argv[1]} is not a flag; see --help")
    try:
        modes.MODES[flags.FLAGS.mode](flags.FLAGS)
    except ValueError as error:
        # What is wrong with a flag starts with its name; all else is a defect and
        # keeps its traceback.
        if not str(error).startswith("--"):
            raise
        sys.exit(f"flp_tf: {error}")
    except KeyboardInterrupt:
        print("flp_tf: interrupted; the same command goes on from the newest checkpoint", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def parse(argv: list[str]) -> list[str]:
    """Parses the command line, with errors in one line."""
    if "--help" in argv:
        app.usage(shorthelp=True, writeto_stdout=True)
        sys.exit()
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"flp_tf: {' '.join(str(error).removeprefix('ERROR:: ').split())}; see --help")


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=parse)
