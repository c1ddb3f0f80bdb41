package protocol

import (
	"context"
	"errors"
	"time"
)

const (
	// Leader election, as --leader-elect-* may be set.
	leaseDuration = 5 * time.Second
	renewDeadline = 3 * time.Second
	retryPeriod   = time.Second
)

// elect is leader election: it waits until nobody has renewed the Lease for its duration, takes it, and renews it.
func (c *controller) elect() {
	w := c.w
	seen, since := leaderRecord{version: -1}, w.now
	for {
		var is leaderRecord
		err := c.client.call(func() error {
			is = w.api.leader
			return nil
		})
		if err == nil && is != seen {
			seen, since = is, w.now
		}
		if err == nil && (is.holder == "" || w.now-since > leaseDuration) && c.take(is.version) == nil {
			break
		}
		if !w.sleep(w.between(retryPeriod, 2*retryPeriod)) {
			return
		}
	}
	w.log("%s leads", c.name)
	w.spawn(c.process, c.lead)
	renewed := w.now
	for w.sleep(retryPeriod) {
		err := c.client.call(func() error {
			if w.api.leader.holder != c.name {
				return errDeposed
			}
			w.api.leader.version++
			return nil
		})
		switch {
		case err == nil:
			renewed = w.now
		case c.slow:
		case errors.Is(err, errDeposed) || w.now-renewed > renewDeadline:
			c.exit("lost the lease")
			return
		}
	}
}

var errDeposed = errors.New("somebody else holds the lease")

// take is a compare-and-swap of the Lease.
func (c *controller) take(version int) error {
	return c.client.call(func() error {
		if c.w.api.leader.version != version {
			return conflict(services, "lease")
		}
		c.w.api.leader = leaderRecord{holder: c.name, version: version + 1}
		return nil
	})
}

// epoch reads the newest term.
func (c *controller) epoch(context.Context) (epoch int64, err error) {
	err = c.client.call(func() error {
		epoch = c.w.api.epoch
		return nil
	})
	return epoch, err
}

// raise begins a new term.
func (c *controller) raise() (term int64, err error) {
	var version int64
	if err := c.client.call(func() error {
		term, version = c.w.api.epoch, c.w.api.epochVersion
		return nil
	}); err != nil {
		return 0, err
	}
	return term + 1, c.client.call(func() error {
		if c.w.api.epochVersion != version {
			return conflict(services, "epoch")
		}
		c.w.api.epoch, c.w.api.epochVersion = term+1, version+1
		return nil
	})
}
