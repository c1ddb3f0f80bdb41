package probe

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// patience is how long a connection that nobody answers stays open. It covers the second SYN, which the kernel
	// sends after one second (RFC 6298, section 2.1).
	patience = 1500 * time.Millisecond
	// volleys of a round follow each other at this distance, so that many nodes are not asked in one burst.
	volleyDistance = 5 * time.Millisecond
	// burstSpread is the time in which the connections of a burst are opened.
	burstSpread = 200 * time.Millisecond
)

// Target is a node and where to ask it.
type Target struct {
	Node
	// Addresses of its health port. The first one is asked; all of them are once the node was silent. A node without
	// any is not asked.
	Addresses []netip.AddrPort
}

// Prober asks all targets once in each interval, and has a Judge judge their answers.
type Prober struct {
	targets func() []Target
	report  func([]Change)
	observe func(time.Duration)
	clock   clock.PassiveClock
	open    func(context.Context) (network, error)

	mu      sync.Mutex // of what follows
	options Options
	judge   *Judge
	// standing by: nothing is reported. lead is what Lead was given, until that is done.
	standing bool
	lead     func()
}

// network opens connections. It is used by one goroutine.
type network interface {
	// ask opens a connection. What is answered later, wait reports; Silent says that nothing is answered yet, Void
	// that the connection could not be opened for a reason of our own.
	ask(now time.Time, to netip.AddrPort, q question) Answer
	// wait for so long, or until answers arrive or the context of the network is done. It closes connections that
	// were answered or are older than patience.
	wait(now time.Time, atMost time.Duration, heard func(question, Answer)) error
	close() error
}

// question is one connection.
type question struct {
	node, uid string
	port      uint16
	asked     time.Time
	of        *inquiry
}

// inquiry is a round or a burst.
type inquiry struct {
	began   time.Time
	answers map[string]Answer
	volleys int // that are still to be sent
	judged  bool
}

// volley is what is sent at one moment of an inquiry.
type volley struct {
	after   time.Duration
	targets []Target
	// everywhere: all addresses are asked.
	everywhere bool
}

// NewProber returns a prober for Run. In the beginning of each round it asks for the targets, which must be quick.
// News is reported in order, from another goroutine, so that no round waits for a slow report. The time that each
// answer took is observed in the goroutine of Run; observe may be nil.
func NewProber(options Options, targets func() []Target, report func([]Change), observe func(time.Duration)) *Prober {
	if observe == nil {
		observe = func(time.Duration) {}
	}
	return &Prober{
		targets: targets, report: report, observe: observe, clock: clock.RealClock{}, open: openNetwork,
		options: options, judge: NewJudge(options),
	}
}

// Configure changes the options from the next round on.
func (p *Prober) Configure(options Options) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.options = options
	p.judge.Configure(options)
}

// StandBy has the prober ask and judge, and report nothing before Lead; it is called before Run.
func (p *Prober) StandBy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.standing = true
	p.judge.StandBy()
}

// Lead ends StandBy: the targets are asked for again, what is known of the same nodes at the same addresses goes on as
// Judge.Lead says, and is reported. Then sure is called, once; when the prober does not stand by, at once.
func (p *Prober) Lead(sure func()) {
	p.mu.Lock()
	standing := p.standing
	if standing {
		p.lead = sure
	}
	p.mu.Unlock()
	if !standing {
		sure()
	}
}

// FalseLoss tells the Judge that a node which was lost is not.
func (p *Prober) FalseLoss(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge.FalseLoss(node, p.clock.Now())
}

// Stats for metrics.
func (p *Prober) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.judge.Stats(p.clock.Now())
}

// Run asks until ctx is done, and until the last report has returned. It returns an error only when this machine
// cannot ask at all.
func (p *Prober) Run(ctx context.Context) error {
	net, err := p.open(ctx)
	if err != nil {
		return err
	}
	news := newReporter(p.report)
	defer news.close()
	r := &run{Prober: p, net: net, news: news}
	r.at(p.clock.Now(), r.round)
	for ctx.Err() == nil && err == nil {
		err = r.step()
	}
	if closed := net.close(); err == nil {
		err = closed
	}
	return err
}

// run is what a running Prober works with, in one goroutine.
type run struct {
	*Prober
	net    network
	news   *reporter
	known  map[string]Target
	agenda []task // in order of time
}

type task struct {
	at time.Time
	do func(now time.Time)
}

// at puts a task on the agenda, behind those of the same time.
func (r *run) at(t time.Time, do func(now time.Time)) {
	i, _ := slices.BinarySearchFunc(r.agenda, t, func(other task, t time.Time) int {
		if other.at.After(t) {
			return 1
		}
		return -1
	})
	r.agenda = slices.Insert(r.agenda, i, task{t, do})
}

// step waits for answers until a task is due, and does it.
func (r *run) step() error {
	now := r.clock.Now()
	if err := r.net.wait(now, max(0, r.agenda[0].at.Sub(now)), r.heard); err != nil {
		return err
	}
	now = r.clock.Now()
	if next := r.agenda[0]; !now.Before(next.at) {
		// What arrived up to now was heard before this is done: silence is never judged while an answer waits.
		r.agenda = r.agenda[1:]
		next.do(now)
	}
	return nil
}

