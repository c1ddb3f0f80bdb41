package protocol

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// client is one process's connection to the API server.
type client struct {
	w       *world
	process *process
	// cuts are the faults that let nothing through.
	cuts    int
	watches []*watch
}

var errNoAnswer = errors.New("no answer from the API server")

// call makes a call take its time, and lets it and its answer be lost. A request that has left arrives, whatever becomes
// of who sent it.
func (c *client) call(do func() error) error {
	w, self := c.w, c.w.current
	if self.ended {
		return errNoAnswer
	}
	var result error
	back := func(d time.Duration, err error) {
		w.after(c.process, d, func() {
			result = err
			w.resume(self)
		})
	}
	timeout := func() { back(w.between(10*time.Millisecond, 4*time.Second), errNoAnswer) }
	switch {
	case c.cuts > 0 || w.faulty && w.chance(0.02):
		if w.faulty && w.chance(0.2) {
			// It is given up, and arrives nevertheless.
			w.after(nil, w.between(0, 4*time.Second), func() {
				if c.cuts == 0 {
					_ = do()
				}
			})
		}
		timeout()
	default:
		w.after(nil, c.latency(), func() {
			err := do()
			switch {
			case c.cuts > 0 || w.faulty && w.chance(0.03):
				timeout()
			default:
				back(c.latency(), err)
			}
		})
	}
	if !w.wait(self) {
		return errNoAnswer
	}
	return result
}

func (c *client) latency() time.Duration {
	if c.w.faulty && c.w.chance(0.05) {
		return c.w.between(0, 2*time.Second)
	}
	return c.w.between(time.Millisecond, 6*time.Millisecond)
}

// sever cuts the connection.
func (c *client) sever() {
	c.cuts++
	for _, watch := range c.watches {
		watch.lose()
	}
}

func (c *client) mend() { c.cuts-- }

// objects is the part of the API server that writers of NodeAddresses use.
type objects struct {
	*client
	// term in which they write.
	term int64
}

// Get and the others are nodeaddresses.API.
func (o objects) Get(_ context.Context, name string) (is *v1alpha1.NodeAddresses, err error) {
	err = o.call(func() error {
		if is = o.w.api.addresses(name); is == nil {
			return notFound(addresses, name)
		}
		return nil
	})
	return is, err
}

func (o objects) Create(_ context.Context, object *v1alpha1.NodeAddresses) (is *v1alpha1.NodeAddresses, err error) {
	err = o.call(func() (err error) {
		is, err = o.w.api.create(object, o.term)
		return err
	})
	return is, err
}

func (o objects) Write(_ context.Context, name string, expected ledger.Object, epoch int64, spec v1alpha1.NodeAddressesSpec) (is *v1alpha1.NodeAddresses, err error) {
	err = o.call(func() (err error) {
		is, err = o.w.api.write(name, expected, epoch, spec, o.term)
		return err
	})
	return is, err
}

func (o objects) Fence(_ context.Context, name string, uid types.UID, version string, epoch int64) error {
	return o.call(func() error { return o.w.api.fence(name, uid, version, epoch) })
}

func (o objects) Delete(_ context.Context, name string, uid types.UID) error {
	return o.call(func() error { return o.w.api.remove(name, uid) })
}

func (o objects) Unfinalize(_ context.Context, name string, uid types.UID) error {
	return o.call(func() error { return o.w.api.unfinalize(name, uid) })
}
