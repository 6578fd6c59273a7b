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
    # Hostile input: random damage to Dockerfiles, archives and layers; nothing may panic. Cases per property.
    PROPTEST_CASES=$([ -n "$short" ] && echo 2000 || echo 200000) cargo test --release --locked \
        -p cofferdam-dockerfile -p cofferdam-layer -- never_panics
}
case ${1-} in
--list) echo "mutations   random damage to Dockerfiles and archives" ;;
mutations) mutations ;;
all) mutations ;;
*) echo "usage: scripts/campaign.sh --list | [--short] NAME|all" >&2; exit 2 ;;
esac
