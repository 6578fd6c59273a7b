#!/bin/sh
# The third command: campaigns, which take their time. Their results are committed in benches/ with commit, date and machine.
#   scripts/campaign.sh --list            names them
#   scripts/campaign.sh [--short] NAME    runs one; --short is the one-minute form that CI runs
#   scripts/campaign.sh [--short] all     runs all of them
set -eu
cd "$(dirname "$0")/.."
short=
case ${1-} in --short) short=1; shift ;; esac
mutations() {
    # Hostile input: arbitrary and damaged Dockerfiles, patterns and layers. Everything is read or refused; nothing panics, and
    # what was written reads back the same. The number is that of cases for each property.
    PROPTEST_CASES=$([ -n "$short" ] && echo 3000 || echo 300000) \
        cargo test --release --locked --workspace --test properties
}
bench() {
    # CPU, time, memory and bytes next to buildah (benches/README.md). The short form holds ratios only and keeps no report.
    scripts/install-test-tools.sh bench
    cargo build --release --locked --workspace
    program=${CARGO_TARGET_DIR:-target}/release/cofferdam-bench
    if [ -n "$short" ]; then
        "$program" --short
        return
    fi
    report=benches/results/$(date -u +%Y-%m-%d)-$(git rev-parse --short=10 HEAD).md
    "$program" --output "$report"
    echo "the report is in $report; commit it" >&2
}
case ${1-} in
--list)
    echo "mutations   arbitrary and damaged Dockerfiles, patterns and layers"
    echo "bench       CPU, time, memory and bytes next to buildah"
    ;;
mutations) mutations ;;
bench) bench ;;
all)
    mutations
    bench
    ;;
*) echo "usage: scripts/campaign.sh --list | [--short] NAME|all" >&2; exit 2 ;;
esac
