package protocol

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// cloudConfig is the same for every schedule: addresses on the segment, of both families.
var cloudConfig = func() *config.Config {
	cfg, err := config.Parse([]byte(`
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- {name: office, addresses: [192.0.2.10-192.0.2.21, "2001:db8::10-2001:db8::1b"], interface: pl0}
`))
	if err != nil {
		panic(err)
	}
	return cfg
}()

// poolAddresses are those of the pool that are given out first.
var poolAddresses = func() (list []netip.Addr) {
	for i := range byte(6) {
		list = append(list, netip.AddrFrom4([4]byte{192, 0, 2, 10 + i}))
	}
	return list
}()

const (
	// bound is how long after the last fault all has to be well, and calm for how long it is watched then.
	bound = 45 * time.Second
	calm  = 6 * time.Second
	// patience is how much longer it takes until a node is given up that answers probes, but not the API server.
	patience = 45 * time.Second
	// reminded is how much longer it takes until a router that heard the wrong one last, and a holder that did not, are told.
	reminded = 65 * time.Second
)

// simulate runs the schedule of a seed and returns the invariants that it broke.
func simulate(seed uint64, trace *bytes.Buffer) (broken []string) {
	defer func() {
		if r := recover(); r != nil {
			broken = []string{fmt.Sprintf("panic: %v\n%s", r, debug.Stack())}
		}
	}()
	w := &world{seed: seed, dice: newDice(seed, 0), trace: trace}
	w.api = newServer(w)
	w.segment = newSegment(w)
	w.check = newChecker(w)
	w.users = &users{w: w, grace: w.between(5*time.Second, 20*time.Second), away: map[string]lb.Node{}}
	w.kubelets = newKubelets(w)
	defer w.close()
	for i := range 3 + w.rand.IntN(3) {
		m := newMachine(w, i+1)
		w.machines = append(w.machines, m)
		w.users.join(m)
		m.agent.start()
	}
	for _, name := range []string{"c1", "c2"} {
		w.leaders = append(w.leaders, newController(w, name))
	}
	w.users.watchNodes()
	for range 1 + w.rand.IntN(4) {
		w.after(nil, w.between(0, 8*time.Second), w.users.createService)
	}
	begin := w.between(4*time.Second, 12*time.Second)
	end := begin + w.between(5*time.Second, 40*time.Second)
	w.after(nil, begin, func() { w.faulty = w.chance(0.5) })
	about := theme(w.rand.IntN(int(themes)))
	for range 1 + w.rand.IntN(14) {
		w.after(nil, w.between(begin, end), func() { w.strike(about, end) })
	}
	if w.chance(0.15) {
		w.isolated = pick(w.dice, w.machines)
		w.after(nil, w.between(begin, end), func() {
			w.log("fault: the API server for %s, and that stays so", w.isolated.name)
			w.isolated.agent.client.sever()
		})
	}
	w.kubelets.strike(begin, end)
	w.run(end)
	w.faulty = false
	w.log("all faults are over")
	well := end + bound
	if w.isolated != nil {
		well += patience
	}
	if w.kubelets.gone != nil {
		well += kubeletGrace
	}
	w.run(well)
	if w.check.misled() {
		w.run(well + reminded)
	}
	for until := w.now + calm; w.now < until && len(w.broken) == 0; w.run(w.now + 500*time.Millisecond) {
		for _, text := range w.check.amiss() {
			w.breach("%s", text)
		}
	}
	if len(w.broken) == 0 {
		w.kubelets.alone()
	}
	return w.broken
}

// strike begins a fault that ends before all have to be over.
func (w *world) strike(about theme, end time.Duration) {
	weight := func(f fault) int {
		if f.of == about {
			return 4 * f.weight
		}
		return f.weight
	}
	total := 0
	for _, f := range faults {
		total += weight(f)
	}
	n := w.rand.IntN(total)
	for _, f := range faults {
		if n -= weight(f); n >= 0 {
			continue
		}
		length := w.between(0, end-w.now)
		if w.chance(0.4) {
			length = min(length, 3*time.Second)
		}
		over, what := f.begin(w)
		w.log("fault: %s %s for %s", f.name, what, length)
		w.troubles = append(w.troubles, trouble{&f, what, w.now + length})
		if over != nil {
			w.after(nil, length, func() {
				w.log("over: %s %s", f.name, what)
				over()
			})
		}
		return
	}
}

func count(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n
}

// TestSchedules runs schedules of random faults. SEED=<n> runs one, and with TRACE=1 it tells the whole story.
// SCHEDULES=<n> is how many, FIRST=<n> where they begin, and WORKERS=<n> how many run at once.
func TestSchedules(t *testing.T) {
	if seed := count(t, "SEED", 0); seed != 0 {
		replay(t, seed)
		return
	}
	first, schedules, workers := count(t, "FIRST", 1), count(t, "SCHEDULES", 5000), count(t, "WORKERS", 1)
	const enough = 10
	var next, failed atomic.Uint64
	next.Store(first)
	var running sync.WaitGroup
	began := time.Now()
	for range workers {
		running.Go(func() {
			for seed := next.Add(1) - 1; seed < first+schedules && failed.Load() < enough; seed = next.Add(1) - 1 {
				if broken := simulate(seed, nil); len(broken) > 0 {
					failed.Add(1)
					t.Errorf("SEED=%d (TRACE=1 tells the story):\n  %s", seed, strings.Join(broken, "\n  "))
				}
			}
		})
	}
	running.Wait()
	if failed.Load() >= enough {
		t.Logf("stopped after %d failures", failed.Load())
	}
	done := min(next.Load()-first, schedules)
	t.Logf("%d schedules, %.0f a second", done, float64(done)/time.Since(began).Seconds())
}

func replay(t *testing.T, seed uint64) {
	var trace bytes.Buffer
	broken := simulate(seed, &trace)
	if os.Getenv("TRACE") != "" {
		t.Log("\n" + trace.String())
	}
	assert.Empty(t, broken)
}

// TestRegressions runs the schedules that have found something once.
func TestRegressions(t *testing.T) {
	for name, seed := range regressions {
		t.Run(name, func(t *testing.T) { replay(t, seed) })
	}
}

// TestReplay: a schedule is the same each time, to the last word.
func TestReplay(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var first, second bytes.Buffer
			simulate(1000+seed, &first)
			simulate(1000+seed, &second)
			assert.NotEmpty(t, first.String())
			assert.Equal(t, first.String(), second.String())
		})
	}
}

// BenchmarkSchedules measures what a schedule costs.
func BenchmarkSchedules(b *testing.B) {
	seed := uint64(1)
	for b.Loop() {
		simulate(seed, nil)
		seed++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "schedules/s")
}
