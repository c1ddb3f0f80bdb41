package ledger

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// project is an account at the cloud, as little of it as the ledger can see. What the cloud really does is simulated
// by cloud/hetzner/hetznertest.
type project struct {
	servers []lb.Server
	ips     map[int64]*lb.FloatingIP
	ids     int64
	bought  int
	calls   []string
	since   map[int64]time.Time
	// fail answers for the cloud; nil does not.
	fail     func(Job) *Fault
	lastRead time.Time
}

const projectKey = "api.example file"

const bought = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: bought
  hetzner: {ephemeral: {types: [ipv4, ipv6], maxAddresses: 4}}
  interface: pl0
- name: listed
  addresses: [198.51.100.1, 198.51.100.2, "2001:db8:9:1::/64"]
  hetzner: {}
  interface: pl0
`

// newRentalWorld makes a cluster whose nodes are servers of one project.
func newRentalWorld(t interface {
	Errorf(string, ...any)
	FailNow()
}, text string, nodes ...string) *world {
	w := emptyWorld(t, text, nodes...)
	w.cloud = &project{ips: map[int64]*lb.FloatingIP{}, since: map[int64]time.Time{}}
	w.rental = Rental{ClusterUID: "cluster", ClusterName: "test", Accounts: map[string]string{}, Orphans: map[string]bool{projectKey: false}}
	for _, p := range w.cfg.Pools {
		if p.Hetzner != nil {
			w.rental.Accounts[p.Name] = projectKey
		}
	}
	for i, name := range nodes {
		n := w.nodes[name]
		addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)})
		n.Addresses = []netip.Addr{addr}
		w.nodes[name] = n
		w.cloud.servers = append(w.cloud.servers, lb.Server{ID: int64(100 + i), Name: name, Networks: []netip.Prefix{netip.PrefixFrom(addr, 32)}, Location: "fsn1"})
	}
	w.restart()
	w.settle()
	w.pass(5 * time.Second)
	w.settle()
	return w
}

func (p *project) add(prefix string, server int64) *lb.FloatingIP {
	p.ids++
	f := &lb.FloatingIP{ID: p.ids, Name: fmt.Sprint(p.ids), Prefix: netip.MustParsePrefix(prefix), Server: server}
	p.ips[f.ID] = f
	return f
}

// work reads the account when that is due, and makes the calls that the ledger decides.
func (p *project) work(w *world) {
	if w.now.Sub(p.lastRead) >= 4*time.Second {
		p.lastRead = w.now
		p.read(w)
	}
	for {
		job, ok, _ := w.ledger.Next(projectKey, false, w.now)
		if !ok {
			return
		}
		w.point("before %s", job)
		answer := p.call(job)
		if job.Op == OpBuy && answer.Fault == nil {
			p.since[answer.FloatingIP.ID] = w.now
		}
		w.point("before the answer to %s", job)
		w.ledger.Done(job, answer, w.now)
		w.point("after %s", job)
	}
}

func (p *project) read(w *world) {
	inv := lb.Inventory{Began: w.now, Servers: p.servers}
	for _, f := range p.ips {
		if w.now.Sub(p.since[f.ID]) >= time.Second { // the list lags
			inv.FloatingIPs = append(inv.FloatingIPs, *f)
		}
	}
	slices.SortFunc(inv.FloatingIPs, func(x, y lb.FloatingIP) int { return int(x.ID - y.ID) })
	w.ledger.Inventory(projectKey, inv, w.now)
}

func (p *project) call(job Job) Answer {
	p.calls = append(p.calls, string(job.Op))
	if p.fail != nil {
		if f := p.fail(job); f != nil {
			return Answer{Fault: f}
		}
	}
	if job.Op == OpBuy {
		return p.buy(job.Order)
	}
	f := p.ips[job.ID]
	if f == nil {
		return Answer{Fault: &Fault{Kind: FaultNotFound, Message: "not found"}}
	}
	switch job.Op {
	case OpAssign:
		f.Server = job.Server
	case OpUnassign:
		f.Server = 0
	case OpLabel:
		f.Owner = job.Owner
	case OpDelete:
		if f.Server != 0 {
			return Answer{Fault: &Fault{Kind: FaultAssigned, Message: "must be unassigned"}}
		}
		if f.Protected {
			return Answer{Fault: &Fault{Kind: FaultProtected, Message: "protected"}}
		}
		delete(p.ips, job.ID)
	}
	return Answer{FloatingIP: *f}
}

func (p *project) buy(o lb.Order) Answer {
	for _, f := range p.ips {
		if f.Owner.Service.UID == o.Service.UID && f.Family() == o.Family {
			return Answer{FloatingIP: *f}
		}
	}
	p.bought++
	prefix := fmt.Sprintf("198.51.100.%d/32", 100+p.bought)
	if o.Family == lb.IPv6 {
		prefix = fmt.Sprintf("2001:db8:%x::/64", 0x100+p.bought)
	}
	f := p.add(prefix, 0)
	f.Owner = o.Owner
	return Answer{FloatingIP: *f}
}

// of returns what was bought for a Service.
func (p *project) of(uid string) (ips []*lb.FloatingIP) {
	for _, f := range p.ips {
		if f.Owner.Service.UID == uid {
			ips = append(ips, f)
		}
	}
	slices.SortFunc(ips, func(x, y *lb.FloatingIP) int { return strings.Compare(string(x.Family()), string(y.Family())) })
	return ips
}

func (p *project) server(node string) int64 {
	for _, s := range p.servers {
		if s.Name == node {
			return s.ID
		}
	}
	return 0
}
