package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// world is a cluster around a ledger: an API server that holds NodeAddresses and Services, and agents that
// acknowledge when they are told to. It does what cloud does with the ledger's effects, and nothing else.
type world struct {
	t        require.TestingT
	cfg      *config.Config
	ledger   *Ledger
	epoch    int64
	now      time.Time
	nodes    map[string]lb.Node
	objects  map[string]*object
	services map[string]*svc
	uids     int
	// rental and cloud are empty without an account at a cloud.
	rental Rental
	cloud  *project
	// proxy is nil without an external load balancer.
	proxy *proxy
	// passed counts the points at which a controller can be killed; kill is the one at which it is.
	passed int
	kill   int
	// writes of NodeAddresses, by node.
	writes []string
}

// oneHold requires that no two objects say Hold of one address.
func (w *world) oneHold() {
	holds := map[netip.Addr]string{}
	for _, name := range slices.Sorted(maps.Keys(w.objects)) {
		for _, e := range w.objects[name].entries {
			if e.State == place.Hold {
				require.Empty(w.t, holds[e.Addr], "%s is held by %s as well", e.Addr, name)
				holds[e.Addr] = name
			}
		}
	}
}

// killed is the end of a controller.
type killed struct{ point string }

// point is a place in the controller's work at which it may be killed.
func (w *world) point(name string, args ...any) {
	w.passed++
	if w.passed == w.kill {
		panic(killed{fmt.Sprintf(name, args...)})
	}
}

type object struct {
	Object
	entries  []EntryView
	observed int64
	serverID int64
	// former: its Node was deleted since.
	former bool
	// bound is what is on the host: it outlives the object.
	bound map[netip.Addr]place.State
	dead  bool
	// probed as in the spec; bootID of the kernel that the agent runs on, and the port that it listens on instead of the
	// usual one.
	probed bool
	bootID string
	port   uint16
	// answered are the addresses that other machines answer for, by their hardware addresses, as the agent hears them.
	answered map[netip.Addr]string
	// broken: the agent cannot bind anything.
	broken bool
}

type svc struct {
	lb.Request
	wants bool
	// stays: it is none of ours, and is there although it wants nothing.
	stays     bool
	published []netip.Addr
	// host and ports of an external load balancer, as in a status.
	host  string
	ports []PortView
}

func (v *svc) statusPorts() (ports []PublishedPort) {
	for _, p := range v.ports {
		ports = append(ports, PublishedPort{Host: v.host, Port: p.Port, Service: p.Service})
	}
	return ports
}

const office = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: office
  addresses: [192.0.2.10-192.0.2.13, "2001:db8::10-2001:db8::13"]
  interface: pl0
