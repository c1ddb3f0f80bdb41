package netif

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const inNamespace = "MOORING_TEST_IN_NAMESPACE"

// fresh runs the calling test in a process of its own with a fresh user and network namespace, so that root is not
// needed and nothing of this machine is touched. It returns true in that process.
func fresh(t testing.TB) bool {
	t.Helper()
	if os.Getenv(inNamespace) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inNamespace+"="+t.Name())
	cmd.SysProcAttr = namespaces()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in its namespace: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP: "+t.Name()+" ") {
		t.Skipf("in its namespace:\n%s", out)
	}
	return false
}

// namespaces of a child process: root in its own user namespace, and no interface but a loopback.
func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func sh(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", command).CombinedOutput()
	require.NoErrorf(t, err, "%s\n%s", command, out)
	return string(out)
}

func open(t testing.TB) *Host {
	t.Helper()
	host, err := Open()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, host.Close()) })
	return host
}

func state(t testing.TB, host *Host) State {
	t.Helper()
	s, err := host.Read(t.Context())
	require.NoError(t, err)
	return s
}

func TestBindCreatesWhatIsMissingAndLeavesOthersAlone(t *testing.T) {
	if !fresh(t) {
		return
	}
	sh(t, `ip link set lo up
ip link add eth0 type veth peer name eth1
ip address add 10.0.0.1/24 dev eth0; ip address add fd00::1/64 dev eth0 nodad; ip link set eth0 up; ip link set eth1 up
ip route add default via 10.0.0.254; ip route add default via fd00::fe
sysctl -qw net.ipv6.conf.default.disable_ipv6=1`)
	host := open(t)
	for _, step := range []Step{
		{Kind: BuildGuard, Addresses: ips("10.0.0.10", "fd00::10")},
		{Kind: CreateInterface, Interface: "pl0"},
		{Kind: PrepareARP, Interface: "eth0"},
		{Kind: PrepareNDP, Interface: "eth0"},
		{Kind: Bind, Interface: "pl0", Addresses: ips("10.0.0.10", "fd00::10")},
		{Kind: Bind, Interface: "eth0", Addresses: ips("10.0.0.11")},
		{Kind: AddProxy, Interface: "eth0", Addresses: ips("fd00::10")},
	} {
		assert.Empty(t, host.Do(t.Context(), step), step)
		assert.Empty(t, host.Do(t.Context(), step), "again: %s", step)
	}
	s := state(t, host)
	assert.Equal(t, map[Place]struct{}{
		{"pl0", ips("10.0.0.10")[0]}: {}, {"pl0", ips("fd00::10")[0]}: {}, {"eth0", ips("10.0.0.11")[0]}: {},
	}, s.Bound)
	assert.Equal(t, map[Place]struct{}{{"eth0", ips("fd00::10")[0]}: {}}, s.Proxies)
	assert.True(t, s.Links["pl0"].Ours)
	assert.False(t, s.Links["eth0"].Ours)
	assert.True(t, s.Settings["eth0"].ProxyReady())
	assert.Equal(t, 2, s.Settings["eth0"].ARPAnnounce)
	assert.Equal(t, []string{"eth0"}, s.Default4)
	assert.Equal(t, []string{"eth0"}, s.Default6)
}
