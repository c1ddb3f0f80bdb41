package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a part of the cluster that can be stopped, killed, paused and started again. Its log is one file over
// all of its lives.
type Process struct {
	Name string
	// Log is the file that its output goes to.
	Log string

	// host is where it runs; nil: beside the control plane.
	host *Host
	args []string
	env  []string
	// mounts are directories by where the process finds them. Of a process without a host, they are not made.
	mounts map[string]string
	// supervised processes are started again when they end by themselves, as a kubelet does with containers.
	supervised bool

	mu   sync.Mutex
	life *life
}

// life is one run of a process.
type life struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process is gone
	err    error         // how it ended; read after ended
	wanted bool          // that it ends
}

// stopPatience is how long a process may take over SIGTERM.
const stopPatience = 15 * time.Second

// restartDelay is how long a supervised process that ended by itself is away.
const restartDelay = time.Second

// Start starts the process. One that runs already is an error.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.start()
}

func (p *Process) start() error {
	if p.running() {
		return fmt.Errorf("%s runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := &exec.Cmd{Path: p.args[0], Args: p.args}
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(scratch, "tmp"))
	cmd.Env = append(cmd.Env, p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A Ctrl-C at the terminal is for us; what follows from it is not an error of theirs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.startThere(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	l := &life{cmd: cmd, ended: make(chan struct{})}
	p.life = l
	go func() {
		l.err = cmd.Wait()
		close(l.ended)
		if p.supervised {
			time.AfterFunc(restartDelay, func() { p.revive(l) })
		}
	}()
	return nil
}

// revive starts a process again that ended by itself, unless it was stopped or started in the meantime.
func (p *Process) revive(l *life) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != l || l.wanted {
		return
	}
	if err := p.start(); err != nil {
		l.err = errors.Join(l.err, err)
	}
}

// hostName is what the process takes for the name of its machine: that of its host, or beside the control plane its own,
// so that a lease says which instance holds it.
func (p *Process) hostName() string {
	if p.host != nil {
		return p.host.Name
	}
	return p.Name
}

// startThere starts the command with the network and the name of its host.
func (p *Process) startThere(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		// Without unlocking: the thread that was moved ends with this goroutine.
		runtime.LockOSThread()
		started <- func() error {
			if p.host != nil {
				if err := unix.Setns(int(p.host.netns.Fd()), unix.CLONE_NEWNET); err != nil {
					return fmt.Errorf("enter %s: %w", p.host.Name, err)
				}
				if err := errors.Join(p.host.showBootID(), bind(p.mounts)); err != nil {
					return err
				}
			}
			if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
				return fmt.Errorf("take a host name of its own: %w", err)
			}
			if err := unix.Sethostname([]byte(p.hostName())); err != nil {
				return err
			}
			return cmd.Start()
		}()
	}()
	return <-started
}

// bind mounts directories where the calling thread, whose mounts are its own, finds them.
func bind(mounts map[string]string) error {
	for at, dir := range mounts {
		if err := unix.Mount(dir, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s at %s: %w", dir, at, err)
		}
	}
	return nil
}

func (p *Process) running() bool {
	if p.life == nil {
		return false
	}
	select {
	case <-p.life.ended:
		return false
	default:
		return true
	}
}

// Running says whether the process lives; a paused one does.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// PID of the running process inside the namespaces, 0 when there is none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return p.life.cmd.Process.Pid
}

// Ended is nil while the process lives, has not been started or was ended by us, and else says how it ended.
func (p *Process) Ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil || p.life.wanted || p.running() {
		return nil
	}
	if p.life.err == nil {
		return fmt.Errorf("%s ended by itself", p.Name)
	}
	return fmt.Errorf("%s ended by itself: %w", p.Name, p.life.err)
}

// Stop asks the process to end (SIGTERM) and waits until it has. One that takes longer than 15 s is killed, which is
// an error. A process that does not run is left alone.
func (p *Process) Stop() error { return p.end(unix.SIGTERM) }

// Kill ends the process at once (SIGKILL) and waits until it is gone.
func (p *Process) Kill() error { return p.end(unix.SIGKILL) }

func (p *Process) end(signal syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		p.life.wanted = true
	}
	if !p.running() {
		return nil
	}
	process := p.life.cmd.Process
	if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	if err := process.Signal(unix.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-p.life.ended:
		return nil
	case <-timer.C:
	}
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.Name, err)
	}
	<-p.life.ended
	return fmt.Errorf("%s did not end within %v of %v", p.Name, stopPatience, signal)
}

// Restart stops the process and starts it again.
func (p *Process) Restart() error {
	if err := p.Stop(); err != nil {
		return err
	}
	return p.Start()
}

// Pause freezes the process (SIGSTOP), Resume lets it go on.
func (p *Process) Pause() error { return p.signal(unix.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.signal(unix.SIGCONT) }

func (p *Process) signal(signal syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("%s does not run", p.Name)
	}
	return p.life.cmd.Process.Signal(signal)
}

// Tail is the end of the process's log.
func (p *Process) Tail(lines int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
