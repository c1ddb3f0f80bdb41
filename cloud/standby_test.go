package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-base/metrics"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/probe"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

// objectServer shows NodeAddresses to those who watch, and is never asked for anything else.
type objectServer struct {
	t      *testing.T
	events chan metav1.WatchEvent
}

// RoundTrip implements http.RoundTripper.
func (s *objectServer) RoundTrip(r *http.Request) (*http.Response, error) {
	assert.Equal(s.t, http.MethodGet, r.Method, "a standby writes nothing")
	body, writer := io.Pipe()
	go func() {
		out := json.NewEncoder(writer)
		for {
			select {
			case event := <-s.events:
				if err := out.Encode(event); err != nil {
					return // nobody reads any more
				}
			case <-r.Context().Done():
				_ = writer.CloseWithError(r.Context().Err())
				return
			}
		}
	}()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: body, Request: r}, nil
}

func (s *objectServer) send(kind string, o *v1alpha1.NodeAddresses) {
	o.APIVersion, o.Kind = v1alpha1.GroupVersion.String(), "NodeAddresses"
	raw, err := json.Marshal(o)
	require.NoError(s.t, err)
	event := metav1.WatchEvent{Type: kind}
	event.Object.Raw = raw
	select {
	case s.events <- event:
	case <-time.After(30 * time.Second):
		s.t.Fatal("nobody watches")
	}
}

// reportOf is the object of a node whose agent listens.
func reportOf(node *corev1.Node, port int32) *v1alpha1.NodeAddresses {
	o := &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{
		Name: node.Name, UID: types.UID("object-of-" + node.Name), ResourceVersion: "1",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
	}}
	o.Spec.Probed = true
	o.Status.ObjectUID, o.Status.HealthPort = o.UID, port
	return o
}

func nodeAt(name, address string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// TestAStandbyKnowsWhomToAsk: the nodes that a leader would ask, as they are now; and nobody once it has ended.
func TestAStandbyKnowsWhomToAsk(t *testing.T) {
	n1, n2 := nodeAt("n1", "192.0.2.1"), nodeAt("n2", "192.0.2.2")
	client := fake.NewClientset(n1, n2)
	server := &objectServer{t, make(chan metav1.WatchEvent)}
	addresses, err := v1alpha1.NewClient(&rest.Config{Host: "http://kubernetes", Transport: server})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := newStandby(ctx, client, addresses)
	require.NoError(t, err)

	asks := func(want ...string) {
		t.Helper()
		assert.EventuallyWithT(t, func(t *assert.CollectT) {
			var got []string
			for _, target := range s.list() {
				got = append(got, describe(target))
			}
			assert.ElementsMatch(t, want, got)
		}, 30*time.Second, time.Millisecond)
	}
	server.send("ADDED", reportOf(n1, 10269))
	assert.Empty(t, s.list(), "it has not seen all yet")
	server.send("BOOKMARK", &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{
		ResourceVersion: "1", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}})
	asks("n1 uid-n1 192.0.2.1:10269 answered")

	server.send("ADDED", reportOf(n2, 10270))
	asks("n1 uid-n1 192.0.2.1:10269 answered", "n2 uid-n2 192.0.2.2:10270 answered")

	moved := nodeAt("n2", "192.0.2.9")
	moved.Status.Conditions[0].Status = corev1.ConditionUnknown
	_, err = client.CoreV1().Nodes().Update(t.Context(), moved, metav1.UpdateOptions{})
	require.NoError(t, err)
	asks("n1 uid-n1 192.0.2.1:10269 answered", "n2 uid-n2 192.0.2.9:10270 answered down")

	// Another machine under the name of the first: its own agent has said nothing yet.
	require.NoError(t, client.CoreV1().Nodes().Delete(t.Context(), "n2", metav1.DeleteOptions{}))
	asks("n1 uid-n1 192.0.2.1:10269 answered")
	moved.UID = "another"
	_, err = client.CoreV1().Nodes().Create(t.Context(), moved, metav1.CreateOptions{})
	require.NoError(t, err)
	unreported := reportOf(n1, 10269)
	unreported.ResourceVersion, unreported.Status.ObjectUID = "2", "former"
	server.send("MODIFIED", unreported)
	asks()

	s.end()
	for _, ended := range []func() bool{s.nodes.IsStopped, s.objects.IsStopped} {
		assert.Eventually(t, ended, 30*time.Second, time.Millisecond)
	}
}

func describe(target probe.Target) string {
	text := fmt.Sprint(target.Name, " ", target.UID)
	for _, at := range target.Addresses {
		text += " " + at.String()
	}
	if target.Answered {
		text += " answered"
	}
	if target.Down {
		text += " down"
	}
	return text
}

// TestAStandbyEnds: one that is asked to stop before it led leaves nothing behind that asks.
func TestAStandbyEnds(t *testing.T) {
	r := newBalancedRoom(t, parseConfig(t, edgePool), updatertest.New(updatertest.Options{}))
	r.book.Store(nil)
	addresses, err := v1alpha1.NewClient(&rest.Config{Host: "http://kubernetes", Transport: &objectServer{t, make(chan metav1.WatchEvent)}})
	require.NoError(t, err)
	r.options.NoProbe, r.addresses = false, addresses
	c := &Cloud{options: r.options, room: r, config: parseConfig(t, edgePool), lease: &leadership{}}
	c.StandBy(t.Context())
	c.Stop(t.Context())
	r.working.Wait()
	assert.Eventually(t, r.standby.nodes.IsStopped, 30*time.Second, time.Millisecond)
	assert.Eventually(t, r.standby.objects.IsStopped, 30*time.Second, time.Millisecond)
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestANewLeaderIsStoppedAtOnce: one that is asked to end while it waits for what the probe says has given its lease away,
// and calls nobody any more.
func TestANewLeaderIsStoppedAtOnce(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(strings.Repeat("a", 64)), 0o600))
	cfg := parseConfig(t, fmt.Sprintf(`
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: persistent
  addresses: [203.0.113.4]
  hetzner: {tokenFile: %s}
  interface: pl0
`, token))
	synctest.Test(t, func(t *testing.T) {
		client, calls := fake.NewClientset(), atomic.Int32{}
		r := newRoom(Options{
			NoProbe: true, Client: client, Informers: informers.NewSharedInformerFactory(client, 0), Recorder: record.NewFakeRecorder(100),
			Metrics: metrics.NewKubeRegistry(), Clock: clock.RealClock{}, ClusterName: "test",
			Hetzner: roundTripper(func(*http.Request) (*http.Response, error) {
				calls.Add(1)
				return nil, errors.New("no network")
			}),
		}, nil)
		r.synced = nil
		require.NoError(t, r.tenants.load(cfg))
		r.book.Store(ledger.New(cfg, r.tenants.rental(cfg), 1))
		r.sure = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go r.run(ctx)
		pass(firstWord / 2)
		r.stop()
		pass(time.Minute)
		assert.Zero(t, calls.Load())
		cancel()
		synctest.Wait()
	})
}
