#!/bin/sh
# Installs the Debian packages that the tests and the demo need, where it may; else says what is missing and how to
# install it. This is the only list of them.
set -eu

# iproute2: ip, to look around. nftables: nft, for kube-proxy. util-linux: nsenter, to look around.
packages="iproute2 nftables util-linux"

missing=
for package in $packages; do
	if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
		missing="$missing $package"
	fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing$missing"
	apt-get update -q
	# shellcheck disable=SC2086 # a list of names
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
else
	echo "missing Debian packages:$missing; install them with: sudo apt-get install$missing" >&2
	exit 1
fi
