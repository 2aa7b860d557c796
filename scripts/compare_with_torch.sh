#!/usr/bin/env bash
# Runs the benchmark and its PyTorch peer in turn, section by section, and prints the ratios as a table.
#
#   scripts/compare_with_torch.sh [--config FILE] [--sections vit,train,generate,phi3full] [--out FOLDER]
#
# The first run makes a Python environment with the pinned packages of scripts/peer/requirements.txt (about 5 GB) in
# $GLASSBOX_PEER_VENV, by default target/peer-venv. Quote ratios from one run only: machines and days differ.
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${GLASSBOX_PEER_VENV:-${CARGO_TARGET_DIR:-target}/peer-venv}"
if [ ! -x "$venv/bin/python" ]; then
    command -v python3 >/dev/null || { echo "python3 is not on PATH: the peer needs it" >&2; exit 1; }
    python3 -m venv "$venv"
fi
if ! "$venv/bin/python" -c "import torch, transformers, peft" 2>/dev/null; then
    echo "installing the peer's packages into $venv" >&2
    "$venv/bin/pip" install --quiet --requirement scripts/peer/requirements.txt
fi
cargo build --release --quiet -p glassbox-prelude --example bench
bench="${CARGO_TARGET_DIR:-target}/release/examples/bench"
exec "$venv/bin/python" scripts/peer/compare.py --bench "$bench" "$@"
