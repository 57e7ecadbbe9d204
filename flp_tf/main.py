"""Command line: meta-train, evaluate, export."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, flags, logging  # noqa: E402

from flp_tf import config as configuration  # noqa: E402
from flp_tf import modes  # noqa: E402

configuration.define_flags()
flags.DEFINE_string("mode", "train", f"What to do. One of: {', '.join(modes.MODES)}.")
flags.DEFINE_string("logdir", "runs/sine", "Run directory: configuration, events, checkpoints, results, SavedModel.")


def main(argv: list[str]) -> None:
    """Runs `--mode` and turns bad input into one line and a non-zero exit."""
    try:
        if len(argv) > 1:
            raise ValueError(f"{argv[1]} is not a flag; see --help")
        modes.MODES[flags.FLAGS.mode](flags.FLAGS)
    except ValueError as error:
        sys.exit(f"flp_tf: {error}")


def parse(argv: list[str]) -> list[str]:
    """Parses the command line, with errors in one line."""
    try:
        return app.parse_flags_with_usage(argv) if {"--help", "--helpfull", "--helpshort"} & set(argv) else flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"flp_tf: {' '.join(str(error).split())}")


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=parse)
