# shellcheck shell=bash
# Sourced by the scripts that run several steps: each step says that it begins, how it ended and how long it took.

failed_steps=()

# step NAME COMMAND... runs the command, which may be a function, in a subshell that stops at its first error. A step
# that failed is remembered, and the next one runs all the same. Not to be called where bash ignores errors, as in a
# condition or before ||.
step() {
  local name=$1 begin=$SECONDS status
  shift
  printf '\n==> %s\n' "$name"
  set +e
  (
    set -e
    "$@"
  )
  status=$?
  set -e
  if [[ $status -eq 0 ]]; then
    printf '<== %s: ok, %d s\n' "$name" $((SECONDS - begin))
  else
    printf '<== %s: FAILED with status %d after %d s\n' "$name" "$status" $((SECONDS - begin))
    failed_steps+=("$name")
  fi
}

# ok is true while no step has failed.
ok() { [[ ${#failed_steps[@]} -eq 0 ]]; }

# finish NAME prints the verdict and exits.
finish() {
  if ok; then
    printf '\n%s: ok, %d s\n' "$1" "$SECONDS"
    exit 0
  fi
  printf '\n%s: FAILED, %d s\n' "$1" "$SECONDS"
  printf '  %s\n' "${failed_steps[@]}"
  exit 1
}
