package hetzner

import (
	"maps"
	"strings"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// The labels of a bought Floating IP. Only Mooring writes keys with this prefix: cloud/config refuses it in a pool's labels.
const (
	labelPrefix = "mooring.dev/"
	// labelClusterUID is the UID of the cluster's namespace `kube-system`, by which the cluster knows what is its own.
	//
	//reference:mark label on Floating IPs at Hetzner
	labelClusterUID = labelPrefix + "cluster-uid"
	// labelCluster is `--cluster-name`, for people.
	//
	//reference:mark label on Floating IPs at Hetzner
	labelCluster = labelPrefix + "cluster"
	// labelServiceUID is the UID of the Service that it was bought for.
	//
	//reference:mark label on Floating IPs at Hetzner
	labelServiceUID = labelPrefix + "service-uid"
	// labelNamespace is the namespace of that Service.
	//
	//reference:mark label on Floating IPs at Hetzner
	labelNamespace = labelPrefix + "namespace"
	// labelName is the name of that Service.
	//
	//reference:mark label on Floating IPs at Hetzner
	labelName = labelPrefix + "name"
	// labelPool is the pool that it was bought by.
	//
	//reference:mark label on Floating IPs at Hetzner
	labelPool = labelPrefix + "pool"
	// labelReclaim is `delete`, or `retain`: it outlives its Service.
	//
	//reference:mark label on Floating IPs at Hetzner
	labelReclaim = labelPrefix + "reclaim"

	reclaimDelete = "delete"
	reclaimRetain = "retain"
)

const (
	// longestValue of a label, and longest name of a Floating IP that Mooring gives. Source: Hetzner's API reference, "Labels".
	longestValue = 63
	// longestReadable is the length to which the readable part of a name is cut, so that the rest always fits.
	longestReadable = 50
	// uidInName is how much of the Service's UID a name carries.
	uidInName = 8
)

// Name is the name under which an order is bought: the same for the same Service and family, and another for a later
// Service of the same name. Hetzner allows a name only once in a project, which is the lock against buying twice.
// The cluster's name alone does not tell clusters apart: the labels do.
func Name(o lb.Order) string {
	readable := allowed(o.Cluster + "-" + o.Service.Namespace + "-" + o.Service.Name)
	uid := allowed(o.Service.UID)
	family := "v4"
	if o.Family == lb.IPv6 {
		family = "v6"
	}
	return trim(trim(readable, longestReadable)+"-"+uid[:min(len(uid), uidInName)], longestValue) + "-" + family
}

// LabelValue is a text as it comes back from a label: at most 63 letters, digits, -, _ and ., letters or digits at its
// ends. A cluster's name can hold anything; whoever compares owners gives it to them in this form.
func LabelValue(text string) string { return trim(allowed(text), longestValue) }

// allowed replaces what neither a name nor a label value may hold.
func allowed(text string) string {
	return strings.Map(func(r rune) rune {
		if alphanumeric(r) || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, text)
}

// trim cuts to the length, and takes off what may not stand at the ends.
func trim(text string, length int) string {
	inside := func(r rune) bool { return !alphanumeric(r) }
	text = strings.TrimLeftFunc(text, inside)
	return strings.TrimRightFunc(text[:min(len(text), length)], inside)
}

func alphanumeric(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// labelsOf writes an owner.
func labelsOf(o lb.Owner) map[string]string {
	reclaim := reclaimDelete
	if o.Retain {
		reclaim = reclaimRetain
	}
	return map[string]string{
		labelClusterUID: o.ClusterUID,
		labelCluster:    LabelValue(o.Cluster),
		labelServiceUID: o.Service.UID,
		labelNamespace:  o.Service.Namespace,
		labelName:       o.Service.Name,
		labelPool:       o.Pool,
		labelReclaim:    reclaim,
	}
}

// ownerOf reads an owner. Labels that are foreign, incomplete or tampered with name nobody: what nobody owns is never released.
func ownerOf(labels map[string]string) lb.Owner {
	reclaim := labels[labelReclaim]
	if reclaim != reclaimDelete && reclaim != reclaimRetain {
		return lb.Owner{}
	}
	for _, key := range []string{labelClusterUID, labelServiceUID, labelNamespace, labelName, labelPool} {
		if labels[key] == "" {
			return lb.Owner{}
		}
	}
	return lb.Owner{
		ClusterUID: labels[labelClusterUID],
		Cluster:    labels[labelCluster],
		Service:    lb.Ref{Namespace: labels[labelNamespace], Name: labels[labelName], UID: labels[labelServiceUID]},
		Pool:       labels[labelPool],
		Retain:     reclaim == reclaimRetain,
	}
}

// relabelled are the labels with another owner, or with none, and everybody else's as they were.
func relabelled(labels map[string]string, owner lb.Owner) (all map[string]string, changed bool) {
	all = make(map[string]string, len(labels))
	for key, value := range labels {
		if !strings.HasPrefix(key, labelPrefix) {
			all[key] = value
		}
	}
	if owner != (lb.Owner{}) {
		maps.Copy(all, labelsOf(owner))
	}
	return all, !maps.Equal(all, labels)
}

// createOpts is what is bought: ours never gives way to a label of the pool.
func createOpts(o lb.Order, name string) hcloud.FloatingIPCreateOpts {
	labels := make(map[string]string, len(o.Labels))
	maps.Copy(labels, o.Labels)
	maps.Copy(labels, labelsOf(o.Owner))
	family := hcloud.FloatingIPTypeIPv4
	if o.Family == lb.IPv6 {
		family = hcloud.FloatingIPTypeIPv6
	}
	return hcloud.FloatingIPCreateOpts{Type: family, HomeLocation: &hcloud.Location{Name: o.Location}, Name: &name, Labels: labels}
}
