"""Executes a small notebook with nbclient and checks its outputs.

Run by tests/kernel_python.rs; by hand:  KERNEL_NAME=glassbox python run_notebook.py
"""

import os

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

KERNEL = os.environ.get("KERNEL_NAME", "glassbox")
# The first cell may wait for the prelude to be built.
COLD = int(os.environ.get("KERNEL_COLD_TIMEOUT", "1800"))


def execute(*sources):
    cells = [new_markdown_cell("# Title"), *map(new_code_cell, sources)]
    notebook = new_notebook(cells=cells)
    NotebookClient(notebook, timeout=COLD, kernel_name=KERNEL).execute()
    nbformat.validate(notebook)
    return notebook, notebook.cells[1:]


def main():
    notebook, cells = execute(
        "let tensor = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;",
        'println!("sum {}", tensor.sum_all()?.to_scalar::<f32>()?);',
        "tensor.dims().to_vec()",
        "use glassbox_prelude::display::{MimeBundle, display_live};\n"
        'let live = display_live(&MimeBundle::text("step 1"));\n'
        'for step in 2..=9 { live.update(&MimeBundle::text(format!("step {step}"))); }',
        "glassbox_prelude::display::clear_output(false);",
    )
    assert notebook.metadata.language_info.name == "rust", notebook.metadata
    assert [cell.execution_count for cell in cells] == [1, 2, 3, 4, 5]
    assert cells[1].outputs[0].text == "sum 15\n", cells[1].outputs
    assert cells[2].outputs[0].data["text/plain"] == "[2, 3]", cells[2].outputs
    # Updates replace: one display, in its last state.
    shown = [output.data["text/plain"] for output in cells[3].outputs]
    assert shown == ["step 9"], shown
    assert cells[4].outputs == [], cells[4].outputs

    try:
        execute('println!("before");', 'panic!("boom");', 'println!("never");')
    except CellExecutionError as error:
        assert "boom" in str(error), error
    else:
        raise AssertionError("a panic did not stop the notebook")
    print("notebooks ok")


if __name__ == "__main__":
    main()
