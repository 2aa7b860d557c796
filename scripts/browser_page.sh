#!/usr/bin/env bash
# Builds the model of the page on which it runs in a browser, docs/pages/try (index.html, page.css and page.js lie there): static files for any web server.
#
#   rustup target add wasm32-unknown-unknown
#   cargo install wasm-bindgen-cli --version 0.2.130
#   scripts/browser_page.sh
#
# Its trained values are browser/trained.safetensors (`cargo run --release -p glassbox-browser --example train` makes them anew).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cargo build --profile page --target wasm32-unknown-unknown -p glassbox-browser
made="$target/browser_page"
wasm-bindgen --target web --no-typescript --out-dir "$made" "$target/wasm32-unknown-unknown/page/glassbox_browser.wasm"
mkdir -p docs/pages/try
gzip -9 -n -c "$made/glassbox_browser_bg.wasm" > docs/pages/try/model.wasm.gz
cp "$made/glassbox_browser.js" docs/pages/try/
du -sb docs/pages/try/*