`

func newWorld(t require.TestingT, text string, nodes ...string) *world {
	w := emptyWorld(t, text, nodes...)
	w.restart()
	w.settle()
	return w
}

func emptyWorld(t require.TestingT, text string, nodes ...string) *world {
	w := &world{
		t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		nodes: map[string]lb.Node{}, objects: map[string]*object{}, services: map[string]*svc{},
	}
	w.cfg = parse(t, text)
	for _, name := range nodes {
		w.nodes[name] = lb.Node{Name: name, UID: "uid-" + name, Ready: lb.Ready}
	}
	return w
}

func parse(t require.TestingT, text string) *config.Config {
	cfg, err := config.Parse([]byte(text))
	require.NoError(t, err)
	return cfg
}

// restart kills the controller and lets the next one adopt.
func (w *world) restart() {
	w.epoch++
	w.ledger = New(w.cfg, w.rental, w.epoch)
	w.ledger.Adopt(w.snapshot(), w.now)
	if w.cloud != nil {
		w.cloud.lastRead = time.Time{}
	}
}

func (w *world) snapshot() Snapshot {
	var s Snapshot
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		s.Nodes = append(s.Nodes, w.nodes[name])
	}
	for _, name := range slices.Sorted(maps.Keys(w.objects)) {
		o := w.objects[name]
		s.Objects = append(s.Objects, ObjectSnapshot{Node: name, Object: o.Object, ServerID: o.serverID, Probed: o.probed, Former: o.former, Entries: o.entries, Report: o.report()})
	}
	for _, uid := range slices.Sorted(maps.Keys(w.services)) {
		v := w.services[uid]
		s.Services = append(s.Services, ServiceSnapshot{Request: v.Request, Wants: v.wants, Published: v.published,
			PublishedPorts: v.statusPorts(), Managed: len(v.published)+len(v.ports) > 0, Pending: true})
	}
	return s
}

func (o *object) report() Report {
	var failed map[netip.Addr]string
	if o.broken {
		failed = map[netip.Addr]string{}
		for _, e := range o.entries {
			if e.State == place.Hold {
				failed[e.Addr] = "InterfaceFailed"
			}
		}
	}
	var inUse map[netip.Addr]string
	for _, e := range o.entries {
		if mac := o.answered[e.Addr]; mac != "" && e.State == place.Hold && e.Predecessor == "" && !e.Unwatched && o.bound[e.Addr] == "" {
			if inUse == nil {
				failed, inUse = map[netip.Addr]string{}, map[netip.Addr]string{}
			}
			failed[e.Addr], inUse[e.Addr] = "AddressInUse: answered by "+mac, mac
		}
	}
	return Report{
		Failed: failed, InUse: inUse, BootID: o.bootID, HealthPort: cmp.Or(o.port, 10269),
		Object: Object{UID: o.UID, Generation: o.observed}, Ready: true,
		Subnets: []lb.Subnet{
			{Interface: "eth0", Prefix: netip.MustParsePrefix("192.0.2.0/24")},
			{Interface: "eth0", Prefix: netip.MustParsePrefix("2001:db8::/64")},
		},
	}
}

// write carries one node's book to its object.
func (w *world) write(name string) {
	v := w.ledger.Node(name)
	o := w.objects[name]
	if v.Name == "" && o == nil || !v.Dirty && o != nil {
		return
	}
	if o == nil {
		w.uids++
		o = &object{Object: Object{UID: fmt.Sprintf("object-%d", w.uids)}, bound: map[netip.Addr]place.State{}}
		w.objects[name] = o
	}
	w.point("before the write of %s", name)
	o.Generation++
	o.entries = v.Entries
	o.serverID, o.probed = v.ServerID, v.Probed
	w.writes = append(w.writes, name)
	w.oneHold()
	w.point("before the answer to the write of %s", name)
	w.ledger.Committed(name, v.Seq, o.Object, w.now)
	w.point("after the write of %s", name)
}

// work lets one agent do all that its object says.
func (w *world) work(name string) {
	o := w.objects[name]
	if o == nil || o.dead {
		return
	}
	was := o.bound
	o.bound = map[netip.Addr]place.State{}
	for _, e := range o.entries {
		inUse := o.answered[e.Addr] != "" && e.Predecessor == "" && !e.Unwatched
		if _, ok := was[e.Addr]; e.State == place.Hold && !o.broken && (ok || !inUse) || e.State == place.Yield && ok {
			o.bound[e.Addr] = e.State
		}
	}
	changed := o.observed != o.Generation
	o.observed = o.Generation
	if changed {
		w.point("before the acknowledgement of %s", name)
	}
	w.ledger.Report(name, o.report(), w.now)
	if changed {
		w.point("after the acknowledgement of %s", name)
	}
}

// sync is what cloud does for one Service.
func (w *world) sync(uid string) {
	defer func() { w.standsWhereDocumented(w.ledger.View(uid)) }()
	v := w.services[uid]
	if v != nil {
		w.ledger.SetExposed(Key{v.Namespace, v.Name}, v.ExternalIPs, w.now)
	}
	if v == nil || !v.wants {
		w.ledger.Unwant(uid, w.now)
		return
	}
	w.ledger.Want(v.Request, w.now)
	w.publish(uid)
}

func (w *world) publish(uid string) {
	view := w.ledger.View(uid)
	if !view.Ready {
		return
	}
	v := w.services[uid]
	var published []netip.Addr
	for _, a := range view.Addresses {
		published = append(published, a.Addr)
	}
	if !slices.Equal(v.published, published) {
		w.point("before the status of %s", v.Ref)
		v.published = published
		w.point("before the answer to the status of %s", v.Ref)
	}
	v.host, v.ports = view.Host, view.Ports
	var ports []lb.PortLease
	for _, p := range view.Ports {
		ports = append(ports, p.PortLease)
	}
	w.ledger.Published(uid, v.published, ports, w.now)
}

// settle lets everybody work until nothing changes any more. Time stands still.
func (w *world) settle() {
	for range 20 {
		for _, uid := range slices.Sorted(maps.Keys(w.services)) {
			w.sync(uid)
		}
		for _, name := range w.ledger.NodeNames() {
			w.write(name)
		}
		for _, name := range w.ledger.NodeNames() {
			w.work(name)
		}
		if w.cloud != nil {
			w.cloud.work(w)
		}
		if w.proxy != nil {
			w.proxy.work(w)
		}
		w.retire()
	}
}

// retire ends objects of Nodes that are gone, and Services that hold nothing.
func (w *world) retire() {
	for _, name := range slices.Sorted(maps.Keys(w.objects)) {
		if _, ok := w.nodes[name]; ok {
			continue
		}
		if v := w.ledger.Node(name); v.Acknowledged || w.now.Sub(v.GoneSince) >= place.ReleaseTimeout {
			delete(w.objects, name)
			w.ledger.Forget(name)
		}
	}
	for uid, v := range w.services {
		if v.wants || v.stays {
			continue
		}
		w.sync(uid)
		if !w.ledger.Holds(uid) && !w.ledger.MayHold(uid) {
			delete(w.services, uid)
			w.ledger.SetExposed(Key{v.Namespace, v.Name}, nil, w.now)
		}
	}
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.ledger.Tick(w.now)
}

func (w *world) create(name string, change ...func(*lb.Request)) string {
	w.uids++
	r := lb.Request{
		Ref:     lb.Ref{Namespace: "default", Name: name, UID: fmt.Sprintf("service-%d", w.uids)},
		Created: w.now, Families: []lb.Family{lb.IPv4}, FamilyPolicy: lb.SingleStack,
		Ports: []lb.Port{{Number: 80, Protocol: "TCP"}},
	}
	for _, c := range change {
		c(&r)
	}
	w.services[r.UID] = &svc{Request: r, wants: true}
	w.now = w.now.Add(time.Millisecond)
	return r.UID
}

func (w *world) setNode(name string, change func(*lb.Node)) {
	n := w.nodes[name]
	change(&n)
	w.nodes[name] = n
	w.ledger.SetNode(n, w.now)
}

func (w *world) removeNode(name string) {
	delete(w.nodes, name)
	w.ledger.RemoveNode(name, w.now)
}

// holders are the nodes that have an address bound and announced.
func (w *world) holders(addr netip.Addr) (nodes []string) {
	for _, name := range slices.Sorted(maps.Keys(w.objects)) {
		if w.objects[name].bound[addr] == place.Hold {
			nodes = append(nodes, name)
		}
	}
	return nodes
}

// served requires that a Service has one address of each family, published and held by one node, and returns the
// first.
func (w *world) served(uid string) (netip.Addr, string) {
	v := w.services[uid]
	require.NotNil(w.t, v)
	require.Len(w.t, v.published, len(v.Families), "%s: %+v", v.Ref, w.ledger.View(uid))
	for _, addr := range v.published {
		require.Len(w.t, w.holders(addr), 1, "%s of %s", addr, v.Ref)
	}
	return v.published[0], w.holders(v.published[0])[0]
}
