#!/bin/bash
# Builds guests for WebAssembly in release mode, std included, with the toolchain of wasm-toolchain.sh: the same bytes in
# any directory, for any user, with any cargo home.
#
#   scripts/wasm-cargo.sh TOOLCHAIN TARGET WORKSPACE TARGET_DIR [arguments of cargo build]
#
# TARGET is wasm32-unknown-unknown (core modules, for plugin-pack) or wasm32-wasip2 (components).
set -euo pipefail
toolchain=${1:?} target=${2:?} workspace=$(cd "${3:?}" && pwd) target_dir=${4:?}
shift 4
cargo_home=${CARGO_HOME:-$HOME/.cargo}
root=$(cd "$(dirname "$0")/.." && pwd)

# What the caller's environment says about builds must not reach these.
while read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(CARGO_(BUILD|PROFILE|TARGET|ENCODED)_|CARGO_INCREMENTAL|RUSTC_WRAPPER|RUSTC_WORKSPACE_WRAPPER|RUSTFLAGS|RUSTDOCFLAGS)')

# Under `cargo test` it names the installed compiler's libraries, and a compiler that loads those takes their sysroot.
unset LD_LIBRARY_PATH

export RUSTC=$toolchain/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target_dir PATH=$toolchain/bin:$PATH
cd "$workspace"
cargo fetch --locked --quiet
# Panic messages hold source paths. The more specific prefixes come last: the last one that fits counts.
flags=(--remap-path-prefix="$cargo_home=/cargo" --remap-path-prefix="$toolchain=/rust")
for registry in "$cargo_home"/registry/src/*/; do
  # Named after where the crates came from, which may be a mirror.
  flags+=(--remap-path-prefix="${registry%/}=/cargo/src")
done
flags+=(--remap-path-prefix="$root=/cofferdam" --remap-path-prefix="$workspace=/guest")
if [ "$target" = wasm32-wasip2 ]; then
  flags+=(-Lnative="$toolchain/lib/rustlib/wasm32-wasip2/lib/self-contained")
fi
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
exec cargo build --release --locked --target "$target" -Zbuild-std=std,panic_abort -Zbuild-std-features= "$@"
