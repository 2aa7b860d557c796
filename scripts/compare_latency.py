#!/usr/bin/env python3
"""The time of a cell in three kernels, and the least that compiling it can take.

    python3 scripts/compare_latency.py [--glassbox FILE] [--repeats N] [--only NAMES] [--prepare] [--json FILE]

Needs jupyter_client and ipykernel (`pip install jupyter_client ipykernel`), Rust, and a built `glassbox`.

Measured in one run, in turn on the same machine:
  glassbox   the kernel with the whole prelude
  evcxr      evcxr_jupyter 0.22 unchanged (it is part of the program `glassbox-analyst` beside `glassbox`), with `:dep candle-core, candle-nn`
  ipykernel  Python, with the same numbers in lists
  floor      no kernel: one call of rustc on a hand-written crate that does the same with the prelude, a direct linker, dlopen

The time of a cell is from sending `execute_request` to the arrival of `execute_reply`. CPU time, of the kernel and
everything it started, is what can be trusted on a busy machine.

The first run builds candle for evcxr (minutes; kept in /var/tmp/glassbox-latency: cells of evcxr do not find the standard
library from a folder below the home folder). `--prepare` does only that.
"""
import argparse
import ctypes
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# Probes: name, Rust for Glassbox, Rust for evcxr, Python, and the body of the floor's function (None: an item).
# `@N@` counts, so that no two cells are the same.
PROBES = [
    ("expression", "@N@ + 1", None, "@N@ + 1", 'println!("{:?}", @N@ + 1);'),
    ("let", "let v@N@ = @N@;", None, "v@N@ = @N@", "::glassbox_prelude::cell::put(\"v@N@\", @N@);"),
    ("println", 'println!("{}", @N@);', None, "print(@N@)", 'println!("{}", @N@);'),
    ("fn", "fn f@N@(a: i32) -> i32 { a + @N@ }", None, "def f@N@(a):\n    return a + @N@", None),
    (
        "let tensor",
        "let t@N@ = Tensor::zeros((2, @N@), DType::F32, &Device::Cpu)?;",
        None,
        "t@N@ = [[0.0] * @N@] * 2",
        "::glassbox_prelude::cell::put(\"t\", Tensor::zeros((2, @N@), DType::F32, &Device::Cpu)?);",
    ),
    (
        "tensor product",
        "m.matmul(&m.t()?)?.to_vec2::<f32>()?.len() + @N@",
        None,
        "len([[sum(a * b for a, b in zip(p, q)) for q in m] for p in m]) + @N@",
        'let m = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?; println!("{:?}", m.matmul(&m.t()?)?.to_vec2::<f32>()?.len() + @N@);',
    ),
    (
        "prelude function",
        "let c@N@ = caption_length(&vlm, \"a red circle\")?;",
        "",
        "",
        None,
    ),
    ("compile error", "let e: u8 = \"@N@\";", None, "1 +* @N@", None),
]
PRELUDE_ONLY = "let vlm = Vlm::tiny(&Device::Cpu)?;\nfn caption_length(vlm: &Vlm, text: &str) -> Result<usize> { Ok(vlm.caption_ids(text)?.len()) }"
TENSOR = "let m = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;"
EVCXR_SETUP = [
    ':dep candle-core = "0.11.1"\n:dep candle-nn = "0.11.1"',
    "use candle_core::{DType, Device, Tensor};",
    TENSOR,
]
TRIVIAL = {"expression", "let", "println", "fn"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--glassbox", default="target/release/glassbox")
    arguments.add_argument("--repeats", type=int, default=11)
    arguments.add_argument("--only", default="glassbox,evcxr,ipykernel,floor")
    arguments.add_argument("--prepare", action="store_true")
    arguments.add_argument("--json")
    options = arguments.parse_args()
    glassbox = os.path.abspath(options.glassbox)
    work = "/var/tmp/glassbox-latency"
    os.makedirs(work, exist_ok=True)
    only = options.only.split(",")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        kernels = write_kernels(folder, glassbox, work)
        os.environ["JUPYTER_PATH"] = folder
        if options.prepare:
            print(json.dumps(measure(kernels["evcxr"], "evcxr", EVCXR_SETUP, [], 0), indent=1))
            return
        if "floor" in only:
            results["floor"] = floor(options.repeats)
        if "glassbox" in only:
            probes = [(name, rust) for name, rust, *_ in PROBES]
            measure(kernels["glassbox"], "glassbox", [], [], 0)  # builds the prelude if it is not in the cache
            results["glassbox"] = measure(kernels["glassbox"], "glassbox", [TENSOR, PRELUDE_ONLY], probes, options.repeats)
        if "evcxr" in only:
            probes = [(name, rust if other is None else other) for name, rust, other, *_ in PROBES]
            results["evcxr"] = measure(kernels["evcxr"], "evcxr", EVCXR_SETUP, probes, options.repeats)
        if "ipykernel" in only:
            probes = [(name, python) for name, _, _, python, _ in PROBES]
            results["ipykernel"] = measure("python3", "ipykernel", ["m = [[0.0] * 3] * 2"], probes, options.repeats)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    report(results)


def write_kernels(folder, glassbox, work):
    """Kernelspecs for this run only."""
    for name in ("config", "evcxr"):
        os.makedirs(os.path.join(work, name), exist_ok=True)
    nothing = os.path.join(folder, "no-kernels")
    analyst = os.path.join(os.path.dirname(glassbox), "glassbox-analyst")
    specs = {
        "glassbox": {"argv": [glassbox, "kernel", "--connection-file", "{connection_file}"]},
        "evcxr": {
            "argv": [analyst, "--control_file", "{connection_file}"],
            # An empty configuration, and a folder that lasts: the crates are built once.
            "env": {
                "EVCXR_CONFIG_DIR": os.path.join(work, "config"),
                "EVCXR_TMPDIR": os.path.join(work, "evcxr"),
                "JUPYTER_PATH": nothing,
            },
        },
    }
    names = {}
    for name, spec in specs.items():
        kernel = f"latency-{name}"
        target = os.path.join(folder, "kernels", kernel)
        os.makedirs(target)
        with open(os.path.join(target, "kernel.json"), "w") as file:
            json.dump({"display_name": kernel, "language": "rust", **spec}, file)
        names[name] = kernel
    return names


def measure(kernel, label, setup, probes, repeats):
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name=kernel)
    begin = time.perf_counter()
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    result = {"setup": [], "probes": {}}
    try:
        client.wait_for_ready(timeout=600)
        result["answers"] = milliseconds(begin)
        first = run(client, "1 + 1")
        result["first result"] = milliseconds(begin)
        result["first cell"] = first["ms"]
        for code in setup:
            cell = run(client, code)
            result["setup"].append({"code": code, **cell})
            if cell["status"] != "ok":
                raise SystemExit(f"{label}: the setup failed: {code}\n{cell['text']}")
        pid = getattr(manager.provisioner, "pid", None) or manager.provisioner.process.pid
        count = 2
        for name, code in probes:
            if not code:
                continue
            times, phases, wanted = [], [], "error" if name == "compile error" else "ok"
            for turn in range(repeats + 2):
                if turn == 2:  # two to warm up
                    before = tree_cpu(pid)
                count += 1
                cell = run(client, code.replace("@N@", str(count)))
                if cell["status"] != wanted:
                    raise SystemExit(f"{label}: {name}: {cell['status']}: {cell['text']}")
                if turn >= 2:
                    times.append(cell["ms"])
            cpu = (tree_cpu(pid) - before) / repeats
            result["probes"][name] = {"median": statistics.median(times), "min": min(times), "max": max(times), "cpu": cpu}
            print(f"{label:10} {name:16} {result['probes'][name]['median']:7.1f} ms", file=sys.stderr)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return result


