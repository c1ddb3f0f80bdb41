#!/usr/bin/env bash
# Runs every benchmark and prints one table: what was measured, and what it is compared to.
#
# A figure is a line of go's benchmark format, "BenchmarkName-2  1000  1834 ns/op  12 MB"; the e2e tests, called with
# BENCH=1, print such lines too. hack/bench-compare.tsv says what each figure is compared to. The lines as they came are
# in _output/bench.txt, for benchstat.
#
# RUN=<regexp> runs only the benchmarks whose names match; SKIP_E2E=1 leaves the e2e benchmarks out. PROFILE=<directory>
# has the e2e benchmarks write CPU profiles of the controller and of the API server into it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
hack/debian-packages.sh >&2
mkdir -p _output
raw=_output/bench.txt
: >"$raw"
status=0

measure() {
  echo "==> $1" >&2
  shift
  "$@" 2>&1 | tee -a "$raw" >&2 || status=1
}

for dir in $(git grep -l --untracked '^func Benchmark' -- '*_test.go' | xargs -r -n 1 dirname | grep -v '^e2e$' | sort -u); do
  measure "$dir" go test -run '^$' -bench "${RUN:-.}" -benchmem "./$dir"
done
if [[ -d e2e && -z "${SKIP_E2E:-}" ]]; then
  hack/build-kube.sh >&2
  measure e2e env BENCH=1 go test -count=1 -timeout 60m -v -run '^TestBench' ./e2e
fi

# Duplicate names come from several processors (-2) and repeated runs; each is a row.
awk -F '\t' '
  FNR == NR { if ($0 !~ /^#/ && NF >= 2) { pattern[++n] = $1; against[n] = $2 } next }
  { line = $0; sub(/^[ \t]+/, "", line) }
  line ~ /^Benchmark[^ \t]+[ \t]+[0-9]+[ \t]/ {
    count = split(line, word, /[ \t]+/)
    name = word[1]; sub(/^Benchmark/, "", name); sub(/-[0-9]+$/, "", name)
    figures = ""
    for (i = 3; i < count; i += 2) figures = figures (figures == "" ? "" : ", ") word[i] " " word[i + 1]
    compared = ""
    for (i = 1; i <= n; i++) if (name ~ pattern[i]) compared = compared (compared == "" ? "" : "; ") against[i]
    rows++
    if (rows == 1) printf "\n%-44s  %-52s  %s\n", "benchmark", "measured", "compared to"
    printf "%-44s  %-52s  %s\n", name, figures, compared
  }
  END { if (!rows) print "no benchmark ran" }
' hack/bench-compare.tsv "$raw"
exit "$status"
