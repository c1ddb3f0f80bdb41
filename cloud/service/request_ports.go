package service

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// parseLBPorts reads which ports a Service asks for at an external load balancer: entries such as http=8100, 53/udp=8153
// or http, separated by commas. An entry without a port at the load balancer limits the Service to the ports that the
// annotation names. What does not parse as a whole asks for nothing.
func parseLBPorts(svc *corev1.Service, r *lb.Request) *lb.Refusal {
	refusal := readLBPorts(svc, r)
	if refusal != nil {
		r.LBPorts, r.LBPortsOnly = nil, false
	}
	return refusal
}

func readLBPorts(svc *corev1.Service, r *lb.Request) *lb.Refusal {
	wanted := map[lb.Port]string{}
	for entry := range strings.SplitSeq(svc.Annotations[lb.AnnotationLBPorts], ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		name, text, asks := strings.Cut(entry, "=")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		port, refusal := findPort(r.Ports, name)
		if refusal != nil {
			return refusal
		}
		if _, again := r.Wish(port); again {
			return lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q names port %s of the Service for the second time: name each port once",
				lb.AnnotationLBPorts, entry, port.Describe())
		}
		wish := lb.PortWish{Number: port.Number, Protocol: port.Protocol}
		if asks {
			number, err := strconv.ParseUint(text, 10, 16)
			if err != nil || number == 0 {
				return lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q in %q is not a port: write a number from 1 to 65535, such as %s=8100",
					lb.AnnotationLBPorts, text, entry, name)
			}
			wish.Port = uint16(number)
			at := lb.Port{Number: wish.Port, Protocol: wish.Protocol}
			if other, taken := wanted[at]; taken {
				return lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q and %q ask for the same port %s at the load balancer: ask for different ones",
					lb.AnnotationLBPorts, other, entry, at)
			}
			wanted[at] = entry
		} else {
			r.LBPortsOnly = true
		}
		r.LBPorts = append(r.LBPorts, wish)
	}
	return nil
}

// findPort is the port of a Service by its name, else by number[/protocol]. Without a protocol it is the only port with
// the number, else the one for TCP.
func findPort(ports []lb.Port, text string) (lb.Port, *lb.Refusal) {
	if i := slices.IndexFunc(ports, func(p lb.Port) bool { return p.Name != "" && p.Name == text }); i >= 0 {
		return ports[i], nil
	}
	number, protocol, chosen := strings.Cut(text, "/")
	var found []lb.Port
	for _, p := range ports {
		if strconv.Itoa(int(p.Number)) == number && (!chosen || strings.EqualFold(protocol, string(p.Protocol))) {
			found = append(found, p)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if i := slices.IndexFunc(found, func(p lb.Port) bool { return p.Protocol == lb.TCP }); i >= 0 {
		return found[i], nil
	}
	names := make([]string, 0, len(ports))
	for _, p := range ports {
		names = append(names, p.Describe())
	}
	if len(found) > 1 {
		return lb.Port{}, lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q may be more than one port of the Service, which has %s: write the protocol too, such as %s/udp",
			lb.AnnotationLBPorts, text, strings.Join(names, ", "), number)
	}
	return lb.Port{}, lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q is no port of the Service, which has %s: write a port's name, or its number such as 53 or 53/udp",
		lb.AnnotationLBPorts, text, strings.Join(names, ", "))
}