def run(client, code):
    begin = time.perf_counter()
    message = client.execute(code)
    while True:
        reply = client.get_shell_msg(timeout=1800)
        if reply["parent_header"].get("msg_id") == message:
            break
    spent = milliseconds(begin)
    text = ""
    while True:
        output = client.get_iopub_msg(timeout=60)
        if output["parent_header"].get("msg_id") != message:
            continue
        content = output["content"]
        if output["msg_type"] == "error":
            text += "\n".join(content.get("traceback", []))
        if output["msg_type"] == "status" and content["execution_state"] == "idle":
            return {"ms": spent, "status": reply["content"]["status"], "text": text}


def milliseconds(begin):
    return (time.perf_counter() - begin) * 1e3


def tree_cpu(root):
    """Milliseconds of CPU time of a process and everything below it, what has ended included."""
    children, spent = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        spent[int(name)] = sum(map(int, fields[11:15]))
    total, todo = 0, [root]
    while todo:
        process = todo.pop()
        total += spent.get(process, 0)
        todo += children.get(process, [])
    return total * 1000.0 / os.sysconf("SC_CLK_TCK")


FLOOR = """#![allow(unused)]
use glassbox_prelude::prelude::*;
#[unsafe(no_mangle)]
pub extern "C" fn cell() {
    let _ = (|| -> std::result::Result<(), Box<dyn std::error::Error>> { BODY Ok(()) })();
}
"""


