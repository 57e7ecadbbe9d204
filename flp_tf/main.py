"""Meta-trains networks that learn with feedback and local plasticity.

    python -m flp_tf.main --flagfile=flags/quick.cfg --logdir=runs/quick
    python -m flp_tf.main --task=sine --continual --method=flp --num_plastic_layers=2
    python -m flp_tf.main --flagfile=flags/sine_compact.cfg --continual --method=gradient --num_plastic_layers=3
    python -m flp_tf.main --mode=evaluate --logdir=runs/quick --eval_episodes=200
    python -m flp_tf.main --mode=analyze --analysis=learning_curves --logdir=runs/quick
    python -m flp_tf.main --mode=export --logdir=runs/quick
    python -m flp_tf.main --plugins=my_rules.py --rule=mine

Ctrl-C saves and leaves; the same command continues.
"""

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from flp_tf.silence import make_writable, silenced


@contextlib.contextmanager
def startup() -> Iterator[None]:
    """Loads TensorFlow without what its libraries print, and with a Ctrl-C that only ends.

    TF_CPP_MIN_LOG_LEVEL=0 shows it. Outside the main thread signals are left alone.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL) if in_main_thread else None
    shows = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0"
    try:
        with contextlib.nullcontext() if shows else silenced():
            yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, interrupt)


if __name__ == "__main__":
    make_writable()
    with startup():
        import tensorflow as tf

        tf.config.list_physical_devices()

from absl import logging  # noqa: E402

from flp_tf import commands  # noqa: E402
from flp_tf.commandline import read  # noqa: E402
from flp_tf.errors import InputError  # noqa: E402
from flp_tf.helptext import help_text  # noqa: E402

# What no flag or path is as long as; a number of thousands of digits is.
LONG_WORD = re.compile(r"(\S{200})\S{4000,}(\S{20})")


def main(arguments: Sequence[str] | None = None) -> None:
    """Does what a command line says; bad input ends with one line and a non-zero exit.

    Args:
        arguments: without the program's name; those of this process by default.

    Raises:
        SystemExit: with a line for stderr, or with a number.
    """
    try:
        line = read(sys.argv[1:] if arguments is None else arguments)
        if line.help:
            print(help_text(__doc__, commands.MODES))
        else:
            commands.run(line)
    except InputError as error:
        # All else is a defect, or of a plugin, and keeps its traceback.
        sys.exit(f"flp_tf: {one_line(str(error))}")
    except KeyboardInterrupt:
        print("flp_tf: interrupted; the same command goes on from the newest checkpoint", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def one_line(message: str) -> str:
    """Returns a message in one line, with the middle of overlong words left out."""
    return LONG_WORD.sub(r"\1...\2", " ".join(message.splitlines()))


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    main()
