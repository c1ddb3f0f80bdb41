package pool

import (
	"fmt"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// unsupported refuses what a load balancer behind an updater cannot do, and nobody else would.
func unsupported(req *lb.Request, p *pool) *lb.Refusal {
	served := req.Served()
	const other = "or serve the Service with addresses of another pool (annotation " + lb.AnnotationPool + ")"
	refuse := func(format string, args ...any) *lb.Refusal {
		where := "a load balancer behind an updater"
		if p != nil {
			where = fmt.Sprintf("pool %q, a load balancer behind an updater,", p.Name)
		}
		return lb.Refuse(lb.ReasonNotSupported, "%s %s, %s", where, fmt.Sprintf(format, args...), other)
	}
	strange := slices.IndexFunc(served, func(p lb.Port) bool { return !slices.Contains(protocols, p.Protocol) })
	switch {
	case len(served) == 0:
		return lb.Refuse(lb.ReasonInvalidRequest, "spec.ports is empty: add a port")
	case strange >= 0:
		return refuse("serves TCP and UDP, and not port %s: leave it out by naming the other ports in annotation %s", served[strange].Describe(), lb.AnnotationLBPorts)
	case req.SourceRanges:
		return refuse("does not apply spec.loadBalancerSourceRanges: remove it")
	case req.ClientIP:
		return refuse("does not apply spec.sessionAffinity ClientIP, because every client has the proxy's address: set it to None")
	case req.NoNodePorts:
		return refuse("needs node ports, and spec.allocateLoadBalancerNodePorts is false: set it to true")
	case req.FamilyPolicy == lb.RequireDualStack:
		return refuse("publishes one host and not both families, which spec.ipFamilyPolicy RequireDualStack asks for: set it to PreferDualStack")
	}
	return nil
}

// portFlaw is what is wrong with a port that the Service holds and keeps.
func (a *Allocator) portFlaw(r *portRecord, req *lb.Request) *lb.Refusal {
	switch {
	case r.lane == nil:
		return lb.Refuse(lb.ReasonPoolMissing, "port %d/%s is kept, but the cloud-config has no pool %q with updater any more: put the pool back, or move the Service to another one by annotation %s",
			r.number, r.protocol, r.pool, lb.AnnotationPool)
	case !r.inRange():
		return lb.Refuse(lb.ReasonPortNotInPool, "port %d/%s is kept, but portRange %s of pool %q does not contain it any more: enlarge portRange, or ask for another port by annotation %s",
			r.number, r.protocol, r.lane.ports, r.pool, lb.AnnotationLBPorts)
	}
	if d := r.lane.ports.pool.admits(req); d != admitted {
		return lb.Refuse(lb.ReasonNotAllowed, "port %d/%s is kept, but its pool %q %s: move the Service to another pool by annotation %s, or change the pool",
			r.number, r.protocol, r.pool, r.lane.ports.pool.explain(d, req), lb.AnnotationPool)
	}
	return nil
}

func notAllowed(named *pool, d denial, req *lb.Request) *lb.Refusal {
	return lb.Refuse(lb.ReasonNotAllowed, "annotation %s names pool %q, which %s: name another pool", lb.AnnotationPool, named.Name, named.explain(d, req))
}

// unserved says why a Service that may be served by addresses or by ports gets neither: addresses are refused, and updater
// pools were passed over.
func unserved(addresses *lb.Refusal, passed []*lb.Refusal) *lb.Refusal {
	if len(passed) == 0 {
		return addresses
	}
	ports := passed[0].Message
	if more := len(passed) - 1; more > 0 {
		ports = fmt.Sprintf("%s (and %d more with updater cannot serve it)", ports, more)
	}
	switch addresses.Reason {
	case lb.ReasonNoPool, lb.ReasonFamilyUnavailable:
		return &lb.Refusal{Reason: passed[0].Reason, Message: ports}
	case lb.ReasonPoolExhausted:
		return lb.Refuse(lb.ReasonPoolExhausted, "%s; %s", addresses.Message, ports)
	default:
		return addresses
	}
}
