#!/bin/bash
# Builds one of the example plugins into a packed component: those in Rust without rustup's targets, the others with componentize-py
# and componentize-js in the versions that they name.
#
#   scripts/build-example.sh NAME OUT.wasm       for example instruction-lines target/plugins/lines.wasm
#
# Exit code 3: the compiler can't be had on this machine.
# Environment: COFFERDAM_WASM_TOOLCHAIN (directory of the toolchain), CARGO_TARGET_DIR (the host's target directory),
# COFFERDAM_PLUGIN_PACK (the packer, if it is built already).
set -euo pipefail
name=${1:?usage: build-example.sh NAME OUT.wasm} out=${2:?usage: build-example.sh NAME OUT.wasm}
root=$(cd "$(dirname "$0")/.." && pwd)
example=$root/examples/$name
host_target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")

main() {
  local target
  if [ -e "$example/Cargo.toml" ]; then
    target=$(sed -n 's/^target = "\(wasm32-[a-z0-9-]*\)"$/\1/p' "$example/Cargo.toml")
    rust "$target"
    component=$host_target/guests/$target/release/${name//-/_}.wasm
  elif [ -e "$example/requirements.txt" ]; then
    python
  elif [ -e "$example/package.json" ]; then
    javascript
  else
    echo "build-example: \`$name\` is not an example plugin" >&2
    exit 2
  fi
  pack
}

rust() {
  local toolchain
  toolchain=$("$root/scripts/wasm-toolchain.sh")
  "$root/scripts/wasm-cargo.sh" "$toolchain" "$1" "$example" "$host_target/guests" --quiet >&2
}

# The other two are built in a copy: their tools leave files behind.
copy() {
  work=$host_target/guests/$name
  mkdir -p "$work"
  (cd "$example" && find . -path ./node_modules -prune -o -type f -print0 | xargs -0 cp --parents -t "$work")
}

python() {
  local tools
  tools=$host_target/tools/componentize-py-$(sed -n 's/^componentize-py==//p' "$example/requirements.txt")
  copy
  if [ ! -e "$tools/complete" ]; then
    python3 -m pip --version >/dev/null 2>&1 || missing "python3 with pip"
    rm -rf "$tools"
    python3 -m pip --quiet --disable-pip-version-check install --no-warn-conflicts --target "$tools" \
      -r "$example/requirements.txt" >&2 || missing "componentize-py"
    touch "$tools/complete"
  fi
  component=$work/component.wasm
  (cd "$work" && PYTHONPATH=$tools python3 "$tools/bin/componentize-py" -q -d wit/types -d wit/tags -w cofferdam:tags/tags \
    componentize app -o "$component") >&2
}

javascript() {
  copy
  command -v npm >/dev/null || missing "npm"
  if ! cmp -s "$work/package-lock.json" "$work/node_modules/installed-lock.json"; then
    (cd "$work" && npm ci --silent --no-audit --no-fund) >&2 || missing "componentize-js"
    cp "$work/package-lock.json" "$work/node_modules/installed-lock.json"
  fi
  (cd "$work" && npm run --silent build) >&2
  component=$work/preview.wasm
}

missing() {
  echo "build-example: $1 can't be had on this machine" >&2
  exit 3
}

pack() {
  local packer
  packer=${COFFERDAM_PLUGIN_PACK:-$host_target/release/plugin-pack}
  if [ -z "${COFFERDAM_PLUGIN_PACK:-}" ]; then
    (cd "$root" && CARGO_TARGET_DIR=$host_target cargo build --quiet --release --locked -p cofferdam-plugin-pack) >&2
  fi
  "$packer" "$component" --manifest "$example/plugin.toml" -o "$out" >&2
}

main
