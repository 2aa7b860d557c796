#!/usr/bin/env python3
"""Executes the course and writes it as pages that need nothing else: docs/pages/NAME.html, and docs/pages/index.html, which leads to them.

    pip install pillow
    scripts/pages.py [--prelude] [NAME…]

notebooks/*.ipynb ─ glassbox run --html ─► page ─ links, back link, smaller pictures ─► docs/pages ─ title, goals, result, picture ─► index

Without names, those notebooks are run whose page is missing or of another text; broken off, it goes on with the rest the next time.
Where only text cells changed, the outputs of the same code and the same prelude, kept in target/pages, are shown again. Pages of an older
prelude stay: `--prelude` runs them too. The program is target/release/glassbox, or what GLASSBOX names. Which drawing stands for a notebook in the index says scripts/pages.json (a cell, and which
of its drawings); else it is the last one. tests/pages.rs checks that each page is of the notebook as it stands, and small.
"""

import argparse
import base64
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

try:
    from PIL import Image
except ImportError:
    sys.exit("scripts/pages.py makes pictures smaller with Pillow: pip install pillow")

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PAGES = ROOT / "docs" / "pages"
PICTURES = PAGES / "pictures"
WORK = ROOT / "target" / "pages"
COVERS = json.loads((ROOT / "scripts" / "pages.json").read_text())
LARGEST = 500_000  # bytes of a page, as in tests/pages.rs
COLOURS = 128  # of a picture on a page


def text(cell):
    return "".join(cell["source"])


def digest(notebook, kinds=("code", "markdown", "raw")):
    """Of all cells as `Notebook::digest` in src/notebook/document.rs."""
    found = hashlib.sha256()
    for cell in notebook["cells"]:
        if cell["cell_type"] in kinds:
            source = text(cell)
            found.update(f"{cell['cell_type'].capitalize()} {len(source.encode())}\n{source}\n".encode())
    return found.hexdigest()


def read(path):
    return json.loads(path.read_text())


