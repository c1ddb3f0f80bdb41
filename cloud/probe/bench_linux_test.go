package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// metric is one that a benchmark in its namespace has printed.
var metric = regexp.MustCompile(`([0-9.]+) (%core|µs-CPU/connect|connects/s)`)

// isolated runs the calling benchmark in a network namespace, and reports what it measured there.
func isolated(b *testing.B) bool {
	if os.Getenv(inNamespace) == b.Name() {
		sh(b, "ip link set lo up")
		return true
	}
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), "/proc/self/exe", "-test.run=^$", "-test.bench=^"+b.Name()+"$", "-test.benchtime=1x")
		cmd.Env = append(os.Environ(), inNamespace+"="+b.Name())
		cmd.SysProcAttr = namespaces()
		out, err := cmd.CombinedOutput()
		require.NoError(b, err, "%s", out)
		for _, found := range metric.FindAllSubmatch(out, -1) {
			value, err := strconv.ParseFloat(string(found[1]), 64)
			require.NoError(b, err)
			b.ReportMetric(value, string(found[2]))
		}
	}
	b.ReportMetric(0, "ns/op")
	return false
}

// thousand addresses on which a process of its own accepts connections.
func thousand(b *testing.B) []netip.AddrPort {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "/proc/self/exe", "-test.run=^TestAcceptor$")
	cmd.Env = append(os.Environ(), inNamespace+"=TestAcceptor")
	until, err := cmd.StdinPipe()
	require.NoError(b, err)
	ready, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = until.Close()
		_ = cmd.Wait()
	})
	_, err = ready.Read(make([]byte, 1))
	require.NoError(b, err)
	list := make([]netip.AddrPort, 1000)
	for i := range list {
		list[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(i%250 + 1)}), 10269)
	}
	return list
}

// TestAcceptor is the process that accepts connections for a benchmark, until its input ends.
func TestAcceptor(t *testing.T) {
	if os.Getenv(inNamespace) != t.Name() {
		return // nobody needs it
	}
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", ":10269")
	require.NoError(t, err)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	_, err = os.Stdout.WriteString("ready")
	require.NoError(t, err)
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// measure the processor time of this process while f runs. Over the loopback that includes what the kernels of the
// 1,000 nodes do: to receive a packet is the work of whoever sends it.
func measure(b *testing.B, f func() (connects int)) {
	used := func() time.Duration {
		var usage unix.Rusage
		require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	before, began := used(), time.Now()
	connects := f()
	took, cpu := time.Since(began), used()-before
	b.ReportMetric(100*cpu.Seconds()/took.Seconds(), "%core")
	b.ReportMetric(float64(cpu.Microseconds())/float64(connects), "µs-CPU/connect")
	b.ReportMetric(float64(connects)/took.Seconds(), "connects/s")
}

const measuredRounds = 30

// BenchmarkProbe1000 is the share of one core that it takes to probe 1,000 nodes every 300 ms.
func BenchmarkProbe1000(b *testing.B) {
	if !isolated(b) {
		return
	}
	var targets []Target
	for i, to := range thousand(b) {
		targets = append(targets, Target{Node{Name: fmt.Sprintf("node-%d", i), UID: "1", Answered: true}, []netip.AddrPort{to}})
	}
	for b.Loop() {
		measure(b, func() int {
			ctx, cancel := context.WithCancel(b.Context())
			rounds, answers := 0, 0
			p := NewProber(defaults, func() []Target {
				if rounds++; rounds > measuredRounds {
					cancel()
					return nil
				}
				return targets
			}, func([]Change) {}, func(time.Duration) { answers++ })
			require.NoError(b, p.Run(ctx))
			require.InEpsilon(b, 1000*measuredRounds, answers, 0.01)
			return answers
		})
	}
}

// BenchmarkDial1000 is the same with a goroutine and a net.Dialer for each node.
func BenchmarkDial1000(b *testing.B) {
	if !isolated(b) {
		return
	}
	targets := thousand(b)
	for b.Loop() {
		measure(b, func() int {
			var answers atomic.Int32
			tick := time.NewTicker(defaults.Interval)
			defer tick.Stop()
			for range measuredRounds {
				var group sync.WaitGroup
				for _, to := range targets {
					group.Go(func() {
						dialer := net.Dialer{Timeout: defaults.Interval, KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
						conn, err := dialer.DialContext(b.Context(), "tcp", to.String())
						if err != nil {
							return
						}
						answers.Add(1)
						_ = conn.(*net.TCPConn).SetLinger(0)
						_ = conn.Close()
					})
				}
				group.Wait()
				<-tick.C
			}
			return int(answers.Load())
		})
	}
}
