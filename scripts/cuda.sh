#!/usr/bin/env bash
# Builds for NVIDIA GPUs without a CUDA installation and without a GPU: the toolkit comes from the Python registry.
#
#     scripts/cuda.sh toolkit           makes the toolkit's tree in target/cuda (1.2 GB, fetched once)
#     scripts/cuda.sh env               prints the variables to build and run with:  eval "$(scripts/cuda.sh env)"
#     scripts/cuda.sh build [ARGS...]   builds the prelude with the feature `cuda`, its parity and training tests and the benchmark;
#                                       ARGS go to cargo in place of the usual selection
#     scripts/cuda.sh stand-in          builds a driver that only counts (scripts/cuda/stand_in.c), into target/cuda/stand-in
#     scripts/cuda.sh --help
#
# Variables: CUDA_COMPUTE_CAP, the GPU to compile for (90: H100 and H200, 89: L4 and RTX 40, 86: RTX 30, 80: A100; by default 90);
# GLASSBOX_CUDA_HOME, the tree's folder (target/cuda); GLASSBOX_CUDA_WHEELS, a folder with the packages' wheels, where nothing can be fetched.
# A toolkit that is installed already needs none of this: put its nvcc on PATH, and build with `--features cuda`.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

# The tree is CUDA 13.0's, the newest whose kernels run on drivers of the 580 series.
packages=(
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-nvrtc==13.0.88
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-curand==10.4.0.35 nvidia-cublas==13.1.0.3
)
target="${CARGO_TARGET_DIR:-$PWD/target}"
home="${GLASSBOX_CUDA_HOME:-$target/cuda}"
cap="${CUDA_COMPUTE_CAP:-90}"

fail() { echo "cuda.sh: $*" >&2; exit 1; }

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; }

# What the tree was made of: another list makes it anew.
made_of() { printf '%s\n' "${packages[@]}"; }

