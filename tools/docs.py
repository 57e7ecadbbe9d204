"""Builds the API reference, with pdoc, and pages of the documents, with links between all of them.

    tools/docs --output=DIR

`README.md` becomes `index.html`, `docs/engine.md` becomes `docs/engine.html`, and the module
`flp_tf.networks.own` becomes `flp_tf/networks/own.html`. In documents and docstrings, a name of flp_tf in code
font becomes a link, and so does a path such as `flp_tf/networks/`.
"""

import os
import pkgutil
import re
import shutil
import sys
import warnings
from pathlib import Path

import markdown
import pdoc.doc
import pdoc.render
from absl import app, flags

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from report import STYLE  # noqa: E402

import flp_tf  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_string("output", str(ROOT / "build" / "docs"), "Folder of the pages; those of an earlier call go.")
flags.DEFINE_bool("source", True, "Show the source of everything; without it, pages are made in less time.")

# The page of each document.
PAGES = {"README.md": "index.html", "CONTRIBUTING.md": "CONTRIBUTING.html"}
PAGES |= {f"docs/{path.name}": f"docs/{path.stem}.html" for path in sorted(ROOT.glob("docs/*.md"))}
# README links to it; it is copied unchanged.
NOTEBOOK = "docs/tutorial.ipynb"
# A name in code font that is not in a link.
CODE = re.compile(r'(?<!">)<code>([A-Za-z_][\w.]*|flp_tf/[\w/]*(?:\.py)?)(\(\))?</code>')
LINK = re.compile(r'\b(href|src)="(?![a-z]+:|#)([^"#]+)([^"]*)"')


class Reference:
    """The API reference.

    Args:
        output: the folder that it is written to.
        source: whether to show the source of everything.

    Attributes:
        pages: path of every module's page, below the folder.
        places: page and anchor of modules and their members, by full name.
    """

    def __init__(self, output: Path, source: bool):
        # pdoc does not see names that are imported only at their first use.
        vars(flp_tf).update({name: getattr(flp_tf, name) for name in flp_tf.__all__})
        names = ["flp_tf", *(module.name for module in pkgutil.walk_packages(flp_tf.__path__, "flp_tf."))]
        self.pages = {name: f"{name.replace('.', '/')}.html" for name in names}
        pdoc.render.configure(docformat="google", show_source=source)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pdoc")  # About classes of other packages.
            warnings.filterwarnings("error", message=".*flp_tf", module="pdoc")
            # `pdoc.pdoc` skips modules that are not in `__all__` of their package.
            modules = {name: pdoc.doc.Module.from_name(name) for name in names}
            for name, page in self.pages.items():
                (output / page).parent.mkdir(parents=True, exist_ok=True)
                (output / page).write_text(_relative(pdoc.render.html_module(modules[name], modules)))
            (output / "search.js").write_text(_relative(pdoc.render.search_index(modules)))
        self.places = dict(self.pages)
        for name, page in self.pages.items():
            for anchor in re.findall(r'<(?:section|div) id="([^"]+)"', (output / page).read_text()):
                self.places[f"{name}.{anchor}"] = f"{page}#{anchor}"

    def find(self, name: str) -> str | None:
        """Returns the place of a name such as `Episode`, `lifetime.run` or `flp_tf/networks/`.

        A single word has to be a class or constant: functions and modules have the names of many other things.
        If several modules show the name, the one in the deepest folder defines it.
        """
        if "/" in name:
            return self.places.get(name.removesuffix(".py").strip("/").replace("/", "."))
        if "." not in name and not name[0].isupper():
            return None
        found = [full for full in self.places if f".{full}".endswith(f".{name}")]
        return self.places[max(found, key=lambda full: full.count("."))] if found else None

    def link(self, text: str, page: str) -> str:
        """Returns HTML for a page of the folder, with links for the names in code font."""

        def linked(match: re.Match) -> str:
            place = self.find(match[1])
            return f'<a href="{_from(page, place)}">{match[0]}</a>' if place else match[0]

        def shown(match: re.Match) -> str:
            # pdoc links the constructors of abstract classes, but does not show them.
            place = os.path.normpath(os.path.join(os.path.dirname(page), match[1])) if match[1] else page
            exists = f"{place}#{match[2]}.__init__" in self.places.values()
            return match[0] if exists else f'"{match[1]}#{match[2]}"'

        return CODE.sub(linked, re.sub(r'"([\w/.]*)#([\w.]+)\.__init__"', shown, text))


def document(source: str, output: Path, reference: Reference) -> str:
    """Returns the HTML of a document; copies the linked files that are not pages.

    Args:
        source: path of the Markdown file in the repository.
        output: the folder of the pages.
        reference: the reference.

    Raises:
        FileNotFoundError: if the target of a link is missing.
    """

    def moved(match: re.Match) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), match[2]))
        place = PAGES.get(target) or reference.find(f"{target}/") or target
        if place == target:
            (output / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / target, output / target)
        return f'{match[1]}="{_from(PAGES[source], place)}{match[3]}"'

    options = {"toc": {"slugify": slug}}
    text = markdown.markdown(
        (ROOT / source).read_text(), extensions=["tables", "fenced_code", "toc"], extension_configs=options
    )
    return reference.link(LINK.sub(moved, text), PAGES[source])


def slug(heading: str, separator: str) -> str:
    """Returns the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def navigation(page: str) -> str:
    """Returns links from a page to the documents and the top of the reference."""
    names = {place: Path(source).stem for source, place in PAGES.items()}
    names |= {NOTEBOOK: Path(NOTEBOOK).stem, "flp_tf.html": "reference"}
    links = [f'<a href="{_from(page, place)}">{name}</a>' for place, name in names.items()]
    return f"<p>{' · '.join(links)}</p>"


def _relative(text: str) -> str:
    """Returns a page with paths relative to the repository: constants, which pdoc shows, have absolute paths."""
    return text.replace(f"{ROOT}/", "")


def _from(page: str, place: str) -> str:
    """Returns the link from a page to a place, both below the folder."""
    return os.path.relpath(place, os.path.dirname(page) or ".")


def main(arguments: list[str]) -> None:
    """Writes all pages."""
    output = Path(FLAGS.output)
    if len(arguments) > 1:
        sys.exit(f"tools/docs: {arguments[1]} is no flag; --output=DIR says where the pages go")
    if output.exists() and not (output / "flp_tf.html").exists() and any(output.iterdir()):
        sys.exit(f"tools/docs: --output={output} holds something else; name an empty folder")
    shutil.rmtree(output, ignore_errors=True)
    reference = Reference(output, FLAGS.source)
    for page in reference.pages.values():
        text = (output / page).read_text().replace('<main class="pdoc">', f'<main class="pdoc">{navigation(page)}', 1)
        (output / page).write_text(reference.link(text, page))
    contents = "".join(f'<li><a href="{page}">{name}</a></li>' for name, page in reference.pages.items())
    for source, page in PAGES.items():
        (output / page).parent.mkdir(exist_ok=True)
        body = document(source, output, reference)
        (output / page).write_text(
            f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<title>flp_tf: {Path(source).stem}</title><style>{STYLE}</style>{navigation(page)}{body}"
            + (f"<h2>API reference</h2><ul>{contents}</ul>" if page == "index.html" else "")
        )
    print(f"{output}/index.html: {len(PAGES)} documents, {len(reference.pages)} modules")


if __name__ == "__main__":
    app.run(main)
