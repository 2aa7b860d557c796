#!/usr/bin/env python3
"""Checks and measures on a machine with an NVIDIA GPU, in one go, and prints a table. Nothing is built or fetched there.
  scripts/cuda/on_gpu.py pack FOLDER [--bench FILE --parity FILE --training FILE]      here: programs, fixtures and peer, compressed
  FOLDER/on_gpu.py run [--minutes 10] [--out FILE]                                     there
  scripts/cuda/on_gpu.py run --device cpu --small                                      anywhere: the same steps with tiny sizes, to try them

Steps, in the order of their worth, each with its own limit; what no time is left for says so:
  parity and the training tests on the GPU;
  products and copies, by PyTorch: the machine's own limits, of which the rest is told as a share;
  ViT-B/16 in pictures a second, f32 and bf16; Phi-3-mini at full size with random bf16 weights: a prompt and tokens a second, share of the
  memory's rate; a training step with LoRA in bf16, share of the products' rate; each beside PyTorch where that is there."""
import argparse
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1] if HERE.name == "cuda" else HERE
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAMS = ["bench", "parity", "training"]
PHI3 = {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "vocab_size": 32064, "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "sliding_window": 2047, "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000}
VIT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "image_size": 224,
       "patch_size": 16, "layer_norm_eps": 1e-12}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
LIMITS = """
import json, sys, time, torch
device, n, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
done = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
def best(work):
    for _ in range(3): work()
    seconds = []
    for _ in range(10):
        done(); begun = time.perf_counter(); work(); done(); seconds.append(time.perf_counter() - begun)
    return min(seconds)
a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
b = torch.randn(n, n, device=device, dtype=torch.bfloat16)
product = 2 * n**3 / best(lambda: a @ b)
x = torch.zeros(size, device=device, dtype=torch.uint8)
y = torch.empty_like(x)
print(json.dumps({"product": product, "copy": 2 * size / best(lambda: y.copy_(x)), "torch": torch.__version__,
                  "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"}))
"""


def newest(names):
    """The program with one of these names that was built last."""
    found = [path for name in names for path in (TARGET / "release").glob(name) if path.is_file() and os.access(path, os.X_OK) and not path.suffix]
    if not found:
        sys.exit(f"on_gpu.py: {names[0]} is not built yet: scripts/cuda.sh build, or name it by --{names[0].split('/')[-1].split('-')[0]}")
    return max(found, key=lambda path: path.stat().st_mtime)


def programs(arguments):
    places = {"bench": ["examples/bench"], "parity": ["deps/parity-*"], "training": ["deps/training-*"]}
    return {name: pathlib.Path(getattr(arguments, name) or newest(places[name])) for name in PROGRAMS}


def pack(arguments):
    folder = pathlib.Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in programs(arguments).items():
        stripped = folder / name
        subprocess.run(["strip", "-o", stripped, path], check=True)
        (folder / f"{name}.xz").write_bytes(lzma.compress(stripped.read_bytes(), preset=6))
        stripped.unlink()
    shutil.copy(__file__, folder / "on_gpu.py")
    shutil.copytree(ROOT / "tests/fixtures", folder / "fixtures", dirs_exist_ok=True)
    shutil.copytree(ROOT / "scripts/peer", folder / "peer", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.0f} MB")


class Table:
    def __init__(self, end):
        self.rows, self.end, self.failed = [], end, False

    def left(self, most):
        return max(0.0, min(most, self.end - time.monotonic()))

    def row(self, *cells):
        self.rows.append(cells)
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def process(command, limit, environment, **options):
    """(exit code, or a word why there is none; output)"""
    if limit < 5:
        return "no time left", ""
    try:
        done = subprocess.run([str(word) for word in command], env=environment, timeout=limit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, **options)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        return f"longer than {limit:.0f} s", (error.stdout or b"").decode(errors="replace")
    except OSError as error:
        return "does not start", str(error)


