#!/bin/sh
# The third command: campaigns, which take their time. Their results are committed in benches/ with commit, date and machine.
#   scripts/campaign.sh --list            names them
#   scripts/campaign.sh [--short] NAME    runs one; --short is the one-minute form that CI runs
#   scripts/campaign.sh [--short] all     runs all of them
# The long forms of `kills`, `faults`, `calls`, `runners`, `packages` and `cost` write benches/results/NAME.md.
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

kills() {
    # Signals at hundreds of moments of a build, and builders that are killed while others share their store.
    tests_of kills 'faults kills::campaign sharing::campaign'
}

faults() {
    # Every kind of request of a pull and a push with every fault, and disks of hundreds of sizes.
    tests_of faults 'faults registry::campaign disk::campaign'
}

calls() {
    # Random sequences of 500 file system calls by root of a namespace and under the translator, as root and as an ordinary
    # user: results, error numbers and the trees are compared (host/exec/tests/translate/same.rs).
    sequences=$([ -n "$short" ] && echo 40 || echo 400)
    said=$(COFFERDAM_TEST_SEQUENCES=$sequences \
        cargo test --release --locked --workspace --test translate -- random_calls) || { echo "$said"; return 1; }
    echo "$said"
    [ -z "$short" ] || return 0
    {
        echo "# Campaign \`calls\`"
        echo
        echo "Made by \`scripts/campaign.sh calls\`: commit $(git rev-parse --short HEAD)$([ -z "$(git status --porcelain)" ] || echo ' with changes'), $(date -u +%F), $(machine)."
        echo
        echo "$sequences sequences of each kind, no difference. As root:"
        echo
        echo "$said" | sed -n 's/^  \(.* calls compared .*\)$/- \1/p; s/^again as user.*/\nAs an ordinary user:\n/p'
    } >benches/results/calls.md
}

runners() {
    # The integration tests and the tutorials in each runner environment, beside native root. With COFFERDAM_BLESS=1 the long form
    # also writes what docs/runners.md says of them; without, it compares.
    tests_of runners 'tutorials campaign' 'runners suites::campaign'
}

packages() {
    # Packages and compilers in RUN, in each runner environment, with the machine's own apt: layers are native root's. The short
    # form is nginx in a restricted pod.
    tests_of packages 'runners packages::campaign'
}

cost() {
    # CPU seconds of execs, tar, apt-get and go build under the translator, and for native root. The short form fails if the
    # first two cost more than they may.
    tests_of cost 'runners cost::campaign'
}

# NAME 'TARGET TEST…' …: runs campaigns among the tests of targets; what each reports becomes a part of NAME.md.
tests_of() {
    name=$1
    shift
    parts=$(mktemp -d)
    trap 'rm -rf "$parts"' EXIT
    # Built before the clock starts.
    for tests; do
        cargo test --release --locked --workspace --test "${tests%% *}" --no-run
    done
    status=0
    for tests; do
        target=${tests%% *}
        # shellcheck disable=SC2086 # names of tests, without blanks
        COFFERDAM_CAMPAIGN_SHORT=$short COFFERDAM_CAMPAIGN_RESULTS=$parts \
            cargo test --release --locked --workspace --test "$target" -- --ignored --exact --nocapture --test-threads 1 ${tests#* } || status=$?
    done
    if [ $status = 0 ] && [ -z "$short" ]; then
        mkdir -p benches/results
        {
            echo "# Campaign \`$name\`"
            echo
            echo "Made by \`scripts/campaign.sh $name\`: commit $(git rev-parse --short HEAD)$([ -z "$(git status --porcelain)" ] || echo ' with changes'), $(date -u +%F), $(machine)."
            for part in "$parts"/*; do
                echo
                cat "$part"
            done
        } >"benches/results/$name.md"
    fi
    rm -rf "$parts"
    trap - EXIT
    return $status
}

machine() {
    echo "$(nproc) cores of $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1), $(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1048576)) GiB, Linux $(uname -r | cut -d- -f1)"
}

case ${1-} in
--list)
    echo "mutations   arbitrary and damaged Dockerfiles, patterns and layers"
    echo "kills       signals at any moment, and builders that share a store"
    echo "faults      registries that fail in every request, disks that run full at any point"
    echo "calls       random file system calls under the translator and for root of a namespace"
    echo "runners     the integration tests and the tutorials in each runner environment, and for native root"
    echo "packages    packages and compilers in each runner environment, and for native root"
    echo "cost        CPU seconds of commands under the translator, and for native root"
    echo "bench       CPU, time, memory and bytes next to buildah"
    ;;
mutations | kills | faults | calls | runners | packages | cost | bench) "$1" ;;
all)
    mutations
    kills
    faults
    calls
    runners
    packages
    cost
    bench
    ;;
*) echo "usage: scripts/campaign.sh --list | [--short] NAME|all" >&2; exit 2 ;;
esac
