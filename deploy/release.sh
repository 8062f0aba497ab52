#!/bin/bash
# Writes the files of a release into a folder: manifests and chart with the image by its digest, archives of
# the command-line tool, the manifest for krew, and checksums. Publishes nothing.
#
#   deploy/release.sh VERSION IMAGE@DIGEST BINARIES OUTPUT
#
# VERSION is that of Cargo.toml, with a v in front. BINARIES has a folder for each platform, such as
# linux_arm64, as `docker buildx build --target binaries --platform … --output BINARIES` writes them.
set -euo pipefail
if [ $# != 4 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
version=$1 image=$2
binaries=$(realpath "$3")
mkdir -p "$4"
output=$(realpath "$4")
cd "$(dirname "$0")/.."
tests/tools.sh kubectl
PATH=$PWD/target/tools/bin:$PATH

fail() {
    echo "release: $*" >&2
    exit 1
}

declared=v$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[ "$version" = "$declared" ] || fail "the version is $version, but Cargo.toml says $declared"
[[ $image =~ ^[^@]+@sha256:[0-9a-f]{64}$ ]] || fail "$image has no digest"
tests/manifests.sh check || fail "run: make manifests"

# The release pins what the repository names by a tag.
pinned=$(mktemp -d)
trap 'rm -rf "$pinned"' EXIT
cp -r config "$pinned/config"
mkdir "$pinned/release"
cat >"$pinned/release/kustomization.yaml" <<EOF
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../config/default
images:
  - name: fairlead/fairlead
    newName: ${image%@*}
    digest: ${image#*@}
EOF
kubectl kustomize "$pinned/release" >"$output/install.yaml"
grep -q "image: $image" "$output/install.yaml" || fail "install.yaml does not name $image"
cp dist/crds.yaml "$output/crds.yaml"

cp -r deploy/helm/fairlead "$pinned/fairlead"
sed -i "s|^  repository: .*|  repository: ${image%@*}|; s|^  digest: .*|  digest: ${image#*@}|" \
    "$pinned/fairlead/values.yaml"
helm lint --strict "$pinned/fairlead" >/dev/null
helm package "$pinned/fairlead" --destination "$output" >/dev/null

platforms=
for folder in "$binaries"/*/; do
    platform=$(basename "$folder")
    name=fairlead_${version}_$platform.tar.gz
    stage=$pinned/archive-$platform
    mkdir "$stage"
    cp "$folder/fairlead" LICENSE README.md "$stage/"
    # The name by which kubectl finds the plugin.
    ln -s fairlead "$stage/kubectl-fairlead"
    # The same bytes each time.
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$stage" -c . | gzip -n >"$output/$name"
    os=${platform%_*} arch=${platform#*_}
    platforms+="  - selector: {matchLabels: {os: $os, arch: $arch}}
    uri: https://github.com/fairlead/fairlead/releases/download/$version/$name
    sha256: $(sha256sum "$output/$name" | cut -d' ' -f1)
    bin: fairlead
"
done
[ -n "$platforms" ] || fail "$binaries has no folder of a platform"
cat >"$output/krew.yaml" <<EOF
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: fairlead
spec:
  version: $version
  homepage: https://github.com/fairlead/fairlead
  shortDescription: Check and explain load balancer addresses
  description: |
    Checks the configuration of Fairlead, and explains which Service has which address, which nodes
    announce it, and why not.
  platforms:
$platforms
EOF
sed -i '/^$/d' "$output/krew.yaml"
(cd "$output" && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS)
echo "release: wrote $(wc -l <"$output/SHA256SUMS") files and SHA256SUMS to $output"
