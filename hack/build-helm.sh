#!/usr/bin/env bash
# Builds the helm that lints, packages and tests the chart, pinned in hack/helm/go.mod, into _output/bin. The first time
# takes about 1 minute on 2 cores when the tests of the product are built, else 2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/helm"
mkdir -p ../../_output/bin
exec ../progress.sh hack/helm go build -v -ldflags '-s -w' -o ../../_output/bin/ helm.sh/helm/v4/cmd/helm
