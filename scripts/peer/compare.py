#!/usr/bin/env python3
"""Runs bench_torch.py and the Rust benchmark in turn, section by section, and prints their ratios as a Markdown table.
  python compare.py --bench target/release/examples/bench [--config FILE] [--sections vit,train,generate] [--out FOLDER]
Both get the same settings file. With --out, each side's JSON is kept there."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import bench_torch

PEER = pathlib.Path(bench_torch.__file__).resolve()
# What is compared of each case: key, what it is, its unit.
COMPARED = [
    ("median_s", "time", "s"),
    ("load_s", "loading", "s"),
    ("prefill_first_s", "first prefill", "s"),
    ("decode_median_s", "one token", "s"),
    ("peak_rss_mb", "peak memory", "MB"),
]


def run(command):
    print("$", " ".join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}")
    return json.loads(done.stdout)


def rows(torch, glassbox):
    for case, theirs in torch["results"].items():
        ours = glassbox["results"].get(case)
        if ours is None:  # the peer counts the writing of the weights as a case
            continue
        for side, result in (("torch", theirs), ("glassbox", ours)):
            if "error" in result:
                yield f"| {case} | {side} failed: {result['error'].splitlines()[-1][:80]} | | | |"
        for key, what, unit in COMPARED:
            if key in theirs and key in ours:
                ratio = ours[key] / theirs[key]
                yield f"| {case} | {what} | {theirs[key]:g} {unit} | {ours[key]:g} {unit} | {ratio:.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--config")
    parser.add_argument("--sections", default="vit,train,generate")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    config = json.load(open(arguments.config)) if arguments.config else {}
    table = []
    with tempfile.TemporaryDirectory() as folder:
        if "phi3full" in arguments.sections.split(","):
            full = {**bench_torch.DEFAULT["phi3full"], **config.get("phi3full", {}), "keep": True}
            # Both sides read the same weights; they go with the temporary folder.
            config["phi3full"] = {**full, "dir": os.path.join(folder, "phi3full_random")}
        settings = os.path.join(folder, "config.json")
        json.dump(config, open(settings, "w"))
        for section in arguments.sections.split(","):
            options = ["--config", settings, "--sections", section]
            torch = run([sys.executable, str(PEER), *options])
            glassbox = run([arguments.bench, *options])
            table += rows(torch, glassbox)
            if arguments.out:
                os.makedirs(arguments.out, exist_ok=True)
                for name, result in (("torch", torch), ("glassbox", glassbox)):
                    json.dump(result, open(os.path.join(arguments.out, f"{section}.{name}.json"), "w"), indent=1)
    load = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    print(f"{torch['cpu']}, load at the end {load}; ratio under 1: Glassbox needs less\n")
    print("| case | what | PyTorch | Glassbox | ratio |\n|---|---|---|---|---|")
    print("\n".join(table))


if __name__ == "__main__":
    main()
