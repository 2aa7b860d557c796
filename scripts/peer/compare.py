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


def limits(bench, options):
    """The rates of this machine's best product and of its memory, by the Rust benchmark; None where it fails."""
    figures = run([bench, *options, "--sections", "limits"])["results"]["limits:\"run\""]
    return figures if "product_gflop_per_s" in figures else None


def vit_gflop(vit, batch):
    """Multiplications and additions of the ViT's matrix products for `batch` pictures, in 10^9."""
    d, inner, side = vit["hidden_size"], vit["intermediate_size"], vit["image_size"] // vit["patch_size"]
    patches = side * side
    tokens = patches + 1
    layer = tokens * (4 * d * d + 2 * d * inner) + 2 * tokens * tokens * d
    return 2e-9 * batch * (vit["num_hidden_layers"] * layer + patches * d * 3 * vit["patch_size"] ** 2)


def decoder_gb(llm):
    """Bytes of the language model's matrices that each new token reads, in 10^9, f32."""
    d, inner = llm["hidden_size"], llm["intermediate_size"]
    key_values = 2 * llm["num_key_value_heads"] * d // llm["num_attention_heads"]
    layer = d * (d + key_values) + d * d + 3 * d * inner
    return 4e-9 * (llm["num_hidden_layers"] * layer + llm["vocab_size"] * d)


def shares(config, torch, glassbox, limit):
    """How near both sides come to the machine's limit: ViT to the rate of products, generation to that of memory."""
    settings = {**bench_torch.DEFAULT, **config}
    for case in torch["results"]:
        section, argument = case.split(":", 1)
        if section == "vit":
            least = vit_gflop(settings["vit"], json.loads(argument)) / limit["product_gflop_per_s"]
        elif section == "generate" and "blog" not in argument:
            # The picture and the prompt before the first token come on top.
            least = decoder_gb(settings["llm"]) * settings["new_tokens"] / limit["memory_gb_per_s"]
        else:
            continue
        taken = [side["results"].get(case, {}).get("median_s") for side in (torch, glassbox)]
        if all(taken):
            yield f"| {case} | {least:.3f} s | {least / taken[0]:.2f} | {least / taken[1]:.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--config")
    parser.add_argument("--sections", default="vit,train,generate")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.sections.split(",")) - {"vit", "train", "generate", "phi3full"})
    if unknown:  # the machine's limits come by themselves with any of them
        parser.error(f"--sections: {', '.join(unknown)} is not known, but vit, train, generate, phi3full")
    config = json.load(open(arguments.config)) if arguments.config else {}
    table, near = [], []
    with tempfile.TemporaryDirectory() as folder:
        if "phi3full" in arguments.sections.split(","):
            full = {**bench_torch.DEFAULT["phi3full"], **config.get("phi3full", {}), "keep": True}
            # Both sides read the same weights; they go with the temporary folder.
            config["phi3full"] = {**full, "dir": os.path.join(folder, "phi3full_random")}
        settings = os.path.join(folder, "config.json")
        json.dump(config, open(settings, "w"))
        limit = limits(arguments.bench, ["--config", settings])
        for section in arguments.sections.split(","):
            options = ["--config", settings, "--sections", section]
            torch = run([sys.executable, str(PEER), *options])
            glassbox = run([arguments.bench, *options])
            table += rows(torch, glassbox)
            if limit:
                near += shares(config, torch, glassbox, limit)
            if arguments.out:
                os.makedirs(arguments.out, exist_ok=True)
                for name, result in (("torch", torch), ("glassbox", glassbox)):
                    json.dump(result, open(os.path.join(arguments.out, f"{section}.{name}.json"), "w"), indent=1)
    load = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    print(f"{torch['cpu']}, load at the end {load}; ratio under 1: Glassbox needs less\n")
    print("| case | what | PyTorch | Glassbox | ratio |\n|---|---|---|---|---|")
    print("\n".join(table))
    if limit:
        print(f"\nThis machine: {limit['product_gflop_per_s']:g} GFLOP/s in the best product, memory read at {limit['memory_gb_per_s']:g} GB/s\n")
        print("| case | least time by that | PyTorch's share | Glassbox's share |\n|---|---|---|---|")
        print("\n".join(near))


if __name__ == "__main__":
    main()