def tests(table, files, environment, folder, arguments):
    for name, words, most in [("parity", [], 90), ("training", ["--test-threads=1", "steps::", "recomputed::", "checkpoints::", "packing::"], 150)]:
        begun = time.monotonic()
        code, output = process([files[name], *words], table.left(most), environment, cwd=folder)
        (arguments.logs / f"{name}.log").write_text(output)
        lines = [line for line in output.splitlines() if "test result" in line or "groups" in line or "DIFFERS" in line or "FAILED" in line]
        table.failed |= code != 0
        table.row(f"tests: {name}", "passed" if code == 0 else f"FAILED ({code})", f"{time.monotonic() - begun:.0f} s",
                  "; ".join(lines[-3:])[:200].replace("|", "/"))


def limits(table, environment, small, arguments):
    size = (512, 1 << 24) if small else (8192, 1 << 32)
    code, output = process([sys.executable, "-c", LIMITS, arguments.device, *size], table.left(60), environment)
    try:
        found = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        table.row("limits of the machine", "not measured", code, output.strip().splitlines()[-1][:120] if output.strip() else "")
        return {}
    table.row("limits of the machine", f"{found['product'] / 1e12:.3g} TFLOP/s of bf16 products", f"{found['copy'] / 1e9:.4g} GB/s copied",
              f"{found['device']}, PyTorch {found['torch']}")
    return found


def parameters(sizes):
    """Of a layer, of all layers, and of all but the embedding: what a token reads."""
    d, inner = sizes["hidden_size"], sizes["intermediate_size"]
    head = d // sizes["num_attention_heads"]
    layer = d * (d + 2 * sizes["num_key_value_heads"] * head) + d * d + 3 * d * inner
    return layer * sizes["num_hidden_layers"] + d * sizes["vocab_size"]


def vit_parameters(sizes):
    d = sizes["hidden_size"]
    return sizes["num_hidden_layers"] * (4 * d * d + 2 * d * sizes["intermediate_size"])


def bench(table, files, environment, config, sections, name, most, arguments):
    """Figures of both sides, by case."""
    path = arguments.logs / f"{name}.json"
    path.write_text(json.dumps(config))
    sides = {}
    peer = ([sys.executable, files["peer"] / "bench_torch.py", "--config", path, "--sections", sections], {"REF_TF": "5", **environment})
    for side, (command, variables) in {"glassbox": ([files["bench"], "--config", path, "--sections", sections], environment), "torch": peer}.items():
        if side == "torch" and arguments.no_torch:
            continue
        code, output = process(command, table.left(most), variables, cwd=arguments.logs)
        (arguments.logs / f"{name}.{side}.log").write_text(output)
        found = [line for line in output.splitlines() if line.startswith('{"')]
        if code != 0 or not found:
            table.failed |= side == "glassbox"
            table.row(f"{name}, {side}", "no figures", code, output.strip().splitlines()[-1][:160].replace("|", "/") if output.strip() else "")
            continue
        for case, figures in json.loads(found[-1])["results"].items():
            if "error" in figures:
                table.failed |= side == "glassbox"
                table.row(f"{name}, {side}", case, "failed", figures["error"].strip().splitlines()[-1][:160].replace("|", "/"))
            else:
                sides.setdefault(case, {})[side] = figures
    return sides


def told(table, what, sides, key, unit, share):
    """A row for each side: what it was, and which share of the limit."""
    for case, both in sides.items():
        for side, figures in both.items():
            if key not in figures:
                continue
            seconds = figures[key]
            limit = share(figures, case) if seconds else None  # rounded to nothing where sizes are tiny
            table.row(f"{what}, {side}", case, unit(figures), f"{seconds * 1e3:.2f} ms" + (f", {limit:.0%} of the limit" if limit else ""))


