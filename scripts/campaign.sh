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
case ${1-} in
--list) echo "mutations   arbitrary and damaged Dockerfiles, patterns and layers" ;;
mutations) mutations ;;
all) mutations ;;
*) echo "usage: scripts/campaign.sh --list | [--short] NAME|all" >&2; exit 2 ;;
esac
