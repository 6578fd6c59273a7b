#!/bin/sh
# The third command: campaigns, which take their time. Their results are committed in benches/ with commit, date and machine.
#   scripts/campaign.sh --list            names them
#   scripts/campaign.sh [--short] NAME    runs one; --short is the one-minute form that CI runs
#   scripts/campaign.sh [--short] all     runs all of them
# The long forms of all but `mutations` and `bench` write benches/results/NAME.md.
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

fuzz() {
    # Each target of fuzz/ for ten minutes (COFFERDAM_FUZZ_SECONDS), guided by the code that an input reaches. The flags are those
    # of `cargo fuzz run --sanitizer none`: our readers are safe Rust, so what there is to find are panics, overflows, failed
    # assertions, and time and memory without end.
    seconds=${COFFERDAM_FUZZ_SECONDS:-$([ -n "$short" ] && echo 10 || echo 600)}
    target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
    flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
    triple=$(rustc -vV | sed -n 's/^host: //p')
    # With a target named, the flags are not those of build scripts.
    (cd fuzz && RUSTFLAGS=$flags cargo build --release --locked --target "$triple" --target-dir "$target")
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    seeds_of_fuzz "$work"
    lines=
    for name in dockerfile expansion ignore archive; do
        mkdir -p "$work/$name" "$target/artifacts/$name"
        # What it finds stays in artifacts/; a case of a test is made of it.
        "$target/$triple/release/$name" "$work/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
            -max_len=8192 -artifact_prefix="$target/artifacts/$name/" -print_final_stats=1 >"$work/$name.log" 2>&1 || {
            tail -40 "$work/$name.log" >&2
            echo "fuzz: $name failed; its input is in $target/artifacts/$name" >&2
            return 1
        }
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log")
        reached=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$work/$name.log" | tail -1)
        line="- $name: $seconds seconds, $runs inputs, $reached places of the code reached, nothing found"
        echo "$line"
        lines="$lines$line
"
    done
    rm -rf "$work"
    trap - EXIT
    [ -z "$short" ] || return 0
    {
        echo "# Campaign \`fuzz\`"
        echo
        echo "Made by \`scripts/campaign.sh fuzz\`: commit $(git rev-parse --short HEAD)$([ -z "$(git status --porcelain)" ] || echo ' with changes'), $(date -u +%F), $(machine)."
        echo
        printf %s "$lines"
    } >benches/results/fuzz.md
}

# Where the targets begin: the project's own Dockerfiles, and archives in every compression that ADD knows.
seeds_of_fuzz() {
    mkdir -p "$1/dockerfile" "$1/archive" "$1/tree/d"
    cp host/dockerfile/tests/corpus/*.dockerfile host/plan/tests/corpus/*.dockerfile "$1/dockerfile"
    echo text >"$1/tree/d/file"
    ln -s file "$1/tree/d/link"
    ln "$1/tree/d/file" "$1/tree/hard"
    mkfifo "$1/tree/pipe"
    # Too long for the first form of names: a directory of 90 bytes more.
    long=$1/tree/$(printf '%090d' 0)
    mkdir "$long"
    echo x >"$long/long"
    for format in ustar gnu posix; do
        tar -C "$1/tree" --format=$format -cf "$1/$format.tar" .
        # The first byte chooses the reader.
        for form in 0 1 2; do
            { printf "\\$form"; cat "$1/$format.tar"; } >"$1/archive/$format-$form"
        done
    done
    for tool in gzip bzip2 xz zstd; do
        if command -v $tool >/dev/null; then
            for form in 0 2; do
                { printf "\\$form"; $tool -c <"$1/ustar.tar"; } >"$1/archive/$tool-$form"
            done
        fi
    done
}

bench() {
    # CPU, time, memory and bytes next to buildah (benches/README.md). The short form holds ratios only and keeps no report.
    scripts/install-test-tools.sh
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

differential() {
    # Random sequences of COPY, ADD and RUN, built here and by Debian's buildah: the file systems are compared.
    scripts/install-test-tools.sh
    tests_of differential 'conformance differential::campaign'
}

kills() {
    # Signals at hundreds of moments of a build; and eight builders at once on one store, 200 of whom are killed, while room is made
    # beside them: the store stays sound, and no build gives another digest.
    tests_of kills 'faults kills::campaign sharing::campaign'
}

faults() {
    # Every kind of request of a pull and a push with every fault, and disks of hundreds of sizes.
    tests_of faults 'faults registry::campaign disk::campaign'
}

pushes() {
    # 500 pushes of an image of ten layers, in which one request of ten fails: each image is there, checked by skopeo, or the push
    # ended with an error and the tag is what it was. The short form is 20 pushes.
    tests_of pushes 'faults pushes::campaign'
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
        echo "Made by \`scripts/campaign.sh calls\`: commit $(git rev-parse --short HEAD)$(changes), $(date -u +%F), $(machine)."
        echo
        echo "$sequences sequences of each kind, no difference. As root:"
        echo
        # The way comes after what was compared in it.
        echo "$said" | awk '
            / calls compared / { sub(/^ +/, ""); lines[count++] = $0 }
            /^test .* ok$/ {
                way = match($0, / in [a-z]+ \.\.\. ok$/) ? "," substr($0, RSTART, RLENGTH - length(" ... ok")) : ""
                for (number = 0; number < count; number++) print "- " lines[number] way
                count = 0
            }
            /^again as user/ { print "\nAs an ordinary user:\n" }'
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
            echo "Made by \`scripts/campaign.sh $name\`: commit $(git rev-parse --short HEAD)$(changes), $(date -u +%F), $(machine)."
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

# Whether what ran is the commit; the reports themselves are none of it.
changes() {
    [ -z "$(git status --porcelain -- . ':!benches/results')" ] || echo ' with changes'
}

machine() {
    echo "$(nproc) cores of $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1), $(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1048576)) GiB, Linux $(uname -r | cut -d- -f1)"
}

case ${1-} in
--list)
    echo "mutations     arbitrary and damaged Dockerfiles, patterns and layers"
    echo "fuzz          inputs guided by the code that they reach: Dockerfiles, words, ignore files, archives"
    echo "differential  random COPY, ADD and RUN here and with buildah"
    echo "kills         signals at any moment, and builders that share a store"
    echo "faults        registries that fail in every request, disks that run full at any point"
    echo "pushes        pushes over a line on which one request of ten fails"
    echo "calls         random file system calls under the translator and for root of a namespace"
    echo "runners       the integration tests and the tutorials in each runner environment, and for native root"
    echo "packages      packages and compilers in each runner environment, and for native root"
    echo "cost          CPU seconds of commands under the translator, and for native root"
    echo "bench         CPU, time, memory and bytes next to buildah"
    ;;
mutations | fuzz | differential | kills | faults | pushes | calls | runners | packages | cost | bench) "$1" ;;
all)
    mutations
    fuzz
    differential
    kills
    faults
    pushes
    calls
    runners
    packages
    cost
    bench
    ;;
*) echo "usage: scripts/campaign.sh --list | [--short] NAME|all" >&2; exit 2 ;;
esac
