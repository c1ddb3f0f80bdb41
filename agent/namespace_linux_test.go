package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const inNamespace = "MOORING_TEST_IN_NAMESPACE"

// fresh runs the calling test in a process of its own with a fresh user and network namespace, so that root is not
// needed and nothing of this machine is touched. It returns true in that process.
func fresh(t testing.TB) bool {
	t.Helper()
	if os.Getenv(inNamespace) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=90s")
	cmd.Env = append(os.Environ(), inNamespace+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in its namespace: %v\n%s", err, out)
	}
	return false
}

func sh(t testing.TB, format string, args ...any) string {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", command).CombinedOutput()
	require.NoErrorf(t, err, "%s\n%s", command, out)
	return string(out)
}

// works says whether a command succeeds.
func works(t testing.TB, format string, args ...any) bool {
	return exec.CommandContext(t.Context(), "sh", "-ec", fmt.Sprintf(format, args...)).Run() == nil
}

// node makes this namespace a node (10.0.0.1, fd00::1 on eth0) and returns a neighbour on the same segment, which is
// 10.0.0.2 and fd00::2 in a namespace of its own.
func node(t testing.TB) neighbor {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "cat") // it ends with this process, whose end of the pipe is closed then
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	n := neighbor{cmd.Process.Pid}
	sh(t, `ip link set lo up
ip link add eth0 type veth peer name eth0 netns %d
ip address add 10.0.0.1/24 dev eth0; ip address add fd00::1/64 dev eth0 nodad; ip link set eth0 up
ip route add default via 10.0.0.254; ip route add default via fd00::fe`, n.pid)
	sh(t, `%s sh -ec 'ip link set lo up; ip address add 10.0.0.2/24 dev eth0; ip address add fd00::2/64 dev eth0 nodad; ip link set eth0 up'`, n)
	return n
}

// hardwareAddr of eth0 here.
func hardwareAddr(t testing.TB) string {
	ifi, err := net.InterfaceByName("eth0")
	require.NoError(t, err)
	return ifi.HardwareAddr.String()
}

type neighbor struct{ pid int }

// String is the command prefix that runs something there.
func (n neighbor) String() string { return fmt.Sprintf("nsenter -t %d -n", n.pid) }

// do calls f on a thread in the neighbour's namespace; sockets that it opens stay there.
func (n neighbor) do(t testing.TB, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	require.NoError(t, <-done)
}

// connect returns nil when the neighbour can open a TCP connection.
func (n neighbor) connect(t testing.TB, ip string, port int) error {
	return n.dial(t, ip, port, guardTime)
}

// silent says whether nothing answers when the neighbour opens a TCP connection, neither with yes nor with no; err is what
// came of it.
func (n neighbor) silent(t testing.TB, ip string, port int) (ok bool, err error) {
	err = n.dial(t, ip, port, 400*time.Millisecond)
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout(), err
}

func (n neighbor) dial(t testing.TB, ip string, port int, patience time.Duration) (err error) {
	n.do(t, func() {
		var conn net.Conn
		dialer := net.Dialer{Timeout: patience}
		conn, err = dialer.DialContext(t.Context(), "tcp", net.JoinHostPort(ip, fmt.Sprint(port)))
		if err == nil {
			err = conn.Close()
		}
	})
	return err
}

// listen collects the frames that arrive at the neighbour.
func (n neighbor) listen(t testing.TB) <-chan []byte {
	var conn *packet.Conn
	n.do(t, func() {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		}
		assert.NoError(t, err)
	})
	require.NotNil(t, conn)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	frames := make(chan []byte, 10000)
	go func() {
		for {
			b := make([]byte, 2000)
			k, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			frames <- b[:k]
		}
	}()
	return frames
}
