#!/bin/bash
# Builds one of the example plugins into a packed component, without rustup's targets.
#
#   scripts/build-example.sh NAME OUT.wasm       for example instruction-lines target/plugins/lines.wasm
#
# Exit code 3: the WebAssembly toolchain can't be had on this machine.
# Environment: COFFERDAM_WASM_TOOLCHAIN (directory of the toolchain), CARGO_TARGET_DIR (the host's target directory),
# COFFERDAM_PLUGIN_PACK (the packer, if it is built already).
set -euo pipefail
name=${1:?usage: build-example.sh NAME OUT.wasm} out=${2:?usage: build-example.sh NAME OUT.wasm}
root=$(cd "$(dirname "$0")/.." && pwd)
example=$root/examples/$name
host_target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
target=$(sed -n 's/^target = "\(wasm32-[a-z0-9-]*\)"$/\1/p' "$example/Cargo.toml")
[ -n "$target" ] || { echo "build-example: \`$name\` is not an example plugin" >&2; exit 2; }
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")

toolchain=$("$root/scripts/wasm-toolchain.sh")
"$root/scripts/wasm-cargo.sh" "$toolchain" "$target" "$example" "$host_target/guests" --quiet >&2
packer=${COFFERDAM_PLUGIN_PACK:-$host_target/release/plugin-pack}
if [ -z "${COFFERDAM_PLUGIN_PACK:-}" ]; then
  (cd "$root" && CARGO_TARGET_DIR=$host_target cargo build --quiet --release --locked -p cofferdam-plugin-pack) >&2
fi
"$packer" "$host_target/guests/$target/release/${name//-/_}.wasm" --manifest "$example/plugin.toml" -o "$out" >&2
