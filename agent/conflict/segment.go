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
	// A proxy that was not heard for proxyQuiet is asked for an address every proxyAsked, and forgotten after
	// proxyMisses rounds that it did not answer. Without that it would be forgotten because nothing is asked for, and
	// be news when an address is probed while the API server cannot say whose it is.
	proxyQuiet  = 5 * time.Minute
	proxyAsked  = time.Minute
	proxyMisses = 5
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
	proxies   map[string]*proxy    // those recognised
}

// proxy is a machine that was recognised as one.
type proxy struct {
	heard  time.Time
	ip     netip.Addr // what it answered for last
	asked  time.Time
	missed int // rounds in a row that it did not answer
}

// due is when it is to be asked whether it is still there.
func (p *proxy) due() time.Time { return latest(p.heard.Add(proxyQuiet), p.asked.Add(proxyAsked)) }

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
		s = &segment{answers: map[string]*answers{}, announced: map[string]time.Time{}, proxies: map[string]*proxy{}}
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
func (s *segment) proxy(now time.Time, ip netip.Addr, other string) bool {
	p := s.proxies[other]
	if p == nil {
		return false
	}
	p.heard, p.ip, p.missed = now, ip, 0
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
	s.proxies[e.other] = &proxy{heard: now, ip: e.IP}
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

// askProxies has an address probed for each proxy that was not heard for long: it answers, or is forgotten some day.
func (d *Detector) askProxies(now time.Time) {
	if d.until(now, never) > 0 {
		return
	}
	for _, known := range d.Proxies() {
		p := d.segments[known.Uplink].proxies[known.Other]
		if p.due().After(now) {
			continue
		}
		p.asked = now
		if e := d.idleOn(known.Uplink, p.ip); e != nil {
			d.probe(e, now)
			e.tests = known.Other
		} else {
			d.missed(known.Uplink, known.Other)
		}
	}
}

// idleOn returns an address of the uplink that nothing is known or asked about, this one when it is such.
func (d *Detector) idleOn(uplink string, ip netip.Addr) *entry {
	idle := func(e *entry) bool {
		return e != nil && e.Uplink == uplink && e.verdict == Free && e.step == idle && e.at < 0
	}
	if e := d.entries[ip]; idle(e) {
		return e
	}
	var found *entry
	for _, e := range d.entries {
		if idle(e) && (found == nil || e.IP.Less(found.IP)) {
			found = e
		}
	}
	return found
}

// missed notes that a proxy was silent, and forgets it when it was for long enough.
func (d *Detector) missed(uplink, other string) {
	s := d.segments[uplink]
	if s == nil || s.proxies[other] == nil {
		return
	}
	if s.proxies[other].missed++; s.proxies[other].missed >= proxyMisses {
		d.forget(uplink, other)
	}
}

// forget ends that a machine is taken for a proxy.
func (d *Detector) forget(uplink, other string) {
	delete(d.segments[uplink].proxies, other)
	d.decisions = append(d.decisions, Decision{Kind: ProxyForgotten, Uplink: uplink, Other: other})
}

// until shortens a wait to when a proxy is to be asked.
func (d *Detector) until(now time.Time, wait time.Duration) time.Duration {
	for _, s := range d.segments {
		for _, p := range s.proxies {
			wait = min(wait, p.due().Sub(now))
		}
	}
	return wait
}
