// Package probe notices within about a second that a node is lost, by asking the health port of its agent.
//
// Judge decides and Prober asks. Judge is pure: time and answers are arguments, the same calls give the same results.
// Prober owns the sockets and the clock, and decides nothing. Neither knows of Kubernetes, logs, or does anything
// about a lost node: they say what they found, and cloud passes it on.
//
// # When a node is lost
//
// A node is asked once each interval by opening a TCP connection. Accepted and refused both prove that the host lives.
// A port that has never accepted one is not judged: a firewall may drop what is sent to it, or refuse it in the name of
// a host that is well, or gone.
// A node that was silent is asked [Asks] times in each of the following rounds, and has been silent in such a round
// only if none of them was answered. Threshold silent rounds in a row are followed by a burst of [Asks] more within
// 200 ms; when it stays silent too, the node is lost. An answer counts whenever it comes: connections stay open for
// 1.5 s, in which the kernel repeats the SYN once, and at the defaults a loss takes less than that.
//
// # How sure that is
//
// Let p be the chance that one connection stays unanswered although the host lives: 0.2 when 20 percent of the packets
// are lost on the way there or on the way back, and 0.36 = 1 - 0.8² when they are on both. At the defaults (300 ms, 3)
// a loss takes 1 + 5 + 5 silent connections in three rounds and 5 in the burst, K = 16 together. Five minutes are 1,000
// rounds, and silence may begin in each, so the chance of one false loss in five minutes is at most
//
//	1000 p^K = 1000 · 0.2^16  = 7e-9   (one way)
//	           1000 · 0.36^16 = 8e-5   (both ways)
//
// for one node, and 7e-7 and 8e-3 for one of 100. Asking once in every round (K = 3 + 5) would make that 3e-3 and 0.28
// for a single node. It costs four more connections for each node that was silent just now: at p = 0.36 a round opens
// twice as many as usual. A threshold of 1 has K = 6 and is for networks that lose nothing.
//
// # How long that takes
//
// A round is judged when half of its interval is over. The first unanswered connection is opened within one interval
// after the loss; the third round is judged 2.5 intervals after that one began, and the burst lasts 200 ms and waits
// another 100 ms: at the defaults 1.05 s to 1.35 s, 1.2 s in the mean.
//
// # Before anybody acts on it
//
// One that stands by for the leader asks and judges as well, and reports nothing. When it leads it takes over how long
// each node has been silent, as long as it asked without a gap and where the node still is, and none of its conclusions:
// silence that is long enough is followed by a burst that begins then, and a doubt counts everybody who is silent.
package probe

import "time"

const (
	// Asks is how many connections are opened to a node that was silent, in each round and in the burst.
	Asks = 5
	// BurstLength is how long a burst takes: its connections are opened in the first 200 ms.
	BurstLength = 300 * time.Millisecond

	// burstDelay is how much later than that a burst may be collected and still prove anything.
	burstDelay = 150 * time.Millisecond
	// caution lasts for this long after a false loss.
	caution = 10 * time.Minute
	// together is the least time within which losses count as one event.
	together = 10 * time.Second
)

// Answer is what came of asking a node in one round or one burst.
type Answer int8

const (
	// Void: nothing was learnt. The node was not asked, or asking it failed for a reason of our own.
	Void Answer = iota
	// Silent: nothing came back in time, or a router said that the host cannot be reached.
	Silent
	// Refused: the host lives, and nothing listens on the port.
	Refused
	// Accepted: the host lives, and its agent listens.
	Accepted
)

// alive says whether the answer proves that the host lives.
func (a Answer) alive() bool { return a == Refused || a == Accepted }

func (a Answer) String() string {
	return [...]string{"void", "silent", "refused", "accepted"}[a]
}

// Options of the judgement; cloud-config's failover.
type Options struct {
	// Interval between two rounds.
	Interval time.Duration
	// Threshold is how many silent rounds in a row come before the burst.
	Threshold int
}

// roundLength is how long after its beginning a round is judged.
func (o Options) roundLength() time.Duration { return o.Interval / 2 }
