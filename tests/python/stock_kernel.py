"""The stock kernel (`glassbox install --stock`) in nbclient: what it shows, and what docs/front_ends.md says it can't do.

Run by tests/kernel_python.rs; by hand:  STOCK_KERNEL_NAME=glassbox-stock python stock_kernel.py [NOTEBOOK]
With a notebook it executes that one too, and every cell of it has to succeed.
"""

import os
import sys

import nbformat
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

KERNEL = os.environ.get("STOCK_KERNEL_NAME", "glassbox-stock")
TIMEOUT = int(os.environ.get("KERNEL_COLD_TIMEOUT", "1800"))


def execute(notebook):
    NotebookClient(notebook, timeout=TIMEOUT, kernel_name=KERNEL).execute()
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def streams(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def shown(cell):
    results = [output.data for output in cell.outputs if output.output_type != "stream"]
    assert len(results) == 1, cell.outputs
    return results[0]


def what_it_shows():
    sources = [
        "let tensor = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;\ntensor",
        'display(&MimeBundle::text("first")); println!("between"); display(&MimeBundle::text("second"));',
        'for item in glassbox_prelude::display::progress("counting", 0..3) { item?; };',
        'std::fs::read_to_string("/proc/self/maps")?.contains("libglassbox_prelude")',
        'panic!("boom");',
        "tensor.dims().to_vec()",
    ]
    cells = execute(new_notebook(cells=list(map(new_code_cell, sources))))
    tensor, displays, progress, shared, _panic, kept = cells
    assert "<" in shown(tensor)["text/html"] and "[2, 3]" in shown(tensor)["text/plain"], tensor.outputs
    # One output a cell, at its end, with everything that was shown.
    assert streams(displays) == "between\n", displays.outputs
    assert "first" in shown(displays)["text/html"] and "second" in shown(displays)["text/html"], displays.outputs
    # Progress: plain lines while it goes on, the last state at the end.
    assert "counting: 0/3" in streams(progress), progress.outputs
    assert "3/3" in shown(progress)["text/plain"], progress.outputs
    # One copy of the prelude for all cells, the one that Glassbox's own sessions use.
    assert shown(shared)["text/plain"] == "true", shared.outputs
    # A panic is no error, and what the cell did not use is kept.
    assert shown(kept)["text/plain"] == "[2, 3]", kept.outputs


def an_interrupt_loses_the_variables():
    manager, client = start_new_kernel(kernel_name=KERNEL, startup_timeout=TIMEOUT)
    try:
        client.execute_interactive("let survivor = 1;", timeout=TIMEOUT, output_hook=lambda message: None)
        seen = []

        def interrupt(message):
            if message["msg_type"] == "stream" and "started" in message["content"]["text"] and not seen:
                seen.append(message)
                manager.interrupt_kernel()

        code = 'println!("started"); loop { check_interrupt()?; }'
        reply = client.execute_interactive(code, timeout=120, output_hook=interrupt)
        assert seen and reply["content"]["status"] == "error", reply["content"]
        reply = client.execute_interactive("survivor", timeout=120, output_hook=lambda message: None)
        assert reply["content"]["status"] == "error", reply["content"]
        reply = client.execute_interactive("1 + 1", timeout=120, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main():
    what_it_shows()
    an_interrupt_loses_the_variables()
    for path in sys.argv[1:]:
        cells = execute(nbformat.read(path, as_version=4))
        print(f"{path}: {len(cells)} cells ran")
    print("stock kernel ok")


if __name__ == "__main__":
    main()
