#!/usr/bin/env bash
# Everything that can be judged without running the product. Every step runs, so that one run shows every finding.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/steps.sh
source hack/steps.sh

root=$PWD
linter=$root/_output/bin/golangci-lint

# The modules of the repository, apart from those of the tools, which hold no code of ours.
modules() {
  git ls-files --cached --others --exclude-standard -- 'go.mod' '*/go.mod' | grep -vE '^hack/(helm|tools)/' | xargs -n 1 dirname
}

go_code() {
  local module
  "$linter" config verify
  for module in $(modules); do
    echo "module $module"
    # The linter has it compiled, too, but says nothing meanwhile. What does not compile is its to report.
    (cd "$module" && { "$root/hack/progress.sh" "module $module" go list -v -export -test -f '{{""}}' ./... || true; } &&
      "$linter" run --config "$root/.golangci.yml" ./...)
  done
}

# The product runs on Linux only, on two architectures: what compiles on one may not on the other.
architectures() {
  local arch
  for arch in amd64 arm64; do
    GOOS=linux GOARCH=$arch CGO_ENABLED=0 hack/progress.sh "$arch" go build -v -trimpath ./cmd/...
  done
}

tidy() {
  local module
  for module in $(modules) hack/helm hack/tools; do
    (cd "$module" && go mod tidy -diff) || { echo "$module: run go mod tidy there"; return 1; }
    if grep -nE '^toolchain ' "$module/go.mod"; then
      echo "$module/go.mod: no toolchain line, any Go that is new enough builds Mooring"
      return 1
    fi
  done
}

names() {
  local found
  found=$(git ls-files --cached --others --exclude-standard -- '*.go' | xargs -n 1 dirname |
    grep -E '(^|/)(utils?|helpers?|common|types|pkg|internal|mocks?)(/|$)' | sort -u || true)
  [[ -z "$found" ]] || { echo "name a package for what it is responsible for, not for what is in it: $found"; return 1; }
  if git grep -nIi --untracked 'failed to ' -- '*.go'; then
    echo 'wrap with the verb and the object: "assign floating ip %s: %w", not "failed to assign"'
    return 1
  fi
}

scripts() {
  local files=() file
  while read -r file; do
    if [[ "$file" == *.sh ]] || head -n 1 "$file" | grep -qE '^#!.*\b(ba)?sh$'; then
      files+=("$file")
      bash -n "$file"
      [[ "$file" == hack/steps.sh || -x "$file" ]] || { echo "$file is not executable: chmod +x $file"; return 1; }
    fi
  done < <(git ls-files --cached --others --exclude-standard -- hack .ci e2e)
  if ! command -v shellcheck >/dev/null; then
    [[ $(id -u) -eq 0 ]] || { echo "install shellcheck, for example with: sudo apt-get install shellcheck"; return 1; }
    echo "installing shellcheck"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends shellcheck
  fi
  # SC2317: functions that step calls by name look unreachable.
  shellcheck --external-sources --exclude=SC2317 "${files[@]}"
}

generated() {
  local fresh file stale=0
  fresh=$(mktemp -d)
  hack/generate.sh "$fresh"
  while read -r file; do
    diff -u "$file" "$fresh/$file" || stale=1
  done < <(cd "$fresh" && find . -type f)
  for file in docs/reference/*.md; do
    [[ -e "$fresh/$file" ]] || { echo "$file has no template in hack/reference/pages"; stale=1; }
  done
  rm -r "$fresh"
  [[ $stale -eq 0 ]] || { echo "generated files are not current: run make generate"; return 1; }
}

# The chart with each of its examples, and as a package.
chart() {
  local chart=manifests/charts/mooring helm=_output/bin/helm example package
  hack/build-helm.sh
  for example in "$chart"/examples/*.yaml; do
    "$helm" lint --strict --quiet "$chart" --values "$example"
  done
  package=$(mktemp -d)
  "$helm" package "$chart" --destination "$package"
  rm -r "$package"
}

alerts() {
  hack/promtool.sh
  _output/bin/promtool check rules manifests/monitoring/alerts.yaml
  _output/bin/promtool test rules manifests/monitoring/testdata/alerts_test.yaml
}

dockerfile() {
  local need have
  grep -q '^RUN .*hack/build\.sh' Dockerfile || { echo "Dockerfile: build with hack/build.sh, as make build does"; return 1; }
  if grep -n 'go build' Dockerfile; then
    echo "Dockerfile: a go build of its own can differ from make build; call hack/build.sh"
    return 1
  fi
  need=$(go list -m -f '{{.GoVersion}}')
  have=$(sed -n 's/^FROM .*golang:\([0-9.]*\).*/\1/p' Dockerfile)
  if [[ "$(printf '%s\n%s\n' "${need%.0}" "$have" | sort -V | tail -n 1)" != "$have" ]]; then
    echo "Dockerfile: golang:$have is older than go $need of go.mod"
    return 1
  fi
}

# Links from one file of the repository to another, and to the headings there.
links() {
  git ls-files --cached --others --exclude-standard -- '*.md' | go run ./hack/links
}

step "tools" hack/tools.sh
ok || finish lint
step "golangci-lint: source, import bans, formatting" go_code
step "compiles for amd64 and arm64" architectures
step "go.mod and go.sum are tidy" tidy
step "names" names
step "scripts" scripts
step "generated files are current" generated
step "Helm chart" chart
step "alert rules fire when they should" alerts
step "Dockerfile builds as make build does" dockerfile
step "links in documents" links
finish lint
