package hetznertest

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Machine is a server in a project.
type Machine struct {
	// ID and Project are set by AddServer.
	ID      int64
	Project string
	Name    string
	// Status as the API says it; empty: running.
	Status string
	// Location by name; empty: fsn1.
	Location string
	// Type by name; empty: cx23.
	Type string
	// IPv4 is the public address; the zero value: none.
	IPv4 netip.Addr
	// IPv6 is the public network, a /64; the zero value: none.
	IPv6 netip.Prefix
	// Private addresses, each in a network of its own.
	Private []netip.Addr
	Labels  map[string]string
}

type machine struct {
	Machine
	project *project
	created time.Time
}

func (s *Server) sortedMachines() []*machine {
	return slices.SortedFunc(maps.Values(s.machines), func(a, b *machine) int { return cmp.Compare(a.ID, b.ID) })
}

// machineOf returns a server of the project; nil: it has none of the id.
func (s *Server) machineOf(p *project, id int64) *machine {
	if m := s.machines[id]; m != nil && m.project == p {
		return m
	}
	return nil
}

// place is a location as the API describes it.
type place struct {
	ID          int64   `json:"id"`
	Name        string  `json:"name"`
	Description string  `json:"description"`
	Country     string  `json:"country"`
	City        string  `json:"city"`
	Latitude    float64 `json:"latitude"`
	Longitude   float64 `json:"longitude"`
	NetworkZone string  `json:"network_zone"`
}

var places = []place{
	{1, "fsn1", "Falkenstein DC Park 1", "DE", "Falkenstein", 50.47612, 12.370071, "eu-central"},
	{2, "nbg1", "Nuremberg DC Park 1", "DE", "Nuremberg", 49.452102, 11.076665, "eu-central"},
	{3, "hel1", "Helsinki DC Park 1", "FI", "Helsinki", 60.169855, 24.938379, "eu-central"},
	{4, "ash", "Ashburn, VA", "US", "Ashburn, VA", 39.045821, -77.487073, "us-east"},
	{5, "hil", "Hillsboro, OR", "US", "Hillsboro, OR", 45.54222, -122.951924, "us-west"},
	{6, "sin", "Singapore", "SG", "Singapore", 1.283333, 103.833333, "ap-southeast"},
}

func locationNamed(name string) *place {
	for i := range places {
		if places[i].Name == name {
			return &places[i]
		}
	}
	return nil
}
