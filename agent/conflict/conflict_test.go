package conflict

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestANewAddressIsBoundAfterASilence(t *testing.T) {
	w := newWorld(fresh(ip1), fresh(ip2), held(addr(1)), moved(addr(2)))
	assert.Equal(t, Tested, verdict(w, ip1))
	assert.Equal(t, Free, verdict(w, addr(1)), "what is bound already stays bound")
	assert.Equal(t, Free, verdict(w, addr(2)), "what was moved here is not probed")
	assert.Equal(t, Free, verdict(w, addr(3)), "what is not watched is free")
	assert.Empty(t, w.play(249*time.Millisecond))
	assert.Equal(t, Tested, verdict(w, ip1))
	assert.Equal(t, []string{"cleared 10.0.0.10", "cleared fd00::10"}, w.play(time.Millisecond))
	assert.Equal(t, Free, verdict(w, ip1))
	assert.Empty(t, w.play(time.Hour))
	assert.Equal(t, map[netip.Addr][]time.Duration{ip1: {0, probeGap}, ip2: {0, probeGap}}, w.probed)
	assert.Zero(t, w.asked)

	w.Watch(w.now, []Subject{held(ip1)})
	w.Watch(w.now, []Subject{fresh(ip1)})
	assert.Equal(t, Free, verdict(w, ip1), "what was removed by hand is bound again without a probe")
}

func TestASilenceDoesNotLastForEver(t *testing.T) {
	w := newWorld(fresh(ip1))
	w.play(time.Second)
	w.Watch(w.now, []Subject{fresh(ip1)})
	assert.Equal(t, Free, verdict(w, ip1))
	w.play(time.Hour)
	w.Watch(w.now, []Subject{fresh(ip1)})
	assert.Equal(t, Tested, verdict(w, ip1), "it was never bound: somebody else may have come since")
}

func TestANewAddressThatIsInUseIsLeftAlone(t *testing.T) {
	for name, loses := range map[string]func(int) bool{
		"no frame is lost":        func(int) bool { return false },
		"the first frame is lost": func(n int) bool { return n == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w, n := newWorld(fresh(ip1)), 0
			w.lose = func() bool { n++; return loses(n) }
			w.answers = always(them)
			assert.Equal(t, []string{"occupied 10.0.0.10"}, w.play(time.Hour))
			v, other := w.Verdict(ip1)
			assert.Equal(t, Taken, v)
			assert.Equal(t, them.String(), other)
			assert.InDelta(t, 1800, len(w.probed[ip1]), 5, "it is asked for every 2 s")

			w.answers = always(them, ip2) // it is switched off
			assert.Empty(t, w.play(4*time.Second))
			assert.Equal(t, Taken, verdict(w, ip1))
			assert.Equal(t, []string{"returned 10.0.0.10"}, w.play(3*time.Second))
			assert.Equal(t, Free, verdict(w, ip1))
			assert.False(t, w.Returning(ip1), "it was never bound here")
		})
	}
}

func TestThreeSilencesInARow(t *testing.T) {
	w, round := newWorld(fresh(ip1)), 0
	w.answers = func(netip.Addr) []net.HardwareAddr {
		round++
		if round%5 == 1 { // after one answer two rounds of two probes are silent
			return []net.HardwareAddr{them}
		}
		return nil
	}
	assert.Equal(t, []string{"occupied 10.0.0.10"}, w.play(time.Hour))
}

func TestWhoIsNotHeard(t *testing.T) {
	w := newWorld(held(ip1))
	assert.False(t, w.claim(ip1, us), "we ourselves")
	assert.False(t, w.claim(ip2, them), "for what is not ours")
	assert.False(t, w.Heard(w.now, "eth1", ip1, them), "on another segment")
	assert.Empty(t, w.play(time.Minute))
	assert.Empty(t, w.probed)
	w.Watch(w.now, nil)
	assert.False(t, w.claim(ip1, them), "for what is not watched any more")
}

