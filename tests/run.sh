#!/bin/bash
# Runs every test: unit, property, protocol and documentation tests, and the tests with real packets.
#
# Most targets wait for timers, and each lab has network namespaces of its own, so that several targets run
# at a time. Targets that measure how fast something happens run later: two at a time if they leave the
# processors idle, else alone.
# shellcheck disable=SC2046,SC2086 # lists of words
set -euo pipefail
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
PARALLEL=$(($(nproc) + 2))

# Targets that measure times.
MEASURING="failover isolation bfd handover links"
ALONE="flood"
# The targets that take longest. They start first, so that no processor is idle at the end.
FIRST="bgp_sessions bgp_edits interop_routers simulated shell outage available adversary bgp_passive truth"

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

# Runs the targets that the arguments of cargo select, and prints their output when they have ended.
run_targets() {
    local name=${*: -1} start=$SECONDS status=ok
    name=${name#--}
    # Its tests wait for the time-outs of a controller, each of its own, and use no lab.
    [ "$name" != shell ] || set -- "$@" -- --test-threads=8
    cargo_test "$@" >"$results/$name.log" 2>&1 || status=failed
    [ "$status" = ok ] || touch "$results/$name.failed" # read below, so that every target runs
    {
        flock 9
        cat "$results/$name.log"
        echo "make test: $name: $status after $((SECONDS - start)) s"
    } 9>"$results/lock"
}

tests/lint.sh frr

# One selection for the binaries and the tests: cargo would compile the dependencies again for another one.
"$CARGO" build --locked --workspace --bins --tests

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
export CARGO results
export -f cargo_test run_targets

folders=$(find . \( -path ./target -o -name src \) -prune -o -name tests -type d -print)
rest=$(targets $(printf '%s/* ' $folders) | grep -vxF "$(printf '%s\n' $MEASURING $ALONE $FIRST)")
{
    printf -- '--test %s\n' $FIRST
    printf -- '%s\n' '--lib --bins' --doc
    printf -- '--test %s\n' $rest
} | xargs -P "$PARALLEL" -I '{}' bash -euc 'run_targets {}' || touch "$results/(xargs).failed"
printf -- '--test %s\n' $MEASURING | xargs -P 2 -I '{}' bash -euc 'run_targets {}' ||
    touch "$results/(xargs).failed"
for name in $ALONE; do
    run_targets --test "$name"
done

failed=$(find "$results" -name '*.failed' -printf '%f\n' | sed 's/\.failed$//' | sort)
if [ -n "$failed" ]; then
    echo "make test: failed:" $failed >&2
    exit 1
fi
