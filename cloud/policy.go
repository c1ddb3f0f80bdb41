package cloud

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/cloud/externalips"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// repairPause is between a change of the policy's parameters that others made and its repair: two who repair the object
// against each other do so once a second.
const repairPause = time.Second

// policy keeps the parameters of the admission policy current. A nil one does nothing.
type policy struct {
	keeper *externalips.Keeper
	queue  workqueue.TypedRateLimitingInterface[string]
}

func (r *room) newPolicy() *policy {
	return &policy{
		keeper: externalips.NewKeeper(r.options.Client, r.options.Namespace, r.policyParameters, func(err error) { r.metrics.wrote("configmaps", err) }),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryMin, retryMax),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: "mooring_policy"}),
	}
}

// policyParameters are those of the configuration in force and of what is bought now.
func (r *room) policyParameters() map[string]string {
	var held []lb.Lease
	for _, h := range r.ledger().Holdings() {
		held = append(held, h.Addresses...)
	}
	return externalips.Parameters(r.config.Load().Pools, held)
}

// run works until the context ends.
func (p *policy) run(ctx context.Context, r *room) {
	if p == nil {
		return
	}
	r.working.Go(func() {
		if err := p.keeper.Run(ctx, func() { p.queue.AddAfter(externalips.Name, repairPause) }); err != nil {
			klog.FromContext(ctx).Error(err, "The admission policy's parameters are not kept current")
		}
	})
	sync := func(ctx context.Context, _ string) error { return p.keeper.Sync(ctx) }
	for next(ctx, r, p.queue, sync) {
	}
}

// wake has the parameters looked at.
func (p *policy) wake() {
	if p != nil {
		p.queue.Add(externalips.Name)
	}
}

func (p *policy) stop() {
	if p != nil {
		p.queue.ShutDown()
	}
}
