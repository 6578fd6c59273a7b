#!/bin/sh
# README's first command: builds Cofferdam, then builds examples/hello with it. Works as root and as an ordinary user; needs
# the Rust toolchain, a C compiler and the crate registry, nothing else.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
# The whole workspace, as the tests build it: with other features the dependencies would be built a second time.
cargo build --release --locked --workspace --bins
# RUN needs a shell and a few tools. They are copied from this machine into a directory of their own: the machine's own
# root is never a base (overlayfs refuses it in a user namespace, and RUN would see the user's files).
base=$target/hello-base
scripts/hello-base.sh "$base"
"$target/release/cofferdam" build --build-context "base=$base" -t hello "$@" examples/hello
