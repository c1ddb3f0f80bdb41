#!/usr/bin/env bash
# Builds the linter and the generators, pinned in hack/tools/go.mod, into _output/bin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/tools"
mkdir -p ../../_output/bin
exec ../progress.sh hack/tools go build -v -o ../../_output/bin/ \
  github.com/golangci/golangci-lint/v2/cmd/golangci-lint \
  sigs.k8s.io/controller-tools/cmd/controller-gen
