#!/bin/sh
# Installs the Debian packages that the tests, the benchmarks and the demo need, where it may; else says what is missing
# and how to install it. This is the only list of them.
set -eu

# curl: the tutorials use it. iproute2, iputils-ping, procps: ip, ss, ping and sysctl, for the agent's tests, and to look
# around. libnginx-mod-stream, nginx: the external load balancer of an updater pool, and pods of nginx. nftables: nft,
# for kube-proxy. util-linux: nsenter, to look around.
packages="curl iproute2 iputils-ping libnginx-mod-stream nftables nginx procps util-linux"

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
	# nginx brings a daemon, which is to start neither now (RUNLEVEL=1) nor at the next boot.
	# shellcheck disable=SC2086 # a list of names
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
	case "$missing " in
	*" nginx "*) ! command -v systemctl >/dev/null || systemctl --quiet disable nginx ;;
	esac
else
	echo "missing Debian packages:$missing; install them with: sudo hack/debian-packages.sh (it starts no daemon)" >&2
	exit 1
fi
