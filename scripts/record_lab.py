#!/usr/bin/env python3
"""Uses the notebooks in JupyterLab as a person would, checks what happens, and takes the pictures in docs/.

    python3 scripts/record_lab.py [--glassbox FILE] [--out DIR] [--only NAMES]

Needs `pip install jupyterlab ipywidgets playwright`, a chromium (Debian: chromium), and a built `glassbox` whose prelude is in
the cache. Starts a JupyterLab of its own on a free loopback port, with a kernelspec, settings and notebooks in a temporary folder.

  training   the tour's training: its live plot, an interrupt, the next cell, and `fit` again
  layers     01's attention layer picker: dragged, then the page loaded again and dragged once more
  widget     04's temperature slider
  aids       Tab after a dot, Shift-Tab inside arguments, both also while a cell runs
"""

import argparse
import contextlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Cells of one notebook may train for a minute or two on a busy machine.
PATIENCE = 600_000


@contextlib.contextmanager
def jupyter_lab(glassbox, folder):
    """A server for the notebooks in `folder`: its address and token."""
    subprocess.run([glassbox, "install", "--prefix", folder / "prefix"], check=True, stdout=subprocess.DEVNULL)

    def settings(plugin, **values):
        file = folder / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))

    settings("apputils-extension/notification", fetchNews="false", checkForUpdates=False)
    # Every cell in the document, on screen or not.
    settings("notebook-extension/tracker", windowingMode="none")
    # Beside the proposals: the declaration of the chosen one, which JupyterLab does not show by itself.
    settings("completer-extension/manager", showDocumentationPanel=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    environment = {
        **os.environ,
        "JUPYTER_PATH": str(folder / "prefix/share/jupyter"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(200):
                with contextlib.suppress(urllib.error.URLError, ConnectionError):
                    urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5)
                    break
                time.sleep(0.3)
            else:
                sys.exit((folder / "server.log").read_text())
            yield address, token
        finally:
            server.terminate()
            server.wait(20)


class Notebook:
    """A notebook in the browser. Cells are numbered as in the file."""

    def __init__(self, browser, server, name, out):
        self.page = browser.new_page(viewport={"width": 1000, "height": 1000})
        self.out = out
        address, token = server
        # `doc` is the mode with one document and nothing else.
        self.page.goto(f"{address}/doc/tree/{name}?reset&token={token}", wait_until="domcontentloaded")
        self.wait_for_kernel()

    def wait_for_kernel(self):
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        idle = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        self.page.wait_for_function(idle, timeout=PATIENCE, polling=200)

    def evaluate(self, body, *arguments):
        code = f"(a) => {{ const notebook = window.jupyterapp.shell.currentWidget.content; {body} }}"
        return self.page.evaluate(code, list(arguments))

    def command(self, name):
        self.page.evaluate(f"() => {{ window.jupyterapp.commands.execute('{name}'); }}")

    def code_cells(self):
        return self.evaluate("return notebook.widgets.map((w, i) => w.model.type === 'code' ? i : -1).filter(i => i >= 0)")

    def start(self, cell):
        self.evaluate("notebook.activeCellIndex = a[0]; notebook.deselectAll()", cell)
        self.command("notebook:run-cell")

    def state(self, cell):
        """Whether it runs, and its outputs."""
        got = "const m = notebook.widgets[a[0]].model; return [m.executionState, m.outputs.toJSON()]"
        state, outputs = self.evaluate(got, cell)
        return state == "running", outputs

    def wait(self, cell, what, condition, seconds=PATIENCE / 1000):
        end = time.monotonic() + seconds
        while not condition(*self.state(cell)):
            assert time.monotonic() < end, f"cell {cell}: {what} in vain: {self.state(cell)}"
            self.page.wait_for_timeout(50)
        return self.state(cell)[1]

    def run(self, cell):
        counted = "return notebook.widgets[a[0]].model.executionCount"
        before = self.evaluate(counted, cell)
        self.start(cell)
        done = lambda running, _: not running and self.evaluate(counted, cell) not in (None, before)
        outputs = self.wait(cell, "waited for its end", done)
        failed = [output for output in outputs if output["output_type"] == "error"]
        assert not failed, failed
        return outputs

    def run_up_to(self, word):
        """Runs all cells before the first that has `word` in it, which is returned."""
        for cell in self.code_cells():
            if word in self.evaluate("return notebook.widgets[a[0]].model.sharedModel.getSource()", cell):
                return cell
            self.run(cell)
        sys.exit(f"no cell has {word!r} in it")

    def element(self, cell, selector=""):
        return self.page.locator(f".jp-Notebook .jp-Cell >> nth={cell}").locator(selector or ".jp-Cell-outputArea").first

    def photograph(self, name, cell):
        """The cell with its outputs."""
        box = self.page.locator(f".jp-Notebook .jp-Cell >> nth={cell}")
        box.scroll_into_view_if_needed()
        self.page.mouse.move(2, 2)
        self.page.wait_for_timeout(400)
        box.screenshot(path=self.out / f"{name}.png")
        print(f"{name}.png", flush=True)

    def drag(self, cell, to):
        """Drags the slider of a cell to a part of its length."""
        slider = self.element(cell, ".noUi-target")
        slider.scroll_into_view_if_needed()
        handle, whole = self.element(cell, ".noUi-handle").bounding_box(), slider.bounding_box()
        middle = whole["y"] + whole["height"] / 2
        self.page.mouse.move(handle["x"] + handle["width"] / 2, middle)
        self.page.mouse.down()
        self.page.mouse.move(whole["x"] + to * whole["width"], middle, steps=8)
        self.page.mouse.up()

    def said(self, cell):
        """The text of a cell's outputs as they stand in the page."""
        return self.element(cell).inner_text()

    def wait_for_text(self, cell, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.said(cell):
            assert time.monotonic() < end, f"{text!r} is not in {self.said(cell)!r}"
            self.page.wait_for_timeout(50)

    def type_cell(self, text):
        """A new cell at the end with this text; the cursor is behind it."""
        self.evaluate("notebook.activeCellIndex = notebook.widgets.length - 1")
        self.command("notebook:insert-cell-below")
        self.page.wait_for_timeout(300)
        self.command("notebook:enter-edit-mode")
        self.page.wait_for_timeout(300)
        self.page.keyboard.type(text)
        return self.evaluate("return notebook.activeCellIndex")


def training(open_notebook):
    notebook = open_notebook("00_tour.ipynb")
    cell = notebook.run_up_to("trainer.fit(")

    def steps():
        data = [output["data"] for output in notebook.state(cell)[1] if "data" in output]
        texts = ["".join(bundle.get("text/plain", "")) for bundle in data]
        found = [text.split("step ")[1].split("/")[0] for text in texts if "training: step " in text]
        return int(found[0].replace(",", "")) if found else 0

    notebook.start(cell)
    notebook.wait(cell, "waited for step 150", lambda *_: steps() >= 150)
    notebook.photograph("training-live", cell)
    seen = steps()
    assert notebook.state(cell)[0], "it should still run"
    begun = time.monotonic()
    notebook.command("notebook:interrupt-kernel")
    outputs = notebook.wait(cell, "waited for the interrupt", lambda running, _: not running, 10)
    took = time.monotonic() - begun
    errors = [output["ename"] for output in outputs if output["output_type"] == "error"]
    assert errors == ["Interrupted"], outputs
    notebook.photograph("training-stopped", cell)
    # The model keeps what it has learnt, and the trainer goes on.
    after = notebook.type_cell("vlm.generate(&sample.image)?.run()?.text")
    print("after the interrupt:", "".join(notebook.run(after)[0]["data"]["text/plain"]))
    again = notebook.type_cell("trainer.fit(&vlm, &train_set, &val_set)?;")
    notebook.start(again)
    notebook.wait(again, "waited for training to go on", lambda _, outputs: "step" in json.dumps(outputs))
    notebook.command("notebook:interrupt-kernel")
    notebook.wait(again, "waited for the interrupt", lambda running, _: not running, 10)
    print(f"training was at step {seen}, and stopped {took:.2f} s after the interrupt")


def dragged(notebook, name, first, to, then):
    """Runs the notebook up to its slider, which says `first`, and drags that until it says `then`. Returns its cell."""
    cell = notebook.run_up_to("Slider::new(")
    notebook.run(cell)
    notebook.wait_for_text(cell, first)
    notebook.photograph(f"{name}-before", cell)
    notebook.drag(cell, to)
    notebook.wait_for_text(cell, then)
    notebook.photograph(f"{name}-after", cell)
    return cell


def layers(open_notebook):
    notebook = open_notebook("01_embedding.ipynb")
    cell = dragged(notebook, "layer", "layer = 0", 1.0, "layer = 3")
    # The page is loaded again: the kernel goes on, and the slider is where it was.
    notebook.command("docmanager:save")
    notebook.page.wait_for_timeout(1500)
    notebook.page.reload(wait_until="domcontentloaded")
    notebook.wait_for_kernel()
    notebook.page.wait_for_selector(".noUi-handle", timeout=30_000)
    notebook.drag(cell, 0.5)
    notebook.wait_for_text(cell, "layer = 1")
    notebook.photograph("layer-reloaded", cell)


def widget(open_notebook):
    dragged(open_notebook("04_generation.ipynb"), "widget", "temperature = 0.7", 0.8, "temperature = 2")


def aids(open_notebook):
    notebook = open_notebook("empty.ipynb")
    notebook.page.set_viewport_size({"width": 1000, "height": 620})
    first = notebook.type_cell("let vlm = Vlm::tiny(&Device::Cpu)?;")
    notebook.run(first)
    # So long a person needs to type the next line. JupyterLab drops proposals that take more than a second.
    notebook.page.wait_for_timeout(2000)

    def asked(text, key, answer, name):
        """The page's answer to a key behind a text, photographed if it has a name."""
        notebook.type_cell(text)
        notebook.page.keyboard.press(key)
        notebook.page.wait_for_selector(answer, timeout=15_000)
        notebook.page.wait_for_timeout(1000)
        said = notebook.page.locator(answer).first.inner_text()
        if name:
            notebook.page.screenshot(path=notebook.out / f"{name}.png")
        print(f"{text} {key}: {said[:80]!r}", flush=True)
        notebook.page.keyboard.press("Escape")
        return said

    def complete(text, name=None):
        return asked(text, "Tab", ".jp-Completer:not(.lm-mod-hidden)", name)

    def inspect(text, name=None):
        return asked(text, "Shift+Tab", ".jp-Tooltip", name)

    assert "generate_batch" in complete("vlm.gen", "completion")
    assert "pub fn zeros" in inspect("let t = Tensor::zeros((2, 3), ", "inspection")
    busy = notebook.type_cell("std::thread::sleep(std::time::Duration::from_secs(20));")
    notebook.start(busy)
    notebook.wait(busy, "waited for it to run", lambda running, _: running)
    assert "trainable_parameters" in complete("vlm.tra")
    assert "pub fn ones" in inspect("let t = Tensor::ones((2, 3), ")
    assert notebook.state(busy)[0], "the cell should still run"


SCENES = {scene.__name__: scene for scene in [training, layers, widget, aids]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glassbox", default=ROOT / "target/release/glassbox", type=pathlib.Path)
    parser.add_argument("--out", default=ROOT / "docs", type=pathlib.Path)
    parser.add_argument("--only", default=",".join(SCENES), help=f"some of {', '.join(SCENES)}")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    options = parser.parse_args()
    scenes = [SCENES[name] for name in options.only.split(",")]
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="glassbox-lab-") as folder:
        folder = pathlib.Path(folder)
        notebooks = folder / "notebooks"
        shutil.copytree(ROOT / "notebooks", notebooks, ignore=shutil.ignore_patterns("*.executed.*"))
        kernel = {"name": "glassbox", "display_name": "Glassbox", "language": "rust"}
        empty = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": []}
        (notebooks / "empty.ipynb").write_text(json.dumps(empty))
        with jupyter_lab(options.glassbox.resolve(), folder) as server, sync_playwright() as playwright:
            arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
            browser = playwright.chromium.launch(executable_path=options.chromium, args=arguments)
            opened = []

            def open_notebook(name):
                opened.append(Notebook(browser, server, name, options.out))
                return opened[-1]

            try:
                for scene in scenes:
                    scene(open_notebook)
            except BaseException:
                # What a person would have seen.
                opened[-1].page.screenshot(path=options.out / "failed.png")
                raise
            browser.close()


if __name__ == "__main__":
    main()
