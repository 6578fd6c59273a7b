#!/bin/sh
# static-program.sh OUT: writes the program as one static file, for images that have nothing else in them.
#
# Only the last crate is compiled and linked again: the C library is chosen when a program is linked, so the workspace's own
# build serves (the features of `-p cofferdam-cli` are those of the workspace; tests/tests/architecture.rs holds that). Its
# result goes to a target directory of its own, beside the ordinary program.
set -eu
out=$(realpath -m "${1:?usage: static-program.sh OUT}")
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
CARGO_BUILD_BUILD_DIR=$target CARGO_TARGET_DIR=$target/static \
    cargo rustc --release --quiet --locked -p cofferdam-cli --bin cofferdam -- -C target-feature=+crt-static
mkdir -p "$(dirname "$out")"
# Symbols are a fifth of it, and nobody reads them in an image.
strip -o "$out.new" "$target/static/release/cofferdam"
mv "$out.new" "$out"
