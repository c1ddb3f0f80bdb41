// Package cluster runs a real Kubernetes cluster, its network and Mooring's processes on one machine, for the e2e
// tests and the demo. etcd, kube-apiserver, kube-controller-manager, kube-proxy and kubelet are the real ones
// (e2e/kube), nodes and clients are network namespaces on a bridge, and every packet is a packet.
//
// Everything lives in namespaces that Enter made: nothing is added to the machine's own network, two runs at the
// same time do not see each other, and when the process ends, however it ends, the kernel removes all of it.
// Root is not needed where unprivileged user namespaces are allowed.
//
// Nothing of the product may import this package, and it imports of the product only the API types: the processes
// under test are the built binaries.
package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The process goes through three stages: the one the user started, the first process of the new namespaces, which
// reaps and forwards signals, and the one that does the work.
const (
	stageVariable = "MOORING_E2E_STAGE"
	stageInit     = "init"
	stageRun      = "run"
	// logsVariable carries the directory for the processes' logs. The user may set it: it then stays in any case.
	logsVariable = "MOORING_E2E_LOGS"
	// initVariable carries the process ID, as the user sees it, of the first process of the namespaces.
	initVariable = "MOORING_E2E_INIT"
	// userNamespaceVariable is set when the namespaces include a user namespace.
	userNamespaceVariable = "MOORING_E2E_USERNS"
)

// scratch is a tmpfs of the namespaces: it holds what need not outlive them, such as etcd's data.
const scratch = "/run/mooring"

// Enter runs f inside namespaces of its own (mount, process, network and, without root, user) and returns its exit
// code for os.Exit. It starts the running program again inside of them, with the same arguments, so it belongs at
// the very start of main or TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Enter(m.Run)) }
//
// Logs of the cluster's processes go to a temporary directory, or to the one that MOORING_E2E_LOGS names. A temporary
// one goes when f succeeds or is interrupted, and is named on standard error when f fails.
//
// What cannot work on this machine is said on standard error, with the way out, and is an exit code of 1: never a
// skipped test.
func Enter(f func() int) int {
	var code int
	var err error
	switch os.Getenv(stageVariable) {
	case stageRun:
		return f()
	case stageInit:
		code, err = supervise()
	default:
		code, err = enter()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		return 1
	}
	return code
}

// enter starts the program again as the first process of new namespaces and waits for it.
func enter() (int, error) {
	if err := checkMachine(); err != nil {
		return 0, err
	}
	removeLogs, err := makeLogs()
	if err != nil {
		return 0, err
	}
	// The parent-death signal follows the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		if err := os.Setenv(userNamespaceVariable, "1"); err != nil {
			return 0, err
		}
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	child, err := startStage(stageInit, attr)
	if err != nil {
		return 0, fmt.Errorf("enter new namespaces: %w (without root this needs unprivileged user namespaces: "+
			"sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns; or run as root)", err)
	}
	defer forwardSignals(child)()
	state, err := child.Wait()
	if err != nil {
		return 0, fmt.Errorf("wait for the namespaces' first process: %w", err)
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return 0, fmt.Errorf("the namespaces' first process ended with %v", state)
	}
	code := exitCode(status)
	return code, removeLogs(code)
}

// makeLogs makes the directory for logs. The returned function decides whether they are still of use.
func makeLogs() (func(code int) error, error) {
	if dir := os.Getenv(logsVariable); dir != "" {
		absolute, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		return func(int) error { return nil }, errors.Join(os.MkdirAll(absolute, 0o755), os.Setenv(logsVariable, absolute))
	}
	dir, err := os.MkdirTemp("", "mooring-e2e-")
	if err != nil {
		return nil, err
	}
	remove := func(code int) error {
		switch code {
		case 0, exitCodeOf(syscall.SIGINT), exitCodeOf(syscall.SIGTERM):
			return os.RemoveAll(dir)
		}
		fmt.Fprintf(os.Stderr, "e2e: logs are in %s\n", dir)
		return nil
	}
	return remove, os.Setenv(logsVariable, dir)
}

// supervise is the first process of the namespaces: it prepares them, starts the program a last time and reaps
// whatever loses its parent. When it returns, the kernel ends every process that is left.
func supervise() (int, error) {
	pid, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, err
	}
	if err := os.Setenv(initVariable, pid); err != nil {
		return 0, err
	}
	if err := prepareNamespaces(); err != nil {
		return 0, err
	}
	child, err := startStage(stageRun, nil)
	if err != nil {
		return 0, err
	}
	defer forwardSignals(child)()
	for {
		var status syscall.WaitStatus
		reaped, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for children: %w", err)
		case reaped == child.Pid:
			return exitCode(status), nil
		}
	}
}

func startStage(stage string, attr *syscall.SysProcAttr) (*os.Process, error) {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, stageVariable+"=") {
			env = append(env, entry)
		}
	}
	return os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   append(env, stageVariable+"="+stage),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   attr,
	})
}

// forwardSignals passes on what asks a process to end; the stage that does the work decides. The returned function
// ends it.
func forwardSignals(to *os.Process) func() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = to.Signal(s) // an error means that it has ended, which the waiting side sees
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return exitCodeOf(status.Signal())
	}
	return status.ExitStatus()
}

// exitCodeOf a process that a signal ended, as shells give it.
func exitCodeOf(signal syscall.Signal) int { return 128 + int(signal) }

// prepareNamespaces makes the new namespaces usable: no mount leaves them, /run is empty and ours (so that network
// namespaces are named in it as `ip netns` names them), /proc shows their processes, and loopback is up.
func prepareNamespaces() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on /run: %w", err)
	}
	for _, dir := range []string{namedNamespaces, filepath.Join(scratch, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// In a container whose /proc is partly hidden the kernel allows no second one. The first then stays, which is
	// enough for everything but looking around.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("mount /proc: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}

// checkMachine says what is missing before anything is started.
func checkMachine() error {
	// A login without root often has no sbin in its path.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin"); err != nil {
		return err
	}
	root, err := Root()
	if err != nil {
		return err
	}
	var missing []error
	if _, err := os.Stat(filepath.Join(root, KubeBinary)); err != nil {
		missing = append(missing, fmt.Errorf("%s is not built: run hack/build-kube.sh (the first time takes about 6 minutes)", KubeBinary))
	}
	if _, err := exec.LookPath("nft"); err != nil {
		missing = append(missing, errors.New("nft is not installed: run hack/debian-packages.sh"))
	}
	if _, err := exec.LookPath("nginx"); err != nil {
		missing = append(missing, errors.New("nginx is not installed: run hack/debian-packages.sh"))
	}
	return errors.Join(missing...)
}

// Root is the root of the source tree that the program was started in.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module github.com/mooring-lb/mooring\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside Mooring's source tree", start)
		}
	}
}

// Binaries, from the root of the source tree.
const (
	KubeBinary       = "_output/bin/mooring-e2e-kube"
	HelmBinary       = "_output/bin/helm"
	ControllerBinary = "bin/mooring-cloud-controller-manager"
	AgentBinary      = "bin/mooring-agent"
	KubectlBinary    = "bin/kubectl-mooring"
)
