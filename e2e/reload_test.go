package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestReload tells what a cloud-config that is edited under a running controller does, above all a bad one.
func TestReload(t *testing.T) {
	const (
		office = "name: office, addresses: [10.90.0.30-10.90.0.39]"
		annex  = `name: annex, autoAssign: false, addresses: [10.90.0.50-10.90.0.51, "fd00:90::5:0/120"]`
	)
	m := install(t, pools(office))

	t.Run("a broken file is refused, and the last good one stays in force", func(t *testing.T) {
		m.reload(t, pools(office, "name: typo, adresses: [10.90.0.40]"), refused)
		m.told(t, "CloudConfigRefused", "pools[1].adresses")
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "broken"), "web"))
		m.serves(t, m.published(t, service))

		m.reload(t, pools(office, "name: typo, addresses: [10.90.0.40]"), taken)
		m.told(t, "CloudConfigLoaded", "in force")
	})

	t.Run("a pool in use is not removed before its Services are", func(t *testing.T) {
		m.reload(t, pools(office, annex), taken)
		namespace := m.Namespace(t, "in-use")
		service := m.create(t, from(cluster.LoadBalancer(namespace, "web"), "annex"))
		addr := m.published(t, service)
		holder := m.heldBy(t, addr, anyNode)

		m.reload(t, pools(office), refused)
		m.told(t, "CloudConfigRefused", fmt.Sprintf(`pool "annex" is in use by 1 addresses (%s of Service in-use/web`, addr))
		m.stays(t, service, addr, holder)
		m.content(t, service)
		another := m.create(t, from(cluster.LoadBalancer(namespace, "another"), "annex"))
		m.serves(t, m.published(t, another))

		since := m.reloads(t, taken)
		m.remove(t, service)
		m.remove(t, another)
		m.reloaded(t, taken, since)
		m.refused(t, m.create(t, from(cluster.LoadBalancer(namespace, "late"), "annex")), lb.ReasonPoolNotFound, `names pool "annex", which is not in the cloud-config`)
	})

	t.Run("started without a pool in use, its addresses stay, move, and come back to the pool", func(t *testing.T) {
		m.reload(t, pools(office, annex), taken)
		namespace := m.Namespace(t, "restart")
		kept := m.create(t, from(cluster.DualStack(cluster.LoadBalancer(namespace, "kept")), "annex"))
		addr := m.published(t, kept)
		both, err := m.Published(t.Context(), namespace, kept.Name)
		require.NoError(t, err)
		require.Len(t, both, 2)
		other := m.create(t, cluster.LoadBalancer(namespace, "other"))
		served := m.published(t, other)
		holder := m.heldBy(t, addr, anyNode)

		require.NoError(t, m.Controllers[0].Stop())
		require.NoError(t, m.Configure(pools(office)))
		require.NoError(t, m.Controllers[0].Start())
		m.degraded(t, kept, lb.ReasonPoolMissing, `its pool "annex" is not in the cloud-config any more: put the pool back`)
		m.content(t, other)
		m.serves(t, served)
		m.serves(t, m.published(t, m.create(t, cluster.LoadBalancer(namespace, "new"))))
		m.Throughout(t, settle, "both addresses stay where they are and are served", func(ctx context.Context) error {
			return m.servedOn(ctx, both)
		})
		m.heldBy(t, addr, only(holder.Name))

		require.NoError(t, holder.CutOff())
		for _, addr := range both {
			m.Eventually(t, addr.String()+" moves", func(context.Context) error {
				for _, node := range m.Nodes {
					if holds, err := node.Holds("pl0", addr); err != nil || holds && node != holder {
						return err
					}
				}
				return errNotMoved
			})
			m.serves(t, addr)
		}
		require.NoError(t, holder.Restore())
		m.heldBy(t, addr, otherThan(holder.Name))

		m.reload(t, pools(office, "name: harmless, addresses: [10.90.0.40]"), taken)
		m.degraded(t, kept, lb.ReasonPoolMissing, "annex")
		m.reload(t, pools(office, annex), taken)
		m.content(t, kept)
		next := m.published(t, m.create(t, from(cluster.LoadBalancer(namespace, "next"), "annex")))
		assert.NotContains(t, both, next, "no address is given twice")
		again, err := m.Published(t.Context(), namespace, kept.Name)
		require.NoError(t, err)
		assert.Equal(t, both, again)
		require.NoError(t, m.servedOn(t.Context(), both))
	})

	t.Run("a mounted ConfigMap is followed", func(t *testing.T) {
		// The kubelet writes each version into a directory of its own and swaps one link.
		mount := filepath.Dir(m.CloudConfig())
		swap := func(target, name string) {
			require.NoError(t, os.Symlink(target, filepath.Join(mount, name+".next")))
			require.NoError(t, os.Rename(filepath.Join(mount, name+".next"), filepath.Join(mount, name)))
		}
		project := func(version, cloudConfig string) {
			require.NoError(t, os.Mkdir(filepath.Join(mount, version), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(mount, version, filepath.Base(m.CloudConfig())), []byte(cloudConfig), 0o600))
			swap(version, "..data")
		}
		since := m.reloads(t, taken)
		project("..1", pools("name: mounted, addresses: [10.90.0.60]"))
		swap(filepath.Join("..data", filepath.Base(m.CloudConfig())), filepath.Base(m.CloudConfig()))
		m.reloaded(t, taken, since)
		namespace := m.Namespace(t, "mounted")
		m.published(t, m.create(t, cluster.LoadBalancer(namespace, "first")))
		second := m.create(t, cluster.LoadBalancer(namespace, "second"))
		m.refused(t, second, lb.ReasonPoolExhausted, "pool mounted")

		project("..2", pools("name: mounted, addresses: [10.90.0.60-10.90.0.61]"))
		m.serves(t, m.published(t, second))
	})
}

