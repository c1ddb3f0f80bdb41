package netif

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func many(n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i%250 + 1)})
	}
	return list
}

// metric is one that a benchmark reports itself.
var metric = regexp.MustCompile(`([0-9.]+) (x-ip-batch|µs/[a-z0-9-]+|ns/frame|%-of-a-core)`)

// isolated runs the calling benchmark in a process with a namespace of its own, so many times, and reports what it
// measures there. It returns true in that process.
func isolated(b *testing.B, times string) bool {
	if os.Getenv(inNamespace) == b.Name() {
		return true
	}
	var out []byte
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), "/proc/self/exe", "-test.run=^$", "-test.bench=^"+b.Name()+"$", "-test.benchtime="+times)
		cmd.Env = append(os.Environ(), inNamespace+"="+b.Name())
		cmd.SysProcAttr = namespaces()
		var err error
		out, err = cmd.CombinedOutput()
		require.NoError(b, err, "%s", out)
	}
	for _, found := range metric.FindAllSubmatch(out, -1) {
		value, err := strconv.ParseFloat(string(found[1]), 64)
		require.NoError(b, err)
		b.ReportMetric(value, string(found[2]))
	}
	b.ReportMetric(0, "ns/op")
	return false
}

// BenchmarkBind1000 binds 1,000 addresses onto an empty interface, and compares that with ip -batch doing the same.
// The metric x-ip-batch is our time divided by that of ip -batch.
func BenchmarkBind1000(b *testing.B) {
	if !isolated(b, "5x") {
		return
	}
	host := open(b)
	addresses := many(1000)
	var script strings.Builder
	for _, ip := range addresses {
		fmt.Fprintf(&script, "address add %s/32 dev pl0 scope host preferred_lft 0\n", ip)
	}
	var ours, theirs time.Duration
	for b.Loop() {
		sh(b, "ip link del pl0 2>/dev/null || true; ip link add pl0 type bridge; ip link set pl0 up")
		cmd := exec.CommandContext(b.Context(), "ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(script.String())
		began := time.Now()
		require.NoError(b, cmd.Run())
		theirs += time.Since(began)
		sh(b, "ip link del pl0; ip link add pl0 type bridge; ip link set pl0 up")
		began = time.Now()
		require.Empty(b, host.Do(b.Context(), Step{Kind: Bind, Interface: "pl0", Addresses: addresses}))
		ours += time.Since(began)
	}
	b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "µs/bind1000")
	b.ReportMetric(float64(theirs.Microseconds())/float64(b.N), "µs/ip-batch1000")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-ip-batch")
	b.ReportMetric(0, "ns/op")
}
