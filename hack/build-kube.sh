#!/bin/sh
# Builds the real Kubernetes of the e2e tests and the demo into _output/bin. The first time takes about 6 minutes on
# 2 cores; afterwards the build cache answers in seconds.
set -eu
cd "$(dirname "$0")/../e2e/kube"

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
out=../../_output/bin/mooring-e2e-kube
mkdir -p "$(dirname "$out")"

if [ ! -x "$out" ]; then
	echo "e2e/kube: downloading modules of Kubernetes $version"
	go mod download
	echo "e2e/kube: building etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet and kubectl (about 6 minutes)"
fi

exec ../../hack/progress.sh e2e/kube go build -v -o "$out" -ldflags "-s -w \
	-X k8s.io/component-base/version.gitVersion=$version \
	-X k8s.io/component-base/version.gitMajor=$(echo "$version" | sed 's/v\([0-9]*\).*/\1/') \
	-X k8s.io/component-base/version.gitMinor=$(echo "$version" | sed 's/v[0-9]*\.\([0-9]*\).*/\1/')" .
