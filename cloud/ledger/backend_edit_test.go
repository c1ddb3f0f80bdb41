package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestDualStackRequiredOfPublishedPorts: an edit that is refused leaves what is published ready.
func TestDualStackRequiredOfPublishedPorts(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.services[uid].FamilyPolicy, w.services[uid].Families = lb.RequireDualStack, []lb.Family{lb.IPv4, lb.IPv6}
	w.settle()
	v := w.ledger.View(uid)
	assert.True(t, v.Ready)
	require.NotNil(t, v.Refusal)
	assert.Equal(t, lb.ReasonNotSupported, v.Refusal.Reason)
}

// TestTroubleBehindARefusal: a Service that is refused something for good says all the same when its port does not answer,
// which somebody is woken for.
func TestTroubleBehindARefusal(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.services[uid].FamilyPolicy, w.services[uid].Families = lb.RequireDualStack, []lb.Family{lb.IPv4, lb.IPv6}
	w.settle()
	require.Equal(t, lb.ReasonNotSupported, w.ledger.View(uid).Refusal.Reason)

	w.ledger.BackendState(BackendKey{"edge", 8100, lb.TCP}, BackendState{Ready: true, Trouble: "nothing listens"}, w.now)
	assert.Equal(t, lb.ReasonUpdater, w.ledger.View(uid).Refusal.Reason)
	assert.True(t, w.ledger.View(uid).Ready, "it stays published")

	w.ledger.BackendState(BackendKey{"edge", 8100, lb.TCP}, BackendState{Ready: true}, w.now)
	assert.Equal(t, lb.ReasonNotSupported, w.ledger.View(uid).Refusal.Reason)
}

// TestUnreadableAnnotation: what does not parse changes nothing but what it says; the nodes behind a port are those of now.
func TestUnreadableAnnotation(t *testing.T) {
	w := newProxyWorld(t, edge, "n1", "n2")
	uid := w.create("web", web, func(r *lb.Request) { r.Local, r.EndpointNodes = true, []string{"n1"} })
	w.settle()
	require.Equal(t, []string{"10.0.0.1:30080"}, w.proxy.targets(8100))
	request := w.services[uid].Request
	no := lb.Refuse(lb.ReasonInvalidRequest, "annotation")
	request.EndpointNodes = []string{"n2"}
	w.ledger.Refuse(request, no)
	w.proxy.work(w)
	assert.Equal(t, []string{"10.0.0.2:30080"}, w.proxy.targets(8100), "its pods move")

	w.services[uid].EndpointNodes = nil // as adoption sees it
	w.restart()
	clear(w.proxy.told)
	w.ledger.Refuse(request, no)
	w.setNode("n1", func(n *lb.Node) { n.Ready = lb.NotReady })
	w.proxy.work(w)
	assert.Equal(t, []string{"10.0.0.2:30080"}, w.proxy.targets(8100), "a new controller tells all that is published")
	assert.Equal(t, lb.ReasonInvalidRequest, w.ledger.View(uid).Refusal.Reason)
	assert.True(t, w.ledger.View(uid).Ready)
}

// TestPortOfAnAbandonedService: whoever gets it is published when the updater was told of it, and not before.
func TestPortOfAnAbandonedService(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	a := w.create("a", web)
	w.settle()
	b := w.create("b", web, func(r *lb.Request) { r.LBPorts = []lb.PortWish{{Number: 80, Protocol: lb.TCP, Port: 8100}} })
	w.settle()
	told := w.proxy.told[BackendKey{"edge", 8100, lb.TCP}]
	w.ledger.Unwant(a, w.now)
	w.ledger.Abandon(a, w.now)
	delete(w.services, a)
	w.ledger.BackendState(BackendKey{"edge", 8100, lb.TCP}, BackendState{Ready: true, Revision: told.Revision}, w.now)
	assert.False(t, w.ledger.View(b).Ready)
	w.settle()
	assert.True(t, w.ledger.View(b).Ready)
}
