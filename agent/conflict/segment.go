package conflict

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// proxyAnswers is for how many addresses a machine has to answer to be a proxy.
	proxyAnswers = 3
	// answersKept is how long a machine's answers, or its own announcements, are remembered after the last one.
	answersKept = 5 * time.Minute
	// proxyKept is how long a proxy is remembered that answers for nothing any more.
	proxyKept = 10 * time.Minute
	// solicited is how long after a probe a claim may still be its answer: kernels hold proxy answers back for up to
	// 0.8 s (neigh/*/proxy_delay).
	solicited = 2 * time.Second
	// machines bounds how many hardware addresses are remembered of one segment: whoever makes them up does not make
	// us run out of memory.
	machines = 1024
	// never is longer than anything that is waited for.
	never = time.Duration(1<<63 - 1)
)

// segment is what is known of the machines behind one uplink, by hardware address.
//
// A proxy is told from a node that has taken over hundreds of addresses by what it says unasked: a node announces what
// it holds, a proxy only answers. Counted are answers for addresses that are not bound here, and for those that the API
// server has just confirmed; so to take a node for a proxy never keeps two nodes on one address.
type segment struct {
	answers   map[string]*answers
	announced map[string]time.Time // machines that said unasked that a watched address is theirs
	proxies   map[string]time.Time // those recognised, and when they were heard last
}

type answers struct {
	addresses map[netip.Addr]bool
	last      time.Time
}

// Proxy is a machine that answers for everything on a segment.
type Proxy struct {
	Uplink string
	Other  string
}

// Proxies returns the machines that are not listened to, because they answer for everything.
func (d *Detector) Proxies() []Proxy {
	var list []Proxy
	for _, uplink := range slices.Sorted(maps.Keys(d.segments)) {
		for _, other := range slices.Sorted(maps.Keys(d.segments[uplink].proxies)) {
			list = append(list, Proxy{Uplink: uplink, Other: other})
		}
	}
	return list
}

func (d *Detector) segment(uplink string) *segment {
	s := d.segments[uplink]
	if s == nil {
		s = &segment{answers: map[string]*answers{}, announced: map[string]time.Time{}, proxies: map[string]time.Time{}}
		d.segments[uplink] = s
	}
	return s
}

// announces notes a claim that was not asked for, and says whether it is one of a machine that was taken for a proxy.
func (s *segment) announces(now time.Time, other string) bool {
	if len(s.announced) >= machines {
		clear(s.announced)
	}
	s.announced[other] = now
	delete(s.answers, other)
	_, proxy := s.proxies[other]
	return proxy
}

// proxy says whether the machine is a proxy, and notes that it was heard.
func (s *segment) proxy(now time.Time, other string) bool {
	if _, proxy := s.proxies[other]; !proxy {
		return false
	}
	s.proxies[other] = now
	return true
}

// answers counts the answer that an entry got, and recognises a proxy: what only its answers withheld is free then.
func (d *Detector) answers(now time.Time, e *entry) {
	s := d.segment(e.Uplink)
	if at, ok := s.announced[e.other]; ok && now.Sub(at) < answersKept {
		return
	}
	a := s.answers[e.other]
	if a == nil || now.Sub(a.last) >= answersKept {
		if len(s.answers) >= machines {
			clear(s.answers)
		}
		a = &answers{addresses: map[netip.Addr]bool{}}
		s.answers[e.other] = a
	}
	a.addresses[e.IP], a.last = true, now
	if len(a.addresses) < proxyAnswers {
		return
	}
	delete(s.answers, e.other)
	s.proxies[e.other] = now
	d.decisions = append(d.decisions, Decision{Kind: ProxyFound, Uplink: e.Uplink, Other: e.other})
	for ip, o := range d.entries {
		if o.Uplink != e.Uplink || o.other != e.other {
			continue
		}
		if o.verdict == Taken {
			o.verdict = Free
			d.rest(o)
		}
		if d.contested[ip] != nil {
			d.settle(o)
			if o.step == idle {
				d.rest(o)
			}
		}
	}
}

// forget ends that machines are taken for proxies.
func (d *Detector) forget(uplink string, others []string) {
	for _, other := range others {
		delete(d.segments[uplink].proxies, other)
		d.decisions = append(d.decisions, Decision{Kind: ProxyForgotten, Uplink: uplink, Other: other})
	}
}

// forgetOld forgets the proxies that were not heard for long.
func (d *Detector) forgetOld(now time.Time) {
	if d.until(now, never) > 0 {
		return
	}
	for _, p := range d.Proxies() {
		if now.Sub(d.segments[p.Uplink].proxies[p.Other]) >= proxyKept {
			d.forget(p.Uplink, []string{p.Other})
		}
	}
}

// until shortens a wait to when a proxy may be forgotten.
func (d *Detector) until(now time.Time, wait time.Duration) time.Duration {
	for _, s := range d.segments {
		for _, heard := range s.proxies {
			wait = min(wait, heard.Add(proxyKept).Sub(now))
		}
	}
	return wait
}
