package nodeaddresses_test

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
)

var resource = schema.GroupResource{Group: "mooring.dev", Resource: "nodeaddresses"}

// fixture is a ledger, a writer, and an API server that keeps one object for each node.
type fixture struct {
	*testing.T
	objects map[string]*v1alpha1.NodeAddresses
	epoch   int64
	now     time.Time
	cost    time.Duration // of each write
	down    error         // what each write ends with
	pauses  map[string]time.Duration

	ledger *ledger.Ledger
	lanes  *nodeaddresses.Lanes
	writer *nodeaddresses.Writer
}

func newFixture(t *testing.T) *fixture {
	cfg, err := config.Parse([]byte(`
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- {name: office, addresses: [192.0.2.0/24], interface: pl0}
`))
	require.NoError(t, err)
	f := &fixture{
		T: t, objects: map[string]*v1alpha1.NodeAddresses{}, epoch: 1, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		pauses: map[string]time.Duration{}, ledger: ledger.New(cfg, ledger.Rental{}, 1), lanes: nodeaddresses.NewLanes(),
	}
	f.writer = nodeaddresses.NewWriter(nodeaddresses.Options{
		API: f, Ledger: func() *ledger.Ledger { return f.ledger },
		Seen:  func(name string) *v1alpha1.NodeAddresses { return f.objects[name] },
		Epoch: func(context.Context) (int64, error) { return f.epoch, nil },
		Again: func(name string, after time.Duration) { f.pauses[name] = after },
		Now:   func() time.Time { return f.now }, Wrote: func(error) {},
	}, f.lanes)
	f.ledger.SetNode(lb.Node{Name: "n1", UID: "node-1", Ready: lb.Ready}, f.now)
	require.NoError(t, f.writer.Sync(t.Context(), "n1"))
	return f
}

func (f *fixture) Get(_ context.Context, name string) (*v1alpha1.NodeAddresses, error) {
	if o := f.objects[name]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(resource, name)
}

func (f *fixture) Create(_ context.Context, o *v1alpha1.NodeAddresses) (*v1alpha1.NodeAddresses, error) {
	o = o.DeepCopy()
	o.UID, o.Generation = types.UID("uid-"+o.Name), 1
	f.objects[o.Name] = o
	return o, nil
}

func (f *fixture) Write(_ context.Context, name string, expected ledger.Object, epoch int64, spec v1alpha1.NodeAddressesSpec) (*v1alpha1.NodeAddresses, error) {
	f.now = f.now.Add(f.cost)
	if f.down != nil {
		return nil, f.down
	}
	was := f.objects[name]
	if nodeaddresses.ObjectOf(was) != expected || nodeaddresses.EpochOf(was) != epoch {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, name, nil)
	}
	o := was.DeepCopy()
	o.Spec = spec
	o.Generation++
	f.objects[name] = o
	return o, nil
}

func (f *fixture) Fence(_ context.Context, name string, _ types.UID, version string, epoch int64) error {
	o := f.objects[name].DeepCopy()
	if o.ResourceVersion != version {
		return apierrors.NewConflict(resource, name, errors.New("it is in another version"))
	}
	o.Annotations = map[string]string{v1alpha1.AnnotationEpoch: strconv.FormatInt(epoch, 10)}
	f.objects[name] = o
	return nil
}

func (f *fixture) Delete(_ context.Context, _ string, _ types.UID) error { return nil }

func (f *fixture) Unfinalize(_ context.Context, name string, _ types.UID) error {
	delete(f.objects, name)
	return nil
}

// grant has another Service want an address, which is decided for n1.
func (f *fixture) grant(uid string) {
	f.ledger.Report("n1", ledger.Report{
		Object: nodeaddresses.ObjectOf(f.objects["n1"]), Ready: true,
		Subnets: []lb.Subnet{{Interface: "eth0", Prefix: netip.MustParsePrefix("192.0.2.0/24")}},
	}, f.now)
	f.ledger.Want(lb.Request{
		Ref: lb.Ref{Namespace: "default", Name: uid, UID: uid}, Families: []lb.Family{lb.IPv4}, FamilyPolicy: lb.SingleStack,
		Ports: []lb.Port{{Number: 80, Protocol: lb.TCP}},
	}, f.now)
	require.True(f, f.ledger.Node("n1").Dirty)
}

