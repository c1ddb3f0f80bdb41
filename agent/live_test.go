package agent

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/conflict"
	"github.com/mooring-lb/mooring/agent/netif"
)

// contested starts an agent that holds an address for which another machine answers.
func contested(t *testing.T) (*apiServer, *fakeHost) {
	t.Helper()
	api, host := newAPIServer(t), newFakeHost(t)
	host.state = stateWith(vip4)
	link := host.state.Links["eth0"]
	link.HardwareAddr = ourMAC
	host.state.Links["eth0"] = link
	host.foreign = map[netip.Addr]net.HardwareAddr{netip.MustParseAddr(vip4): theirMAC}
	g := api.put("n1", "u1", hold(vip4))
	start(t, host, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	return api, host
}

func claimed() netif.Event {
	return netif.Event{Kind: netif.ClaimEvent, Interface: "eth0", IP: netip.MustParseAddr(vip4), HardwareAddr: theirMAC}
}

// The agent asks the API server whose an address is before it insists on it.
func TestAnAgentAsksTheAPIServer(t *testing.T) {
	api, host := contested(t)
	host.events <- claimed()
	eventually(t, "reported", func() bool { return len(api.status("n1").Contested) == 1 })
	assert.Equal(t, []v1alpha1.ContestedAddress{{Address: vip4, HardwareAddress: theirMAC.String(), Interface: "eth0"}},
		api.status("n1").Contested)
	assert.Positive(t, api.getCount())
	assert.Len(t, host.bound(), 1)
}

// Whatever it gets instead of the object, it yields.
func TestAnAgentThatCannotAskYields(t *testing.T) {
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			api, host := contested(t)
			api.refuse(code)
			host.events <- claimed()
			eventually(t, "yielded", func() bool { return len(host.bound()) == 0 })
			api.refuse(0)
			eventually(t, "reported", func() bool {
				failed := api.status("n1").Failed
				return len(failed) == 1 && failed[0].HardwareAddress == theirMAC.String()
			})
		})
	}
}

// A watch that breaks may have shown nothing for a while, also when the next one works at once.
func TestAnAgentAsksAfterABrokenWatch(t *testing.T) {
	api, host := newAPIServer(t), newFakeHost(t)
	link := host.state.Links["eth0"]
	link.HardwareAddr = ourMAC
	host.state.Links["eth0"] = link
	g := api.put("n1", "u1", hold(vip4))
	start(t, host, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	assert.Zero(t, api.getCount())
	api.server.CloseClientConnections()
	eventually(t, "asked", func() bool { return api.getCount() > 0 })
}

// What is not so any more is not reported any more.
func TestAReportReplacesWhatItDoesNotName(t *testing.T) {
	api := newAPIServer(t)
	api.put("n1", "u1")
	r := newReporter(api.client(), "n1", nil)
	object, err := api.client().Get(t.Context(), "n1", metav1.GetOptions{})
	require.NoError(t, err)
	r.saw(object)
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: ReasonReady}
	blind := metav1.Condition{Type: v1alpha1.ConditionConflictDetection, Status: metav1.ConditionFalse, Reason: ReasonProxyARP}
	r.offer(v1alpha1.NodeAddressesStatus{ObjectUID: "u1", Conditions: []metav1.Condition{ready, blind},
		Contested: []v1alpha1.ContestedAddress{{Address: vip4, HardwareAddress: theirMAC.String(), Interface: "eth0"}}})
	_, err = r.write(t.Context())
	require.NoError(t, err)
	assert.Len(t, api.status("n1").Conditions, 2)
	assert.Len(t, api.status("n1").Contested, 1)
	r.offer(v1alpha1.NodeAddressesStatus{ObjectUID: "u1", Conditions: []metav1.Condition{ready}})
	_, err = r.write(t.Context())
	require.NoError(t, err)
	assert.Len(t, api.status("n1").Conditions, 1)
	assert.Empty(t, api.status("n1").Contested)
}

// What another machine has proved to hold is given up before anything else is done, and left on no interface.
func TestWhatIsTakenIsUnboundFirst(t *testing.T) {
	have := stateWith(vip4, vip6)
	wants := resolve(wantsOf(hold(vip4), hold("10.0.0.11"), hold(vip6)), &have)
	for i := range wants {
		if wants[i].ip != netip.MustParseAddr("10.0.0.11") {
			wants[i].verdict, wants[i].other = conflict.Taken, theirMAC.String()
		}
	}
	steps, failed := plan(wants, &have)
	var labels []string
	for _, s := range steps {
		labels = append(labels, s.String())
	}
	assert.Equal(t, []string{"remove-proxy fd00::10 on eth0", "unbind 10.0.0.10 fd00::10 on pl0", "guard 10.0.0.11",
		"bind 10.0.0.11 on pl0", "unguard 10.0.0.10 fd00::10"}, labels)
	assert.Len(t, failed, 2)
}

// A watch that ends when its time is over is no sign of anything, however long its beginning took.
func TestAWatchThatEndsInTimeIsNotBroken(t *testing.T) {
	s := &source{changed: make(chan struct{}, 1)}
	began, lasting := noon, int64(300)
	for range 3 {
		s.watched(began, nil, &lasting)
		assert.False(t, s.rejoined())
		began = began.Add(5 * time.Minute)
	}
	s.watched(began.Add(-time.Minute), nil, &lasting)
	assert.True(t, s.rejoined())
	assert.False(t, s.rejoined(), "it is told once")
}
