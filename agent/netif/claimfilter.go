package netif

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

const (
	// filterMost is how many instructions the kernel takes (BPF_MAXINSNS).
	filterMost = 4096
	// filterSpace is how much of a frame is passed on; no message of neighbour discovery that counts is longer.
	filterSpace = 2048
	// leafSpans is how many spans are compared one after the other where the search ends. More cost time, fewer cost
	// instructions.
	leafSpans = 8
	// keyFactor spreads prefixes over all keys: 2^32 divided by the golden ratio, as Fibonacci hashing has it.
	keyFactor = 2654435769
	// refuse as a jump's distance is replaced by the distance to the refusal; no real jump of a preamble is as long.
	refuse = 255
)

// span are keys from lo to hi, both included.
type span struct{ lo, hi uint32 }

// claimKey is what the filter knows of an address: an IPv4 address itself, and of an IPv6 address its last word plus a
// hash of the others. That keeps neighbouring addresses neighbours, and makes two unrelated ones alike only by chance;
// claims are compared exactly later.
func claimKey(ip netip.Addr) uint32 {
	if ip.Is4() {
		b := ip.As4()
		return binary.BigEndian.Uint32(b[:])
	}
	b := ip.As16()
	var key uint32
	for i := 0; i < len(b); i += 4 {
		key = key*keyFactor + binary.BigEndian.Uint32(b[i:])
	}
	return key
}

// spansOf covers the keys of the addresses with at most so many spans. When that does not do, the smallest gaps are
// covered too: the filter becomes coarser and never deaf.
func spansOf(ips []netip.Addr, most int) []span {
	keys := make([]uint32, len(ips))
	for i, ip := range ips {
		keys[i] = claimKey(ip)
	}
	slices.Sort(keys)
	var spans []span
	for _, key := range keys {
		if last := len(spans) - 1; last >= 0 && key-spans[last].hi <= 1 {
			spans[last].hi = key
			continue
		}
		spans = append(spans, span{key, key})
	}
	if len(spans) <= most {
		return spans
	}
	// The spans after the widest gaps begin anew, all others continue the one before.
	widest := make([]int, len(spans)-1)
	for i := range widest {
		widest[i] = i + 1
	}
	gap := func(i int) uint32 { return spans[i].lo - spans[i-1].hi }
	slices.SortFunc(widest, func(a, b int) int { return cmp.Or(cmp.Compare(gap(b), gap(a)), cmp.Compare(a, b)) })
	begins := widest[:most-1]
	slices.Sort(begins)
	merged := make([]span, 0, most)
	from := 0
	for _, next := range append(begins, len(spans)) {
		merged = append(merged, span{spans[from].lo, spans[next-1].hi})
		from = next
	}
	return merged
}

// claimFilter is the program for a socket that gets the frames of one EtherType: it lets those through that came in
// on the interface and may claim one of the addresses, which are of one family and at least one. It uses as many
// spans as fit, and at most so many.
func claimFilter(index int, ips []netip.Addr, most int) []bpf.Instruction {
	for {
		program := receivedOn(index)
		spans := spansOf(ips, most)
		if ips[0].Is4() {
			program = append(program, arpClaims(spans)...)
		} else {
			program = append(program, discoveryClaims(spans)...)
		}
		if len(program) <= filterMost {
			return program
		}
		most = len(spans) / 2
	}
}

// receivedOn refuses what was sent or looped back here, what is for another machine, and what belongs to an
// interface on top: the kernel shows a frame for a VLAN or macvlan to the sockets of the lower interface too, without
// its tag. A frame for a VLAN that is not set up here counts as another machine's.
func receivedOn(index int) []bpf.Instruction {
	const toMulticast = 2 // PACKET_MULTICAST of linux/if_packet.h, after PACKET_HOST and PACKET_BROADCAST
	return guarded([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: toMulticast, SkipTrue: refuse},
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(index), SkipTrue: refuse},
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}, // kept where a switch chip uses tags of its own
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: refuse},
	})
}

// arpClaims lets ARP packets through whose sender protocol address lies in a span.
func arpClaims(spans []span) []bpf.Instruction {
	const hardware, lengths, sender = ethernetLen, ethernetLen + 4, ethernetLen + 14
	program := guarded([]bpf.Instruction{
		bpf.LoadAbsolute{Off: hardware, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0001_0800, SkipTrue: refuse},
		bpf.LoadAbsolute{Off: lengths, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0604, SkipTrue: refuse},
	})
	program = append(program, bpf.LoadAbsolute{Off: sender, Size: 4})
	return within(program, spans)
}

