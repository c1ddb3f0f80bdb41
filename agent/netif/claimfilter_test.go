package netif

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

// passes says whether the part of the filter that looks at the frame lets it through: the part before asks the kernel
// things that a frame does not hold.
type passes func(frame []byte) bool

func filterOf(t testing.TB, ips []netip.Addr, most int) (passes, []bpf.Instruction) {
	t.Helper()
	spans := spansOf(ips, most)
	program := arpClaims(spans)
	if ips[0].Is6() {
		program = discoveryClaims(spans)
	}
	vm, err := bpf.NewVM(program)
	require.NoError(t, err)
	return func(frame []byte) bool {
		n, err := vm.Run(frame)
		require.NoError(t, err)
		return n > 0
	}, program
}

func scattered4(random *rand.Rand, n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i := range list {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], random.Uint32()|1)
		list[i] = netip.AddrFrom4(b)
	}
	return list
}

func scattered6(random *rand.Rand, n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i := range list {
		b := [16]byte{0xfd}
		binary.BigEndian.PutUint64(b[8:], random.Uint64())
		list[i] = netip.AddrFrom16(b)
	}
	return list
}

func block(first string, n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i, ip := 0, netip.MustParseAddr(first); i < n; i, ip = i+1, ip.Next() {
		list[i] = ip
	}
	return list
}

// The filter lets every claim of a watched address through, however many there are and wherever they lie, and while
// it has enough instructions nothing else.
func TestTheFilterLetsThroughWhatIsWatched(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, test := range map[string]struct {
		ips   []netip.Addr
		most  int
		exact bool
	}{
		"one":                     {block("10.0.0.10", 1), 1, true},
		"lowest and highest":      {ips("0.0.0.1", "255.255.255.255"), 2, true},
		"a block":                 {block("192.0.2.0", 1000), 1000, true},
		"a leaf and one":          {scattered4(random, leafSpans+1), leafSpans + 1, true},
		"blocks":                  {slices.Concat(block("10.0.0.10", 20), block("10.0.1.10", 1), block("192.168.0.1", 300)), 400, true},
		"a thousand anywhere":     {scattered4(random, 1000), 1000, true},
		"five thousand, coarse":   {scattered4(random, 5000), 500, false},
		"all in one span":         {scattered4(random, 100), 1, false},
		"one, IPv6":               {block("fd00::10", 1), 1, true},
		"a block, IPv6":           {block("2001:db8::ff00", 1000), 1000, true},
		"a thousand, IPv6":        {scattered6(random, 1000), 1000, true},
		"thousands coarse, IPv6":  {scattered6(random, 5000), 100, false},
		"prefixes that differ, 6": {slices.Concat(block("fd00::10", 10), block("fd00:0:0:1::10", 10), block("2001:db8::10", 10)), 30, true},
	} {
		pass, _ := filterOf(t, test.ips, test.most)
		for _, ip := range test.ips {
			if !assert.True(t, claimed(pass, ip), "%s: %s", name, ip) {
				break
			}
		}
		if !test.exact {
			continue
		}
		slices.SortFunc(test.ips, netip.Addr.Compare)
		others := append(scattered4(random, 1000), ips("10.0.0.9", "10.0.0.11", "0.0.0.2", "191.255.255.255", "192.0.5.232")...)
		if test.ips[0].Is6() {
			others = append(scattered6(random, 1000), ips("fd00::f", "fe80::10", "fe80::1", "fd00:0:0:2::10")...)
		}
		for _, ip := range test.ips[:min(len(test.ips), 50)] {
			others = append(others, ip.Prev(), ip.Next())
		}
		for _, ip := range others {
			if _, watched := slices.BinarySearchFunc(test.ips, ip, netip.Addr.Compare); !watched && ip.IsValid() && !ip.IsUnspecified() {
				assert.False(t, claimed(pass, ip), "%s: %s", name, ip)
			}
		}
	}
}

