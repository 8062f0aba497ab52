#!/bin/bash
# Runs linters and validators on what no compiler reads. Arguments select the parts; without one, all run:
#   shell       scripts: shellcheck
#   yaml        YAML: yamllint
#   workflows   GitHub workflows: actionlint
#   docker      the Dockerfile: hadolint
#   kubernetes  manifests against the schemas of the oldest and the newest supported Kubernetes
#   links       links between the documents, and to their headings
#   frr         configurations of FRR: vtysh (Debian: frr)
set -euo pipefail
cd "$(dirname "$0")/.."
tests/tools.sh kubectl lint
PATH=$PWD/target/tools/bin:$PATH

lint_shell() {
    mapfile -t scripts < <(git grep -lE '^#!/bin/(ba)?sh' -- . ':!*.rs')
    shellcheck "${scripts[@]}"
}

lint_yaml() {
    mapfile -t files < <(git ls-files '*.yaml' '*.yml' .yamllint ':!config/crd/fairlead.dev_*' ':!dist' \
        ':!deploy/helm/fairlead/templates' ':!tests/fuzz')
    yamllint --strict "${files[@]}"
}

lint_workflows() {
    actionlint
}

lint_docker() {
    hadolint deploy/Dockerfile
}

lint_kubernetes() {
    local samples version
    samples=$(mktemp --suffix .yaml)
    kubectl kustomize config/samples >"$samples"
    for version in 1.33 1.37; do
        # Kinds of this project have no schema there; other tests check them.
        kubernetes-validate --strict --quiet --no-warn --kubernetes-version "$version" \
            dist/install.yaml deploy/kind/workload.yaml "$samples" || return
    done
    rm -f "$samples"
}

lint_links() {
    python3 - <<'EOF'
import os, re, subprocess, sys

def slug(heading):
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[^\w\- ]", "", text.replace("`", "").lower())
    return text.strip().replace(" ", "-")

def content(path):
    return re.sub(r"^ *```.*?^ *```", "", open(path, encoding="utf-8").read(), flags=re.S | re.M)

documents = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split()
anchors = {path: {slug(h) for h in re.findall(r"^#+ +(.*)$", content(path), re.M)} for path in documents}
failed = False
for path in documents:
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", content(path)))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        if not os.path.exists(target):
            print(f"{path}: {link}: {target} does not exist", file=sys.stderr)
            failed = True
        elif anchor and anchor not in anchors.get(target, set()):
            print(f"{path}: {link}: {target} has no such heading", file=sys.stderr)
            failed = True
sys.exit(failed)
EOF
}

lint_frr() {
    local file output
    command -v vtysh >/dev/null || {
        echo "lint: vtysh is not installed; run: make setup" >&2
        return 1
    }
    for file in docs/routers/frr.conf deploy/kind/frr.conf; do
        output=$(vtysh -C -f "$file" 2>&1) || {
            printf 'lint: %s:\n%s\n' "$file" "$output" >&2
            return 1
        }
    done
}

parts=("$@")
[ $# -gt 0 ] || parts=(shell yaml workflows docker kubernetes links frr)
failed=
for part in "${parts[@]}"; do
    declare -F "lint_$part" >/dev/null || {
        echo "lint: there is no part $part" >&2
        exit 2
    }
    # In a subshell of its own: bash ignores `set -e` in a command of `||`.
    status=0
    (set -e; "lint_$part") || status=$?
    [ "$status" = 0 ] || failed="$failed $part"
done
if [ -n "$failed" ]; then
    echo "lint: failed:$failed" >&2
    exit 1
fi