func TestAStrayClaimIsSurvived(t *testing.T) {
	w := newWorld(held(ip1))
	for i := range 5 {
		assert.True(t, w.claim(ip1, them))
		assert.Equal(t, []string{"doubted 10.0.0.10"}, w.play(time.Millisecond))
		w.claim(ip1, them) // a request and a reply: the second one is no answer
		want := []string{"stray 10.0.0.10"}
		if i == 0 {
			want = append(want, "defend 10.0.0.10") // who believed it is told, but not each time
		}
		assert.Equal(t, want, w.play(time.Second))
		w.play(time.Second)
	}
	assert.Equal(t, Free, verdict(w, ip1))
	assert.Equal(t, 1, w.asked)
	assert.Empty(t, w.Contests())
	assert.Equal(t, []string{"defend 10.0.0.10"}, w.play(time.Minute), "who believed the later ones is told in the end")
	assert.Empty(t, w.play(time.Hour))

	// Also one that comes when the last one was found out just now.
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "stray 10.0.0.10", "defend 10.0.0.10"}, w.play(500*time.Millisecond))
	w.claim(ip1, them)
	assert.Equal(t, []string{"defend 10.0.0.10"}, w.play(time.Minute))
	assert.Empty(t, w.play(time.Hour))
}

// Who has announced an address just now, after an absence, still contradicts the claim that comes next.
func TestAStrayClaimAfterAnAnnouncement(t *testing.T) {
	w := newWorld(held(ip1))
	w.Recheck(w.now)
	assert.Equal(t, []string{"checked 10.0.0.10"}, w.play(time.Second))
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "stray 10.0.0.10", "defend 10.0.0.10"}, w.play(20*time.Second))

	// Somebody is there after all.
	w.play(time.Minute)
	w.Recheck(w.now)
	w.play(time.Second)
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "stray 10.0.0.10"}, w.play(5*time.Second))
	w.answers, w.holds = always(them), nil
	assert.Equal(t, []string{"answered 10.0.0.10", "yielded 10.0.0.10"}, w.play(time.Minute))
}

// Without an API server it takes longer until those are told that believed it, because nobody can say whose it is.
func TestAStrayClaimIsSurvivedWithoutAnAPIServer(t *testing.T) {
	w := newWorld(held(ip1))
	w.holds = nil
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "stray 10.0.0.10"}, w.play(4*time.Second))
	assert.Equal(t, []string{"defend 10.0.0.10"}, w.play(time.Second), "three rounds were silent")
	assert.Empty(t, w.play(time.Hour))
	assert.Equal(t, Free, verdict(w, ip1))

	w.claim(ip1, them)
	assert.Len(t, w.play(3*time.Second), 2)
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "stray 10.0.0.10"}, w.play(4*time.Second), "each claim has its own silences")
	assert.Equal(t, []string{"defend 10.0.0.10"}, w.play(time.Minute))
}

// A node that is cut off loses its probes, or the answers of its successor. It does not take the address back.
func TestACutOffNodeThatLosesItsProbesTellsNobody(t *testing.T) {
	for name, test := range map[string]struct {
		lost int
		want []string
	}{
		"the first round":  {2, []string{"doubted 10.0.0.10", "stray 10.0.0.10", "answered 10.0.0.10", "yielded 10.0.0.10"}},
		"the first two":    {4, []string{"doubted 10.0.0.10", "stray 10.0.0.10", "answered 10.0.0.10", "yielded 10.0.0.10"}},
		"all but the last": {5, []string{"doubted 10.0.0.10", "stray 10.0.0.10", "answered 10.0.0.10", "yielded 10.0.0.10"}},
		"the first frame":  {1, []string{"doubted 10.0.0.10", "answered 10.0.0.10", "yielded 10.0.0.10"}},
		"none":             {0, []string{"doubted 10.0.0.10", "answered 10.0.0.10", "yielded 10.0.0.10"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, sent := newWorld(held(ip1)), 0
			w.answers, w.holds, w.apiDelay = always(them), nil, time.Second
			w.lose = func() bool { sent++; return sent <= test.lost }
			w.claim(ip1, them)
			assert.Equal(t, test.want, w.play(time.Minute))
			assert.Equal(t, Taken, verdict(w, ip1))
		})
	}
}

