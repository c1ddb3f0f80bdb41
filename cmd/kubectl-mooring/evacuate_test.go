package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// mover is a controller that moves one address off the node in every interval, once the node is excluded.
type mover struct {
	objects
	c    *console
	node string
	// stuck addresses stay.
	stuck int
	// placed is how long after the label the addresses come.
	placed time.Duration
	since  time.Time
}

func (m *mover) Get(ctx context.Context, name string, o metav1.GetOptions) (*v1alpha1.NodeAddresses, error) {
	if _, excluded := m.c.node(m.node).Labels[lb.LabelExcludeNode]; excluded && m.since.IsZero() {
		m.since = m.c.clock.Now()
	}
	object, err := m.objects.Get(ctx, name, o)
	if err == nil && !m.since.IsZero() {
		moved := int(m.c.clock.Since(m.since) / (3 * pollInterval))
		left := object.Spec.Addresses[min(moved, max(len(object.Spec.Addresses)-m.stuck, 0)):]
		if len(left) > 0 && moved > 0 && m.stuck == 0 {
			left[0].State = v1alpha1.Yield
		}
		if m.c.clock.Since(m.since) < m.placed {
			left = nil
		}
		object.Spec.Addresses = left
	}
	return object, err
}

// evacuating is a console in a bubble of time of its own, with a controller that looks after n1.
func evacuating(t *testing.T, stuck int) (*console, *mover) {
	t.Helper()
	c := newConsole(t)
	c.clock = clock.RealClock{}
	m := &mover{objects: c.addresses.(objects), c: c, node: "n1", stuck: stuck}
	c.addresses = m
	return c, m
}

func (c *console) node(name string) *corev1.Node {
	c.t.Helper()
	node, err := c.core.CoreV1().Nodes().Get(c.t.Context(), name, metav1.GetOptions{})
	require.NoError(c.t, err)
	return node
}

// A node is emptied while the user watches, and comes back as it was.
func TestEvacuateAndUndo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := evacuating(t, 0)
		before := c.node("n1")

		c.shows("evacuate-dry-run.txt", "evacuate", "n1", "--dry-run=client")
		assert.Equal(t, before, c.node("n1"), "a dry run changes nothing")

		c.shows("evacuate.txt", "evacuate", "n1")
		assert.Equal(t, "true", c.node("n1").Labels[lb.LabelExcludeNode])
		c.shows("evacuate-again.txt", "evacuate", "n1")

		c.shows("evacuate-undo.txt", "evacuate", "n1", "--undo")
		after := c.node("n1")
		assert.Empty(t, after.Labels)
		assert.Empty(t, after.Annotations)
		require.NoError(t, c.run("evacuate", "n1", "--undo"))
		assert.Equal(t, "node/n1 is not excluded\n", c.out.String())
	})
}

// An address that is placed at the very moment is waited for.
func TestEvacuateLooksTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := evacuating(t, 0)
		m.objects["n1"].Spec.Addresses = m.objects["n1"].Spec.Addresses[:1]
		m.placed = pollInterval / 2
		require.NoError(t, c.run("evacuate", "n1"))
		assert.Equal(t, "node/n1 is excluded\nnode/n1: 1 address left: 1 to move\nnode/n1 is empty\n", c.out.String())
	})
}

// What another one has set is not ours to take back.
func TestEvacuateLeavesTheLabelsOfOthers(t *testing.T) {
	c := newConsole(t)
	before := c.node("n2")
	require.NoError(t, c.run("evacuate", "n2", "--timeout=0"))
	assert.Equal(t, "node/n2 is excluded already\nnode/n2 holds 1 address; not waiting\n", c.out.String())
	err := c.run("evacuate", "n2", "--undo")
	assert.ErrorContains(t, err, "node n2 was not excluded by this command")
	assert.ErrorContains(t, err, "kubectl label node n2 "+lb.LabelExcludeNode+"-")
	assert.Equal(t, before, c.node("n2"))
}

// A label that said the contrary says it again.
func TestUndoRestoresTheLabel(t *testing.T) {
	for name, test := range map[string]struct {
		// before and meanwhile are what others made of the label, a dash for none.
		before, meanwhile, after string
	}{
		"there was none":       {"-", "", "-"},
		"it said no":           {"false", "", "false"},
		"taken back meanwhile": {"false", "-", "-"},
		"changed meanwhile":    {"-", "maintenance", "maintenance"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newConsole(t)
			label := func(value string) {
				node := c.node("n1")
				delete(node.Labels, lb.LabelExcludeNode)
				if value != "-" {
					node.Labels = map[string]string{lb.LabelExcludeNode: value}
				}
				_, err := c.core.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{})
				require.NoError(t, err)
			}
			label(test.before)
			require.NoError(t, c.run("evacuate", "n1", "--timeout=0"))
			if test.meanwhile != "" {
				label(test.meanwhile)
			}
			require.NoError(t, c.run("evacuate", "n1", "--undo"))
			value, ok := c.node("n1").Labels[lb.LabelExcludeNode]
			if !ok {
				value = "-"
			}
			assert.Equal(t, test.after, value)
			assert.Empty(t, c.node("n1").Annotations)
		})
	}
}

// A node that cannot be emptied is an error that says what is left and where to look.
func TestEvacuateTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := evacuating(t, 1)
		err := c.run("evacuate", "n1", "--timeout=30s")
		assert.EqualError(t, err, "node n1 is not empty after 30s, it holds 192.0.2.12 of Service default/game: kubectl mooring explain service says "+
			"why no other node may carry it; pools with ignoreExcludeLabel leave theirs where they are")
		assert.Equal(t, "true", c.node("n1").Labels[lb.LabelExcludeNode], "it is tried on")

		m.objects["n1"].Spec.Addresses[2].State = v1alpha1.Release
		assert.ErrorContains(t, c.run("evacuate", "n1", "--timeout=30s"), "wait for the agent of this node to release them: is mooring-agent running there?")

		assert.EqualError(t, c.run("evacuate", "n9"), "the cluster has no node n9: kubectl get nodes lists them")
		assert.EqualError(t, c.run("evacuate", "n1", "--dry-run=server"), "--dry-run=server is not known: write none or client")
	})
}

// Somebody writes the Node at the same moment, as kubelets do: it is tried again.
func TestEvacuateTriesAgain(t *testing.T) {
	c := newConsole(t)
	conflicts := 2
	c.core.PrependReactor("patch", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		conflicts--
		return conflicts >= 0, nil, apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, "n1", nil)
	})
	require.NoError(t, c.run("evacuate", "n1", "--timeout=0"))
	assert.Equal(t, "true", c.node("n1").Labels[lb.LabelExcludeNode])
}

// Who has no right to do it is told where the rights are listed.
func TestForbidden(t *testing.T) {
	c := newConsole(t)
	c.core.PrependReactor("*", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", nil)
	})
	for _, args := range [][]string{{"status"}, {"explain", "service", "web"}, {"evacuate", "n1"}} {
		assert.ErrorContains(t, c.run(args...), "docs/guides/kubectl.md lists the rights that this command needs", args)
	}
	assert.EqualError(t, c.run("explain", "service", "nobody"), "namespace default has no Service nobody: name another namespace with -n")
	assert.EqualError(t, c.run("status", "-o", "name"), "-o name is no format: write json, yaml or wide")
}
