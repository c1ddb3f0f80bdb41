// Package hetzner speaks to the Hetzner Cloud API: it reads the Floating IPs and servers of a project, and buys, assigns,
// unassigns, labels and deletes one Floating IP at a time.
//
// It is told what to do and decides nothing: a call is made once, an error is classified (Kind) and handed back, and
// whoever called decides whether it is made again. hcloud-go's own retries are switched off. What it does by itself is
// what must be one for all callers of a project: it waits for actions, many with one poll, and it sends no call
// against the rate limit, which other tools use too. It uses no Kubernetes client, logs nothing, and no token leaves it
// in an error or a metric.
package hetzner

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Account is one Hetzner project, known by a token: one client and one rate limit, whoever uses it. Its methods are
// safe for concurrent use. Every error is an *Error.
type Account struct {
	key   string
	place place
	// of is the account that this one is a candidate of; nil: none.
	of *Account

	mu        sync.Mutex
	current   *conn
	candidate *Account
	// rejected is the content of the token file that was not accepted, and why; empty: the file's content is in use.
	rejected, reason string
	rejectedAt       time.Time
}

// Key is a stable name for maps and metric labels, without the token: the endpoint's host and the token file.
func (a *Account) Key() string { return a.key }

// conn is what the methods go through: one token with its client, its budget and its poller.
func (a *Account) conn() *conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}

// Ready says when a call may be made: the zero time means now. urgent is for the assignment of a lost node's addresses,
// which may use the last tenth of the rate limit. After a 429 nothing goes out before the time that the API told.
func (a *Account) Ready(urgent bool) time.Time { return a.conn().budget.ready(urgent) }

// Budget is how many calls are left, as estimated from the last answer, of how many an hour. known is false before the
// first answer.
func (a *Account) Budget() (remaining, limit int, known bool) { return a.conn().budget.remains() }

// FloatingIP reads one. NotFound: it does not exist in the project of this token.
func (a *Account) FloatingIP(ctx context.Context, id int64) (lb.FloatingIP, error) {
	c, op := a.conn(), fmt.Sprintf("read floating ip %d", id)
	f, err := c.floatingIP(ctx, op, id)
	if err != nil {
		return lb.FloatingIP{}, err
	}
	return c.read(op, f)
}

// Buy buys a Floating IP, unassigned, or returns the one that was bought for the same order before: the name is taken
// then, and the labels name the same Service of the same cluster. NameTaken: they do not. A name that is taken by
// what cannot be found is Temporary: lists lag behind.
func (a *Account) Buy(ctx context.Context, o lb.Order) (lb.FloatingIP, error) {
	c, name := a.conn(), Name(o)
	op := fmt.Sprintf("buy floating ip %s in %s", name, o.Location)
	result, resp, err := c.client.FloatingIP.Create(ctx, createOpts(o, name))
	if err == nil {
		f, err := c.read(op, result.FloatingIP)
		if err != nil {
			return lb.FloatingIP{}, unknown(op, "the answer does not show what was bought")
		}
		return f, nil
	}
	refused := c.failure(op, true, resp, err)
	if refused.Kind != NameTaken {
		return lb.FloatingIP{}, refused
	}
	found, resp, err := c.client.FloatingIP.GetByName(ctx, name)
	if err != nil {
		return lb.FloatingIP{}, c.failure(op+": look up who has the name", false, resp, err)
	}
	if found == nil {
		return lb.FloatingIP{}, &Error{Op: op, Kind: Temporary, Code: refused.Code, Message: "the name is taken, but no floating ip with it is listed yet"}
	}
	f, err := c.read(op, found)
	if err != nil {
		return lb.FloatingIP{}, err
	}
	if f.Owner.ClusterUID != o.ClusterUID || f.Owner.Service.UID != o.Service.UID || f.Family() != o.Family {
		refused.Message = fmt.Sprintf("floating ip %d has the name, and its labels do not name this Service", f.ID)
		refused.advice = "rename or delete it in Hetzner's console"
		return lb.FloatingIP{}, refused
	}
	return f, nil
}

// Assign routes a Floating IP to a server, and returns when the action ended in success, or it is routed there already.
// Assigned: the API wants it unassigned first. urgent: as for Ready.
func (a *Account) Assign(ctx context.Context, id, server int64, urgent bool) error {
	c, op := a.conn(), fmt.Sprintf("assign floating ip %d to server %d", id, server)
	ctx = withUrgency(ctx, urgent)
	action, resp, err := c.client.FloatingIP.Assign(ctx, &hcloud.FloatingIP{ID: id}, &hcloud.Server{ID: server})
	if err != nil {
		e := c.failure(op, true, resp, err)
		if e.Kind == Assigned && c.routed(ctx, op, id, server) {
			return nil
		}
		return e
	}
	return c.poller.await(ctx, op, action, urgent)
}

// Unassign takes a Floating IP off its server, and returns when the action ended in success, or it is on none already.
func (a *Account) Unassign(ctx context.Context, id int64) error {
	c, op := a.conn(), fmt.Sprintf("unassign floating ip %d", id)
	action, resp, err := c.client.FloatingIP.Unassign(ctx, &hcloud.FloatingIP{ID: id})
	if err != nil {
		e := c.failure(op, true, resp, err)
		// The API has no code of its own for what is not assigned.
		if e.Code == string(hcloud.ErrorCodeServiceError) && c.routed(ctx, op, id, 0) {
			return nil
		}
		return e
	}
	return c.poller.await(ctx, op, action, false)
}

// routed reports whether a Floating IP that was refused is what was asked for anyway, such as after an answer that
// got lost.
func (c *conn) routed(ctx context.Context, op string, id, server int64) bool {
	f, err := c.floatingIP(ctx, op, id)
	if err != nil {
		return false
	}
	on := int64(0)
	if f.Server != nil {
		on = f.Server.ID
	}
	return on == server
}

// Label writes the owner into the labels, or with the zero owner strips everything of Mooring's. Everybody else's labels
// stay as they were read; the API knows no condition, so what somebody writes between our read and our write is lost.
// Nothing is written when nothing changes.
func (a *Account) Label(ctx context.Context, id int64, owner lb.Owner) error {
	c, op := a.conn(), fmt.Sprintf("label floating ip %d", id)
	f, err := c.floatingIP(ctx, op, id)
	if err != nil {
		return err
	}
	labels, changed := relabelled(f.Labels, owner)
	if !changed {
		return nil
	}
	written, resp, err := c.client.FloatingIP.Update(ctx, &hcloud.FloatingIP{ID: id}, hcloud.FloatingIPUpdateOpts{Labels: labels})
	if err != nil {
		return c.failure(op, true, resp, err)
	}
	if !maps.Equal(written.Labels, labels) {
		return unknown(op, "the answer does not show the labels")
	}
	return nil
}

// Delete deletes a Floating IP; one that does not exist is deleted. Assigned: it is to be unassigned first.
func (a *Account) Delete(ctx context.Context, id int64) error {
	c, op := a.conn(), fmt.Sprintf("delete floating ip %d", id)
	resp, err := c.client.FloatingIP.Delete(ctx, &hcloud.FloatingIP{ID: id})
	if err != nil {
		if e := c.failure(op, true, resp, err); e.Kind != NotFound {
			return e
		}
		return nil
	}
	// It has no body that would have to make sense, so a page of a proxy would do.
	if resp.StatusCode != http.StatusNoContent {
		return unknown(op, fmt.Sprintf("HTTP status %d is no answer of the API to it", resp.StatusCode))
	}
	return nil
}
