#!/usr/bin/env python3
"""Counts what a GPU is asked to do for a picture, a token and a training step, on the stand-in for a driver (stand_in.c), and prints a table.
  scripts/cuda/launches.py [--bench FILE] [--stand-in FOLDER] [--kernels] [--dtype bfloat16]
The sizes are small and the layers as many as in ViT-B/16 and Phi-3-mini: launches depend on layers, not on widths. What one more picture, token
or step asks for is the difference of two runs. --kernels adds what the launches are."""
import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
HOME = pathlib.Path(os.environ.get("GLASSBOX_CUDA_HOME", TARGET / "cuda"))
VIT = {"hidden_size": 64, "num_hidden_layers": 12, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 32, "patch_size": 16,
       "layer_norm_eps": 1e-12}
LLM = {"hidden_size": 64, "num_hidden_layers": 32, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 128,
       "vocab_size": 512, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
       "sliding_window": None}


def counts(arguments, case, config):
    """What the stand-in was asked for in one process, by name."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        full = {"llm": LLM, "prefill": 9, "decode": 1, "dtype": arguments.dtype, "dir": str(folder / "weights"), "keep": True}
        config = {"warmup": 0, "gen_reps": 1, "reps": 1, "dtype": arguments.dtype, "vit": VIT, "llm": LLM, **config}
        config["phi3full"] = {**full, **config.get("phi3full", {})}
        (folder / "config.json").write_text(json.dumps(config))
        environment = {**os.environ, "GLASSBOX_DEVICE": "cuda", "STAND_IN_COUNTS": str(folder / "counts")}
        libraries = [str(arguments.stand_in), str(HOME / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
        # The weights of the full model are written by the process that starts the case's.
        chosen = ["--sections", case[0]] if case[0] == "phi3full" else ["--case", json.dumps(case)]
        done = subprocess.run([arguments.bench, "--config", folder / "config.json", *chosen], env=environment, capture_output=True, text=True)
        if done.returncode or '"error"' in done.stdout:
            sys.exit(f"launches.py: {case} ended with {done.returncode}: {done.stdout}{done.stderr}")
        lines = (folder / "counts").read_text().splitlines()
        return collections.Counter({name: int(count) for count, name in (line.split("\t", 1) for line in lines)})


def one_more(arguments, case, less, more, times):
    found = counts(arguments, case, more)
    found.subtract(counts(arguments, case, less))
    return collections.Counter({name: count // times for name, count in found.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=TARGET / "release/examples/bench", type=pathlib.Path)
    parser.add_argument("--stand-in", default=HOME / "stand-in", type=pathlib.Path)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--kernels", action="store_true")
    arguments = parser.parse_args()
    for path, advice in [(arguments.bench, "scripts/cuda.sh build"), (arguments.stand_in, "scripts/cuda.sh stand-in")]:
        if not path.exists():
            sys.exit(f"launches.py: there is no {path} yet: {advice}")
    reps = ({"reps": 1}, {"reps": 2})
    # Each with how many more there are: generation is run once to warm up.
    works = [
        ("ViT, 12 layers: a batch of pictures", ["vit", 1], *reps, 1),
        ("language model, 32 layers: a token", ["phi3full", "run"], {"phi3full": {"decode": 1}}, {"phi3full": {"decode": 2}}, 1),
        ("`generate`, 32 layers: a token", ["generate", "hf_generate_kv"], {"new_tokens": 4}, {"new_tokens": 5}, 2),
        ("training step, blog's loss, 12 + 32 layers, LoRA", ["train", [1, "random_prefix"]], *reps, 1),
        ("training step, all targets", ["train", [1, "full_sequence"]], *reps, 1),
    ]
    print("| work | launches | of them products | copies to the GPU | from the GPU | on the GPU | memory asked for |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    details = []
    for name, case, less, more, times in works:
        found = one_more(arguments, case, less, more, times)
        kernels = sum(count for what, count in found.items() if what.startswith("kernel "))
        row = [kernels + found["product"], found["product"], found["copy to the GPU"], found["copy from the GPU"], found["copy on the GPU"],
               found["allocate"]]
        print(f"| {name} | " + " | ".join(map(str, row)) + " |", flush=True)
        details.append((name, found))
    if arguments.kernels:
        for name, found in details:
            print(f"\n{name}:")
            for what, count in sorted(found.items(), key=lambda item: -item[1]):
                if count and (what.startswith("kernel ") or what == "product"):
                    print(f"  {count:6} {what.removeprefix('kernel ')}")


if __name__ == "__main__":
    main()