// One that is not cut off for long learns from the API server that the address is not its own any more.
func TestAStrayClaimForWhatIsNotHeldAnyMoreIsNotContradicted(t *testing.T) {
	w := newWorld(held(ip1))
	w.holds = func(netip.Addr) bool { return false }
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "stray 10.0.0.10", "denied 10.0.0.10"}, w.play(time.Second))
}

func TestWhatIsConfirmedIsDefended(t *testing.T) {
	for name, subject := range map[string]Subject{"held": held(ip1), "moved here": {IP: ip1, Uplink: "eth0", Bound: true, Moved: true}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(subject)
			w.answers = always(them)
			w.claim(ip1, them)
			assert.Equal(t, []string{"doubted 10.0.0.10", "answered 10.0.0.10", "contested 10.0.0.10", "defend 10.0.0.10"}, w.play(time.Second))
			assert.Equal(t, []Contest{{IP: ip1, Uplink: "eth0", Other: them.String()}}, w.Contests())
			assert.Equal(t, Free, verdict(w, ip1))
			assert.Equal(t, 1, w.asked)

			// It claims the address all the time: one defence each ten seconds, each confirmed anew.
			defences := 0
			for range 100 {
				w.claim(ip1, them)
				for _, d := range w.play(time.Second) {
					if d == "defend 10.0.0.10" {
						defences++
					}
				}
			}
			assert.InDelta(t, 10, defences, 1)
			assert.Equal(t, defences+1, w.asked)

			w.answers = always(them, ip2)
			assert.Empty(t, w.play(29*time.Second))
			assert.Len(t, w.Contests(), 1)
			assert.Equal(t, []string{"settled 10.0.0.10", "defend 10.0.0.10"}, w.play(12*time.Second), "who still believes them is told")
			assert.Empty(t, w.Contests())
			assert.Empty(t, w.play(time.Hour))
		})
	}
}

func TestAnAnnouncementAfterAnAbsenceIsADefence(t *testing.T) {
	w := newWorld(held(ip1))
	w.Recheck(w.now)
	w.play(time.Second)
	w.answers = always(them)
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "answered 10.0.0.10", "contested 10.0.0.10"}, w.play(5*time.Second))
	assert.Equal(t, []string{"answered 10.0.0.10", "defend 10.0.0.10"}, w.play(10*time.Second))
}

func TestWhatCannotBeAskedForIsYielded(t *testing.T) {
	w := newWorld(held(ip1), held(ip2))
	w.answers, w.holds = always(them, ip1), nil
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "answered 10.0.0.10", "yielded 10.0.0.10"}, w.play(time.Second))
	assert.Equal(t, Taken, verdict(w, ip1))
	assert.Equal(t, Free, verdict(w, ip2), "nothing is heard about the other one")
	w.Watch(w.now, []Subject{fresh(ip1), held(ip2)})

	w.holds = func(netip.Addr) bool { return true }
	assert.Empty(t, w.play(time.Minute), "it stays with who has it, and the controller decides")
	w.answers, w.holds = always(them, ip2), nil
	assert.Equal(t, []string{"returned 10.0.0.10"}, w.play(7*time.Second))
	assert.True(t, w.Returning(ip1))
	w.Watch(w.now, []Subject{held(ip1), held(ip2)})
	assert.False(t, w.Returning(ip1))
}

func TestWhatIsDeniedIsNotAnnouncedAndLeftToTheObject(t *testing.T) {
	w := newWorld(held(ip1))
	w.answers, w.holds = always(them), func(netip.Addr) bool { return false }
	w.claim(ip1, them)
	assert.Equal(t, []string{"doubted 10.0.0.10", "answered 10.0.0.10", "denied 10.0.0.10"}, w.play(time.Second))
	assert.True(t, w.Checking(ip1))
	w.Watch(w.now, nil)
	assert.Empty(t, w.play(time.Hour))

	// It was given back at once: nothing of the denial stays.
	w = newWorld(held(ip1))
	w.answers, w.holds = always(them), func(netip.Addr) bool { return false }
	w.claim(ip1, them)
	w.play(time.Second)
	w.answers, w.holds = always(them, ip2), func(netip.Addr) bool { return true }
	assert.Contains(t, w.play(3*time.Second), "checked 10.0.0.10")
	assert.False(t, w.Checking(ip1))
}

