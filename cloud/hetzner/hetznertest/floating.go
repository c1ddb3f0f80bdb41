package hetznertest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// FloatingIP is one that somebody rents.
type FloatingIP struct {
	ID          int64
	Project     string
	Name        string
	Description string
	// Prefix is a /32, or a /64 of IPv6.
	Prefix netip.Prefix
	// Location at home in which it is, by name.
	Location string
	// Server that it is routed to; 0: none.
	Server    int64
	Labels    map[string]string
	Blocked   bool
	Protected bool
	Created   time.Time
	// Running is the id of the action that locks it; 0: none.
	Running int64
}

type floatingIP struct {
	FloatingIP
	project *project
	// listed is when lists show it.
	listed time.Time
	names  map[netip.Addr]string
}

func (s *Server) floatingIPs() []*floatingIP {
	return slices.SortedFunc(maps.Values(s.floating), func(a, b *floatingIP) int { return cmp.Compare(a.ID, b.ID) })
}

// floatingOf returns a Floating IP of the project; nil: it has none of the id.
func (s *Server) floatingOf(p *project, id int64) *floatingIP {
	if f := s.floating[id]; f != nil && f.project == p {
		return f
	}
	return nil
}

func (s *Server) nameTaken(p *project, name string, but int64) bool {
	for _, f := range s.floating {
		if f.project == p && f.Name == name && f.ID != but {
			return true
		}
	}
	return false
}

// sell returns a prefix that was never sold before; false: everything is sold.
func (s *Server) sell(ipv6 bool) (netip.Prefix, bool) {
	if ipv6 {
		n := s.sold[1]
		s.sold[1]++
		bytes := s.options.IPv6.Masked().Addr().As16()
		for i := 7; i >= 0 && n > 0; i-- {
			bytes[i] += byte(n)
			n >>= 8
		}
		sold := netip.PrefixFrom(netip.AddrFrom16(bytes), 64)
		return sold, s.options.IPv6.Contains(sold.Addr())
	}
	n := s.sold[0]
	s.sold[0]++
	for _, p := range s.options.IPv4 {
		// Neither the first nor the last address of a range, which some hosts treat as broadcast.
		size := 1<<(32-p.Bits()) - 2
		if n >= size {
			n -= size
			continue
		}
		bytes := p.Masked().Addr().As4()
		n++
		for i := 3; i >= 0 && n > 0; i-- {
			bytes[i] += byte(n)
			n >>= 8
		}
		return netip.PrefixFrom(netip.AddrFrom4(bytes), 32), true
	}
	return netip.Prefix{}, false
}

// add a Floating IP, complete except for its id, its project and the time.
func (s *Server) add(p *project, f FloatingIP, listed time.Time) *floatingIP {
	f.ID, f.Project, f.Created = s.nextID(), p.name, s.clock.Now()
	if f.Name == "" {
		f.Name = "floating-ip-" + strconv.FormatInt(f.ID, 10)
	}
	f.Labels = maps.Clone(f.Labels)
	added := &floatingIP{FloatingIP: f, project: p, listed: listed, names: map[netip.Addr]string{}}
	s.floating[f.ID] = added
	return added
}

// AddFloatingIP adds one that somebody else bought, a while ago: it counts as no purchase and every list shows it. A
// prefix that is left out is the next one that is sold, of IPv4; a location that is left out is fsn1. It returns what
// was added.
func (s *Server) AddFloatingIP(project string, f FloatingIP) (FloatingIP, error) {
	var added *floatingIP
	var err error
	s.change(func() {
		p := s.room(project)
		if f.Location == "" {
			f.Location = "fsn1"
		}
		if !f.Prefix.IsValid() {
			f.Prefix, _ = s.sell(false)
		}
		server := f.Server
		f.Server, f.Running = 0, 0
		switch {
		case locationNamed(f.Location) == nil:
			err = fmt.Errorf("add floating ip %s: there is no location %q", f.Prefix, f.Location)
		case s.nameTaken(p, f.Name, 0):
			err = fmt.Errorf("add floating ip %s: the name %s is taken", f.Prefix, f.Name)
		case server != 0 && s.machineOf(p, server) == nil:
			err = fmt.Errorf("add floating ip %s: project %s has no server %d", f.Prefix, project, server)
		default:
			added = s.add(p, f, s.clock.Now())
			s.reroute(added, server)
		}
	})
	if err != nil {
		return FloatingIP{}, err
	}
	copied := added.FloatingIP
	copied.Labels = maps.Clone(added.Labels)
	return copied, nil
}

// AddIPv6 is AddFloatingIP with the next /64 that is sold.
func (s *Server) AddIPv6(project string, f FloatingIP) (FloatingIP, error) {
	s.read(func() { f.Prefix, _ = s.sell(true) })
	return s.AddFloatingIP(project, f)
}

// FloatingIPs of a project as they are, by id, whether lists show them or not.
func (s *Server) FloatingIPs(project string) []FloatingIP {
	var all []FloatingIP
	s.read(func() {
		for _, f := range s.floatingIPs() {
			if f.project.name == project {
				copied := f.FloatingIP
				copied.Labels = maps.Clone(f.Labels)
				all = append(all, copied)
			}
		}
	})
	return all
}

// edit a Floating IP by hand, as somebody does at the console.
func (s *Server) edit(id int64, what string, f func(*floatingIP)) error {
	var err error
	s.change(func() {
		if found := s.floating[id]; found != nil {
			f(found)
			return
		}
		err = fmt.Errorf("%s: there is no floating ip %d", what, id)
	})
	return err
}

// Block lets Hetzner block a Floating IP, or clear it.
func (s *Server) Block(id int64, blocked bool) error {
	return s.edit(id, "block", func(f *floatingIP) { f.Blocked = blocked })
}

// Protect lets somebody protect a Floating IP from deletion, or end that.
func (s *Server) Protect(id int64, protected bool) error {
	return s.edit(id, "protect", func(f *floatingIP) { f.Protected = protected })
}

// Label lets somebody replace the labels of a Floating IP.
func (s *Server) Label(id int64, labels map[string]string) error {
	return s.edit(id, "label", func(f *floatingIP) { f.Labels = maps.Clone(labels) })
}

// Route lets somebody assign a Floating IP by hand, which takes no time, also to a server of nobody that is known; 0:
// unassign it.
func (s *Server) Route(id, server int64) error {
	return s.edit(id, "route", func(f *floatingIP) { s.reroute(f, server) })
}

// DeleteFloatingIP lets somebody delete one by hand, whatever protects it. It counts as no release.
func (s *Server) DeleteFloatingIP(id int64) error {
	return s.edit(id, "delete", s.remove)
}

func (s *Server) remove(f *floatingIP) {
	s.reroute(f, 0)
	delete(s.floating, f.ID)
}
