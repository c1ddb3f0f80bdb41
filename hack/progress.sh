#!/usr/bin/env bash
# Runs a go command that prints each package that it compiles (-v), and counts them instead. With an empty build cache
# go is silent for minutes, and the names would be thousands of lines.
#
#   hack/progress.sh NAME COMMAND...     such as: hack/progress.sh agent go build -v ./agent
set -euo pipefail
name=$1
shift

compiled=0
"$@" 2>&1 | while IFS= read -r line; do
  if [[ -z "$line" || "$line" == *[:\ ]* ]]; then
    printf '%s\n' "$line"
  elif (((compiled += 1) % 100 == 0)); then
    echo "$name: $compiled packages compiled"
  fi
done