def run(arguments):
    table = Table(time.monotonic() + 60 * arguments.minutes)
    small = arguments.small
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        arguments.logs = pathlib.Path(arguments.out or folder / "logs")
        arguments.logs.mkdir(parents=True, exist_ok=True)
        packed = (HERE / "bench.xz").exists()
        files = {}
        for name in PROGRAMS if packed else []:
            files[name] = folder / name
            files[name].write_bytes(lzma.decompress((HERE / f"{name}.xz").read_bytes()))
            files[name].chmod(0o755)
        files = files or programs(arguments)
        files["peer"] = HERE / "peer" if packed else ROOT / "scripts/peer"
        environment = {**os.environ, "GLASSBOX_DEVICE": arguments.device, "GLASSBOX_FIXTURES": str(HERE / "fixtures" if packed else ROOT / "tests/fixtures")}
        libraries = [os.environ.get("LD_LIBRARY_PATH", ""), str(TARGET / "cuda/lib"), "/usr/local/cuda/lib64"]
        libraries += [str(path) for site in sys.path if site for path in pathlib.Path(site).glob("nvidia/*/lib")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
        print("| what | | | |\n|---|---|---|---|")
        if not arguments.no_tests:
            tests(table, files, environment, folder, arguments)
        top = {} if arguments.no_torch else limits(table, environment, small, arguments)

        vit = {**VIT, **({"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 32} if small else {})}
        full = {**PHI3, **({**SMALL, "num_hidden_layers": 2} if small else {})}
        shared = {"threads": os.cpu_count(), "vit": vit, "warmup": 1 if small else 3, "reps": 2 if small else 10}
        patches = (vit["image_size"] // vit["patch_size"]) ** 2 + 1

        def of_products(work):
            return lambda figures, case: work(case) / figures["median_s"] / top["product"] if top else None

        def pictures(case):
            return 2 * vit_parameters(vit) * patches * int(case.split(":")[1])

        for dtype in ["float32", "bfloat16"]:
            config = {**shared, "dtype": dtype, "vit_batches": [1, 2] if small else [1, 8, 64]}
            sides = bench(table, files, environment, config, "vit", f"vit_{dtype}", 60, arguments)
            told(table, f"ViT {dtype}", sides, "median_s", lambda f: f"{f['images_per_s']:.4g} pictures/s", of_products(pictures))

        weights = str(folder / "phi3full_random")
        config = {**shared, "phi3full": {"prefill": 9 if small else 512, "decode": 2 if small else 64, "dtype": "bfloat16", "dir": weights,
                                         "keep": True, "llm": full}}
        sides = bench(table, files, environment, config, "phi3full", "phi3full", 240, arguments)
        reads = 2 * parameters(full)
        told(table, "Phi-3-mini bf16, a prompt (its first)", sides, "prefill_first_s", lambda f: f"{f['prefill_tok_per_s']:.4g} tokens/s",
             lambda f, _: 2 * parameters(full) * f["prefill_tokens"] / f["prefill_first_s"] / top["product"] if top else None)
        told(table, "Phi-3-mini bf16, a token", sides, "decode_median_s", lambda f: f"{f['decode_tok_per_s']:.4g} tokens/s",
             lambda f, _: reads / f["decode_median_s"] / top["copy"] if top else None)

        # Layers enough for a share: all 32 would take minutes to draw at random.
        llm = {**full, "num_hidden_layers": 2 if small else 8, "sliding_window": None}
        batches = [1, 2] if small else [4, 16]
        config = {**shared, "dtype": "bfloat16", "llm": llm, "train_batches": batches}
        sides = bench(table, files, environment, config, "train", "train", 180, arguments)

        def step(case):
            batch = json.loads(case.split(":", 1)[1])[0]
            # Forward, and the gradients of what goes in; those of frozen weights are not computed, LoRA's own products are left out.
            return 4 * batch * (vit_parameters(vit) * patches + parameters(llm) * (patches + 32))

        told(table, "training step bf16, LoRA", sides, "median_s", lambda f: f"{f['steps_per_s']:.4g} steps/s", of_products(step))
    print(f"\n{arguments.minutes * 60 - table.left(1e9):.0f} s in all; {'something failed' if table.failed else 'nothing failed'}")
    return 1 if table.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ["pack", "run"]:
        own = verbs.add_parser(verb)
        for name in PROGRAMS:
            own.add_argument(f"--{name}", help="this program, in place of the one that was built last")
        if verb == "pack":
            own.add_argument("folder")
            continue
        own.add_argument("--device", default="cuda")
        own.add_argument("--small", action="store_true", help="tiny sizes: to try the steps")
        own.add_argument("--minutes", type=float, default=10)
        own.add_argument("--no-torch", action="store_true", help="no peer, and no limits of the machine")
        own.add_argument("--no-tests", action="store_true")
        own.add_argument("--out", help="a folder for the logs")
    arguments = parser.parse_args()
    sys.exit(pack(arguments) if arguments.verb == "pack" else run(arguments))


if __name__ == "__main__":
    main()