def figures(notebook):
    """The drawings beside the notebooks that its text cells show."""
    texts = "\n".join(text(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return [NOTEBOOKS / name for name in re.findall(r"!\[[^]]*\]\((figures/[^)]+)\)", texts)]


def is_current(name):
    page, notebook = PAGES / f"{name}.html", read(NOTEBOOKS / f"{name}.ipynb")
    if not page.exists() or not any(PICTURES.glob(f"{name}.*")):
        return False
    wanted = [f'<meta name="notebook-sha256" content="{digest(notebook)}">']
    wanted += [base64.b64encode(path.read_bytes()).decode() for path in figures(notebook)]
    shown = page.read_text()
    return all(part in shown for part in wanted)


def is_of_this_prelude(name):
    about = WORK / f"{name}.json"
    return about.exists() and read(about)["prelude"] == prelude()


def glassbox(notebook):
    program = os.environ.get("GLASSBOX", str(ROOT / "target" / "release" / "glassbox"))
    subprocess.run([program, "run", notebook, "--html", "--output", WORK.relative_to(ROOT)], check=True, cwd=ROOT)


def with_kept_outputs(notebook, kept):
    """The notebook with the outputs of an earlier run of the same code, none of it to be run again."""
    outputs = iter([cell for cell in kept["cells"] if cell["cell_type"] == "code"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            before = next(outputs)
            cell["outputs"], cell["execution_count"] = before["outputs"], before["execution_count"]
            cell["metadata"] = {**cell["metadata"], "tags": [*cell["metadata"].get("tags", []), "skip-execution"]}
    return notebook


def prelude():
    """Of the source that cells are compiled against: outputs of another one are not shown again."""
    folder = Path(os.environ.get("GLASSBOX_PRELUDE_SRC", ROOT / "prelude"))
    found = hashlib.sha256()
    for path in sorted(path for part in ("src", "wire", "assets") for path in (folder / part).rglob("*") if path.is_file()):
        found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


def run(name):
    """Leaves the executed notebook in target/pages, and gives its page."""
    notebook, kept, about = read(NOTEBOOKS / f"{name}.ipynb"), WORK / f"{name}.ipynb", WORK / f"{name}.json"
    ran = read(about) if about.exists() else {}
    if ran.get("prelude") == prelude() and digest(read(kept), ["code"]) == digest(notebook, ["code"]):
        print(f"{name}: only text changed, the outputs stay", flush=True)
        staged = WORK / "text" / f"{name}.ipynb"
        staged.parent.mkdir(exist_ok=True)
        shutil.copytree(NOTEBOOKS / "figures", staged.parent / "figures", dirs_exist_ok=True)
        staged.write_text(json.dumps(with_kept_outputs(notebook, read(kept))))
        glassbox(staged.relative_to(ROOT))
    else:
        print(f"{name} …", flush=True)
        about.unlink(missing_ok=True)
        ran = {"prelude": prelude()}
        glassbox(f"notebooks/{name}.ipynb")
        ran["foot"] = re.search(r"<footer>.*?</footer>", (WORK / f"{name}.html").read_text(), re.DOTALL)[0]
        about.write_text(json.dumps(ran))
    page = (WORK / f"{name}.html").read_text()
    return re.sub(r"<footer>.*?</footer>", lambda _: ran["foot"], page, flags=re.DOTALL)


def smaller(png):
    """A picture with few colours, if that makes it smaller."""
    written = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return min(png, written.getvalue(), key=len)


def small_uri(found):
    return "data:image/png;base64," + base64.b64encode(smaller(base64.b64decode(found[1]))).decode()


def linked(found):
    """A link as it leads from docs/pages: to the page of a notebook, or to a file of the repository."""
    link = found[1]
    if re.match(r"[a-z]+:|#", link):
        return found[0]
    file, *place = link.split("#")
    if (NOTEBOOKS / file).parent == NOTEBOOKS and file.endswith(".ipynb"):
        file = f"{file.removesuffix('.ipynb')}.html"
    else:
        file = os.path.relpath(NOTEBOOKS / file, PAGES)
    return f'href="{"#".join([file, *place])}"'


def write_page(name):
    page = run(name)
    page = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=]+)", small_uri, page)
    page = re.sub(r'href="([^"]*)"', linked, page)
    page = page.replace("<main>\n", '<main>\n<p class="text"><a href="index.html">All notebooks</a></p>\n', 1)
    PICTURES.mkdir(parents=True, exist_ok=True)
    kind, picture = cover(name)
    for before in PICTURES.glob(f"{name}.*"):
        before.unlink()
    (PICTURES / f"{name}.{kind}").write_bytes(picture)
    (PAGES / f"{name}.html").write_text(page)


def drawings(cell):
    """What a code cell drew, in order: outputs of their own, and the pictures within tables and other HTML."""
    for output in cell.get("outputs", []):
        data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if isinstance(value, (str, list))}
        if "text/html" in data:
            for kind, coded in re.findall(r"data:image/(png|svg\+xml);base64,([A-Za-z0-9+/=]+)", data["text/html"]):
                drawn = base64.b64decode(coded)
                yield ("png", smaller(drawn)) if kind == "png" else ("svg", drawn)
        elif "image/svg+xml" in data:
            yield "svg", data["image/svg+xml"].encode()
        elif "image/png" in data:
            yield "png", smaller(base64.b64decode(data["image/png"]))


def cover(name):
    found = [(cell.get("id"), list(drawings(cell))) for cell in read(WORK / f"{name}.ipynb")["cells"]]
    wanted, at = COVERS.get(name, [None, -1])
    chosen = [drawn for cell, drawn in found if drawn and wanted in (None, cell)]
    if not chosen:
        sys.exit(f"{name}: no drawing in {wanted or 'any cell'} (scripts/pages.json)")
    return chosen[-1][at]


def words(markdown):
    """Inline Markdown as HTML: code, strong and emphasis are kept, of links the words."""
    line = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown)
    line = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(line, quote=False))
    return re.sub(r"\*([^*]*)\*", r"<em>\1</em>", re.sub(r"\*\*([^*]*)\*\*", r"<strong>\1</strong>", line))


