#!/bin/sh
# Checks that cargo has no command for: purity of the crates named as arguments, line length, spelling,
# generated manifests, linters, unused dependencies. tests/tools.sh installs the tools, except cargo-machete.
set -u
cd "$(dirname "$0")/.." || exit 1
CARGO=${CARGO:-cargo}
failed=0

fail() {
    echo "check: $*" >&2
    failed=1
}

# design: a pure crate depends on no shell crate, not on tokio and not on a Kubernetes client.
for crate in "$@"; do
    tree=$($CARGO tree --locked --quiet --edges normal --prefix none -p "$crate") || fail "cannot read the dependencies of $crate"
    for forbidden in tokio hyper kube-client fairlead-runtime fairlead-net; do
        if printf '%s\n' "$tree" | grep -q "^$forbidden v"; then
            fail "$crate depends on $forbidden; move the I/O into a shell crate (cargo tree -p $crate -i $forbidden)"
        fi
    done
done

# Lines end at column 110. Exempt are string literals (also YAML inside them), tables, captured output (```
# blocks in docs), and generated manifests.
long=$(git ls-files '*.rs' '*.toml' '*.sh' '*.yaml' Makefile ':!config/crd' ':!dist' ':!deploy/helm' |
    LC_ALL=C.UTF-8 xargs grep -HnE '^.{111}' | grep -vE '^[^:]*:[0-9]*:(.*"|.*spec: \{|.*\{\{| *//[/!]? \|)' | cut -d: -f1,2)
# shellcheck disable=SC2016 # backquotes of Markdown
long_docs=$(git ls-files '*.md' | while read -r doc; do
    sed -e '/^ *```/,/^ *```/s/.*//' -e 's/^|.*//' "$doc" | LC_ALL=C.UTF-8 grep -noE '^.{111}' | cut -d: -f1 | sed "s|^|$doc:|"
done)
[ -z "$long$long_docs" ] || fail "lines longer than 110 columns:
$long
$long_docs"

# Documents name tests as evidence. Identifiers with three or more underscores in backquotes must exist. A
# test compares the names of metrics.
# shellcheck disable=SC2016 # backquotes of Markdown
named=$(git ls-files 'docs/*.md' | xargs grep -ohE '`[a-z0-9]+(_[a-z0-9]+){3,}`' | tr -d '`' |
    grep -vE '^(fairlead|metallb|frrk8s)_' | sort -u)
for name in $named; do
    git grep -qw "$name" -- '*.rs' || fail "docs/ names $name, which is not in the code: rename it there"
done

# The JSON log format writes these fields of every event itself: an event that has them too repeats the key.
own='(timestamp|level|target)'
fields=$(git grep -nE "((^|[(,]) *[%?]$own|\\b$own = [%?].*)," -- '*.rs')
[ -z "$fields" ] || fail "log fields named like those of the JSON format; rename them:
$fields"

# Fails where the tools cannot be installed.
tests/tools.sh kubectl lint || exit 1

target/tools/bin/typos --format brief ||
    fail "typos found spelling errors; correct them, or add a word to _typos.toml"

# The generated CRDs are compared by a test of fairlead-crds.
tests/manifests.sh check || fail "generated manifests are not up to date; run: make manifests"

# The configuration of FRR is checked by `make test`, which installs FRR.
tests/lint.sh shell yaml workflows docker kubernetes links || fail "tests/lint.sh found errors"

if command -v cargo-machete >/dev/null 2>&1; then
    cargo machete || fail "cargo machete found unused dependencies; remove them from Cargo.toml"
else
    echo "check: skipped unused dependencies: install cargo-machete (cargo install cargo-machete)"
fi

exit $failed
