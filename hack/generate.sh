#!/usr/bin/env bash
# Generates what is written nowhere by hand: from the types of the API deepcopy functions and the CRD; from the whole
# source the reference pages; from the alert rules the object that the Prometheus operator takes.
#
#   hack/generate.sh [directory]     write below this directory instead of into the tree
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
to=${1:-.}
hack/tools.sh
_output/bin/controller-gen paths=./agent/api/v1alpha1/... \
  object "output:object:dir=$to/agent/api/v1alpha1" \
  crd "output:crd:dir=$to/manifests/base/crd"
# The page of flags asks the commands themselves. Their versions stand on no page, so they are built without.
go build -o _output/reference/ ./cmd/... ./hack/reference
_output/reference/reference -to "$to" -crd "$to/manifests/base/crd/mooring.dev_nodeaddresses.yaml" -binaries _output/reference

# The operator takes the rules as they are, inside of an object.
mkdir -p "$to/manifests/monitoring"
{
  printf '# Generated from alerts.yaml by make generate.\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n'
  printf 'metadata:\n  name: mooring\n  namespace: "mooring-system"\nspec:\n'
  sed '/^#/d; s/^/  /' manifests/monitoring/alerts.yaml
} >"$to/manifests/monitoring/prometheusrule.yaml"
