#!/usr/bin/env bash
# Makes _output/bin/promtool, which checks and tests the alert rules: that of the machine when it has one, else the one
# in Debian's package prometheus. That is unpacked and not installed, because it would bring a server that starts at
# the next boot; and not built from source, which takes minutes and 250 modules.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
promtool=_output/bin/promtool
[[ ! -x "$promtool" ]] || exit 0
mkdir -p "${promtool%/*}"
if installed=$(command -v promtool); then
  ln -sf "$installed" "$promtool"
  exit 0
fi

download=$(mktemp -d)
trap 'rm -r "$download"' EXIT
get() { (cd "$download" && apt-get download -qq prometheus 2>&1); }
# Only root may read the lists of packages anew, and in a fresh image there are none.
if ! command -v apt-get >/dev/null || ! { get || { [[ $(id -u) -eq 0 ]] && apt-get update -qq && get; }; }; then
  echo "promtool is missing: install it, for example with: sudo apt-get install prometheus" >&2
  exit 1
fi
dpkg-deb --fsys-tarfile "$download"/prometheus_*.deb | tar -xO ./usr/bin/promtool >"$download/promtool"
chmod +x "$download/promtool"
mv "$download/promtool" "$promtool"
