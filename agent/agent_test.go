package agent

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// guardTime is how long a test waits for an outcome that must come.
const guardTime = 30 * time.Second

func start(t testing.TB, host *fakeHost, api *apiServer) (*Agent, context.CancelFunc) {
	t.Helper()
	a := New(host, host.events, api.client(), NewMetrics(metrics.NewKubeRegistry().MustRegister, nil), Options{
		NodeName: "n1", BootID: "boot", HealthPort: 10269})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return a, stop
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, guardTime, 5*time.Millisecond, what)
}

func (s *apiServer) acknowledged(uid types.UID, generation int64) func() bool {
	return func() bool {
		status := s.status("n1")
		return status.ObjectUID == uid && status.ObservedGeneration == generation && len(status.Pending) == 0
	}
}

func hold(ip string) v1alpha1.Address {
	return v1alpha1.Address{Address: ip, Interface: "pl0", Pool: "office", State: v1alpha1.Hold, Term: 1}
}

func in(state v1alpha1.State, a v1alpha1.Address) v1alpha1.Address {
	a.State = state
	return a
}

// An address is granted, moved away and removed; each order is acknowledged once it is done, by one write.
func TestAnOrderIsCarriedOutAndAcknowledged(t *testing.T) {
	api, host := newAPIServer(t), newFakeHost(t)
	g := api.put("n1", "u1", hold("10.0.0.10"), hold("fd00::10"))
	start(t, host, api)
	eventually(t, "grant acknowledged", api.acknowledged("u1", g))
	assert.Equal(t, []string{"10.0.0.10@pl0", "fd00::10@pl0"}, host.bound())
	status := api.status("n1")
	assert.EqualValues(t, 2, status.Bound)
	assert.Equal(t, "boot", status.BootID)
	assert.EqualValues(t, 10269, status.HealthPort)
	assert.Equal(t, []v1alpha1.NodeAddress{
		{Interface: "eth0", Address: "10.0.0.1/24", Default: true},
		{Interface: "eth0", Address: "fd00::1/64", Default: true},
	}, status.NodeAddresses)
	assert.Equal(t, 1, api.patchCount(), "one write acknowledges one generation")

	g = api.put("n1", "u1", in(v1alpha1.Yield, hold("10.0.0.10")), in(v1alpha1.Release, hold("fd00::10")))
	eventually(t, "yield and release acknowledged", api.acknowledged("u1", g))
	assert.Equal(t, []string{"10.0.0.10@pl0"}, host.bound())
	assert.Equal(t, 2, api.patchCount())

	g = api.put("n1", "u1")
	eventually(t, "removal acknowledged", api.acknowledged("u1", g))
	assert.Empty(t, host.bound())
	reads, _ := host.counts()
	assert.Equal(t, 1, reads, "the agent's own changes do not make it read the host again")
}

// What cannot be asked orders nothing: the object is gone, or the API server refuses, or it is down.
func TestNothingChangesWhenTheObjectCannotBeAskedFor(t *testing.T) {
	for name, lose := range map[string]func(*apiServer){
		"deleted":      func(s *apiServer) { s.remove("n1") },
		"unauthorized": func(s *apiServer) { s.refuse(http.StatusUnauthorized) },
		"forbidden":    func(s *apiServer) { s.refuse(http.StatusForbidden) },
		"not found":    func(s *apiServer) { s.refuse(http.StatusNotFound) },
		"unavailable":  func(s *apiServer) { s.refuse(http.StatusServiceUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			api, host := newAPIServer(t), newFakeHost(t)
			g := api.put("n1", "u1", hold("10.0.0.10"))
			a, _ := start(t, host, api)
			eventually(t, "acknowledged", api.acknowledged("u1", g))
			lose(api)
			eventually(t, "noticed", func() bool {
				object, online := a.source.get()
				return object == nil || !online
			})
			_, steps := host.counts()
			host.change(func(s *netif.State) { delete(s.Guard.Addresses, netip.MustParseAddr("10.0.0.10")) })
			reads, _ := host.counts()
			host.events <- netif.Event{Kind: netif.LostEvent}
			eventually(t, "read again", func() bool { r, _ := host.counts(); return r > reads })
			_, now := host.counts()
			assert.Equal(t, steps, now)
			assert.Equal(t, []string{"10.0.0.10@pl0"}, host.bound())

			api.refuse(0)
			g = api.put("n1", "u2", hold("10.0.0.11"))
			eventually(t, "the next order is carried out", api.acknowledged("u2", g))
			assert.Equal(t, []string{"10.0.0.11@pl0"}, host.bound())
		})
	}
}

