package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// alone are the tests that measure or count what a second cluster on the same processors would change; every other one
// must bear it. Measurements (TestBench...) run alone without being listed.
var alone = []string{"TestFailover", "TestOneAnswer", "TestSteadiness", "TestWrites"}

// longest are the tests that begin first, the longest before the others, so that none of them is left to run by itself
// in the end. A test that is not listed takes less than half a minute.
var longest = []string{
	"TestUpdater", "TestHetzner", "TestControlPlaneAway", "TestService", "TestLeader", "TestRequests",
	"TestUpdaterStream", "TestUninstallInWrongOrder", "TestHetznerCrash", "TestTutorialBareMetal", "TestTutorialHetzner", "TestTutorialUpdater", "TestNodes",
	"TestUpdaterTwins", "TestReload", "TestPools",
}

// partVariable is set in a process that runs a part of the tests for another one.
const partVariable = "MOORING_E2E_PART"

// besideEachOther runs the selected tests beside each other, as many at a time as -parallel says: by default as many as
// there are processors, because a test waits most of the time. A test has a process of its own, and so namespaces and a
// cluster of its own; its output comes in one piece when it ends. Those of alone come last, one after the other in one
// process. Where nothing can be beside anything, and with KEEP=1, all tests run in this process, by run.
func besideEachOther(out io.Writer, run func() int) int {
	parallel, err := strconv.Atoi(option("parallel"))
	if err != nil || os.Getenv(partVariable) != "" || os.Getenv("KEEP") == "1" || parallel < 2 {
		return run()
	}
	names, err := selected()
	if err != nil {
		say(out, "e2e: %v\n", err)
		return 1
	}
	r := &runner{out: out}
	if timeout, err := time.ParseDuration(option("timeout")); err == nil && timeout > 0 {
		r.deadline = time.Now().Add(timeout)
	}
	var last []string
	for _, name := range names {
		if slices.Contains(alone, name) || strings.HasPrefix(name, "TestBench") {
			last = append(last, name)
		} else {
			r.waiting = append(r.waiting, name)
		}
	}
	if len(r.waiting) < 2 {
		return run()
	}
	slices.SortStableFunc(r.waiting, func(a, b string) int { return place(a) - place(b) })

	// Ctrl-C reaches the processes of the tests by itself, but what asks only this process to end does not.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() { r.work(ctx) })
	}
	workers.Wait()
	if len(last) > 0 && ctx.Err() == nil {
		say(out, "e2e: alone, one after the other: %s\n", strings.Join(last, ", "))
		r.failed = errors.Join(r.failed, r.run(ctx, out, last...))
	}
	if r.failed != nil || ctx.Err() != nil {
		say(out, "FAIL\n")
		return 1
	}
	say(out, "PASS\n")
	return 0
}

// place of a test in the order in which they begin.
func place(name string) int {
	if i := slices.Index(longest, name); i >= 0 {
		return i
	}
	return len(longest)
}

// option of go test.
func option(name string) string { return flag.Lookup("test." + name).Value.String() }

// selected are the names of the tests that -run and -skip select; none where they select among subtests, too.
func selected() ([]string, error) {
	if strings.Contains(option("run")+option("skip"), "/") {
		return nil, nil
	}
	run, err := regexp.Compile(option("run"))
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	skip, err := regexp.Compile(cmp.Or(option("skip"), "^$"))
	if err != nil {
		return nil, fmt.Errorf("-skip: %w", err)
	}
	list, err := exec.CommandContext(context.Background(), "/proc/self/exe", "-test.list=.").Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests: %w", err)
	}
	names := strings.Fields(string(list))
	for _, name := range slices.Concat(alone, longest) {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no test %s, which beside_test.go names: correct it there", name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return !run.MatchString(name) || skip.MatchString(name) }), nil
}

// runner runs tests in processes of their own.
type runner struct {
	out io.Writer
	// deadline of all of them; zero: none.
	deadline time.Time

	mu      sync.Mutex
	waiting []string
	running int
	failed  error
}

// work runs one test after the other until none is left.
func (r *runner) work(ctx context.Context) {
	for {
		name := r.next()
		if name == "" || ctx.Err() != nil {
			return
		}
		var output bytes.Buffer
		err := r.run(ctx, &output, name)
		r.end(name, output.String(), err)
	}
}

// next is the test that is to begin, empty when there is none.
func (r *runner) next() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return ""
	}
	name := r.waiting[0]
	r.waiting = r.waiting[1:]
	r.running++
	say(r.out, "e2e: %s begins; %d running, %d to come\n", name, r.running, len(r.waiting))
	return name
}

// end prints what a test that has ended says, in one piece.
func (r *runner) end(name, output string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	verdict := "has passed"
	if err != nil {
		verdict = "has FAILED"
	}
	say(r.out, "e2e: %s %s:\n%s", name, verdict, output)
	// One that ended otherwise than by the testing package's rules counts, too.
	if err != nil && !strings.Contains(output, "--- FAIL: "+name+" ") {
		say(r.out, "--- FAIL: %s (its process: %v)\n", name, err)
	}
	r.failed = errors.Join(r.failed, err)
}

// run runs tests in one process and copies what it prints, but the verdict that ends it: that is for all tests.
func (r *runner) run(ctx context.Context, out io.Writer, names ...string) error {
	args := append(slices.Clone(os.Args[1:]), "-test.run=^("+strings.Join(names, "|")+")$")
	if !r.deadline.IsZero() {
		args = append(args, "-test.timeout="+max(time.Until(r.deadline), time.Second).String())
	}
	// A process gets its parent-death signal when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), partVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadString('\n')
		if line != "PASS\n" && line != "FAIL\n" {
			say(out, "%s", line)
		}
		if err != nil {
			return cmd.Wait() // the process has closed its end
		}
	}
}

// say prints; who does not read it misses nothing else.
func say(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