// discoveryClaims lets neighbour advertisements through whose target lies in a span, and neighbour and router
// solicitations whose source does.
func discoveryClaims(spans []span) []bpf.Instruction {
	const nextHeader, hopLimit, source = ethernetLen + 6, ethernetLen + 7, ethernetLen + 8
	const kind, target = ethernetLen + ipv6Len, ethernetLen + ipv6Len + 8
	fromSource, fromTarget := foldedKey(source), foldedKey(target)
	program := guarded([]bpf.Instruction{
		bpf.LoadAbsolute{Off: nextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoICMP6, SkipTrue: refuse},
		bpf.LoadAbsolute{Off: hopLimit, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: ndHopLimit, SkipTrue: refuse},
		bpf.LoadAbsolute{Off: kind, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6NeighborAdvertisement, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6NeighborSolicitation, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmp6RouterSolicitation, SkipTrue: refuse},
	})
	program = append(program,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6NeighborAdvertisement, SkipTrue: uint8(len(fromSource)) + 1})
	program = append(program, fromSource...)
	program = append(program, bpf.Jump{Skip: uint32(len(fromTarget))})
	program = append(program, fromTarget...)
	return within(program, spans)
}

// foldedKey computes claimKey of the IPv6 address at off.
func foldedKey(off uint32) []bpf.Instruction {
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: 4}}
	for word := uint32(4); word < 16; word += 4 {
		program = append(program,
			bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: keyFactor}, bpf.TAX{},
			bpf.LoadAbsolute{Off: off + word, Size: 4}, bpf.ALUOpX{Op: bpf.ALUOpAdd})
	}
	return program
}

// guarded closes a list of conditions: the program goes on behind it when no jump to refuse was taken.
func guarded(program []bpf.Instruction) []bpf.Instruction {
	end := len(program) + 1
	for i, in := range program {
		if jump, ok := in.(bpf.JumpIf); ok && jump.SkipTrue == refuse {
			jump.SkipTrue = uint8(end - i - 1)
			program[i] = jump
		}
	}
	return append(program, bpf.Jump{Skip: 1}, bpf.RetConstant{Val: 0})
}

// within adds what lets the frame through when the key in the accumulator lies in one of the sorted spans, and ends
// the program.
//
// Keys are compared by their distance from the first: the kernel needs one instruction more for each constant of
// 2^31 or more, and old kernels limit the size of a program (net.core.optmem_max) to 20 kB.
func within(program []bpf.Instruction, spans []span) []bpf.Instruction {
	base := spans[0].lo
	near := make([]span, len(spans))
	for i, s := range spans {
		near[i] = span{s.lo - base, s.hi - base}
	}
	program = slices.Grow(program, 3*len(spans)+8)
	return search(append(program, bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: base}), near)
}

func search(program []bpf.Instruction, spans []span) []bpf.Instruction {
	if len(spans) <= leafSpans {
		return leaf(program, spans)
	}
	mid := len(spans) / 2
	at := len(program)
	// A conditional jump reaches 255 instructions, which is enough for this many spans; an unconditional one any.
	const near = 64
	if mid <= near {
		program = search(append(program, nil), spans[:mid])
		program[at] = bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[mid].lo, SkipTrue: uint8(len(program) - at - 1)}
	} else {
		program = search(append(program, nil, nil), spans[:mid])
		program[at] = bpf.JumpIf{Cond: bpf.JumpLessThan, Val: spans[mid].lo, SkipTrue: 1}
		program[at+1] = bpf.Jump{Skip: uint32(len(program) - at - 2)}
	}
	return search(program, spans[mid:])
}

// leaf compares the few spans that are left, and ends this branch of the program.
func leaf(program []bpf.Instruction, spans []span) []bpf.Instruction {
	size := 0
	for _, s := range spans {
		size++
		if s.lo != s.hi {
			size++
		}
	}
	refusal := len(program) + size
	to := func(end int) uint8 { return uint8(end - len(program) - 1) }
	for _, s := range spans {
		if s.lo == s.hi {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: s.lo, SkipTrue: to(refusal + 1)})
			continue
		}
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: s.lo, SkipTrue: to(refusal)},
			bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: s.hi, SkipTrue: to(refusal)}) // one further on, to the one after
	}
	return append(program, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: filterSpace})
}