toolkit() {
  if [ -f "$home/made-of" ] && [ "$(cat "$home/made-of")" = "$(made_of)" ]; then
    return
  fi
  [ "$(uname -sm)" = "Linux x86_64" ] || fail "the packages are those of Linux on x86-64, this is $(uname -sm): install NVIDIA's CUDA toolkit"
  command -v python3 >/dev/null || fail "python3 is not on PATH: it fetches and unpacks the packages"
  command -v cc >/dev/null || fail "cc is not on PATH: nvcc needs a C++ compiler (Debian: apt install build-essential)"
  local wheels="${GLASSBOX_CUDA_WHEELS:-}"
  if [ -z "$wheels" ]; then
    wheels="$home/wheels"
    mkdir -p "$wheels"
    echo "fetching CUDA 13.0 from the Python registry into $wheels" >&2
    python3 -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
      --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux_2_12_x86_64 --dest "$wheels" "${packages[@]}" ||
      fail "the packages can't be fetched: have pip reach its registry, or name a folder of wheels by GLASSBOX_CUDA_WHEELS"
  fi
  [ -d "$wheels" ] || fail "GLASSBOX_CUDA_WHEELS is $wheels, which is no folder"
  rm -rf "$home/unpacked" "$home/made-of"
  mkdir -p "$home/unpacked"
  local package wheel name
  for package in "${packages[@]}"; do
    name="${package%%==*}"
    wheel="$(find "$wheels" -maxdepth 1 -name "${name//-/_}-${package##*==}-*.whl" | head -n 1)"
    [ -n "$wheel" ] || fail "no wheel of $package in $wheels"
    python3 -m zipfile -e "$wheel" "$home/unpacked"
  done
  local root="$home/unpacked/nvidia/cu13" folder
  [ -d "$root" ] || fail "the packages have no folder nvidia/cu13: their layout has changed"
  for folder in bin nvvm include lib; do
    [ -d "$root/$folder" ] || fail "the packages have no folder nvidia/cu13/$folder: their layout has changed"
    ln -sfn "$root/$folder" "$home/$folder"
  done
  ln -sfn "$root/lib" "$home/lib64"
  find -L "$home/bin" "$home/nvvm/bin" -type f -exec chmod +x {} +
  # The linker asks for names without a version.
  local library plain
  for library in "$root"/lib/lib*.so.*; do
    plain="${library%%.so.*}.so"
    [ -e "$plain" ] || ln -s "$(basename "$library")" "$plain"
  done
  "$home/bin/nvcc" --version >/dev/null || fail "the unpacked nvcc does not run"
  made_of >"$home/made-of"
  [ "$wheels" = "$home/wheels" ] && rm -rf "$wheels"
  return 0
}

# The names of the functions of a library's header: those that begin with a prefix and a capital letter.
functions() { grep -oh "\b$1[A-Z][A-Za-z0-9_]*" "${@:2}" | sort -u; }

# The driver's library belongs to the GPU's machine. To link, a library of its name is enough; it lies where only the linker looks.
stub() {
  local stubs="$home/lib/stubs"
  [ -e "$stubs/libcuda.so" ] && return
  mkdir -p "$stubs"
  functions cu "$home/include/cuda.h" | sed 's/.*/int &(void) { return 100; }/' >"$stubs/stub.c"
  cc -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$stubs/libcuda.so" "$stubs/stub.c" || fail "the stub of libcuda can't be built"
}

# Into the environment: where the toolkit is, for cargo's build scripts, the linker and the program.
variables() {
  echo "export CUDA_HOME='$home' CUDA_PATH='$home' CUDA_COMPUTE_CAP='$cap'"
  echo "export PATH='$home/bin':\"\$PATH\""
  echo "export LD_LIBRARY_PATH='$home/lib'\"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}\""
}

build() {
  toolkit
  stub
  eval "$(variables)"
  local begun=$SECONDS
  if [ $# -gt 0 ]; then
    cargo "$@"
  else
    cargo test --release --no-run -p glassbox-prelude --features cuda,candle-transformers --lib --test parity --test training
    # By `cargo test` an example would become a program of tests.
    cargo build --release -p glassbox-prelude --features cuda,candle-transformers --example bench
  fi
  echo "cuda.sh: built for compute capability $cap in $((SECONDS - begun)) s" >&2
}

# A driver, cuBLAS and cuRAND that only count what they are asked for: kernels do nothing. All names of the headers are there; those that
# stand_in.c does not have itself say so when they are called.
stand_in() {
  toolkit
  local folder="$home/stand-in"
  mkdir -p "$folder"
  cc -c -w -fPIC -O1 -I"$home/include" -o "$folder/stand_in.o" scripts/cuda/stand_in.c || fail "scripts/cuda/stand_in.c can't be built"
  nm --defined-only "$folder/stand_in.o" | sed -n 's/.* T //p' | sort -u >"$folder/own"
  {
    echo 'int stand_in_lacks(const char *name);'
    {
      functions cu "$home/include/cuda.h"
      functions cublas "$home/include/cublas_api.h"
      functions cublasLt "$home/include/cublasLt.h"
      functions curand "$home/include/curand.h"
    } | sort -u | comm -23 - "$folder/own" | sed 's/.*/int &(void) { return stand_in_lacks("&"); }/'
  } >"$folder/others.c"
  cc -shared -fPIC -w -O1 -o "$folder/libstand_in.so" "$folder/stand_in.o" "$folder/others.c" -lpthread ||
    fail "the stand-in can't be built"
  local name
  for name in libcuda.so.1 libcublas.so.13 libcublasLt.so.13 libcurand.so.10; do
    ln -sfn libstand_in.so "$folder/$name"
  done
  echo "$folder"
}

case "${1:-}" in
  toolkit) toolkit; stub; echo "$home" ;;
  env) [ -f "$home/made-of" ] || fail "there is no toolkit in $home yet: scripts/cuda.sh toolkit"; variables ;;
  build) build "${@:2}" ;;
  stand-in) stand_in ;;
  -h | --help | help) usage ;;
  "") usage >&2; exit 2 ;;
  *) fail "$1 is not known: toolkit, env, build, stand-in, --help" ;;
esac
