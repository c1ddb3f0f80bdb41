package netif

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// chatter has the process send so many ARP frames a second.
const chatter = "MOORING_TEST_CHATTER"

// BenchmarkListen1000 listens for 1,000 addresses of either family on a segment where strangers send 10,000 ARP
// frames a second. %-of-a-core is what this process needs; ns/frame is what the filter costs the kernel for each
// frame, which is the processor time for sending one, less that without a filter; µs/listen1000 is the processor
// time of a change of the addresses.
func BenchmarkListen1000(b *testing.B) {
	if !isolated(b, "1x") {
		return
	}
	if rate, err := strconv.Atoi(os.Getenv(chatter)); err == nil {
		chat(b, rate)
		return
	}
	far(b)
	host := open(b)
	events := host.Watch(b.Context())
	heard := make(chan int)
	go func() {
		claims := 0
		for e := range events {
			if e.Kind == ClaimEvent {
				claims++
			}
			if e.Kind == LinkEvent && e.Interface == "end0" {
				heard <- claims
			}
		}
	}()
	random := rand.New(rand.NewPCG(1, 1))
	watched := map[string][]netip.Addr{"eth0": slices.Concat(scattered4(random, 1000), scattered6(random, 1000))}
	fewer := map[string][]netip.Addr{"eth0": watched["eth0"][1:1999]}
	for b.Loop() {
		// The best of several, since other processes are in the way.
		const rounds = 4
		var quiet, filtered []time.Duration
		for range rounds {
			require.NoError(b, host.Listen(nil))
			quiet = append(quiet, talk(b, -1))
			require.NoError(b, host.Listen(watched))
			filtered = append(filtered, talk(b, -1))
		}
		b.ReportMetric(max(0, float64(slices.Min(filtered)-slices.Min(quiet))), "ns/frame")

		const changes = 50
		before := processorTime(b)
		for range changes {
			require.NoError(b, host.Listen(fewer))
			require.NoError(b, host.Listen(watched))
		}
		b.ReportMetric(float64((processorTime(b)-before).Microseconds())/changes/2, "µs/listen1000")

		began := time.Now()
		before = processorTime(b)
		talk(b, 10000)
		b.ReportMetric(100*float64(processorTime(b)-before)/float64(time.Since(began)), "%-of-a-core")
	}
	sh(b, "ip link add end0 type bridge")
	require.Zero(b, <-heard, "a stranger was taken for a claimant")
	b.ReportMetric(0, "ns/op")
}

// talk has another process send strangers' frames, at this rate or as fast as it can, and returns the processor time
// for one.
func talk(b *testing.B, rate int) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "/proc/self/exe", "-test.run=^$", "-test.bench=^"+b.Name()+"$", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), chatter+"="+strconv.Itoa(rate))
	out, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", out)
	took := metric.FindSubmatch(out)
	require.NotNil(b, took, "%s", out)
	each, err := strconv.ParseFloat(string(took[1]), 64)
	require.NoError(b, err)
	return time.Duration(each)
}

// chat sends for a while.
func chat(b *testing.B, rate int) {
	length := time.Second
	if rate > 0 {
		length *= 3
	}
	out := wireOf(b, "far0")
	random := rand.New(rand.NewPCG(2, 2))
	frames := make([][]byte, 4096)
	for i, ip := range scattered4(random, len(frames)) {
		frames[i] = arpFrame(herMAC, ip, ip.Next(), arpRequest)
	}
	for b.Loop() {
		before, began, sent := processorTime(b), time.Now(), 0
		tick := time.NewTicker(10 * time.Millisecond)
		for time.Since(began) < length {
			burst := 1000
			if rate > 0 {
				<-tick.C
				burst = int(time.Since(began).Seconds()*float64(rate)) - sent
			}
			for range burst {
				out.send(frames[sent%len(frames)])
				sent++
			}
		}
		b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(sent), "ns/frame")
	}
}

func processorTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