def entry(name):
    """A notebook's card, from its first cell: title, what it teaches, how long it takes, what comes out."""
    lines = text(read(NOTEBOOKS / f"{name}.ipynb")["cells"][0]).splitlines()
    said = {}
    for begin in ("# ", "- **You will**", "- **Time**:", "> **What comes out.**"):
        said[begin] = next((line.removeprefix(begin).strip() for line in lines if line.startswith(begin)), None)
        if said[begin] is None:
            sys.exit(f"{name}: the first cell has no line that begins with {begin!r}")
    title, does, time, result = said.values()
    picture = next(PICTURES.glob(f"{name}.*")).name
    alt = html.escape(f"A drawing from {title}")
    return (
        f'<li><a class="card" href="{name}.html"><img src="pictures/{picture}" alt="{alt}" loading="lazy"><h2>{words(title)}</h2></a>\n'
        f"<p>You will {words(does)}</p>\n<p><strong>What comes out.</strong> {words(result)}</p>\n"
        f'<p class="faint">{words(time[0].upper() + time[1:])}</p></li>'
    )


STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --faint: #6a737d; --line: #d8dee4; --accent: #0b62c4; --behind: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e3e7eb; --faint: #98a2ad; --line: #343b43; --accent: #6cb0ff; --behind: #e9ebee; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 system-ui, "Segoe UI", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem; }
main > p { max-width: 46rem; }
a { color: var(--accent); }
code { font-size: .9em; overflow-wrap: anywhere; }
ul { list-style: none; padding: 0; display: grid; gap: 3rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
li { min-width: 0; }
.card { text-decoration: none; display: block; }
.card img { width: 100%; height: 13rem; object-fit: contain; background: var(--behind); border: 1px solid var(--line); border-radius: 6px; padding: .5rem; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: .7rem 0 .3rem; }
p { margin: .5rem 0; }
li p { font-size: .95rem; }
.faint { color: var(--faint); }
"""


def index(names):
    entries = "\n".join(map(entry, names))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Glassbox: the course</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Vision-language models, taken apart</h1>\n"
        "<p>A course in notebooks. Every number and picture on these pages was computed when they were made, by the tiny model "
        "that comes with the program, on a processor and without a network. Nothing on them runs or loads anything. To run and change the "
        "notebooks: <code>cargo run --release -- run notebooks/00_tour.ipynb</code>, or JupyterLab with the Glassbox kernel "
        '(<a href="../../README.md">how</a>). Begin with the tour; the answers to the exercises unfold. '
        'And <a href="try/index.html">one page runs</a>: on it the trained model itself computes in your browser.</p>\n'
        f"<ul>\n{entries}\n</ul>\n</main>\n</body>\n</html>\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, such as 00_tour")
    parser.add_argument("--prelude", action="store_true", help="run those too that were run with another prelude, or elsewhere")
    arguments = parser.parse_args()
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb") if ".executed" not in path.stem)
    if unknown := [name for name in arguments.names if name not in known]:
        sys.exit(f"no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    WORK.mkdir(parents=True, exist_ok=True)
    for name in known:
        is_old = arguments.prelude and not is_of_this_prelude(name)
        if name in arguments.names or (not arguments.names and (is_old or not is_current(name))):
            write_page(name)
    if missing := [name for name in known if not is_current(name)]:
        sys.exit(f"the index was not written: no current page of {', '.join(missing)} (scripts/pages.py without names makes them)")
    for left in [*PAGES.glob("*.html"), *PICTURES.iterdir()]:
        if left.stem not in known:
            left.unlink()
    (PAGES / "index.html").write_text(index(known))
    sizes = {path.relative_to(PAGES): path.stat().st_size for path in sorted(PAGES.rglob("*")) if path.is_file() and "try" not in path.parts}
    for path, size in sizes.items():
        print(f"{path!s:<34} {size / 1000:6.0f} kB{'  TOO LARGE' if size > LARGEST else ''}")
    print(f"{sum(sizes.values()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
