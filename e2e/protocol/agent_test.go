package protocol

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"

	"github.com/go-logr/logr"

	"github.com/mooring-lb/mooring/agent"
	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// liveTimeout is how long a live read of the agent may take.
const liveTimeout = time.Second

// quiet is the context of everything: nobody reads what the product logs.
var quiet = klog.NewContext(context.Background(), logr.Discard())

// agentProcess is what stands around a Keeper: the watch of its object, the writer of its status, its turns.
type agentProcess struct {
	w       *world
	machine *machine
	process *process
	client  *client
	keeper  *agent.Keeper
	// lag is how long each turn waits for its processor.
	lag time.Duration

	object  *v1alpha1.NodeAddresses
	online  bool
	orders  map[int64]*v1alpha1.NodeAddresses // what the object said, by generation
	due     time.Duration                     // of the next turn; negative: none is planned
	turns   int
	wanted  *v1alpha1.NodeAddressesStatus
	known   *v1alpha1.NodeAddresses // as the API server is known to have it
	writing bool
	backoff time.Duration
}

func newAgentProcess(w *world, m *machine) *agentProcess {
	p := &process{name: "agent on " + m.name}
	return &agentProcess{w: w, machine: m, process: p, client: &client{w: w, process: p}}
}

// start runs a new agent on what the host has.
func (a *agentProcess) start() {
	a.process.start()
	a.keeper = agent.NewKeeper(a.machine, agent.Options{NodeName: a.machine.name, BootID: a.machine.bootID(), HealthPort: 10269}, nil)
	a.object, a.online, a.orders, a.due = nil, false, map[int64]*v1alpha1.NodeAddresses{}, -1
	a.wanted, a.known, a.writing, a.backoff = nil, nil, false, 0
	first := true
	wt := a.client.watch(addresses, a.machine.name, a.changed, func() { a.wake(0) })
	wt.asked = func(online bool) {
		if online && !first {
			a.keeper.Reconnected()
			a.wake(0)
		}
		first = first && !online
		if a.online != online {
			a.online = online
			a.wake(0)
		}
	}
	a.wake(0)
}

// stop ends the agent; the host stays as it is.
func (a *agentProcess) stop() {
	a.w.kill(a.process)
	a.client.forget()
}

func (a *agentProcess) changed(_ string, _, is any) {
	a.object, _ = is.(*v1alpha1.NodeAddresses)
	if a.object != nil {
		a.saw(a.object)
	}
	a.wake(0)
}

func (a *agentProcess) saw(o *v1alpha1.NodeAddresses) {
	if a.known == nil || a.known.UID != o.UID || len(a.known.ResourceVersion) < len(o.ResourceVersion) ||
		len(a.known.ResourceVersion) == len(o.ResourceVersion) && a.known.ResourceVersion < o.ResourceVersion {
		a.known = o
	}
}

// notice tells the agent of an event on its host, if it runs.
func (a *agentProcess) notice(e netif.Event) {
	if a.process.alive {
		a.w.after(a.process, 0, func() {
			a.keeper.Notice(e)
			a.wake(0)
		})
	}
}

// wake has the keeper take its turn after a while, or sooner.
func (a *agentProcess) wake(after time.Duration) {
	at := a.w.now + after + a.lag
	if a.due >= 0 && a.due <= at {
		return
	}
	a.due = at
	a.turns++
	turn := a.turns
	a.w.after(a.process, at-a.w.now, func() {
		if a.turns == turn {
			a.turn()
		}
	})
}

func (a *agentProcess) turn() {
	a.due = -1
	if a.object != nil {
		if o := a.orders[a.object.Generation]; o == nil || o.UID != a.object.UID {
			a.orders[a.object.Generation] = a.object
		}
	}
	a.keeper.Object(a.object, a.online)
	wait := a.keeper.Turn(quiet, a.w.time())
	if status, ok := a.keeper.Report(); ok {
		a.w.check.acknowledged(a, &status)
		a.wanted = &status
	}
	a.write()
	if a.keeper.Asks() {
		a.ask()
	}
	a.wake(max(wait, time.Millisecond))
}

// ask reads the object live, within a second.
func (a *agentProcess) ask() {
	answered := false
	answer := func(o *v1alpha1.NodeAddresses, err error) {
		if answered {
			return
		}
		answered = true
		if o != nil {
			a.orders[o.Generation] = o
		}
		a.keeper.Answered(o, err)
		a.wake(0)
	}
	a.w.after(a.process, liveTimeout, func() { answer(nil, errNoAnswer) })
	a.w.spawn(a.process, func() {
		var o *v1alpha1.NodeAddresses
		err := a.client.call(func() error {
			if o = a.w.api.addresses(a.machine.name); o == nil {
				return notFound(addresses, a.machine.name)
			}
			return nil
		})
		if !a.w.current.ended {
			answer(o, err)
		}
	})
}

// write reports the newest status, one call at a time.
func (a *agentProcess) write() {
	if a.writing || !a.unwritten() {
		return
	}
	a.writing = true
	a.w.spawn(a.process, func() {
		for a.unwritten() {
			status := *a.wanted
			err := a.client.call(func() error {
				o, err := a.w.api.report(a.machine.name, status)
				if err == nil {
					a.w.log("api: %s reports generation %d, pending %v, failed %v, contested %v", a.machine.name,
						status.ObservedGeneration, status.Pending, status.Failed, status.Contested)
					a.w.after(a.process, 0, func() { a.saw(o) })
				}
				return err
			})
			if err == nil {
				a.backoff = 0
				if !a.w.sleep(0) {
					return
				}
				continue
			}
			a.backoff = min(max(250*time.Millisecond, 2*a.backoff), 5*time.Second)
			if !a.w.sleep(a.backoff) {
				return
			}
		}
		a.writing = false
	})
}

func (a *agentProcess) unwritten() bool {
	return a.wanted != nil && a.known != nil && a.known.UID == a.wanted.ObjectUID &&
		!equality.Semantic.DeepEqual(*a.wanted, a.known.Status)
}
