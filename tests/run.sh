#!/bin/bash
# Runs every test: unit, property, protocol and documentation tests, then the tests with real packets.
#
# Each lab has network namespaces of its own and mostly waits for timers, so that two of them run at a time.
# A test that measures how fast something happens runs alone.
set -euo pipefail
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}

# Targets of tests/e2e that measure times.
ALONE="adversary available bfd failover flood handover isolation"

# Prints the names of the test targets in the folders that are given.
targets() {
    for entry in "$@"; do
        case $entry in
        *.rs) ;;
        *) [ -f "$entry/main.rs" ] || continue ;;
        esac
        basename "$entry" .rs
    done | sort -u
}

# All selections are of the whole workspace: cargo compiles the dependencies with one set of features.
cargo_test() {
    "$CARGO" test --locked --workspace "$@"
}

folders=$(find . \( -path ./target -o -path ./tests/e2e -o -name src \) -prune -o -name tests -type d -print)
others=()
for name in $(targets $(printf '%s/* ' $folders)); do
    others+=(--test "$name")
done

# One selection for the binaries and the tests: cargo would compile the dependencies again for another one.
"$CARGO" build --locked --workspace --bins --tests
cargo_test --lib --bins "${others[@]}"
cargo_test --doc

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# Runs one target of tests/e2e, and prints its output when it has ended.
lab_test() {
    local start=$SECONDS status=ok
    cargo_test --test "$1" >"$results/$1.log" 2>&1 || status=failed
    [ "$status" = ok ] || touch "$results/$1.failed" # read below, so that every target runs
    {
        flock 9
        cat "$results/$1.log"
        echo "tests/e2e $1: $status after $((SECONDS - start)) s"
    } 9>"$results/lock"
}

together=$(targets tests/e2e/tests/* | grep -vxF "$(printf '%s\n' $ALONE)")
export CARGO results
export -f cargo_test lab_test
printf '%s\n' $together | xargs -P 2 -I '{}' bash -euc 'lab_test {}' ||
    touch "$results/(xargs).failed"
for name in $ALONE; do
    lab_test "$name"
done

failed=$(cd "$results" && ls | sed -n 's/\.failed$//p')
if [ -n "$failed" ]; then
    echo "make test: failed in tests/e2e:" $failed >&2
    exit 1
fi
