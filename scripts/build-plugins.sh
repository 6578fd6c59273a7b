#!/bin/bash
# Builds the first-party components into plugins/prebuilt, reproducibly.
#
#   scripts/build-plugins.sh           rebuilds plugins/prebuilt
#   scripts/build-plugins.sh --check   rebuilds elsewhere and compares byte for byte; where the WebAssembly toolchain can't
#                                      be had, compares the digest of the sources and says so
#
# Environment: COFFERDAM_WASM_TOOLCHAIN (directory of the toolchain), CARGO_TARGET_DIR (the host's target directory).
set -euo pipefail
readonly ROOT=$(cd "$(dirname "$0")/.." && pwd)
readonly PREBUILT=$ROOT/plugins/prebuilt
readonly HOST_TARGET=$(realpath -m "${CARGO_TARGET_DIR:-$ROOT/target}")

main() {
  case "${1:-}" in
    "") write ;;
    --check) check ;;
    *) echo "usage: build-plugins.sh [--check]" >&2; exit 2 ;;
  esac
}

write() {
  local toolchain
  toolchain=$("$ROOT/scripts/wasm-toolchain.sh")
  mkdir -p "$PREBUILT"
  rm -f "$PREBUILT"/*.wasm
  build "$toolchain" "$PREBUILT"
  wc -c "$PREBUILT"/*.wasm
}

check() {
  local toolchain status=0
  check_examples
  if [ "$("$ROOT/scripts/plugin-sources.sh")" != "$(cat "$PREBUILT/SOURCES")" ]; then
    fail "the sources of the components changed"
  fi
  (cd "$PREBUILT" && sha256sum --check --quiet --strict SHA256SUMS) || fail "plugins/prebuilt does not match its SHA256SUMS"
  toolchain=$("$ROOT/scripts/wasm-toolchain.sh") || status=$?
  if [ $status = 3 ]; then
    echo "NOT REBUILT: the WebAssembly toolchain can't be had on this machine; the components' source digest is the committed one" >&2
    return
  elif [ $status != 0 ]; then
    exit $status
  fi
  fresh=$(mktemp -d) # not local: the trap runs when this function is gone
  trap 'rm -rf "$fresh"' EXIT
  build "$toolchain" "$fresh"
  diff -r -q "$PREBUILT" "$fresh" || fail "the components that were just built differ from the committed ones"
  echo "the committed components are what their sources give, byte for byte"
}

# The examples carry copies of the interface, so that a stranger can copy them: the copies must be the interface.
check_examples() {
  local package
  for package in "$ROOT"/examples/*/wit/*/; do
    diff -r -q "$package" "$ROOT/wit/$(basename "$package")" >&2 || {
      echo "error: $package is not the interface of wit/; copy it again" >&2
      exit 1
    }
  done
}

# Compiles all guests and packs each with its manifest.
build() {
  local toolchain=$1 out=$2 guests=$HOST_TARGET/guests manifest name
  "$ROOT/scripts/wasm-cargo.sh" "$toolchain" wasm32-unknown-unknown "$ROOT/plugins" "$guests" --quiet >&2
  (cd "$ROOT" && CARGO_TARGET_DIR=$HOST_TARGET cargo build --quiet --release --locked -p cofferdam-plugin-pack) >&2
  for manifest in "$ROOT"/plugins/*/plugin.toml; do
    name=$(basename "$(dirname "$manifest")")
    "$HOST_TARGET/release/plugin-pack" "$guests/wasm32-unknown-unknown/release/cofferdam_${name//-/_}.wasm" \
      --manifest "$manifest" -o "$out/$name.wasm" >&2
  done
  (cd "$out" && LC_ALL=C sha256sum -- *.wasm > SHA256SUMS)
  "$ROOT/scripts/plugin-sources.sh" > "$out/SOURCES"
}

fail() {
  echo "error: $1; run \`scripts/build-plugins.sh\` and commit plugins/prebuilt" >&2
  exit 1
}

main "$@"
