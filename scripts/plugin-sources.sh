#!/bin/bash
# Prints the digest over everything that the committed components were made of. Needs no toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
{
  {
    find plugins -path plugins/prebuilt -prune -o -path '*/target' -prune -o -type f \( -name '*.rs' -o -name '*.toml' -o -name Cargo.lock \) -print
    find wit -type f -name '*.wit'
    find host/plugin-pack -path '*/tests' -prune -o -type f \( -name '*.rs' -o -name Cargo.toml \) -print
    echo scripts/wasm-toolchain.sh
    echo scripts/wasm-cargo.sh
  } | sort | tr '\n' '\0' | xargs -0 sha256sum
  # Of the host's lock file only what makes components: other updates must not make the components look stale.
  grep -A2 -E '^name = "(wasm-encoder|wasm-metadata|wasmparser|wit-component|wit-parser)"$' Cargo.lock
} | sha256sum | sed 's/^\([0-9a-f]*\).*/sha256:\1/'
