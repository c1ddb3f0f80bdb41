package agent

import (
	"bytes"

	"github.com/mooring-lb/mooring/agent/netif"
)

// matters says whether an event tells something that is not known already. What the agent itself changed comes back
// as an event too: it must not make it read the host again.
func (a *Agent) matters(event netif.Event) bool {
	switch event.Kind {
	case netif.AddressEvent:
		return a.addressMatters(event)
	case netif.LinkEvent:
		return a.linkMatters(event)
	case netif.GuardEvent:
		if !event.IP.IsValid() {
			return true
		}
		_, covered := a.have.Guard.Addresses[event.IP]
		return covered
	default:
		return true
	}
}

func (a *Agent) addressMatters(event netif.Event) bool {
	name, ok := a.names[event.Index]
	if !ok {
		return true
	}
	_, bound := a.have.Bound[netif.Place{Interface: name, IP: event.IP}]
	if event.Ours {
		return bound == event.Gone
	}
	// Somebody else's: a router advertisement or a lease that is renewed repeats what is known.
	return !(event.IP.Is4() && !event.Gone && a.standsOn(name, event))
}

func (a *Agent) standsOn(name string, event netif.Event) bool {
	for _, h := range a.have.Host {
		if h.Interface == name && h.Prefix.Addr() == event.IP {
			return true
		}
	}
	return false
}

func (a *Agent) linkMatters(event netif.Event) bool {
	link, known := a.have.Links[event.Interface]
	if known && !event.Gone && link.Up == event.Up && link.Running == event.Running && link.Ours == event.Ours &&
		bytes.Equal(link.HardwareAddr, event.HardwareAddr) {
		return false
	}
	if _, uplink := a.have.Settings[event.Interface]; uplink {
		return true
	}
	if event.Interface == netif.IPVSInterface {
		return true
	}
	// Interfaces of pods come and go; only those that an entry names matter.
	if a.desired != nil {
		for _, w := range a.desired.wants {
			if w.ifname == event.Interface || w.uplink == event.Interface {
				return true
			}
		}
	}
	for place := range a.have.Bound {
		if place.Interface == event.Interface {
			return true
		}
	}
	return false
}
