#!/usr/bin/env bash
# Tokens a second of GGUF files here and by llama.cpp's llama-bench, in turns: prompt of 128 tokens, 64 tokens made, on all cores.
#
#   scripts/compare_with_llama_cpp.sh LLAMA_BENCH FILE.gguf…   (ROUNDS=3)
#
# Build llama.cpp for the same machine (`cmake -B build -DLLAMA_CURL=OFF && cmake --build build --target llama-bench`). Random models of
# Phi-3-mini's shape: `cargo run --release -p glassbox-prelude --example small_weights -- --part write --file DIR --layers 4`.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then
    sed -n '2,7p' "$0" | sed 's/^# \{0,1\}//' >&2
    exit 2
fi
bench=$1; shift
cargo build --release -q -p glassbox-prelude --example small_weights
ours=${CARGO_TARGET_DIR:-target}/release/examples/small_weights
for file in "$@"; do
    for round in $(seq "${ROUNDS:-3}"); do
        echo "== $(basename "$file"), round $round, load $(cut -d' ' -f1-3 /proc/loadavg)"
        "$ours" --part file --file "$file" | grep made
        "$bench" -m "$file" -p 128 -n 64 -t "$(nproc)" -r 3 -o csv | python3 -c '
import csv, sys
for row in csv.DictReader(sys.stdin):
    what = "prompt of " + row["n_prompt"] if int(row["n_prompt"]) else row["n_gen"] + " made"
    print("llama.cpp, " + what + ": " + format(float(row["avg_ts"]), ".2f") + " tokens/s")'
    done
done
