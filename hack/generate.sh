#!/usr/bin/env bash
# Generates from the types of the API what is written nowhere by hand: deepcopy functions and the CRD.
#
#   hack/generate.sh [directory]     write below this directory instead of into the tree
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
to=${1:-.}
hack/tools.sh
_output/bin/controller-gen paths=./agent/api/v1alpha1/... \
  object "output:object:dir=$to/agent/api/v1alpha1" \
  crd "output:crd:dir=$to/manifests/base/crd"
