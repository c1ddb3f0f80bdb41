#!/usr/bin/env bash
# Builds the binaries. The Makefile, CI and the Dockerfile all call this script, so that an image holds exactly what
# `make build` makes.
#
#   hack/build.sh [name...]     names of directories in cmd/; default: all of them
#
# GOOS and GOARCH choose the platform, OUT the directory (default bin).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

names=("$@")
if [[ ${#names[@]} -eq 0 ]]; then
  for dir in cmd/*/; do
    [[ ! -d "$dir" ]] || names+=("$(basename "$dir")")
  done
fi
out=${OUT:-bin}

eval "$(hack/version.sh)"

# k8s.io/component-base/version.gitVersion has to stay a v0.0: from anything else the Kubernetes libraries conclude that
# this is Kubernetes of that version, and with "v0.1.0" every feature gate is unknown and off. Our version stands
# behind it, for the build_info metric and the first line of the log; --version prints main.version.
base=k8s.io/component-base/version
client=k8s.io/client-go/pkg/version
ldflags=(
  -s -w
  -X "main.version=$VERSION"
  -X "main.commit=$COMMIT"
  -X "$base.gitVersion=v0.0.0-mooring.${VERSION//[^0-9A-Za-z.-]/-}"
  -X "$base.gitCommit=$COMMIT"
  -X "$base.gitTreeState=$TREE_STATE"
  -X "$base.buildDate=$BUILD_DATE"
  -X "$client.gitVersion=$VERSION"
  -X "$client.gitCommit=$COMMIT"
)

export CGO_ENABLED=0
mkdir -p "$out"
for name in "${names[@]}"; do
  hack/progress.sh "$out/$name" go build -v -trimpath -buildvcs=false -ldflags "${ldflags[*]}" -o "$out/$name" "./cmd/$name"
  # The linker ignores a stamp whose variable does not exist, so ask the binary.
  if [[ "$(go env GOOS)/$(go env GOARCH)" == "$(go env GOHOSTOS)/$(go env GOHOSTARCH)" ]]; then
    if ! stamped=$("$out/$name" --version 2>&1) || [[ "$stamped" != *"$VERSION"* || "$stamped" != *"${COMMIT:0:12}"* ]]; then
      echo "hack/build.sh: $out/$name --version says \"$stamped\", expected $VERSION and $COMMIT; do the variables version and commit of package main in cmd/$name exist, and does --version print them?" >&2
      exit 1
    fi
  fi
  echo "$out/$name $VERSION $(go env GOOS)/$(go env GOARCH)"
done
