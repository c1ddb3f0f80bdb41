package service

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

const (
	officeClass = "example.com/office"
	otherClass  = "example.com/other"
	shared      = servicehelper.LoadBalancerCleanupFinalizer
	uid         = "u1"
)

// border is a Syncer with a ledger and one Service, on an API server that does nothing else.
type border struct {
	*Syncer
	t      *testing.T
	ledger *ledger.Ledger
	svc    *corev1.Service
	writes int
}

// newBorder has one pool of addresses that nobody binds, of a class; the empty one: of no class.
func newBorder(t *testing.T, class string, svc *corev1.Service) *border {
	b := &border{t: t, svc: svc}
	b.restart(class)
	b.Syncer = NewSyncer(Options{
		Ledger: func() *ledger.Ledger { return b.ledger },
		Seen: func(ledger.Key) (*corev1.Service, error) {
			if b.svc == nil {
				return nil, apierrors.NewNotFound(corev1.Resource("services"), "web")
			}
			return b.svc, nil
		},
		NamespaceLabels: func(string) map[string]string { return nil },
		UpdateStatus: func(_ context.Context, svc *corev1.Service) error {
			b.writes++
			b.svc = svc
			if svc.DeletionTimestamp != nil && len(svc.Finalizers) == 0 {
				b.svc = nil
			}
			return nil
		},
		Drain: func() {}, Again: func(ledger.Key, time.Duration) {}, Published: func(time.Duration) {}, Now: time.Now,
		Event: func(*corev1.Service, string, string, string) {},
	})
	return b
}

func poolOf(t *testing.T, class string) *config.Config {
	text := "apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\npools: [{name: office, addresses: [192.0.2.10], interface: none"
	if class != "" {
		text += ", loadBalancerClass: " + class
	}
	cfg, err := config.Parse([]byte(text + "}]"))
	require.NoError(t, err)
	return cfg
}

// restart is another controller, with a pool of a class.
func (b *border) restart(class string) {
	cfg := poolOf(b.t, class)
	b.ledger = ledger.New(cfg, ledger.Rental{}, 1)
	var snapshot ledger.Snapshot
	if b.svc != nil {
		snapshot.Services = append(snapshot.Services, SnapshotOf(b.svc, nil, cfg.ServesClass))
	}
	b.ledger.Adopt(snapshot, time.Now())
}

// reload has the pool serve another class.
func (b *border) reload(class string) {
	require.NoError(b.t, b.ledger.SetConfig(poolOf(b.t, class), ledger.Rental{}, time.Now()))
}

// sync until nothing more is written.
func (b *border) sync() {
	b.t.Helper()
	for before := -1; b.writes != before; {
		before = b.writes
		require.NoError(b.t, b.Sync(b.t.Context(), ledger.Key{Namespace: "default", Name: "web"}))
	}
}

func (b *border) ips() (ips []string) {
	for _, i := range b.svc.Status.LoadBalancer.Ingress {
		ips = append(ips, i.IP)
	}
	return ips
}

func loadBalancer(class string, finalizers ...string) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: uid, Finalizers: finalizers},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	if class != "" {
		svc.Spec.LoadBalancerClass = &class
	}
	return svc
}

// become another type, as the API server has it: class and status go with it.
func become(svc *corev1.Service, kind corev1.ServiceType, class string) *corev1.Service {
	svc = svc.DeepCopy()
	svc.Spec.Type, svc.Spec.LoadBalancerClass, svc.Status.LoadBalancer = kind, nil, corev1.LoadBalancerStatus{}
	if class != "" {
		svc.Spec.LoadBalancerClass = &class
	}
	return svc
}

func deleting(svc *corev1.Service) *corev1.Service {
	svc = svc.DeepCopy()
	svc.DeletionTimestamp = new(metav1.Now())
	return svc
}

// A Service of a class that a pool serves has our finalizer before anything is done for it, and is shown to the upstream
// service controller from then on.
func TestClaimComesFirst(t *testing.T) {
	b := newBorder(t, officeClass, loadBalancer(officeClass))
	assert.True(t, b.Ours(b.svc))
	assert.Equal(t, Hidden, b.LookOf(b.svc))
	require.NoError(t, b.Sync(t.Context(), KeyOf(b.svc)))
	assert.Equal(t, []string{lb.Finalizer}, b.svc.Finalizers)
	assert.False(t, b.ledger.Holds(uid), "nothing is held yet")
	assert.Equal(t, Classless, b.LookOf(b.svc))
	b.sync()
	assert.Equal(t, []string{"192.0.2.10"}, b.ips())
	assert.Equal(t, officeClass, *b.svc.Spec.LoadBalancerClass)
}

// A Service without a class needs no write more than its status.
func TestWithoutClassNoFinalizer(t *testing.T) {
	b := newBorder(t, "", loadBalancer(""))
	assert.Equal(t, Plain, b.LookOf(b.svc))
	b.sync()
	assert.Equal(t, []string{"192.0.2.10"}, b.ips())
	assert.Empty(t, b.svc.Finalizers)
	assert.Equal(t, 1, b.writes)
}

// What others serve is neither shown nor written, whatever happens to it.
func TestOthersAreLeftAlone(t *testing.T) {
	for name, tt := range map[string]struct{ pool, class string }{
		"another class":           {officeClass, otherClass},
		"without a class":         {officeClass, ""},
		"a class, and we have no": {"", otherClass},
	} {
		t.Run(name, func(t *testing.T) {
			svc := loadBalancer(tt.class, shared)
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.10"}}
			for _, svc := range []*corev1.Service{svc, deleting(svc)} {
				b := newBorder(t, tt.pool, svc)
				assert.Equal(t, Hidden, b.LookOf(b.svc))
				b.sync()
				assert.Zero(t, b.writes)
			}
		})
	}
}

