#!/usr/bin/env bash
# Runs the tests and prints go's own output, without the lines that say nothing, and a count at the end.
#
#   hack/test.sh [unit|e2e]     default: both
#
# RUN=<regexp> runs only the tests whose names match. LONG=1 and KEEP=1 are read by the e2e tests. PARALLEL=<n> says how
# many of those run beside each other; default: as many as there are processors. Whole output: _output/test-unit.log,
# _output/test-e2e.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/steps.sh
source hack/steps.sh

what=${1:-all}
run=(-run "${RUN:-.}")
mkdir -p _output

# Prints the output of go test -v while it comes, without starts and successes of subtests, and counts.
report() {
  local options=()
  # Debian's awk waits for a block of input if it is not told otherwise.
  if [[ $(readlink -f "$(command -v awk)") == *mawk ]]; then
    options=(-W interactive)
  fi
  awk "${options[@]}" '
    /^=== (RUN|PAUSE|CONT|NAME)/ { next }
    /^ +--- PASS/ { sub_pass++; next }
    /^ +--- FAIL/ { sub_fail++ }
    /^ +--- SKIP/ { skip++ }
    /^--- PASS/ { pass++ }
    /^--- FAIL/ { fail++; failed = failed "\n  " $3 }
    /^--- SKIP/ { skip++ }
    /\[no test files\]$/ { next }
    { print; fflush() }
    END {
      printf "tests: %d passed, %d failed, %d skipped; subtests: %d passed, %d failed%s\n",
        pass, fail, skip, sub_pass, sub_fail, failed
    }'
}

go_test() {
  local log=$1
  shift
  go test -v "$@" 2>&1 | tee "$log" | report
}

unit() {
  local packages
  # go test compiles them too, but says nothing meanwhile. What does not compile is its to report.
  hack/progress.sh tests go list -v -export -test -f '{{""}}' ./... || true
  packages=$(go list ./... | grep -v '/e2e$')
  # shellcheck disable=SC2086 # one argument for each package
  go_test _output/test-unit.log -timeout 10m "${run[@]}" $packages
}

# The e2e tests run real programs that the test cache knows nothing of, hence -count=1. One package, because go test
# shows the output of several only when each has ended.
e2e() {
  go_test _output/test-e2e.log -count=1 -timeout 60m ${PARALLEL:+-parallel="$PARALLEL"} "${run[@]}" ./e2e
}

if [[ -x hack/debian-packages.sh ]]; then
  step "Debian packages" hack/debian-packages.sh
  ok || finish test
fi
step "build the product" hack/build.sh
ok || finish test
step "build the Helm that tests the chart" hack/build-helm.sh
ok || finish test
if [[ "$what" != e2e ]]; then
  step "unit tests, and the agent in namespaces" unit
fi
if [[ "$what" != unit && -d e2e ]]; then
  step "build the Kubernetes of the e2e tests" hack/build-kube.sh
  ok || finish test
  step "e2e tests" e2e
fi
finish test
