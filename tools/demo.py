"""A page that learns handwritten characters in the browser, with a pretrained network of the library.

    tools/demo                  # on http://127.0.0.1:8000 until Ctrl-C
    tools/demo --output=page    # a folder instead, for any web server

The page is `tools/demo_page`. It runs the network's LiteRT file with LiteRT.js. npm fetches LiteRT.js
once, in the version given by `tools/demo_page/package-lock.json`.
"""

import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from absl import app, flags  # noqa: E402

from flp_tf.errors import InputError  # noqa: E402
from flp_tf.export import litert  # noqa: E402
from flp_tf.files import check_writable, local  # noqa: E402
from flp_tf.learners import Learner  # noqa: E402
from flp_tf.runs import run  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_integer("port", 8000, "Port on this machine; 0 for a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_string("output", "", "Empty or new folder to write the page to, instead of serving it.")

# Five classes, five drawings of each, one after the other.
NETWORK = "omniglot_compact_continual_flp2"
PAGE = ROOT / "tools" / "demo_page"
PARTS = ("*.html", "*.css", "*.js")
PACKAGES = PAGE / "node_modules"
# The files of the packages that the page loads, by their place in the page. LiteRT.js takes the second
# pair if the browser has no relaxed SIMD. Neither pair uses threads, so the page needs no
# cross-origin headers.
LIBRARY = {
    "litert/core.js": "@litertjs/core/dist/index.js",
    "litert/wasm-utils.js": "@litertjs/wasm-utils/dist/index.js",
    **{
        f"litert/wasm/{name}.{kind}": f"@litertjs/core/wasm/{name}.{kind}"
        for name in ("litert_wasm_internal", "litert_wasm_compat_internal")
        for kind in ("js", "wasm")
    },
}


def learner() -> Learner:
    """Returns the pretrained network, without reading drawings of Omniglot."""
    directory = run.find(NETWORK)
    return run.restore_learner(directory.path, directory.config())


def fetch() -> None:
    """Fetches the packages, unless they are already there in the required versions.

    Raises:
        InputError: if npm is missing or fails.
    """
    wanted = json.loads((PAGE / "package.json").read_text())["dependencies"]
    found = [PACKAGES / name / "package.json" for name in wanted]
    if all(
        path.exists() and json.loads(path.read_text())["version"] == wanted[name] for name, path in zip(wanted, found)
    ):
        return
    needed = f"{', '.join(wanted)}, which the page runs the network with"
    if not shutil.which("npm"):
        raise InputError(f"npm (of Node.js) is missing; it fetches {needed}")
    print(f"Fetching {needed} (once)...", file=sys.stderr)
    if subprocess.run(["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"], cwd=PAGE).returncode:
        raise InputError(f"npm could not fetch {needed}")


def build(folder: Path) -> None:
    """Writes the page, with all files that it loads, to a folder.

    Raises:
        InputError: if it cannot be written, or npm cannot fetch missing packages.
    """
    fetch()
    for pattern in PARTS:
        for file in PAGE.glob(pattern):
            shutil.copy(file, folder)
    for place, source in LIBRARY.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGES / source, folder / place)
    litert.write(learner(), folder, batch=1)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files of a folder, without logging each request."""

    # The types of these files differ between systems.
    extensions_map = {  # noqa: RUF012
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        """Makes the browser check every time whether a file has changed."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""


def serve(port: int) -> None:
    """Builds the page and serves it, on this machine only, until a signal.

    Raises:
        InputError: if the port is in use or not permitted, or `build` fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        handler = functools.partial(Handler, directory=folder)
        try:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError as error:
            raise InputError(f"--port={port} cannot be used: {error.strerror}; --port=0 takes a free one") from None
        # Otherwise the folder would be left behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with server:
            build(Path(folder))
            print(f"http://127.0.0.1:{server.server_port} (Ctrl-C ends it)", flush=True)
            server.serve_forever()


def write(output: str) -> None:
    """Writes the page to the folder that `--output` names.

    Raises:
        InputError: if the folder is not empty or cannot be written, or `build` fails.
    """
    folder = local(output, "output")
    check_writable(folder, "output")
    if any(folder.iterdir()):
        raise InputError(f"--output={folder} is not empty; name a new folder")
    build(folder)
    print(f"{folder / 'index.html'} and what it loads; python -m http.server --directory={folder} serves it")


def main(argv: list[str]) -> None:
    """Serves the page, or writes it to a folder."""
    try:
        if len(argv) > 1:
            raise InputError(f"{argv[1]} is no flag; legal are --port and --output")
        if FLAGS["output"].present and FLAGS["port"].present:
            raise InputError("--port does not go with --output, which serves nothing")
        if FLAGS["output"].present:
            write(FLAGS.output)
        else:
            serve(FLAGS.port)
    except InputError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    app.run(main)
