package cloud

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// tokenInterval is how often token files are read again.
const tokenInterval = 10 * time.Second

// tenants are the accounts at the cloud that the cloud-config names.
type tenants struct {
	room     *room
	accounts *hetzner.Accounts
	// clusterUID and clusterName mark what is bought.
	clusterUID, clusterName string

	mu sync.Mutex
	// of are those that are looked after, by key; ctx is that of their work, nil before it began.
	of  map[string]*tenant
	ctx context.Context
	// config is the one in force.
	config *config.Config
}

// load takes over the accounts of a cloud-config. An error names every token file that cannot be used, and changes
// nothing.
func (t *tenants) load(cfg *config.Config) error {
	if err := t.accounts.Load(cfg); err != nil {
		return fmt.Errorf("cloud-config: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.config = cfg
	return nil
}

// rental says which pool belongs to which account.
func (t *tenants) rental(cfg *config.Config) ledger.Rental {
	r := ledger.Rental{ClusterUID: t.clusterUID, ClusterName: t.clusterName, Accounts: map[string]string{}, Orphans: map[string]bool{}}
	for _, a := range t.accounts.All() {
		r.Orphans[a.Key()] = cfg.Hetzner != nil && cfg.Hetzner.ReleaseOrphans
	}
	for i := range cfg.Pools {
		if p := &cfg.Pools[i]; p.Hetzner != nil {
			if a := t.accounts.Of(p.Hetzner.Account); a != nil {
				r.Accounts[p.Name] = a.Key()
			}
		}
	}
	return r
}

// states are how calls to the accounts fare.
func (t *tenants) states() []accountState {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []accountState
	for _, a := range t.accounts.All() {
		s := accountState{account: a.Key(), tokenRefused: a.Rejected() != ""}
		s.remaining, s.limit, s.known = a.Budget()
		if x := t.of[a.Key()]; x != nil {
			x.mu.Lock()
			s.failures = x.failures
			x.mu.Unlock()
		}
		all = append(all, s)
	}
	return all
}

// run looks after the accounts until the context ends.
func (t *tenants) run(ctx context.Context) {
	t.mu.Lock()
	t.ctx = ctx
	t.mu.Unlock()
	t.follow()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.room.stopped:
			return
		case <-t.room.options.Clock.After(tokenInterval):
			t.reread(ctx)
		}
	}
}

// follow has every account looked after that the cloud-config names, and no other.
func (t *tenants) follow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx == nil {
		return
	}
	all := t.accounts.All()
	for key, x := range t.of {
		if !slices.Contains(all, x.account) {
			x.cancel()
			delete(t.of, key)
		}
	}
	for _, a := range all {
		if t.of[a.Key()] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(t.ctx)
		x := newTenant(t.room, a)
		x.cancel = cancel
		t.of[a.Key()] = x
		t.room.working.Go(func() { x.run(ctx) })
	}
}

// wake has the accounts looked at that have something to do.
func (t *tenants) wake(e ledger.Effects) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range e.Accounts {
		if x := t.of[key]; x != nil {
			x.wake()
		}
	}
	for key := range e.Reads {
		if x := t.of[key]; x != nil {
			x.readSoon()
		}
	}
}

// reread looks for new tokens. One that does not show the cluster's servers is of another project, and is not used:
// with it everything that is ours would seem to be gone.
func (t *tenants) reread(ctx context.Context) {
	logger := klog.FromContext(ctx)
	changed, err := t.accounts.Reread()
	if err != nil {
		logger.Error(err, "Token files could not be read again; the tokens stay in use")
	}
	if len(changed) > 0 {
		t.mu.Lock()
		cfg := t.config
		t.mu.Unlock()
		if err := t.room.ledger().SetConfig(cfg, t.rental(cfg), t.room.options.Clock.Now()); err != nil {
			logger.Error(err, "Accounts could not be parted")
		}
		t.follow()
		t.room.drain()
	}
	for _, a := range t.accounts.All() {
		if c := a.Candidate(); c != nil {
			t.judge(ctx, a, c)
		}
	}
}

// accept takes a new token into use. False: the file has changed again.
func (t *tenants) accept(a, candidate *hetzner.Account) bool {
	t.mu.Lock()
	x := t.of[a.Key()]
	t.mu.Unlock()
	if x == nil {
		return candidate.Accept()
	}
	return x.accept(candidate)
}

// judge takes a new token into use, or says why not.
func (t *tenants) judge(ctx context.Context, a, candidate *hetzner.Account) {
	if !candidate.Ready(false).IsZero() {
		return
	}
	now := t.room.options.Clock.Now
	inventory, err := candidate.Inventory(ctx, true)
	var why string
	switch {
	case hetzner.KindOf(err) == hetzner.Unauthorized:
		why = err.Error()
	case err != nil:
		return // it is looked at again
	case !t.room.ledger().Proves(inventory.Servers):
		why = fmt.Sprintf("none of its %d servers is a Node of this cluster: it is that of another project", len(inventory.Servers))
	default:
		if t.accept(a, candidate) {
			t.room.tellPod(corev1.EventTypeNormal, eventTokenAccepted, "the new token of account "+a.Key()+" is in use")
			t.room.ledger().TokenChanged(a.Key(), now())
			t.room.ledger().Inventory(a.Key(), inventory, now())
			t.room.drain()
			t.wake(ledger.Effects{Reads: map[string]bool{a.Key(): true}})
		}
		return
	}
	if candidate.Reject(why) {
		t.room.tellPod(corev1.EventTypeWarning, eventTokenRefused, "the new token of account "+a.Key()+" is not used, the last good one stays: "+why)
	}
}
