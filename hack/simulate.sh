#!/usr/bin/env bash
# Simulates the protocol between controllers and agents: SCHEDULES=<n> schedules (default: a million) from seed FIRST=<n>
# (default: 1) on, WORKERS=<n> at once (default: one for each processor). A schedule that breaks an invariant prints its seed;
# SEED=<n> TRACE=1 tells its story.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export SCHEDULES=${SCHEDULES:-1000000} WORKERS=${WORKERS:-$(nproc)}
exec go test ./e2e/protocol -count=1 -timeout 0 -v -run '^TestSchedules$'
