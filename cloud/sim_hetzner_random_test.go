package cloud_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// slowest is how long something may take that nobody is told of: the servers of an account are read anew once an hour, and
// what that shows is done within a slow loop.
const slowest = 75 * time.Minute

// TestRandomLivesAtHetzner puts clusters at Hetzner through whatever may happen to one, in random order. Once that stops,
// everything is as the Services ask for, and after the last one is deleted nothing is left but what is listed or was to be
// kept. SEED=<n> repeats one run.
func TestRandomLivesAtHetzner(t *testing.T) {
	for _, seed := range seeds(t, 25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			options := hetznertest.Options{RefuseMoves: seed%3 == 0, LockServers: seed%5 == 0, ResetIsNext: seed%2 == 0}
			simulateAtHetzner(t, seed, crash{}, options, func(w *world) {
				f := landlord{fate{w, rand.New(rand.NewPCG(seed, 0))}, map[string]*tenancy{}}
				w.rental.handmade.Store(true)
				w.rental.lands.Store(true)
				w.start()
				for range 40 {
					f.strike()
					w.pass(time.Duration(f.random.ExpFloat64() * float64(2*time.Second)))
				}
				f.mend()
				w.settle("settled", slowest)
				f.empty(slowest)
			})
		})
	}
}

// tenancy is what is known of one Service.
type tenancy struct {
	// wishes counts how often it came to want something else; of those each may cost a purchase.
	wishes int
	// retained: its annotation said so at some time, and what it let go of then is kept.
	retained bool
}

// landlord is fate at Hetzner.
type landlord struct {
	fate
	of map[string]*tenancy
}

// listedOnly are the Services that may ask for listed addresses, of which there are two.
func listedOnly(name string) bool { return name == "a" || name == "b" }

// note what a Service asks for now.
func (f landlord) note(name string) {
	o, err := f.api.get(services, "default/"+name)
	require.NoError(f.t, err)
	svc := as[corev1.Service](o)
	uid := string(svc.UID)
	if f.of[uid] == nil {
		f.of[uid] = &tenancy{}
	}
	f.of[uid].wishes++
	if svc.Annotations[lb.AnnotationRetain] == "true" {
		f.of[uid].retained = true
	}
}

// strike does one thing.
func (f landlord) strike() {
	node := f.oneOf(f.names())
	switch f.random.IntN(16) {
	case 0, 1, 2, 3:
		f.serviceHappens(f.oneOf(f.services()))
	case 4:
		f.trouble()
	case 5:
		f.trace("all is well at Hetzner")
		f.rental.hetzner.ClearRules()
	case 6:
		f.meddle()
	case 7:
		f.rename(node, node+"-renamed")
	case 8:
		f.rename(node, node)
	case 9:
		if f.exists(nodes, node) && !f.agents[node].down {
			f.loseNode(node)
		}
		f.rental.deleteServer(node)
	case 10:
		token := f.oneOf([]string{ourToken, ourToken, foreignToken})
		f.rental.useToken(token)
	case 11:
		f.trace("the cloud-config is changed")
		f.configure(f.oneOf([]string{f.rental.config(rentedPool), f.rental.config(""), "pools: 7"}))
	default:
		f.hit()
	}
}

// serviceHappens creates, changes or deletes a Service.
func (f landlord) serviceHappens(name string) {
	_, err := f.api.get(services, "default/"+name)
	switch {
	case err != nil:
		pick := f.random.IntN(6)
		f.create(name, func(svc *corev1.Service) {
			svc.Annotations = map[string]string{}
			switch {
			case pick < 2 && listedOnly(name):
				svc.Annotations[lb.AnnotationPool] = "listed"
			case pick < 3:
				dualStack(svc)
			case pick == 3:
				svc.Annotations[lb.AnnotationRetain] = "true"
			}
		})
		f.note(name)
	case !f.exists(services, "default/"+name):
	case f.random.IntN(3) == 0:
		f.delete(name)
	default:
		pick := f.random.IntN(4)
		f.edit(name, func(svc *corev1.Service) {
			if svc.Annotations == nil {
				svc.Annotations = map[string]string{}
			}
			switch {
			case pick == 0 && listedOnly(name) && len(svc.Spec.IPFamilies) == 1:
				f.waver(string(svc.UID))
				svc.Annotations[lb.AnnotationPool] = map[string]string{"listed": "bought"}[svc.Annotations[lb.AnnotationPool]]
				if svc.Annotations[lb.AnnotationPool] == "" {
					svc.Annotations[lb.AnnotationPool] = "listed"
				}
			case pick <= 1:
				svc.Annotations[lb.AnnotationRetain] = fmt.Sprint(svc.Annotations[lb.AnnotationRetain] != "true")
			case svc.Spec.Type == corev1.ServiceTypeLoadBalancer:
				svc.Spec.Type = corev1.ServiceTypeClusterIP
			default:
				svc.Spec.Type = corev1.ServiceTypeLoadBalancer
			}
		})
		f.note(name)
	}
}

