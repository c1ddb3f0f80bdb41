package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mooring-lb/mooring/cloud/lb"
)

const inNamespace = "MOORING_TEST_IN_NAMESPACE"

// fresh runs the calling test in a process of its own with a fresh user and network namespace, so that root is not
// needed and nothing of this machine is touched. It returns true in that process.
func fresh(t testing.TB) bool {
	t.Helper()
	if os.Getenv(inNamespace) == t.Name() {
		sh(t, "ip link set lo up")
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=90s")
	cmd.Env = append(os.Environ(), inNamespace+"="+t.Name())
	cmd.SysProcAttr = namespaces()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in its namespace: %v\n%s", err, out)
	}
	return false
}

// namespaces of a child process: root in its own user namespace, and no interface but a loopback.
func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func sh(t testing.TB, command string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", command).CombinedOutput()
	require.NoErrorf(t, err, "%s\n%s", command, out)
}

// drop what is sent to an address, as the network does when the host is dead.
const drop = `nft add table inet test; nft 'add chain inet test in { type filter hook input priority 0; }'; nft add rule inet test in ip daddr %s drop`

// listen on the health port of an address until the test ends; what is accepted stays with the kernel.
func listen(t testing.TB, ip string) netip.AddrPort {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", net.JoinHostPort(ip, "10269"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	return netip.MustParseAddrPort(listener.Addr().String())
}

// live is a prober that runs, and what it said.
type live struct {
	*Prober
	mu      sync.Mutex
	targets []Target
	pulses  map[string]lb.Pulse
	firsts  []string
	took    int // answers
	rounds  int
}

func start(t testing.TB, targets ...Target) *live {
	l := &live{targets: targets, pulses: map[string]lb.Pulse{}}
	l.Prober = NewProber(Options{Interval: 100 * time.Millisecond, Threshold: 3}, func() []Target {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rounds++
		return slices.Clone(l.targets)
	}, func(changes []Change) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, change := range changes {
			l.pulses[change.Node] = change.Pulse
			if change.First {
				l.firsts = append(l.firsts, change.Node)
			}
		}
	}, func(time.Duration) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.took++
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	return l
}

func (l *live) until(t testing.TB, why string, condition func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return condition()
	}, 30*time.Second, 10*time.Millisecond, why)
}

func TestWhatTheKernelSays(t *testing.T) {
	if !fresh(t) {
		return
	}
	sh(t, fmt.Sprintf(drop, "127.0.0.3"))
	sh(t, "ip link add eth0 type veth peer name eth1; ip address add 10.9.0.1/24 dev eth0; ip link set eth0 up; ip link set eth1 up")
	accepting, accepting6 := listen(t, "127.0.0.1"), listen(t, "::1")
	silent := listen(t, "127.0.0.3")
	refusing := netip.MustParseAddrPort("127.0.0.2:10269")
	nodes := []Target{
		{Node{Name: "accepting", UID: "1", Answered: true}, []netip.AddrPort{accepting}},
		{Node{Name: "accepting6", UID: "1", Answered: true}, []netip.AddrPort{accepting6}},
		{Node{Name: "fresh", UID: "1"}, []netip.AddrPort{refusing}},
		{Node{Name: "homeless", UID: "1", Answered: true}, nil},
		{Node{Name: "never", UID: "1"}, []netip.AddrPort{silent}},
		{Node{Name: "refusing", UID: "1", Answered: true}, []netip.AddrPort{refusing}},
		{Node{Name: "second", UID: "1", Answered: true}, []netip.AddrPort{silent, accepting}},
		{Node{Name: "silent", UID: "1", Answered: true}, []netip.AddrPort{silent}},
		{Node{Name: "unreachable", UID: "1", Answered: true}, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:10269")}},
		{Node{Name: "unresolved", UID: "1", Answered: true}, []netip.AddrPort{netip.MustParseAddrPort("10.9.0.2:10269")}},
		{Node{Name: "z", UID: "1", Answered: true}, []netip.AddrPort{netip.MustParseAddrPort("[::ffff:127.0.0.1]:10269")}},
	}
	l := start(t, nodes...)
	want := map[string]lb.Pulse{
		"accepting": lb.PulseAnswering, "accepting6": lb.PulseAnswering, "refusing": lb.PulseRefusing, "second": lb.PulseAnswering,
		"silent": lb.PulseLost, "unreachable": lb.PulseLost, "unresolved": lb.PulseLost, "z": lb.PulseAnswering,
	}
	l.until(t, "pulses", func() bool { return assert.ObjectsAreEqual(want, l.pulses) })
	assert.Empty(t, l.firsts, "a refusal is no first answer")
	assert.Equal(t, 3, l.Stats().Silent)
	assert.Positive(t, l.took)

	sh(t, "nft delete table inet test")
	l.until(t, "it is back", func() bool { return l.pulses["silent"] == lb.PulseAnswering && l.pulses["never"] == lb.PulseAnswering })
	l.mu.Lock()
	assert.Equal(t, []string{"never"}, l.firsts)
	l.mu.Unlock()
	out, err := exec.CommandContext(t.Context(), "ss", "-Htan", "state", "time-wait").CombinedOutput()
	require.NoError(t, err)
	assert.NotContains(t, string(out), "10269", "no port is kept")
}

// A process without descriptors cannot ask, and calls nobody lost.
func TestWithoutSocketsNobodyIsLost(t *testing.T) {
	if !fresh(t) {
		return
	}
	node := func(ip string) Target {
		return Target{Node{Name: "a", UID: "1", Answered: true}, []netip.AddrPort{listen(t, ip)}}
	}
	l := start(t, node("127.0.0.1"))
	l.until(t, "an answer", func() bool { return l.pulses["a"] == lb.PulseAnswering })
	another := node("::1") // needs a new socket: one of IPv4 cannot be used again
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: 1000}))
	l.mu.Lock()
	l.targets[0] = another
	rounds := l.rounds
	l.mu.Unlock()
	l.until(t, "rounds", func() bool { return l.rounds > rounds+10 })
	l.mu.Lock()
	took := l.took
	assert.Equal(t, lb.PulseAnswering, l.pulses["a"])
	l.mu.Unlock()
	assert.Zero(t, l.Stats(), "it was silent, and could not be asked")
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1000, Max: 1000}))
	l.until(t, "it goes on", func() bool { return l.took > took+3 })
}

func TestRunEndsWhenItIsIdle(t *testing.T) {
	p := NewProber(Options{Interval: time.Minute, Threshold: 3}, func() []Target { return nil }, func([]Change) {}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	cancel()
	assert.NoError(t, <-ended)
}
