#!/usr/bin/env bash
# Builds the two images of the Dockerfile, for every architecture that Mooring is built for.
#
#   IMAGE_PREFIX  what the names begin with; default localhost/mooring: .../mooring-agent:<version>
#   PLATFORMS     default linux/amd64,linux/arm64
#   PUSH=1        push them; otherwise podman and buildah keep them, and docker checks that they build
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
eval "$(hack/version.sh)"

prefix=${IMAGE_PREFIX:-localhost/mooring}
platforms=${PLATFORMS:-linux/amd64,linux/arm64}
stamps=(--build-arg "VERSION=$VERSION" --build-arg "COMMIT=$COMMIT" --build-arg "TREE_STATE=$TREE_STATE"
  --build-arg "BUILD_DATE=$BUILD_DATE")

engine=
if docker buildx version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
  engine=docker
else
  for candidate in podman buildah; do
    ! command -v "$candidate" >/dev/null || { engine=$candidate; break; }
  done
fi
if [[ -z "$engine" ]]; then
  echo "make image needs a container engine: docker with buildx and a running daemon, podman or buildah; none is here. The binaries alone: make build" >&2
  exit 1
fi

build() {
  local target=$1 image=$2
  if [[ "$engine" == docker ]]; then
    docker buildx build --target "$target" --platform "$platforms" --tag "$image" "${stamps[@]}" ${PUSH:+--push} .
    return
  fi
  # Built again, a list would keep the images of the last time.
  "$engine" manifest rm "$image" >/dev/null 2>&1 || true
  "$engine" build --target "$target" --platform "$platforms" --manifest "$image" "${stamps[@]}" .
  [[ -z "${PUSH:-}" ]] || "$engine" manifest push --all "$image" "docker://$image"
}

for pair in controller:mooring-cloud-controller-manager agent:mooring-agent; do
  image=$prefix/${pair#*:}:$VERSION
  echo "==> $image ($platforms, with $engine)"
  build "${pair%%:*}" "$image"
done
