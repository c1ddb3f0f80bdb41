package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// newConnections a second are made to an address that moves by plan.
	newConnections = 500
	// aroundMove is how many are made before a move, and after it.
	aroundMove = 750
)

// plannedMoves are ways to send an address elsewhere while its node serves, as patches of the Node and back.
var plannedMoves = []struct{ name, namespace, patch, undo string }{
	{
		"its node is excluded from load balancing", "excluded",
		`{"metadata":{"labels":{"node.kubernetes.io/exclude-from-external-load-balancers":"true"}}}`,
		`{"metadata":{"labels":{"node.kubernetes.io/exclude-from-external-load-balancers":null}}}`,
	},
	{
		"its node gets a taint that evicts", "evicted",
		`{"spec":{"taints":[{"key":"example.com/maintenance","value":"true","effect":"NoExecute"}]}}`,
		`{"spec":{"taints":null}}`,
	},
}

// plannedMove moves the address off its node by plan, under load, and returns what became of the connections.
func (m *moored) plannedMove(t *testing.T, addr netip.Addr, patch string) tally {
	t.Helper()
	holder := m.heldBy(t, addr, anyNode)
	calls := m.call(t, addr)
	calls.more(t, aroundMove)
	m.patchNode(t, holder, patch)
	m.heldBy(t, addr, otherThan(holder.Name))
	calls.more(t, aroundMove)
	return calls.end()
}

func (m *moored) patchNode(t *testing.T, node *cluster.Node, patch string) {
	t.Helper()
	_, err := m.Kube.CoreV1().Nodes().Patch(t.Context(), node.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

// callers make new connections to an address all the time, each for one request.
type callers struct {
	*moored
	at     netip.AddrPort
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu    sync.Mutex
	tally tally
}

// tally is what became of connections.
type tally struct {
	// made were established; of them slow needed a second packet, and cut broke before the answer was read.
	made, slow, cut int
	// failed were not established, with the reasons.
	failed []error
}

func (t tally) String() string {
	return fmt.Sprintf("%d new connections, %d failed, %d slow, %d in flight cut", t.made, len(t.failed), t.slow, t.cut)
}

// call begins to make connections to port 80 of the address.
func (m *moored) call(t *testing.T, addr netip.Addr) *callers {
	ctx, cancel := context.WithCancel(t.Context())
	c := &callers{moored: m, at: netip.AddrPortFrom(addr, 80), cancel: cancel}
	c.group.Go(func() {
		ticker := time.NewTicker(time.Second / newConnections)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				// What has begun when the calls end is not to be cut off by that.
				c.group.Go(func() { c.once(context.WithoutCancel(ctx)) })
			}
		}
	})
	return c
}

// once makes one connection and one request.
func (c *callers) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	begin := time.Now()
	conn, err := c.Client.DialContext(ctx, "tcp", c.at.String())
	took := time.Since(begin)
	answered := false
	if err == nil {
		defer abort(conn)
		deadline, _ := ctx.Deadline()
		_ = conn.SetDeadline(deadline) // the request then fails
		answered = isAnswered(conn)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.tally.failed = append(c.tally.failed, err)
		return
	}
	c.tally.made++
	if took > 900*time.Millisecond {
		c.tally.slow++
	}
	if !answered {
		c.tally.cut++
	}
}

// more waits until so many more connections have come to their end.
func (c *callers) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.tally.made + len(c.tally.failed)
	}
	want := count() + n
	c.Eventually(t, "connections are made", func(context.Context) error {
		if now := count(); now < want {
			return fmt.Errorf("%d of %d", now, want)
		}
		return nil
	})
}

// end ends the calls and waits for the last.
func (c *callers) end() tally {
	c.cancel()
	c.group.Wait()
	return c.tally
}

// isAnswered makes the request on a new connection and says whether the whole answer came.
func isAnswered(conn net.Conn) bool {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: e2e\r\n\r\n"); err != nil {
		return false
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close()) == nil
}

// abort ends the connection without leaving anything behind at either end and on the way: so many, remembered for
// minutes, would come to stand in the way of new ones.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