func (f *fixture) written() int { return len(f.objects["n1"].Spec.Addresses) }

// TestUrgent: what is urgent does not wait for the pause after the last write, also when its first try goes wrong.
func TestUrgent(t *testing.T) {
	f := newFixture(t)
	f.cost = 20 * time.Millisecond
	f.grant("first")
	require.NoError(t, f.writer.Sync(t.Context(), "n1"))
	require.Equal(t, 1, f.written())

	f.grant("second")
	require.NoError(t, f.writer.Sync(t.Context(), "n1"))
	assert.Equal(t, 1, f.written(), "it waits for what else is decided")
	assert.Equal(t, 160*time.Millisecond, f.pauses["n1"])

	f.lanes.Hurry("n1")
	f.down = errors.New("the API server is away")
	require.ErrorIs(t, f.writer.Sync(t.Context(), "n1"), f.down)
	f.down = nil
	require.NoError(t, f.writer.Sync(t.Context(), "n1"))
	assert.Equal(t, 2, f.written())

	f.grant("third")
	require.NoError(t, f.writer.Sync(t.Context(), "n1"))
	assert.Equal(t, 2, f.written(), "the hurry is over")
}

// TestSomebodyElseWrote: what somebody else wrote into an object is written over, unless another controller leads.
func TestSomebodyElseWrote(t *testing.T) {
	f := newFixture(t)
	f.grant("first")
	edit := func() {
		o := f.objects["n1"].DeepCopy()
		o.Spec.Addresses = nil
		o.Generation++
		f.objects["n1"] = o
	}
	edit()
	require.True(t, f.writer.Unexpected(f.objects["n1"]))
	require.NoError(t, f.writer.Sync(t.Context(), "n1"))
	assert.Equal(t, 1, f.written())

	edit()
	f.epoch = 2
	require.ErrorIs(t, f.writer.Sync(t.Context(), "n1"), nodeaddresses.ErrSuperseded)
	assert.Zero(t, f.written())
}

// TestFenced: what a controller has under way that is deposed and does not know it is refused, although nobody has
// changed the spec; and a fence that a user removed is put up again.
func TestFenced(t *testing.T) {
	f := newFixture(t)
	f.grant("first")
	o := f.objects["n1"].DeepCopy()
	o.Annotations = nil
	f.objects["n1"] = o
	require.Error(t, f.writer.Sync(t.Context(), "n1"))
	require.NoError(t, f.writer.Sync(t.Context(), "n1"))
	assert.Equal(t, 1, f.written())

	f.grant("second")
	require.NoError(t, nodeaddresses.Fence(t.Context(), f, f.objects["n1"], 2))
	f.epoch = 2
	require.ErrorIs(t, f.writer.Sync(t.Context(), "n1"), nodeaddresses.ErrSuperseded)
	assert.Equal(t, 1, f.written())
}

// TestFencedWithoutWork: a controller that is deposed stops also when it has nothing to write.
func TestFencedWithoutWork(t *testing.T) {
	f := newFixture(t)
	f.grant("first")
	require.NoError(t, f.writer.Sync(t.Context(), "n1"))
	require.False(t, f.writer.Unexpected(f.objects["n1"]))
	require.NoError(t, nodeaddresses.Fence(t.Context(), f, f.objects["n1"], 2))
	f.epoch = 2
	require.True(t, f.writer.Unexpected(f.objects["n1"]))
	require.ErrorIs(t, f.writer.Sync(t.Context(), "n1"), nodeaddresses.ErrSuperseded)
}

// TestNoFenceIsLowered: a controller that is deposed while it puts a fence up does not take the one of its successor away.
func TestNoFenceIsLowered(t *testing.T) {
	f := newFixture(t)
	before := f.objects["n1"]
	reported := before.DeepCopy()
	reported.ResourceVersion = "2"
	f.objects["n1"] = reported
	require.NoError(t, nodeaddresses.Fence(t.Context(), f, before, 3), "what the agent reports is not in the way")
	require.EqualValues(t, 3, nodeaddresses.EpochOf(f.objects["n1"]))
	require.ErrorIs(t, nodeaddresses.Fence(t.Context(), f, before, 2), nodeaddresses.ErrSuperseded)
	assert.EqualValues(t, 3, nodeaddresses.EpochOf(f.objects["n1"]))
}
