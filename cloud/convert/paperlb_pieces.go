package convert

// This file is about ranges of ports. PaperLB's configurations may have ports of one host in common, each serves Services
// with and without its class, and a range that is changed leaves ports outside of it. A port of a host belongs to one pool,
// and a pool serves one class; so ranges are cut into pieces, and of each becomes a pool.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// piece is a range of ports of a host that becomes a pool.
type piece struct {
	// wants is the name that it shall have; name the one that it got.
	wants, name string
	comment     string
	host, url   string
	low, high   int
	class       string
	config      string
	// standard: a Service that names no pool gets ports of it; main: it is what is left of a configuration.
	autoAssign, standard, main bool
}

// home is the piece with a port, nil when none has it.
func (p *paper) home(l paperListen) *piece {
	for _, s := range p.pieces {
		if s.host == l.host && s.low <= l.port && l.port <= s.high {
			return s
		}
	}
	return nil
}

// mainPiece is where a configuration goes on.
func (p *paper) mainPiece(config string) *piece {
	for _, s := range p.pieces {
		if s.config == config && s.main {
			return s
		}
	}
	return nil
}

// divide makes pieces: of the default configuration first, then of the others by name, each of what those before have
// left; last of ports that Services have outside of every range.
func (p *paper) divide() {
	var order []*paperConfig
	for _, c := range p.configs {
		order = append(order, c)
	}
	slices.SortFunc(order, func(a, b *paperConfig) int {
		switch {
		case a.Name == p.standard:
			return -1
		case b.Name == p.standard:
			return 1
		default:
			return strings.Compare(a.Name, b.Name)
		}
	})
	for _, c := range order {
		p.divideConfig(c)
	}
	p.outside()
}

// divideConfig cuts the range of a configuration where others have ports of it already, and where Services of the other
// class have theirs.
func (p *paper) divideConfig(c *paperConfig) {
	about, host := "LoadBalancerConfig "+c.Name, canonical(c.Spec.Host)
	whole := piece{
		wants: c.Name, comment: "LoadBalancerConfig " + c.Name, host: host, url: strings.TrimRight(c.Spec.HTTPUpdaterURL, "/"), config: c.Name,
		low: c.Spec.PortRange.Low, high: c.Spec.PortRange.High, autoAssign: c.Name == p.standard, standard: c.Name == p.standard,
	}
	classed, classless := 0, 0
	classes := map[int]string{}
	for _, claim := range p.claims {
		if claim.host != host || claim.port < whole.low || claim.port > whole.high || p.home(claim.paperListen) != nil || claim.lost {
			continue
		}
		classes[claim.port] = claim.class
		if claim.class == "" {
			classless++
		} else {
			classed++
		}
	}
	if classed > classless {
		whole.class = paperClass
	}
	var pieces []*piece
	for port := whole.low; port <= whole.high; port++ {
		if p.home(paperListen{host: host, port: port}) != nil {
			continue
		}
		class, claimed := classes[port]
		if !claimed {
			class = whole.class
		}
		if last := len(pieces) - 1; last >= 0 && pieces[last].high == port-1 && pieces[last].class == class {
			pieces[last].high = port
			continue
		}
		next := whole
		next.low, next.high, next.class = port, port, class
		pieces = append(pieces, &next)
	}
	var largest *piece
	for _, s := range pieces {
		if s.class == whole.class && (largest == nil || s.high-s.low > largest.high-largest.low) {
			largest = s
		}
	}
	if largest == nil {
		p.note(about, "has no pool: all ports %d-%d of %s are in other pools, which have its Services too", whole.low, whole.high, host)
	} else {
		largest.main = true
	}
	for _, s := range pieces {
		if s != largest {
			s.wants = fmt.Sprintf("%s-%d", c.Name, s.low)
			s.comment += ", a part of its ports"
		}
	}
	slices.SortStableFunc(pieces, func(a, b *piece) int {
		switch largest {
		case a:
			return -1
		case b:
			return 1
		default:
			return 0
		}
	})
	p.pieces = append(p.pieces, pieces...)
	p.noteDivision(about, whole, pieces, classed, classless)
}

func (p *paper) noteDivision(about string, whole piece, pieces []*piece, classed, classless int) {
	size := 0
	for _, s := range pieces {
		size += s.high - s.low + 1
	}
	if all := whole.high - whole.low + 1; len(pieces) > 0 && size < all {
		p.note(about, "keeps %d of its %d ports: the others of %d-%d on %s are in pools before, because a port of a host belongs to one pool", size, all,
			whole.low, whole.high, whole.host)
	}
	switch {
	case classed > 0 && classless > 0:
		p.note(about, "serves Services with and without the class %s, and a pool serves either: the ports between were divided as they are used. "+
			"New Services with %s get a port only when one of its pools has one free", paperClass, map[bool]string{true: "no class", false: "the class"}[whole.class != ""])
	case classed > 0:
		p.note(about, "serves only Services with the class %s, and so does its pool. For Services without a class write another one, with ports of its own", paperClass)
	}
}

// outside makes pieces of the ports that Services have outside of every range: of a configuration that is gone, or whose
// range or host was changed.
func (p *paper) outside() {
	var rest []*paperClaim
	for _, claim := range p.claims {
		if p.home(claim.paperListen) == nil && claim.port >= 1 && claim.port <= 65535 {
			rest = append(rest, claim)
		}
	}
	slices.SortFunc(rest, func(a, b *paperClaim) int {
		return cmp.Or(cmp.Compare(a.config, b.config), cmp.Compare(a.host, b.host), cmp.Compare(a.port, b.port), compareKeys(keyOf(a.svc), keyOf(b.svc)))
	})
	var last *piece
	for _, claim := range rest {
		if p.home(claim.paperListen) != nil {
			continue // a UDP port beside a TCP port
		}
		if last != nil && last.config == claim.config && last.host == claim.host && last.url == claim.url && last.class == claim.class && last.high == claim.port-1 {
			last.high = claim.port
			continue
		}
		why := "is not there any more"
		if p.configs[claim.config] != nil {
			why = "has another host or other ports now"
		}
		last = &piece{
			wants: fmt.Sprintf("%s-%d", claim.config, claim.port), comment: fmt.Sprintf("what Services have of LoadBalancerConfig %s, which %s", claim.config, why),
			host: claim.host, url: claim.url, low: claim.port, high: claim.port, class: claim.class, config: claim.config,
		}
		if p.configs[claim.config] == nil && p.mainPiece(claim.config) == nil {
			last.wants, last.main = claim.config, true
		}
		p.pieces = append(p.pieces, last)
		p.note("LoadBalancerConfig "+claim.config, "%s; a pool of what Services have of it keeps that, from %s on", why, claim.paperListen)
	}
}