// A filter that is too small for all spans gives up the narrowest gaps first: strangers of other ranges stay out.
func TestACoarseFilterKeepsTheWideGaps(t *testing.T) {
	var list []netip.Addr
	for _, ip := range slices.Concat(block("10.0.0.0", 1000), block("192.168.0.0", 1000)) {
		if b := ip.As4(); b[3]%2 == 0 {
			list = append(list, ip)
		}
	}
	pass, _ := filterOf(t, list, 3)
	for _, ip := range list {
		assert.True(t, claimed(pass, ip), ip)
	}
	for _, ip := range ips("9.255.255.255", "10.0.4.0", "10.200.0.0", "172.16.0.1", "192.167.255.255", "192.168.4.0", "255.255.255.254") {
		assert.False(t, claimed(pass, ip), ip)
	}
}

// claimed says whether the announcement of ip passes.
func claimed(pass passes, ip netip.Addr) bool {
	return pass(announcement(herMAC, ip)[0])
}

// What cannot be a claim does not wake the agent.
func TestTheFilterRefusesWhatClaimsNothing(t *testing.T) {
	vip4, vip6 := ips("10.0.0.10"), ips("fd00::10")
	pass4, _ := filterOf(t, vip4, 1)
	pass6, _ := filterOf(t, vip6, 1)
	assert.False(t, pass4(question(herMAC, vip4[0])[0]), "ARP probe")
	assert.False(t, pass4(arpFrame(herMAC, ips("10.0.0.1")[0], vip4[0], arpRequest)), "a question by somebody")
	assert.False(t, pass4([]byte{1, 2, 3}), "short")
	assert.False(t, pass6(question(herMAC, vip6[0])[0]), "duplicate address detection")
	na := announcement(herMAC, vip6[0])[0]
	assert.False(t, pass6(edited(na, ethernetLen+6, 6)), "TCP from the address")
	assert.False(t, pass6(edited(na, ethernetLen+7, 64)), "from behind a router")
	assert.False(t, pass6(edited(na, ethernetLen+ipv6Len, 128)), "an echo request from the address")
	assert.True(t, pass6(discoveryFrame("fd00::10", "ff02::2", []byte{icmp6RouterSolicitation, 0, 0, 0, 0, 0, 0, 0})))
	assert.True(t, pass6(discoveryFrame("fd00::10", "ff02::1:ff00:1", about(icmp6NeighborSolicitation, 0, "fd00::1"))))
	assert.False(t, pass6(discoveryFrame("fe80::1", "ff02::1:ff00:1", about(icmp6NeighborSolicitation, 0, "fd00::10"))))
}

// The program stays within the kernel's limit for any number of addresses, and short for one of many.
func TestTheFilterFitsAndIsFast(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, scattered := range []func(*rand.Rand, int) []netip.Addr{scattered4, scattered6} {
		for _, n := range []int{1, 8, 9, 1000, 2000, 3000, 5000, 20000} {
			list := scattered(random, n)
			program := claimFilter(7, list, n)
			assert.LessOrEqual(t, len(program), filterMost, n)
			_, err := bpf.Assemble(program)
			assert.NoError(t, err)
			_, err = bpf.NewVM(program[slices.IndexFunc(program, func(i bpf.Instruction) bool { _, ok := i.(bpf.LoadAbsolute); return ok }):])
			assert.NoError(t, err, "no jump leaves the program")
		}
	}
	list := scattered4(random, 1000)
	spans := spansOf(list, len(list))
	_, program := filterOf(t, list, len(list))
	most := 0
	for _, ip := range list {
		most = max(most, comparisons(program, claimKey(ip)))
	}
	assert.LessOrEqual(t, most, 7+leafSpans, "comparisons of a sender with %d spans", len(spans))
}

// comparisons follows a key through the search at the end of a program.
func comparisons(program []bpf.Instruction, key uint32) int {
	at := slices.IndexFunc(program, func(i bpf.Instruction) bool { _, ok := i.(bpf.ALUOpConstant); return ok })
	key -= program[at].(bpf.ALUOpConstant).Val
	count := 0
	for at++; ; at++ {
		switch in := program[at].(type) {
		case bpf.RetConstant:
			return count
		case bpf.Jump:
			at += int(in.Skip)
		case bpf.JumpIf:
			count++
			taken := map[bpf.JumpTest]bool{bpf.JumpEqual: key == in.Val, bpf.JumpLessThan: key < in.Val,
				bpf.JumpLessOrEqual: key <= in.Val, bpf.JumpGreaterOrEqual: key >= in.Val}[in.Cond]
			if taken {
				at += int(in.SkipTrue)
			}
		}
	}
}
