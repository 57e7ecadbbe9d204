"""Documents and the API reference: every link leads somewhere, and everything public is in the reference."""

import ast
import builtins
import html
import importlib
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import commands
import pytest
from test_tools import run_tool

import flp_tf

PACKAGE = Path(flp_tf.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTS = sorted([*commands.ROOT.glob("*.md"), *commands.ROOT.glob("docs/*.md"), *commands.ROOT.glob("docs/*.ipynb")])
OUTSIDE = re.compile(r"[a-z]+:")


def prose(path: Path) -> str:
    """Returns the Markdown of a document or notebook, without blocks of code."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(source) for source in cells)
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Returns the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {"".join(c for c in h.lower().replace(" ", "-") if c.isalnum() or c in "-_") for h in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_the_repository(path):
    """A file that is linked is there and committed, and has the heading that is named."""
    tracked = subprocess.run(["git", "ls-files"], cwd=commands.ROOT, capture_output=True, text=True).stdout.split("\n")
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if OUTSIDE.match(link):
            continue
        file, _, anchor = link.partition("#")
        target = Path(os.path.normpath(path.parent / file)) if file else path
        assert target.exists(), link
        if tracked != [""]:
            name = str(target.relative_to(commands.ROOT))
            assert any(one == name or one.startswith(f"{name}/") for one in tracked), f"{link} is not committed"
        assert not anchor or anchor in anchors(target), link


def test_the_documents_are_linked():
    """From README, every other document can be found."""
    linked = {
        os.path.normpath(link.partition("#")[0])
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(commands.ROOT / "README.md"))
    }
    assert {str(path.relative_to(commands.ROOT)) for path in DOCUMENTS} - {"README.md"} <= linked


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[Path, str]:
    """The text of every page, by path, without what scripts make, and without source: it takes half of the time."""

    def build(output):
        done = run_tool("docs", f"--output={output}", "--nosource")
        assert done.returncode == 0, done.stderr[-3000:]

    output = commands.made_once(tmp_path_factory, "docs", build)
    return {
        path: re.sub(r"<script.*?</script>", "", path.read_text(), flags=re.DOTALL) for path in output.rglob("*.html")
    }


@pytest.mark.slow
def test_links_of_the_pages(pages):
    """Documents and reference: every link of a page leads to a file, and to a place in it."""
    places = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    dead, between = [], set()
    for path, text in pages.items():
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', text):
            if OUTSIDE.match(link):
                continue
            file, _, anchor = html.unescape(link).partition("#")
            target = Path(os.path.normpath(path.parent / file)) if file else path
            if not target.exists() or (anchor and anchor not in places.get(target, ())):
                dead.append((path.name, link))
            between.add((path.name, target.name, bool(anchor)))
    assert not dead
    assert {("index.html", "engine.html", False), ("engine.html", "index.html", False)} <= between
    assert {(path.name, "tutorial.ipynb", False) for path in pages} <= between, "from the top line of every page"
    assert {("index.html", "network.html", True), ("network.html", "index.html", False)} <= between


@pytest.mark.slow
def test_no_page_says_where_it_was_made(pages):
    """Such as in the value of `PRETRAINED`."""
    assert not [path.name for path, text in pages.items() if str(commands.ROOT) in text]
    assert any("flp_tf/pretrained&#39;" in text for path, text in pages.items() if path.name == "run.html")


@pytest.mark.slow
@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_everything_public_is_in_the_reference(path, pages):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    (page,) = [text for place, text in pages.items() if place.as_posix().endswith(f"/{name.replace('.', '/')}.html")]
    found, module = set(re.findall(r'\bid="([^"]+)"', page)), importlib.import_module(name)
    shown = getattr(module, "__all__", None)
    definitions = [
        node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]
    for node in definitions:
        if not node.name.startswith("_") and (shown is None or node.name in shown):
            methods = [part.name for part in ast.iter_child_nodes(node) if isinstance(part, ast.FunctionDef)]
            expected = {f"{node.name}.{method}" for method in methods if not method.startswith("_")}
            assert expected | {node.name} <= found if isinstance(node, ast.ClassDef) else node.name in found
    # A module has a page of its own.
    assert {part for part in shown or () if not isinstance(getattr(module, part), types.ModuleType)} <= found


@pytest.mark.slow
def test_classes_that_are_named_are_linked(pages):
    """A name in code font that looks like a class is one of flp_tf, with a link; others have their module's name."""
    dead = {
        (name, path.name)
        for path, text in pages.items()
        for name in re.findall(
            r'(?<!">)<code>([A-Z][a-z]+[A-Z]?\w*)</code>', re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)
        )
        if name not in dir(builtins)
    }
    assert not dead
    index = next(text for path, text in pages.items() if path.name == "index.html")
    assert '<a href="flp_tf/networks/network.html#Network"><code>Network</code></a>' in index


@pytest.mark.slow
def test_pages_replace_pages_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, "tools/docs.py", f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=commands.ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode != 0 and f"--output={tmp_path} holds something else" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