// round begins a round, and has the next one begin after it. Who is not suspected is asked in the first quarter of the
// interval; the suspects five times in the first third; and the round is judged in the middle.
func (r *run) round(now time.Time) {
	targets := r.set()
	r.mu.Lock()
	interval, length := r.options.Interval, r.options.roundLength()
	names := r.judge.Suspects(now)
	r.mu.Unlock()
	r.at(now.Add(interval), r.round)

	suspects := r.find(names)
	others := slices.DeleteFunc(slices.Clone(targets), func(t Target) bool {
		_, suspect := slices.BinarySearch(names, t.Name)
		return suspect
	})
	plan := repeat(suspects, interval/3)
	if len(others) > 0 {
		volleys := max(1, int(interval/4/volleyDistance))
		var after time.Duration
		for group := range slices.Chunk(others, (len(others)+volleys-1)/volleys) {
			plan = append(plan, volley{after: after, targets: group})
			after += volleyDistance
		}
	}
	r.inquire(now, plan, length, interval/6, func(round *inquiry, now time.Time) {
		r.mu.Lock()
		confirm, changes := r.judge.Round(round.began, now, round.answers)
		r.mu.Unlock()
		r.tell(changes)
		sure := r.takeOver()
		if sure == nil {
			r.burst(now, r.find(confirm), func() {})
			return
		}
		r.mu.Lock()
		confirm, changes = r.judge.Lead(now)
		r.mu.Unlock()
		r.tell(changes)
		r.burst(now, r.find(confirm), func() { r.news.then(sure) })
	})
}

// set asks for the targets, and has the judge know them.
func (r *run) set() []Target {
	targets := r.targets()
	known := make(map[string]Target, len(targets))
	nodes := make([]Node, len(targets))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, target := range targets {
		nodes[i] = target.Node
		known[target.Name] = target
		if before, ok := r.known[target.Name]; ok && !slices.Equal(before.Addresses, target.Addresses) {
			r.judge.Elsewhere(target.Name)
		}
	}
	r.known = known
	r.judge.Set(nodes)
	return targets
}

// takeOver ends standing by when Lead was called, and returns what that was given; else nil.
func (r *run) takeOver() func() {
	r.mu.Lock()
	sure := r.lead
	if sure != nil {
		r.lead, r.standing = nil, false
	}
	r.mu.Unlock()
	if sure != nil {
		r.set() // live ones: what a standby has seen may be old
	}
	return sure
}

// tell what is new, unless nobody acts on it yet.
func (r *run) tell(changes []Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.standing {
		r.news.add(changes)
	}
}

// burst asks the nodes Asks times within 200 ms, and calls then when it is judged, or there is none to ask.
func (r *run) burst(now time.Time, targets []Target, then func()) {
	if len(targets) == 0 {
		then()
		return
	}
	r.inquire(now, repeat(targets, burstSpread), BurstLength, BurstLength-burstSpread, func(burst *inquiry, now time.Time) {
		r.mu.Lock()
		changes := r.judge.Confirmed(burst.began, now, burst.answers)
		r.mu.Unlock()
		r.tell(changes)
		then()
	})
}

// repeat plans Asks volleys at all addresses within the time.
func repeat(targets []Target, within time.Duration) []volley {
	if len(targets) == 0 {
		return nil
	}
	plan := make([]volley, Asks)
	for i := range plan {
		plan[i] = volley{within * time.Duration(i) / (Asks - 1), targets, true}
	}
	return plan
}

// inquire sends volleys and has the answers judged after this length, and not sooner than the margin after the last
// volley, should we be slow.
func (r *run) inquire(began time.Time, plan []volley, length, margin time.Duration, judge func(*inquiry, time.Time)) {
	in := &inquiry{began: began, answers: map[string]Answer{}, volleys: len(plan)}
	end := func(now time.Time) {
		in.judged = true
		judge(in, now)
	}
	if len(plan) == 0 {
		r.at(began.Add(length), end)
	}
	for _, v := range plan {
		r.at(began.Add(v.after), func(time.Time) {
			for _, target := range v.targets {
				r.ask(target, v.everywhere, in)
			}
			if in.volleys--; in.volleys == 0 {
				at := began.Add(length)
				if safe := r.clock.Now().Add(margin); safe.After(at) {
					at = safe
				}
				r.at(at, end)
			}
		})
	}
}

// ask a node once. The answer is Void when there was no address that could be asked.
func (r *run) ask(target Target, everywhere bool, in *inquiry) {
	now, addresses := r.clock.Now(), target.Addresses
	if !everywhere && len(addresses) > 1 {
		addresses = addresses[:1]
	}
	all := Void
	for _, to := range addresses {
		q := question{target.Name, target.UID, target.Port, now, in}
		switch answer := r.net.ask(now, to, q); answer {
		case Void:
		case Silent:
			all = max(all, Silent)
		default:
			all = Silent
			r.heard(q, answer)
		}
	}
	if before, known := in.answers[target.Name]; !before.alive() && (!known || all == Void) {
		in.answers[target.Name] = all
	}
}

// heard takes an answer.
func (r *run) heard(q question, answer Answer) {
	if of := r.known[q.node]; of.UID != q.uid || of.Port != q.port {
		return
	}
	r.observe(r.clock.Since(q.asked))
	if !q.of.judged {
		q.of.answers[q.node] = answer
		return
	}
	r.mu.Lock()
	changes := r.judge.Heard(q.node, answer)
	r.mu.Unlock()
	r.tell(changes)
}

// find the targets of these names.
func (r *run) find(names []string) []Target {
	targets := make([]Target, 0, len(names))
	for _, name := range names {
		targets = append(targets, r.known[name])
	}
	return targets
}
