#!/bin/sh
# README's second command: passes all tests. As root it first installs what they need (Debian packages); as an ordinary user
# it says what is missing, and the tests that need it are skipped, visibly. COFFERDAM_REQUIRE_ALL=1 makes a skip a failure.
#   --fast   leaves out the tests that start servers, judges or runner environments
set -eu
cd "$(dirname "$0")/.."
fast=
for argument; do
    case $argument in
    --fast) fast=1 ;;
    *) echo "usage: scripts/test.sh [--fast]" >&2; exit 2 ;;
    esac
done
if [ -z "$fast" ]; then
    scripts/install-test-tools.sh
fi
cargo build --release --locked --workspace
if [ -n "$fast" ]; then
    cargo test --release --locked --workspace --exclude cofferdam-tests
    exit
fi
# The guests' own logic, on this machine's target.
(cd plugins && cargo test --locked --target-dir "${CARGO_TARGET_DIR:-../target}/guests")
scripts/build-plugins.sh --check
cargo test --release --locked --workspace