def floor(repeats):
    """One rustc call on a hand-written crate, one call of the linker, one dlopen."""
    rustc = subprocess.check_output(["rustup", "which", "rustc"], text=True).strip()
    sysroot = subprocess.check_output([rustc, "--print", "sysroot"], text=True).strip()
    preludes = glob.glob(os.path.expanduser("~/.cache/glassbox/prelude/*/manifest.json"))
    prelude = os.path.dirname(max(preludes, key=os.path.getmtime))
    for standard in glob.glob(f"{sysroot}/lib/rustlib/*/lib/libstd-*.so"):
        ctypes.CDLL(standard, mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(f"{prelude}/libglassbox_prelude.so", mode=ctypes.RTLD_GLOBAL)
    result = {"probes": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, _, _, _, body in PROBES:
            if name in ("prelude function", "compile error"):
                continue
            times, cpu = [], []
            for turn in range(repeats + 2):
                source = FLOOR.replace("BODY", body or "") + ("" if body else f"fn f{turn}(a: i32) -> i32 {{ a + {turn} }}\n")
                with open(f"{folder}/cell.rs", "w") as file:
                    file.write(source.replace("@N@", str(turn)))
                library = f"{folder}/{name.replace(' ', '_')}{turn}.so"
                before, begin = os.times(), time.perf_counter()
                subprocess.run(
                    [
                        rustc, "--crate-name", "cell", "--edition=2024", "--crate-type=cdylib", f"{folder}/cell.rs",
                        f"--emit=obj={folder}/cell.o", "-Ccodegen-units=1", "-Copt-level=0", "-Cdebuginfo=0",
                        "-Cdebug-assertions=on", "-Cprefer-dynamic", "--extern",
                        f"glassbox_prelude={prelude}/libglassbox_prelude.so", "-L", f"dependency={prelude}/deps",
                    ],
                    check=True,
                )
                subprocess.run(["ld", "-shared", "--eh-frame-hdr", "-o", library, f"{folder}/cell.o"], check=True)
                ctypes.CDLL(library)
                if turn >= 2:
                    times.append(milliseconds(begin))
                    after = os.times()
                    cpu.append(1e3 * (after[2] + after[3] - before[2] - before[3]))
            result["probes"][name] = {
                "median": statistics.median(times), "min": min(times), "max": max(times), "cpu": statistics.mean(cpu),
            }
            print(f"floor      {name:16} {statistics.median(times):7.1f} ms", file=sys.stderr)
    return result


def report(results):
    names = [name for name in ("ipykernel", "evcxr", "glassbox", "floor") if name in results]
    print("| median ms (CPU ms) | " + " | ".join(names) + " | of evcxr | of the floor | target |")
    print("|---" * (len(names) + 4) + "|")
    for key in ("answers", "first result"):
        cells = [f"{results[name][key]:.0f}" if key in results[name] else "" for name in names]
        print(f"| start to {key.replace('answers', 'first answer')} | " + " | ".join(cells) + " | | | < 2000 |")
    for name, *_ in PROBES:
        found = {kernel: results[kernel]["probes"].get(name) for kernel in names}
        cells = [f"{probe['median']:.0f} ({probe['cpu']:.0f})" if probe else "" for probe in found.values()]
        ours = found.get("glassbox")

        def ratio(other):
            probe = found.get(other)
            return f"{ours['median'] / probe['median']:.2f} ({ours['cpu'] / max(probe['cpu'], 1e-9):.2f})" if ours and probe else ""

        target = "0.35, 1.5" if name in TRIVIAL else "0.45, 1.5" if "tensor" in name else ""
        print(f"| {name} | " + " | ".join(cells) + f" | {ratio('evcxr')} | {ratio('floor')} | {target} |")
    load = os.getloadavg()[0]
    print(f"\n{os.cpu_count()} cores, load average {load:.1f} at the end.")


if __name__ == "__main__":
    main()
