package agent

import (
	"bytes"

	"github.com/mooring-lb/mooring/agent/netif"
)

// matters says whether an event tells something that is not known already. What the agent itself changed comes back
// as an event too: it must not make it read the host again.
func (k *Keeper) matters(event netif.Event) bool {
	switch event.Kind {
	case netif.AddressEvent:
		return k.addressMatters(event)
	case netif.LinkEvent:
		return k.linkMatters(event)
	case netif.GuardEvent:
		if !event.IP.IsValid() {
			return true
		}
		_, covered := k.have.Guard.Addresses[event.IP]
		return covered
	default:
		return true
	}
}

func (k *Keeper) addressMatters(event netif.Event) bool {
	name, ok := k.names[event.Index]
	if !ok {
		return true
	}
	_, bound := k.have.Bound[netif.Place{Interface: name, IP: event.IP}]
	if event.Ours {
		return bound == event.Gone
	}
	// Somebody else's: a router advertisement or a lease that is renewed repeats what is known.
	return !(event.IP.Is4() && !event.Gone && k.standsOn(name, event))
}

func (k *Keeper) standsOn(name string, event netif.Event) bool {
	for _, h := range k.have.Host {
		if h.Interface == name && h.Prefix.Addr() == event.IP {
			return true
		}
	}
	return false
}

func (k *Keeper) linkMatters(event netif.Event) bool {
	link, known := k.have.Links[event.Interface]
	if known && !event.Gone && link.Up == event.Up && link.Running == event.Running && link.Ours == event.Ours &&
		bytes.Equal(link.HardwareAddr, event.HardwareAddr) {
		return false
	}
	if _, uplink := k.have.Settings[event.Interface]; uplink {
		return true
	}
	if event.Interface == netif.IPVSInterface {
		return true
	}
	// Interfaces of pods come and go; only those that an entry names matter.
	if k.desired != nil {
		for _, w := range k.desired.wants {
			if w.ifname == event.Interface || w.uplink == event.Interface {
				return true
			}
		}
	}
	for place := range k.have.Bound {
		if place.Interface == event.Interface {
			return true
		}
	}
	return false
}
