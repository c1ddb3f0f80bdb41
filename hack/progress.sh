#!/bin/sh
# Runs a go command that prints each package that it compiles (-v), and counts them instead. With an empty build cache
# go is silent for minutes, and the names would be thousands of lines.
#
#   hack/progress.sh NAME COMMAND...     such as: hack/progress.sh agent go build -v ./agent
set -eu
name=$1
shift

status=$(mktemp)
trap 'rm -f "$status"' EXIT
{
	code=0
	"$@" 2>&1 || code=$?
	echo "$code" >"$status"
} | {
	compiled=0
	while IFS= read -r line; do
		case $line in
		*[:\ ]* | '')
			printf '%s\n' "$line"
			;;
		*)
			compiled=$((compiled + 1))
			[ $((compiled % 100)) -ne 0 ] || echo "$name: $compiled packages compiled"
			;;
		esac
	done
}
exit "$(cat "$status")"