// waver lets a Service publish something else from now on.
func (f landlord) waver(uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wavering[uid] = true
}

// trouble at Hetzner, of every kind.
func (f landlord) trouble() {
	f.trace("trouble at Hetzner")
	often := 0.1 + 0.4*f.random.Float64()
	f.rental.hetzner.AddRule(hetznertest.Rule{Probability: often, Pick: func(random *rand.Rand) hetznertest.Fault {
		some := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
		codes := []hetznertest.Code{
			hetznertest.Locked, hetznertest.Conflict, hetznertest.ServerError, hetznertest.Unavailable, hetznertest.Timeout,
			hetznertest.RateLimitExceeded, hetznertest.ResourceLimitExceeded, hetznertest.ResourceUnavailable, hetznertest.ServiceError,
		}
		fault := hetznertest.Fault{}
		switch random.IntN(8) {
		case 0, 1:
			fault.Fail = codes[random.IntN(len(codes))]
		case 2:
			fault.Cut = true
		case 3:
			fault.Cut, fault.AfterEffect = true, true
		case 4:
			fault.Fail, fault.AfterEffect = codes[random.IntN(len(codes))], true
		case 5:
			fault.Cut, fault.Late = true, some(maxLateness)
		case 6:
			fault.Delay, fault.DelayAnswer = some(10*time.Second), some(40*time.Second)
		case 7:
			fault.ActionTime = some(20 * time.Second)
			if random.IntN(2) == 0 {
				fault.ActionFails = codes[random.IntN(len(codes))]
			}
		}
		return fault
	}})
}

// meddle with where a Floating IP is routed.
func (f landlord) meddle() {
	// What was kept for its user is its user's to route.
	all := slices.DeleteFunc(f.rental.hetzner.FloatingIPs(ourProject), func(ip hetznertest.FloatingIP) bool { return ip.Labels[labelReclaim] == "retain" })
	ip := all[f.random.IntN(len(all))]
	server := int64(0)
	if f.coin() {
		f.rental.mu.Lock()
		server = f.rental.servers[f.hosts+"1"]
		f.rental.mu.Unlock()
	}
	f.trace("somebody routes %s to %d", ip.Prefix, server)
	require.NoError(f.t, f.rental.hetzner.Route(ip.ID, server))
}

// rename the server of a node.
func (f landlord) rename(node, name string) {
	f.rental.mu.Lock()
	id := f.rental.servers[node]
	f.rental.mu.Unlock()
	same := func(m hetznertest.Machine) bool { return m.ID == id && m.Name == name }
	if id != 0 && !slices.ContainsFunc(f.rental.hetzner.Servers(ourProject), same) {
		f.trace("server %d of %s is named %s", id, node, name)
		require.NoError(f.t, f.rental.hetzner.RenameServer(id, name))
	}
}

// mend ends all trouble.
func (f landlord) mend() {
	f.rental.hetzner.ClearRules()
	f.rental.lands.Store(false)
	f.rental.useToken(ourToken)
	for _, node := range f.names() {
		f.rental.mu.Lock()
		id := f.rental.servers[node]
		f.rental.mu.Unlock()
		switch {
		case id != 0:
			f.rename(node, node)
		case f.exists(nodes, node):
			f.removeNode(node) // with its server
		}
	}
	f.fate.mend()
	f.configure(f.rental.config(rentedPool))
}

// empty deletes all Services, and accounts for what they leave.
func (f landlord) empty(limit time.Duration) {
	for _, name := range f.services() {
		if f.exists(services, "default/"+name) {
			f.delete(name)
		}
	}
	f.settle("empty", limit)
	f.account()
}

// account for what was bought, and for what is left when all Services are gone.
func (f landlord) account() {
	for p, n := range f.rental.purchases() {
		// One more may land when the first is given back already: it is given back, too.
		if of := f.of[p.uid]; of == nil || n > of.wishes+1 {
			f.violate("%d Floating IPs were bought for %v", n, p)
		}
	}
	for _, ip := range f.rental.hetzner.FloatingIPs(ourProject) {
		if isListed(ip.Prefix) {
			continue
		}
		if of := f.of[ip.Labels[labelService]]; of == nil || !of.retained {
			f.violate("%s was not to be kept: %v", ip.Prefix, ip.Labels)
		}
	}
}