// An agent that starts while the API server is down keeps what an earlier one bound.
func TestStartWithoutAnAPIServerKeepsEverything(t *testing.T) {
	api, host := newAPIServer(t), newFakeHost(t)
	host.state = stateWith("10.0.0.10", "10.0.0.11")
	api.refuse(http.StatusServiceUnavailable)
	a, _ := start(t, host, api)
	eventually(t, "read", func() bool { r, _ := host.counts(); return r > 0 })
	assert.NoError(t, a.Alive(time.Now()))
	assert.Error(t, a.Ready())
	g := api.put("n1", "u1", hold("10.0.0.11"))
	_, steps := host.counts()
	assert.Zero(t, steps)
	api.refuse(0)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	assert.Equal(t, []string{"10.0.0.11@pl0"}, host.bound(), "what the object does not name any more is removed")
	assert.NoError(t, a.Ready())
}

// An agent that starts does not act on what an API server remembers of yesterday.
func TestStartDoesNotUnbindOnAnOldVersion(t *testing.T) {
	api, host := newAPIServer(t), newFakeHost(t)
	host.state = stateWith("10.0.0.10", "10.0.0.11")
	api.put("n1", "u1", hold("10.0.0.10"))
	g := api.put("n1", "u1", hold("10.0.0.10"), hold("10.0.0.11"))
	start(t, host, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	_, steps := host.counts()
	assert.Zero(t, steps)
}

// An address that cannot be bound is reported, the others work, and it is tried again.
func TestATroubleIsReportedAndMended(t *testing.T) {
	api, host := newAPIServer(t), newFakeHost(t)
	host.refuse[netip.MustParseAddr("10.0.0.10")] = errors.New("no")
	g := api.put("n1", "u1", hold("10.0.0.10"), hold("10.0.0.11"), hold("10.0.0.1"))
	start(t, host, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	status := api.status("n1")
	require.Len(t, status.Failed, 2)
	assert.Equal(t, "10.0.0.1", status.Failed[0].Address)
	assert.Equal(t, ReasonAddressInUse, status.Failed[0].Reason)
	assert.Equal(t, "10.0.0.10", status.Failed[1].Address)
	assert.Equal(t, ReasonBindFailed, status.Failed[1].Reason)
	assert.Equal(t, []string{"10.0.0.11@pl0"}, host.bound())
	host.mu.Lock()
	delete(host.refuse, netip.MustParseAddr("10.0.0.10"))
	host.mu.Unlock()
	eventually(t, "mended", func() bool { return len(api.status("n1").Failed) == 1 })
}

// Addresses that somebody removed come back, and are announced again.
func TestARemovedAddressComesBack(t *testing.T) {
	api, host := newAPIServer(t), newFakeHost(t)
	ip := netip.MustParseAddr("10.0.0.10")
	g := api.put("n1", "u1", hold("10.0.0.10"))
	start(t, host, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	host.change(func(s *netif.State) { clear(s.Bound) })
	host.events <- netif.Event{Kind: netif.AddressEvent, Index: 3, IP: ip, Ours: true, Gone: true}
	eventually(t, "back", func() bool { return len(host.bound()) == 1 })
}

// A virtual machine that was moved to another machine tells its segment where it is, and so does a host whose carrier
// was gone for a moment; what happens on other interfaces is no reason to.
func TestWhatIsAReasonToAnnounceAgain(t *testing.T) {
	for name, test := range map[string]struct {
		event netif.Event
		again bool
	}{
		"moved":                {netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true, Running: true, Moved: true}, true},
		"carrier flapped":      {netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true}, true},
		"nothing new":          {netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true, Running: true}, false},
		"a pod's interface":    {netif.Event{Kind: netif.LinkEvent, Interface: "veth1", Up: true}, false},
		"an address was added": {netif.Event{Kind: netif.AddressEvent, Index: 2, IP: netip.MustParseAddr("10.0.0.9")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			host, ip := newFakeHost(t), netip.MustParseAddr("10.0.0.10")
			host.state = stateWith("10.0.0.10")
			k := NewKeeper(host, Options{}, nil)
			require.NoError(t, k.read(t.Context(), noon))
			k.desired = &desired{wants: wantsOf(hold("10.0.0.10"))}
			k.apply(t.Context(), noon)
			k.announce(t.Context(), noon)
			require.True(t, k.announcer.announced(ip))
			k.Notice(test.event)
			if k.stale {
				require.NoError(t, k.read(t.Context(), noon))
			}
			k.announce(t.Context(), noon)
			assert.Equal(t, test.again, host.announced[ip] == 2)
		})
	}
}

