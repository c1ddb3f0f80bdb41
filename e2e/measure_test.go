package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// figure prints one row of the table that make bench makes: values and units by turns.
func figure(name string, valuesAndUnits ...any) {
	var row strings.Builder
	for i, part := range valuesAndUnits {
		if value, ok := part.(float64); ok {
			part = strconv.FormatFloat(value, 'g', 3, 64)
			if value >= 100 {
				part = strconv.FormatFloat(value, 'f', 0, 64)
			}
		}
		row.WriteString([]string{" ", "\t "}[(i+1)%2])
		fmt.Fprint(&row, part)
	}
	fmt.Printf("Benchmark%s\t 1%s\n", name, row.String())
}

// percentile of durations, in seconds: the smallest that so many percent do not exceed.
func percentile(durations []time.Duration, percent float64) float64 {
	sorted := slices.Sorted(slices.Values(durations))
	rank := int(math.Ceil(percent / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1].Seconds()
}

// load is what the machine had to do in the last minute, in processes: a measurement beside others is no measurement.
func load(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), " ")
	value, err := strconv.ParseFloat(first, 64)
	require.NoError(t, err)
	return value
}

// countWrites counts what Mooring has written since, for each Service.
func (m *bench) countWrites(t *testing.T, n int, since time.Time) {
	t.Helper()
	counts := map[string]int{}
	total := 0
	for _, w := range ourWrites(t, m.Cluster, since) {
		if w.Resource == "leases" || w.Resource == "tokenreviews" {
			continue
		}
		kind := w.Resource
		if w.Subresource != "" {
			kind += "." + w.Subresource
		}
		name := fmt.Sprintf("%s/%s-%s", strings.TrimPrefix(w.User, accounts+"mooring-"), w.Verb, kind)
		if w.Code >= 300 {
			name += "-" + strconv.Itoa(w.Code)
		}
		counts[name]++
		total++
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		figure(fmt.Sprintf("APIWrites/%d/%s", n, name), float64(counts[name])/float64(n), "writes/Service", float64(counts[name]), "writes")
	}
	figure(fmt.Sprintf("APIWrites/%d/all", n), float64(total)/float64(n), "writes/Service", float64(total), "writes")
}

// settled waits until Mooring has not written anything but leases for a while: events follow later.
func (m *bench) settled(t *testing.T) {
	t.Helper()
	const quiet = 3 * time.Second
	require.NoError(t, cluster.AwaitFor(t.Context(), benchGuard, "Mooring writes nothing", func(context.Context) error {
		if slices.ContainsFunc(ourWrites(t, m.Cluster, time.Now().Add(-quiet)), func(w cluster.Write) bool { return w.Resource != "leases" }) {
			return errors.New("it does")
		}
		return nil
	}))
}

// parts of the cluster, by what they are.
func (m *bench) parts() map[string][]*cluster.Process {
	parts := map[string][]*cluster.Process{
		"etcd": {m.Etcd}, "kube-apiserver": {m.APIServer}, "kube-controller-manager": {m.ControllerManager}, "controller": m.Controllers,
	}
	for _, node := range m.Nodes {
		parts["agents"] = append(parts["agents"], node.Agent)
		parts["kube-proxies"] = append(parts["kube-proxies"], node.Proxy)
		parts["kubelets"] = append(parts["kubelets"], node.Kubelet)
	}
	return parts
}

// clockTick is the unit of /proc/<pid>/stat.
const clockTick = 100

// cpu is how many seconds of processor time each part has used, and so have the clients here.
func (m *bench) cpu(t *testing.T) map[string]float64 {
	t.Helper()
	of := func(pid string) float64 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", pid))
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		user, err := strconv.ParseFloat(fields[11], 64)
		require.NoError(t, err)
		system, err := strconv.ParseFloat(fields[12], 64)
		require.NoError(t, err)
		return (user + system) / clockTick
	}
	used := map[string]float64{"clients": of("self")}
	for part, processes := range m.parts() {
		for _, process := range processes {
			used[part] += of(strconv.Itoa(process.PID()))
		}
	}
	return used
}

// residentMB is the memory of a process, in megabytes.
func residentMB(t *testing.T, process *cluster.Process) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", process.PID()))
	require.NoError(t, err)
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	require.NoError(t, err)
	return pages * float64(os.Getpagesize()) / 1e6
}

// look waits for what is true in milliseconds, without pauses that would be measured.
func (m *bench) look(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(cluster.Guard); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			require.FailNow(t, what, "not within %v\n%s", cluster.Guard, m.Dump(t.Context()))
		}
	}
}

// profiledFor is how long a CPU profile lasts.
const profiledFor = 15 * time.Second

// profile takes CPU profiles of the controller and of the API server when PROFILE names a directory for them. The
// returned function waits for their end.
func (m *bench) profile(t *testing.T, name string) (wait func()) {
	t.Helper()
	dir := os.Getenv("PROFILE")
	if dir == "" {
		return func() {}
	}
	var working sync.WaitGroup
	for part, port := range map[string]int{"kube-apiserver": 6443, "controller": m.ControllerPort(0)} {
		config := rest.CopyConfig(m.Config)
		config.Host = fmt.Sprintf("https://127.0.0.1:%d", port)
		config.TLSClientConfig = rest.TLSClientConfig{Insecure: true}
		client, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		working.Go(func() {
			seconds := strconv.Itoa(int(profiledFor.Seconds()))
			data, err := client.Discovery().RESTClient().Get().AbsPath("/debug/pprof/profile").Param("seconds", seconds).DoRaw(t.Context())
			if err = errors.Join(err, os.WriteFile(filepath.Join(dir, name+"-"+part+".pprof"), data, 0o644)); err != nil {
				t.Errorf("profile %s: %v", part, err)
			}
		})
	}
	return working.Wait
}
