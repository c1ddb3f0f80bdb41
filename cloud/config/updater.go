package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// leftToUpdater as a proxy timeout: the updater's own default applies.
const leftToUpdater = "server"

// nodeAddressTypes in the order in which messages list them.
var nodeAddressTypes = []corev1.NodeAddressType{
	corev1.NodeExternalIP, corev1.NodeInternalIP, corev1.NodeHostName, corev1.NodeExternalDNS, corev1.NodeInternalDNS,
}

func (j *judge) updater(p *field.Path, f *fileUpdater) *Updater {
	u := &Updater{
		Host:                or(f.Host, ""),
		BearerTokenFile:     j.secretFile(p.Child("bearerTokenFile"), f.BearerTokenFile),
		Timeout:             j.duration(p.Child("timeout"), f.Timeout, 10*time.Second, 10*time.Millisecond, 10*time.Minute),
		ProxyTimeout:        j.proxyTimeout(p.Child("proxyTimeout"), f.ProxyTimeout, 10*time.Minute),
		UDPProxyTimeout:     j.proxyTimeout(p.Child("udpProxyTimeout"), f.UDPProxyTimeout, 30*time.Second),
		ProxyConnectTimeout: j.proxyTimeout(p.Child("proxyConnectTimeout"), f.ProxyConnectTimeout, 2*time.Second),
		NodeAddressTypes:    []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP},
		Verify:              or(f.Verify, true),
	}
	if len(f.URLs) == 0 {
		j.required(p.Child("urls"), `name the updater, such as ["http://192.0.2.1:3000/api/v1/lb"]`)
	}
	for i, s := range f.URLs {
		at := p.Child("urls").Index(i)
		s = j.httpURL(at, s)
		if first := slices.Index(u.URLs, s); first >= 0 {
			j.invalid(at, redacted(s), "is the same as %s: list an updater once", p.Child("urls").Index(first))
		}
		u.URLs = append(u.URLs, s)
	}
	if u.Host == "" {
		j.required(p.Child("host"), "say which address or DNS name clients connect to: it is published in the status of Services")
	} else {
		u.HostAddr = j.hostName(p.Child("host"), u.Host)
	}
	j.portRange(p.Child("portRange"), f.PortRange, u)
	if f.TLS != nil {
		u.TLS = j.tls(p.Child("tls"), f.TLS, u.URLs)
	}
	if f.NodeAddressTypes != nil {
		u.NodeAddressTypes = j.addressTypes(p.Child("nodeAddressTypes"), f.NodeAddressTypes)
	}
	return u
}

// proxyTimeout is in whole seconds, because the updater's API is.
func (j *judge) proxyTimeout(p *field.Path, value *text, otherwise time.Duration) time.Duration {
	if value != nil && *value == leftToUpdater {
		return 0
	}
	if value != nil {
		if _, err := time.ParseDuration(string(*value)); err != nil {
			j.invalid(p, string(*value), "must be a duration in whole seconds with its unit, such as 30s or 10m, or %s to leave it to the updater", leftToUpdater)
			return otherwise
		}
	}
	d := j.duration(p, value, otherwise, time.Second, 30*24*time.Hour)
	if d%time.Second != 0 {
		j.invalid(p, string(*value), "must be in whole seconds: write %s", short(d.Round(time.Second)))
	}
	return d
}

func (j *judge) portRange(p *field.Path, f *filePortRange, u *Updater) {
	if f == nil {
		j.required(p, "say which ports of the load balancer may be given out, such as {low: 8100, high: 8200}")
		return
	}
	port := func(p *field.Path, value *int) uint16 {
		switch {
		case value == nil:
			j.required(p, "write a port from 1 to 65535")
		case *value < 1 || *value > 65535:
			j.invalid(p, int64(*value), "must be a port from 1 to 65535")
		default:
			return uint16(*value)
		}
		return 0
	}
	low, high := port(p.Child("low"), f.Low), port(p.Child("high"), f.High)
	if low == 0 || high == 0 {
		return
	}
	if high < low {
		j.invalid(p, fmt.Sprintf("%d-%d", low, high), "the range ends before it begins: write {low: %d, high: %d}", high, low)
		return
	}
	u.PortLow, u.PortHigh = low, high
}

func (j *judge) tls(p *field.Path, f *fileTLS, urls []string) *TLS {
	if f.CAFile == nil && f.CertFile == nil && f.KeyFile == nil {
		j.required(p, "name caFile, or certFile and keyFile, or remove it: without it the system's authorities are trusted")
	}
	if f.CertFile == nil && f.KeyFile != nil {
		j.required(p.Child("certFile"), "keyFile is of no use without its certificate: write both or none")
	}
	if f.CertFile != nil && f.KeyFile == nil {
		j.required(p.Child("keyFile"), "certFile is of no use without its key: write both or none")
	}
	if len(urls) > 0 && !slices.ContainsFunc(urls, func(u string) bool { return strings.HasPrefix(u, "https:") }) {
		j.forbidden(p, "no URL of the updater begins with https: change the URL or remove tls")
	}
	return &TLS{
		CAFile:   j.secretFile(p.Child("caFile"), f.CAFile),
		CertFile: j.secretFile(p.Child("certFile"), f.CertFile),
		KeyFile:  j.secretFile(p.Child("keyFile"), f.KeyFile),
	}
}

func (j *judge) addressTypes(p *field.Path, list []string) []corev1.NodeAddressType {
	if len(list) == 0 {
		j.required(p, "the list is empty: name at least one of ExternalIP, InternalIP, or remove the key")
	}
	var types []corev1.NodeAddressType
	for i, s := range list {
		t := corev1.NodeAddressType(s)
		switch {
		case !slices.Contains(nodeAddressTypes, t):
			j.add(field.NotSupported(p.Index(i), s, nodeAddressTypes))
		case slices.Contains(types, t):
			j.invalid(p.Index(i), s, "stands in the list already: keep one")
		default:
			types = append(types, t)
		}
	}
	return types
}

// disjointPorts reports ports that two pools give out on one host, at the later pool.
func (j *judge) disjointPorts(p *field.Path, pools []Pool) {
	hosts := make(map[string][]int)
	for i := range pools {
		u := pools[i].Updater
		if u == nil || u.Host == "" || u.PortLow == 0 {
			continue
		}
		host := u.Host
		if u.HostAddr.IsValid() {
			host = u.HostAddr.String()
		}
		for _, k := range hosts[host] {
			other := pools[k].Updater
			if low, high := max(u.PortLow, other.PortLow), min(u.PortHigh, other.PortHigh); low <= high {
				j.invalid(p.Index(i).Child("updater", "portRange"), fmt.Sprintf("%d-%d", u.PortLow, u.PortHigh),
					"overlaps pool %q (%s) in %d-%d on host %s: a port of a host belongs to one pool",
					pools[k].Name, p.Index(k).Child("updater", "portRange"), low, high, host)
			}
		}
		hosts[host] = append(hosts[host], i)
	}
}
