"""The notebook docs/tutorial.ipynb runs from beginning to end, and is committed with what it shows."""

import os
import sys
from pathlib import Path

import commands
import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (requirements-test.txt)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (requirements-test.txt)")

NOTEBOOK = commands.ROOT / "docs" / "tutorial.ipynb"


def outputs(notebook, kind: str) -> list:
    """Returns the outputs of all cells that have a part of a kind, such as `image/png`."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [output for cell in cells for output in cell.outputs if kind in output.get("data", {})]


def test_it_is_committed_with_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run from top to bottom"
    assert len(outputs(notebook, "image/png")) >= 4
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert NOTEBOOK.stat().st_size < 1e6


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    """In a folder of its own, to which and to the temporary folder alone it may write.

    Its runs are a hundredth as long here, of smaller networks: how far they get is in the committed outputs.
    """
    repository = {path: path.stat().st_mtime_ns for path in (commands.ROOT / "docs").rglob("*")}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{commands.ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    tensorboard = tmp_path / "tensorboard"
    tensorboard.write_text(f"#!{sys.executable}\n{commands.TENSORBOARD}")
    tensorboard.chmod(0o700)
    monkeypatch.setenv("TENSORBOARD_BINARY", str(tensorboard))
    text = NOTEBOOK.read_text()
    for shown, here in {"episodes=1000": "episodes=10", "episodes=500": "episodes=5", "64-64-64": "16-16"}.items():
        assert text.count(shown) == 1
        text = text.replace(shown, here)
    notebook = nbformat.reads(text, as_version=4)
    work = tmp_path / "work"
    work.mkdir()
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(work)}}
    )
    client.execute()
    assert len(outputs(notebook, "image/png")) >= 4
    assert any("tensorboard" in output.data["text/html"] for output in outputs(notebook, "text/html")), "TensorBoard"
    assert {path: path.stat().st_mtime_ns for path in (commands.ROOT / "docs").rglob("*")} == repository
    assert not list(work.iterdir())
