#!/usr/bin/env bash
# Builds a Python wheel with the programs `glassbox` and `glassbox-analyst` (completion, inspection, the stock kernel) and the kernelspec: a
# class installs it and needs no build of either.
#
#     scripts/build_wheel.sh [--out DIR] [--binary FILE]        then        pip install DIR/glassbox_notebook-*.whl
#
# The work is maturin's (pyproject.toml); it is fetched into target/wheel-venv. --binary packs a program that is built already,
# and the analyst beside it, by giving maturin a cargo that hands it over: for tests, which have one that cargo would build once more with other features.
set -euo pipefail
cd "$(dirname "$0")/.."

out="target/wheels-of-glassbox"
binary=""
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out="$2"; shift 2 ;;
    --binary) binary="$(realpath "$2")"; shift 2 ;;
    *) echo "build_wheel.sh: $1 is not known: [--out DIR] [--binary FILE]" >&2; exit 2 ;;
  esac
done

venv=target/wheel-venv
if ! "$venv/bin/maturin" --version 2>/dev/null | grep -q 1.16.0; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --only-binary :all: maturin==1.16.0
fi

if [ -n "$binary" ]; then
  analyst="$(dirname "$binary")/glassbox-analyst"
else
  cargo build --release --locked --package glassbox-analyst
  analyst="${CARGO_TARGET_DIR:-target}/release/glassbox-analyst"
fi
[ -x "$analyst" ] || { echo "build_wheel.sh: $analyst is no program" >&2; exit 1; }
# Into the environment's folder of programs, where `glassbox` finds it beside itself.
scripts=clients/wheel/scripts
mkdir -p "$scripts"
tools=""
trap 'rm -rf "$scripts" $tools' EXIT
install -m 755 "$analyst" "$scripts/glassbox-analyst"

if [ -n "$binary" ]; then
  [ -x "$binary" ] || { echo "build_wheel.sh: $binary is no program" >&2; exit 1; }
  tools="$(mktemp -d)"
  # Metadata is the real cargo's; the build's only answer is the line that says where the program lies.
  package="$(cargo pkgid)"
  cat > "$tools/cargo" <<EOF
#!/usr/bin/env bash
case "\$1" in
  build|rustc) printf '%s\n' '{"reason":"compiler-artifact","package_id":"$package","manifest_path":"$PWD/Cargo.toml","target":{"kind":["bin"],"crate_types":["bin"],"name":"glassbox","src_path":"$PWD/src/main.rs","edition":"2024","doc":true,"doctest":false,"test":true},"profile":{"opt_level":"3","debuginfo":0,"debug_assertions":false,"overflow_checks":false,"test":false},"features":[],"filenames":["$binary"],"executable":"$binary","fresh":true}' ;;
  *) exec "$(command -v cargo)" "\$@" ;;
esac
EOF
  chmod +x "$tools/cargo"
  export CARGO="$tools/cargo" PATH="$tools:$PATH"
fi

"$venv/bin/maturin" build --release --out "$out"
ls -l "$out"/glassbox_notebook-*.whl