// The agent that stops leaves everything, and what it serves says how it is.
func TestHealth(t *testing.T) {
	api, host := newAPIServer(t), newFakeHost(t)
	g := api.put("n1", "u1", hold("10.0.0.10"))
	a, stop := start(t, host, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	handler := a.HealthHandler(http.NotFoundHandler())
	get := func(path string) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code
	}
	assert.Equal(t, http.StatusOK, get("/healthz"))
	assert.Equal(t, http.StatusOK, get("/readyz"))
	for _, path := range []string{"/", "/debug/pprof/", "/healthz/x", "/configz"} {
		assert.Equal(t, http.StatusNotFound, get(path), path)
	}
	host.mu.Lock()
	host.broken = errors.New("no")
	host.mu.Unlock()
	host.events <- netif.Event{Kind: netif.LostEvent}
	eventually(t, "not ready", func() bool { return get("/readyz") == http.StatusServiceUnavailable })
	assert.Equal(t, []string{"10.0.0.10@pl0"}, host.bound(), "a host that cannot be read is not changed")
	eventually(t, "reported", func() bool { return api.status("n1").Conditions[0].Reason == ReasonHostUnreadable })
	host.mu.Lock()
	host.broken = nil
	host.mu.Unlock()
	eventually(t, "ready again", func() bool { return get("/readyz") == http.StatusOK })
	eventually(t, "reported", func() bool { return api.status("n1").Conditions[0].Reason == ReasonReady })
	stop()
	assert.Equal(t, []string{"10.0.0.10@pl0"}, host.bound())
	assert.Error(t, a.Alive(time.Now().Add(2*wedged)), "a loop that does not turn is not alive")
}

// Five hundred addresses at once are all announced, and a burst of orders is not a burst of writes: what comes while one
// is under way is acknowledged by the next.
func TestFiveHundredAtOnce(t *testing.T) {
	api, host := newAPIServer(t), newFakeHost(t)
	var all []v1alpha1.Address
	g := api.put("n1", "u1")
	start(t, host, api)
	eventually(t, "nothing acknowledged", api.acknowledged("u1", g))
	before := api.patchCount()
	release := api.holdPatches()
	for i := range 500 {
		all = append(all, hold(netip.AddrFrom4([4]byte{10, 0, byte(1 + i/250), byte(i % 250)}).String()))
		g = api.put("n1", "u1", all...)
	}
	eventually(t, "announced", func() bool { return host.announcedCount() == 500 })
	release()
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	assert.Len(t, host.bound(), 500)
	assert.LessOrEqual(t, api.patchCount()-before, 3, "the one that was held, the newest, and that of the last announcement")
}
