#!/usr/bin/env bash
# Builds what the demo needs and shows it. KEEP=1 leaves the cluster running. What is missing is said before anything is
# built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ ! -x hack/debian-packages.sh ]] || hack/debian-packages.sh
hack/build.sh
hack/build-kube.sh
hack/progress.sh e2e/demo go build -v -o _output/bin/mooring-demo ./e2e/demo
exec _output/bin/mooring-demo
