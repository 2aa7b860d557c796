"""The kernel in the clients that people use without a browser: jupyter console, nbconvert and papermill.

Run by tests/kernel_python.rs; by hand:  KERNEL_NAME=glassbox TOUR=notebooks/00_tour.ipynb python clients.py
papermill needs the translator of clients/papermill beside it.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import nbformat
import pexpect
from nbformat.v4 import new_code_cell, new_notebook

KERNEL = os.environ.get("KERNEL_NAME", "glassbox")
# The first cell may wait for the prelude to be built.
COLD = int(os.environ.get("KERNEL_COLD_TIMEOUT", "1800"))


def notebook(path, *sources):
    cells = [new_code_cell(source) for source in sources]
    cells[0].metadata.tags = ["parameters"]
    spec = {"name": KERNEL, "language": "rust", "display_name": "Glassbox"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": spec}), path)


def succeed(*command):
    done = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True, timeout=COLD)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def texts(path):
    cells = nbformat.read(path, as_version=4).cells
    codes = [cell for cell in cells if cell.cell_type == "code"]
    return ["".join(output.text for output in cell.outputs if output.output_type == "stream") for cell in codes]


def nbconvert(folder):
    source = folder / "convert.ipynb"
    notebook(source, "let steps = 2;", "Tensor::arange(0f32, steps as f32, &Device::Cpu)?", 'println!("{steps} steps");')
    succeed("nbconvert", "--execute", "--to", "notebook", "--output", "executed.ipynb", source)
    assert texts(folder / "executed.ipynb")[2] == "2 steps\n", texts(folder / "executed.ipynb")
    succeed("nbconvert", "--execute", "--to", "html", "--output", "executed.html", source)
    page = (folder / "executed.html").read_text()
    assert "2 steps" in page and "Tensor" in page

    notebook(source, "let steps = 2;", 'Err::<(), _>("no luck")?;', 'println!("never");')
    failed = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--output", "failed.ipynb", source],
        capture_output=True, text=True, timeout=COLD,
    )
    assert failed.returncode != 0 and "no luck" in failed.stderr, failed


def tour(folder):
    """The tour trains and captions from top to bottom; its last check fails the cell if the captions are poor."""
    succeed(
        "nbconvert", "--execute", "--to", "notebook", f"--ExecutePreprocessor.kernel_name={KERNEL}",
        "--output-dir", folder, "--output", "tour.ipynb", os.environ["TOUR"],
    )
    cells = [cell for cell in nbformat.read(folder / "tour.ipynb", as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells), cells
    said = "".join(texts(folder / "tour.ipynb"))
    assert "all attributes right" in said, said
    plots = [output for cell in cells for output in cell.outputs if "step 700/700" in output.get("data", {}).get("text/plain", "")]
    # Seven hundred steps, updated in place, leave one plot.
    assert len(plots) == 1 and "data:image/svg+xml" in plots[0].data["text/html"], len(plots)


def papermill(folder):
    source, target = folder / "parameters.ipynb", folder / "with parameters.ipynb"
    lines = 'let steps = 2; // how many\nlet rate: f64 = 0.5;\nlet name = "nobody".to_string();\nlet on = false;'
    notebook(source, lines, 'println!("{} {} {} {}", steps, rate, name, on);')
    name = 'Zoë "Z" \\ 🦀'
    succeed("papermill", source, target, "-p", "steps", "7", "-p", "rate", "0.25", "-r", "name", name, "-p", "on", "true")
    assert texts(target)[2] == f"7 0.25 {name} true\n", texts(target)
    listed = succeed("papermill", "--help-notebook", source)
    assert "steps" in listed and "how many" in listed and "f64" in listed, listed


def console():
    command = ["-m", "jupyter_console", "--kernel", KERNEL, "--simple-prompt", "--ZMQTerminalInteractiveShell.kernel_timeout=120"]
    shell = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=120, env={**os.environ, "NO_COLOR": "1"})
    try:
        shell.expect(r"In \[1\]:")
        shell.sendline("let x = 40;")
        shell.expect(r"In \[2\]:", timeout=COLD)
        shell.sendline("x + 2")
        shell.expect(r"Out\[2\]:\s+42")
        shell.expect(r"In \[3\]:")
        shell.sendline('let name = input("who is there? ")?; println!("hello {name}");')
        shell.expect(r"\r\nwho is there\? ")
        shell.sendline("Ferris")
        shell.expect("hello Ferris")
        shell.expect(r"In \[4\]:")
        shell.sendline('println!("spin{}", "ning"); loop { check_interrupt()?; }')
        shell.expect("spinning")
        shell.sendintr()
        shell.expect("Interrupted")
        shell.expect(r"In \[5\]:")
        shell.sendline("x + 3")
        shell.expect(r"Out\[5\]:\s+43")
        shell.expect(r"In \[6\]:")
        shell.sendline('let wrong: i32 = "text";')
        shell.expect("mismatched types")
        shell.expect(r"In \[7\]:")
        shell.sendeof()
        shell.expect("really want to exit")
        shell.sendline("y")
        shell.expect(pexpect.EOF)
    except pexpect.ExceptionPexpect as error:
        raise AssertionError(f"jupyter console: {error}") from error
    finally:
        shell.close(force=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        nbconvert(pathlib.Path(folder))
        tour(pathlib.Path(folder))
        papermill(pathlib.Path(folder))
    console()
    print("clients ok")


if __name__ == "__main__":
    main()