// Our finalizer is the last one to go: first what is held, then the shared finalizer, whoever removes it.
func TestFinalizerGoesLast(t *testing.T) {
	for name, end := range map[string]func(*corev1.Service) *corev1.Service{
		"deleted":      deleting,
		"another type": func(svc *corev1.Service) *corev1.Service { return become(svc, corev1.ServiceTypeClusterIP, "") },
		"another's class": func(svc *corev1.Service) *corev1.Service {
			return become(svc, corev1.ServiceTypeLoadBalancer, otherClass)
		},
		"no class, as others'": func(svc *corev1.Service) *corev1.Service { return become(svc, corev1.ServiceTypeLoadBalancer, "") },
		"deleted, with ClusterIP": func(svc *corev1.Service) *corev1.Service {
			return deleting(become(svc, corev1.ServiceTypeClusterIP, ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBorder(t, officeClass, loadBalancer(officeClass))
			b.sync()
			b.svc.Finalizers = append(b.svc.Finalizers, shared)
			b.svc = end(b.svc)
			b.sync()
			assert.False(t, b.ledger.Holds(uid))
			assert.Contains(t, b.svc.Finalizers, lb.Finalizer)
			assert.Equal(t, Withdrawn, b.LookOf(b.svc), "until the upstream service controller has cleaned up")
			b.svc.Finalizers = slices.DeleteFunc(b.svc.Finalizers, func(f string) bool { return f == shared })
			b.sync()
			if b.svc != nil {
				assert.Empty(t, b.svc.Finalizers)
				assert.Empty(t, b.svc.Status.Conditions)
				assert.Equal(t, Hidden, b.LookOf(b.svc))
			}
		})
	}
}

// A Service that holds something keeps it when no pool serves its class any more; one that holds nothing is let go of.
func TestPoolLosesClass(t *testing.T) {
	for name, class := range map[string]string{"to another class": officeClass, "to a class": ""} {
		t.Run(name, func(t *testing.T) {
			b := newBorder(t, class, loadBalancer(class))
			b.sync()
			b.svc.Finalizers = append(b.svc.Finalizers, shared)
			b.reload(otherClass)
			b.sync()
			assert.Equal(t, []string{"192.0.2.10"}, b.ips())
			assert.Equal(t, Classless, b.LookOf(b.svc))
			degraded := meta.FindStatusCondition(b.svc.Status.Conditions, lb.ConditionDegraded)
			require.NotNil(t, degraded)
			assert.Contains(t, degraded.Message, `pool "office" serves only Services with spec.loadBalancerClass "example.com/other"`)
			b.svc = deleting(b.svc)
			b.sync()
			assert.False(t, b.ledger.Holds(uid))
			assert.Equal(t, Withdrawn, b.LookOf(b.svc))
		})
		t.Run(name+", refused before", func(t *testing.T) {
			svc := loadBalancer(class)
			svc.Annotations = map[string]string{lb.AnnotationAddresses: "192.0.2.99"}
			for turn, change := range map[string]func(*border, string){"reload": (*border).reload, "restart": (*border).restart} {
				b := newBorder(t, class, svc)
				b.sync()
				require.NotEmpty(t, b.svc.Status.Conditions)
				b.svc.Finalizers = append(b.svc.Finalizers, shared)
				change(b, otherClass)
				b.sync()
				assert.Equal(t, Withdrawn, b.LookOf(b.svc), turn)
				b.svc.Finalizers = slices.DeleteFunc(b.svc.Finalizers, func(f string) bool { return f == shared })
				b.sync()
				assert.Empty(t, b.ips(), turn)
				assert.Empty(t, b.svc.Finalizers, turn)
				assert.Empty(t, b.svc.Status.Conditions, turn)
				assert.Equal(t, Hidden, b.LookOf(b.svc), turn)
			}
		})
	}
}

// What a status says and nothing else is worth nothing to another controller whose pool does not serve the Service. It
// does not stand there any more when somebody else gets the address.
func TestLetGoOfIsNotPublished(t *testing.T) {
	b := newBorder(t, officeClass, loadBalancer(officeClass))
	b.sync()
	b.svc.Status.LoadBalancer.Ingress = append(b.svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: "203.0.113.5"})
	b.restart(otherClass)
	b.sync()
	assert.Equal(t, []string{"203.0.113.5"}, b.ips(), "what is in no pool may be somebody else's")
}

// What the upstream service controller writes is the difference of two versions of what it was shown: neither the class
// nor our finalizer nor the type or status of a withdrawn Service is in it.
func TestWritesOfWhatIsShown(t *testing.T) {
	svc := loadBalancer(officeClass, lb.Finalizer, shared)
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.10"}}
	for _, look := range []Look{Classless, Withdrawn} {
		was := look.Of(svc)
		is := was.DeepCopy()
		is.Finalizers = []string{lb.Finalizer}
		before, err := json.Marshal(was)
		require.NoError(t, err)
		after, err := json.Marshal(is)
		require.NoError(t, err)
		patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Service{})
		require.NoError(t, err)
		stored, err := json.Marshal(svc)
		require.NoError(t, err)
		merged, err := strategicpatch.StrategicMergePatch(stored, patch, corev1.Service{})
		require.NoError(t, err)
		var got corev1.Service
		require.NoError(t, json.Unmarshal(merged, &got))
		want := svc.DeepCopy()
		want.Finalizers = []string{lb.Finalizer}
		assert.Equal(t, want, &got)
	}
	assert.Equal(t, officeClass, *svc.Spec.LoadBalancerClass, "the informer's object is not touched")
}
