#!/usr/bin/env python3
"""What it costs to run cells again: a cell in its session and in a later one, and a whole notebook a second time.

    python3 scripts/repeated_cells.py [--glassbox FILE] [--before FILE] [--repeats N] [--notebook FILE] [--set NAME=VALUE] [--only-cells | --only-notebook]

Needs jupyter_client (`pip install jupyter_client`), Rust, and a built `glassbox`; `--before` names another one, measured in the same run.

  cells      from sending `execute_request` to the arrival of `execute_reply`, of cells whose own code takes no time: the first time, the median
             of the times after it, and the first time in a new session
  notebook   each code cell with `:timing` on, in three sessions: with GLASSBOX_CELL_CACHE=off, so that all is compiled; then as usual, which
             keeps what is compiled, unless an earlier run of this script has; then once more. Seconds of each phase over all cells

What one run of this script keeps, the next one finds, so each run writes a number into its cells.
"""
import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time

from compare_latency import milliseconds, run

CELLS = [
    ("expression", "@N@ + 1"),
    ("let", "let v = @N@;"),
    ("println", 'println!("{}", @N@);'),
    ("fn and call", "fn f(a: i64) -> i64 { a + @N@ }\nf(1)"),
    ("static", "static S: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(@N@);\nS.load(std::sync::atomic::Ordering::Relaxed)"),
    ("let tensor", "let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?; // @N@"),
    ("tensor product", "m.matmul(&m.t()?)?.to_vec2::<f32>()?.len() + @N@"),
    ("a model's name", "vlm // @N@"),
]
SETUP = ["let m = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;", "let vlm = Vlm::tiny(&Device::Cpu)?;"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--glassbox", default="target/release/glassbox")
    arguments.add_argument("--before")
    arguments.add_argument("--repeats", type=int, default=11)
    arguments.add_argument("--notebook", default="notebooks/00_tour.ipynb")
    arguments.add_argument("--set", default="", help="a variable of the notebook's parameters: shorter training")
    arguments.add_argument("--only-cells", action="store_true")
    arguments.add_argument("--only-notebook", action="store_true")
    options = arguments.parse_args()
    programs = {"now": options.glassbox}
    if options.before:
        programs = {"before": options.before, **programs}
    number = int(time.time() * 1e3) % 10**9
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JUPYTER_PATH"] = folder
        for name, program in programs.items():
            target = os.path.join(folder, "kernels", f"repeated-{name}")
            os.makedirs(target)
            spec = {
                "argv": [os.path.abspath(program), "kernel", "--connection-file", "{connection_file}"],
                "display_name": name,
                "language": "rust",
            }
            with open(os.path.join(target, "kernel.json"), "w") as file:
                json.dump(spec, file)
        if not options.only_notebook:
            print(f"\n| ms | {' | '.join(f'{name}: first, again, in a new session' for name in programs)} |")
            print("|---" * (len(programs) + 1) + "|")
            times = {name: cells(f"repeated-{name}", number, options.repeats) for name in programs}
            for cell, _ in CELLS:
                print(f"| {cell} | {' | '.join(', '.join(f'{t:.1f}' for t in times[name][cell]) for name in programs)} |")
        if not options.only_cells:
            with open(options.notebook) as file:
                book = json.load(file)
            codes = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
            if options.set:
                name, value = options.set.split("=", 1)
                codes = [re.sub(rf"(let (?:mut )?{name}\b[^=\n]*=\s*)[^;\n]+;", rf"\g<1>{value};", code, count=1) for code in codes]
            for name in programs:
                for turn, limit in (("all compiled", "off"), ("keeps", ""), ("again", "")):
                    phases, wall = notebook(f"repeated-{name}", codes, limit, os.path.dirname(options.notebook))
                    shown = ", ".join(f"{phase} {spent:.2f}" for phase, spent in sorted(phases.items()))
                    print(f"{options.notebook}, {name}, {turn}: {wall:.1f} s for {len(codes)} cells; {shown}", flush=True)
    print(f"\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end.")


class Kernel:
    """A session of a kernel."""

    def __init__(self, name, env=None, cwd=None):
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(kernel_name=name)
        self.manager.start_kernel(env={**os.environ, **(env or {})}, cwd=cwd or ".")
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=1800)

    def __enter__(self):
        return self.client

    def __exit__(self, *_):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def cells(kernel, number, repeats):
    times = {}
    for session in range(2):
        with Kernel(kernel) as client:
            for code in ["1 + 1", *SETUP]:
                checked(client, code)
            for name, code in CELLS:
                code = code.replace("@N@", str(number))
                first = checked(client, code)["ms"]
                if session:
                    times[name].append(first)
                else:
                    again = [checked(client, code)["ms"] for _ in range(repeats)]
                    times[name] = [first, statistics.median(again)]
    return times


def notebook(kernel, codes, limit, folder):
    """Seconds of each phase, and of all."""
    phases = {}
    with Kernel(kernel, {"GLASSBOX_CELL_CACHE": limit}, folder) as client:
        checked(client, ":timing")
        begin = time.perf_counter()
        for code in codes:
            for phase, spent in timing(client, code).items():
                phases[phase] = phases.get(phase, 0.0) + spent / 1e3
        return phases, milliseconds(begin) / 1e3


def timing(client, code):
    """The phases of a cell in milliseconds, as `:timing` shows them."""
    message = client.execute(code)
    found = {}
    while True:
        output = client.get_iopub_msg(timeout=1800)
        if output["parent_header"].get("msg_id") != message:
            continue
        content = output["content"]
        if output["msg_type"] == "error":
            print("\n".join(content["traceback"]), file=sys.stderr)
        if output["msg_type"] == "display_data":
            text = content["data"].get("text/plain", "")
            if re.match(r"[0-9.]+ ms = ", text):
                for phase, spent in re.findall(r"(\w+) ([0-9.]+) ms(?: \+|$)", text.split(" = ", 1)[1]):
                    found[phase] = found.get(phase, 0.0) + float(spent)
        if output["msg_type"] == "status" and content["execution_state"] == "idle":
            break
    client.get_shell_msg(timeout=60)
    return found


def checked(client, code):
    cell = run(client, code)
    if cell["status"] != "ok":
        raise SystemExit(f"{code}\n{cell['text']}")
    return cell


if __name__ == "__main__":
    main()