// Results of a reload, as the controller's metric names them.
const (
	taken   = "ok"
	refused = "refused"
)

// reload replaces the cloud-config under the running controller and waits until it is taken or refused.
func (m *moored) reload(t *testing.T, cloudConfig, result string) {
	t.Helper()
	since := m.reloads(t, result)
	require.NoError(t, m.Configure(cloudConfig))
	m.reloaded(t, result, since)
}

// reloaded waits until one more reload has ended like that.
func (m *moored) reloaded(t *testing.T, result string, since int) {
	t.Helper()
	m.Eventually(t, "the cloud-config is reloaded: "+result, func(ctx context.Context) error {
		now, err := m.countReloads(ctx, result)
		if err == nil && now <= since {
			err = fmt.Errorf("the metric says %d, as before", now)
		}
		return err
	})
}

// reloads counts those that ended like that.
func (m *moored) reloads(t *testing.T, result string) int {
	t.Helper()
	var count int
	m.Eventually(t, "the controller says its metrics", func(ctx context.Context) (err error) {
		count, err = m.countReloads(ctx, result)
		return err
	})
	return count
}

func (m *moored) countReloads(ctx context.Context, result string) (int, error) {
	metrics, err := m.ControllerMetrics(ctx, 0)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(metrics) {
		if value, ok := strings.CutPrefix(line, fmt.Sprintf(`mooring_config_reloads_total{result=%q} `, result)); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, nil // a counter that never counted is not shown
}

// told waits until the controller says in its log, and in an event on its Pod, what became of the cloud-config.
func (m *moored) told(t *testing.T, reason, words string) {
	t.Helper()
	m.event(t, cluster.Namespace, reason, words)
	if reason != "CloudConfigRefused" {
		return
	}
	log, err := os.ReadFile(m.Controllers[0].Log)
	require.NoError(t, err)
	// klog quotes the error.
	assert.Contains(t, strings.ReplaceAll(string(log), `\"`, `"`), words)
}

// from makes the Service name a pool.
func from(service *corev1.Service, pool string) *corev1.Service {
	return annotated(service, lb.AnnotationPool, pool)
}

// annotated sets one annotation of the Service.
func annotated(service *corev1.Service, key, value string) *corev1.Service {
	metav1.SetMetaDataAnnotation(&service.ObjectMeta, key, value)
	return service
}

// servedOn is nil when each address is on exactly one node and answers the client.
func (m *moored) servedOn(ctx context.Context, addrs []netip.Addr) error {
	for _, addr := range addrs {
		holders, err := m.Holders("pl0", addr)
		if err != nil {
			return err
		}
		if len(holders) != 1 {
			return fmt.Errorf("%d nodes hold %s", len(holders), addr)
		}
		if _, err := m.Client.Get(ctx, netip.AddrPortFrom(addr, 80), "/"); err != nil {
			return err
		}
	}
	return nil
}
