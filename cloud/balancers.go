package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/updater"
)

// balancers are the external load balancers of the updater pools: one worker for each, which is told what the ledger
// wants behind each port, and says how far it is.
type balancers struct {
	room *room

	// mu keeps what is wanted and what is reported of a port in order: what is set, and what is seen, is the newest.
	mu      sync.Mutex
	workers map[string]*balancer
	// ctx of the workers; nil before they run.
	ctx context.Context
}

type balancer struct {
	*updater.Worker
	cancel context.CancelFunc
	// running is false until the workers of all pools run.
	running bool
}

// follow has every updater pool of a cloud-config looked after, and no other. The error names what cannot be used.
func (b *balancers) follow(cfg *config.Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var mistakes []error
	wanted := map[string]bool{}
	for i := range cfg.Pools {
		p := &cfg.Pools[i]
		if p.Updater == nil {
			continue
		}
		wanted[p.Name] = true
		if x := b.workers[p.Name]; x != nil {
			if err := x.SetConfig(p.Updater, cfg.ResyncInterval); err != nil {
				mistakes = append(mistakes, fmt.Errorf("pool %q: %w", p.Name, err))
			}
			continue
		}
		x, err := b.worker(p, cfg.ResyncInterval)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("pool %q: %w", p.Name, err))
			continue
		}
		b.workers[p.Name] = x
		// What was wanted of the pool before it had a worker was told to nobody.
		b.tell(b.room.ledger().Backends(p.Name))
	}
	for pool, x := range b.workers {
		if !wanted[pool] {
			if x.cancel != nil {
				x.cancel()
			}
			delete(b.workers, pool)
		}
	}
	b.runAll()
	return errors.Join(mistakes...)
}

func (b *balancers) worker(p *config.Pool, resync time.Duration) (*balancer, error) {
	name := p.Name
	w, err := updater.NewWorker(updater.Options{
		Prefix:         updater.Prefix(b.room.options.ClusterName, b.room.tenants.clusterUID),
		Updater:        p.Updater,
		ResyncInterval: resync,
		Transport:      b.room.options.Updater,
		Clock:          b.room.options.Clock,
		Version:        b.room.options.Version,
		Changed:        func(k updater.Key) { b.changed(name, k) },
		Observe:        func(c updater.Call) { b.observe(name, c) },
	})
	if err != nil {
		return nil, err
	}
	return &balancer{Worker: w}, nil
}

// run has the workers make their calls until the context ends. They are told what every Service wants first: what nobody
// uses is cleared after that.
func (b *balancers) run(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ctx = ctx
	for pool := range b.workers {
		b.tell(b.room.ledger().Backends(pool))
	}
	b.runAll()
}

func (b *balancers) runAll() {
	if b.ctx == nil {
		return
	}
	for pool, x := range b.workers {
		if x.running {
			continue
		}
		ctx, cancel := context.WithCancel(b.ctx)
		x.running, x.cancel = true, cancel
		var unused []updater.Key
		for _, k := range b.room.ledger().UnusedPorts(pool) {
			unused = append(unused, updater.Key{Port: k.Port, Protocol: k.Protocol})
		}
		x.SweepUnused(unused)
		b.room.working.Go(func() { x.Run(ctx) })
	}
}

// apply tells the workers what the ledger wants of some ports now.
func (b *balancers) apply(keys map[ledger.BackendKey]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(keys)
}

func (b *balancers) tell(keys map[ledger.BackendKey]bool) {
	for k := range keys {
		x := b.workers[k.Pool]
		if x == nil {
			continue
		}
		key := updater.Key{Port: k.Port, Protocol: k.Protocol}
		v := b.room.ledger().Backend(k)
		switch {
		case !v.Held:
			// It belongs to another pool now, or was abandoned. What was removed stays so: a call from before that timed
			// out may have its effect yet, and the worker looks to that.
			if x.State(key).Phase != updater.PhaseRemoved {
				x.Abandon(key)
			}
			continue
		case len(v.Targets) == 0:
			x.RemoveBackend(key)
		default:
			err := x.SetBackend(key, updater.Backend{
				Targets: v.Targets, ProxyTimeout: v.ProxyTimeout, ConnectTimeout: v.ConnectTimeout, Replaces: v.Replaces, Revision: v.Revision,
			})
			if err != nil {
				b.room.ledger().BackendState(k, ledger.BackendState{Trouble: err.Error()}, b.room.options.Clock.Now())
				continue
			}
		}
		b.report(k, x)
	}
}

// changed takes notice of a port of which the worker has something new to say.
func (b *balancers) changed(pool string, key updater.Key) {
	b.mu.Lock()
	if x := b.workers[pool]; x != nil {
		b.report(ledger.BackendKey{Pool: pool, Port: key.Port, Protocol: key.Protocol}, x)
	}
	b.mu.Unlock()
	b.room.drain()
}

// report tells the ledger how far a worker is with a port.
func (b *balancers) report(k ledger.BackendKey, x *balancer) {
	s := x.State(updater.Key{Port: k.Port, Protocol: k.Protocol})
	state := ledger.BackendState{Revision: s.Revision, Ready: s.Ready, Removed: s.Phase == updater.PhaseRemoved}
	var troubles []string
	for _, lag := range s.Lagging {
		if lag.Err != nil {
			troubles = append(troubles, lag.Err.Error())
		}
	}
	if s.Listening == updater.ListeningNo && s.Ready {
		troubles = append(troubles, s.Found)
	}
	state.Trouble = strings.Join(troubles, "; ")
	b.room.ledger().BackendState(k, state, b.room.options.Clock.Now())
}

// updaterHealth is how one URL of a pool answers.
type updaterHealth struct {
	pool string
	updater.Health
}

// health of every URL of every pool.
func (b *balancers) health() []updaterHealth {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []updaterHealth
	for pool, x := range b.workers {
		for _, h := range x.Health() {
			all = append(all, updaterHealth{pool, h})
		}
	}
	return all
}

// observe counts and logs what was done at an updater.
func (b *balancers) observe(pool string, c updater.Call) {
	result := "ok"
	if c.Err != nil {
		result = "error"
		klog.Background().Error(c.Err, "Updater", "pool", pool, "call", c.String())
	} else {
		klog.Background().V(2).Info("Updater", "pool", pool, "call", c.String(), "took", c.Took.Round(time.Millisecond))
	}
	b.room.metrics.pushes.WithLabelValues(pool, string(c.Why), result).Inc()
}