func TestAfterAnAbsence(t *testing.T) {
	for name, test := range map[string]struct {
		answers, api, link bool
		want               []string
	}{
		"nobody came meanwhile":                       {false, true, false, []string{"checked 10.0.0.10"}},
		"nobody came, and the API server is away":     {false, false, false, []string{"checked 10.0.0.10"}},
		"somebody came, but it is still ours":         {true, true, false, []string{"answered 10.0.0.10", "checked 10.0.0.10", "contested 10.0.0.10"}},
		"somebody came, and the API server is away":   {true, false, false, []string{"yielded 10.0.0.10"}},
		"nobody came meanwhile, and the link is new":  {false, true, true, []string{"checked 10.0.0.10"}},
		"somebody came, and the link is a new one":    {true, true, true, []string{"answered 10.0.0.10", "checked 10.0.0.10", "contested 10.0.0.10"}},
		"somebody came, the link is new, API is away": {true, false, true, []string{"yielded 10.0.0.10"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(held(ip1))
			if test.answers {
				w.answers = always(them)
			}
			if !test.api {
				w.holds = nil
			}
			if test.link {
				w.Relinked(w.now, "eth0")
			} else {
				w.Recheck(w.now)
			}
			assert.True(t, w.Checking(ip1))
			assert.Empty(t, w.probed, "it asks before it probes")
			assert.Equal(t, test.want, w.play(time.Second))
			assert.False(t, w.Checking(ip1))
		})
	}
	w := newWorld(held(ip1))
	w.holds = func(netip.Addr) bool { return false }
	w.Recheck(w.now)
	assert.Equal(t, []string{"denied 10.0.0.10"}, w.play(time.Second))
	assert.Empty(t, w.probed, "what is not ours any more is not probed for")
	assert.True(t, w.Checking(ip1), "and not announced")
}

func TestRelinkedIsAboutItsUplink(t *testing.T) {
	w := newWorld(held(ip1))
	w.Relinked(w.now, "eth1")
	assert.False(t, w.Checking(ip1))
}

// What was silent while this process stood still may not have been heard.
func TestAnAbsenceEndsTheRoundsUnderWay(t *testing.T) {
	w := newWorld(fresh(ip1))
	w.play(150 * time.Millisecond)
	w.now = w.now.Add(time.Minute)
	w.Recheck(w.now)
	w.answers = always(them)
	assert.Equal(t, []string{"occupied 10.0.0.10"}, w.play(time.Second))
	w.answers = always(them, ip2)
	w.play(4 * time.Second)
	w.now = w.now.Add(time.Minute)
	w.Recheck(w.now)
	assert.Empty(t, w.play(3*time.Second), "the silences before do not count")
}

func TestAProbeThatCannotBeSentProvesNothing(t *testing.T) {
	w := newWorld(fresh(ip1), held(ip2))
	w.sendErr = errors.New("the link is down")
	w.claim(ip2, them)
	assert.Equal(t, []string{"doubted fd00::10"}, w.play(time.Minute))
	assert.Equal(t, Tested, verdict(w, ip1))
	w.Recheck(w.now)
	assert.Empty(t, w.play(time.Minute))
	assert.True(t, w.Checking(ip2))
	w.sendErr = nil
	assert.ElementsMatch(t, []string{"cleared 10.0.0.10", "checked fd00::10"}, w.play(2*time.Second))
}

func TestAMoveEndsAQuarantine(t *testing.T) {
	w := newWorld(fresh(ip1))
	w.answers = always(them)
	w.play(time.Second)
	assert.Equal(t, Taken, verdict(w, ip1))
	w.Watch(w.now, []Subject{moved(ip1)})
	assert.Equal(t, Free, verdict(w, ip1), "it was given to us from the machine that answers")

	w = newWorld(held(ip1))
	w.answers = always(them)
	w.claim(ip1, them)
	w.play(time.Second)
	assert.True(t, w.Watch(w.now, []Subject{{IP: ip1, Uplink: "eth1", Bound: true}}))
	assert.Empty(t, w.Contests(), "on another segment nobody is known")
	assert.Equal(t, map[string][]netip.Addr{"eth1": {ip1}}, w.Watched())
}
