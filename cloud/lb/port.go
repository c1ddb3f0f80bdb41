package lb

import "fmt"

// PortWish is what a Service asks for one of its ports at an external load balancer (AnnotationLBPorts).
type PortWish struct {
	// Number and Protocol name the port of the Service.
	Number   uint16
	Protocol Protocol
	// Port that is wanted at the load balancer; 0: any.
	Port uint16
}

// PortLease is one port at an external load balancer that a Service holds, and the updater pool that it was taken from.
type PortLease struct {
	Pool string
	// Service is the port of the Service that is served there. Number and Protocol identify it; Name and NodePort are
	// what the Service said when it was asked for last.
	Service Port
	// Port at the load balancer. Its protocol is that of the Service port.
	Port uint16
}

func (l PortLease) String() string {
	return fmt.Sprintf("%d/%s -> %d (pool %s)", l.Port, l.Service.Protocol, l.Service.Number, l.Pool)
}

// PortUsage counts the ports of one updater pool for one protocol. TCP and UDP have the same numbers each.
type PortUsage struct {
	Pool     string
	Protocol Protocol
	// Size is how many ports the pool's range has.
	Size int
	// Used are held by Services. Ports that are held outside of the range are not counted.
	Used int
}

// Served are the ports of the Service that an external load balancer serves, in the order of the Service: all of them,
// unless AnnotationLBPorts limits them.
func (r *Request) Served() []Port {
	if !r.LBPortsOnly {
		return r.Ports
	}
	var served []Port
	for _, p := range r.Ports {
		if _, named := r.Wish(p); named {
			served = append(served, p)
		}
	}
	return served
}

// Wish is what the Service asks for one of its ports; false when it does not name the port.
func (r *Request) Wish(p Port) (PortWish, bool) {
	for _, w := range r.LBPorts {
		if w.Number == p.Number && w.Protocol == p.Protocol {
			return w, true
		}
	}
	return PortWish{}, false
}

// Same says whether two ports are one port of a Service, whatever they are called.
func (p Port) Same(o Port) bool { return p.Number == o.Number && p.Protocol == o.Protocol }

// Describe names the port in messages: http (80/TCP), or 80/TCP when it has no name.
func (p Port) Describe() string {
	if p.Name == "" {
		return p.String()
	}
	return fmt.Sprintf("%s (%s)", p.Name, p)
}
