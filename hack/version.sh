#!/usr/bin/env bash
# Prints what a build is stamped with, as shell assignments: VERSION, COMMIT, TREE_STATE, BUILD_DATE.
# The date is the commit's and not the clock's, so that one commit always gives the same binary. Each variable that
# is set already wins: an image is built from sources without their history.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -z "${COMMIT:-}" ]] && git rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
  COMMIT=$(git rev-parse HEAD)
  BUILD_DATE=${BUILD_DATE:-$(TZ=UTC git show -s --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ HEAD)}
  if [[ -z "${TREE_STATE:-}" ]]; then
    TREE_STATE=clean
    [[ -z "$(git status --porcelain)" ]] || TREE_STATE=dirty
  fi
  if [[ -z "${VERSION:-}" ]]; then
    VERSION=$(git describe --tags --match 'v[0-9]*' --abbrev=12 2>/dev/null || echo "v0.0.0-${COMMIT:0:12}")
    [[ "$TREE_STATE" == clean ]] || VERSION+=-dirty
  fi
fi

printf 'VERSION=%s\nCOMMIT=%s\nTREE_STATE=%s\nBUILD_DATE=%s\n' \
  "${VERSION:-v0.0.0-unknown}" "${COMMIT:-unknown}" "${TREE_STATE:-unknown}" "${BUILD_DATE:-1970-01-01T00:00:00Z}"
