package hetzner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
)

// Kind is what an error means to the caller. Its text is a metric label and never changes.
type Kind string

const (
	// NotFound: the API says that it does not exist. A proven account is believed; an answer of something between us
	// and the API is never of this kind.
	NotFound Kind = "not_found"
	// NameTaken: another Floating IP of the project has the name, and its labels name another owner.
	NameTaken Kind = "name_taken"
	// LimitReached: the project may have no more of it.
	LimitReached Kind = "limit_reached"
	// Unauthorized: the token is unknown, or may not do it.
	Unauthorized Kind = "unauthorized"
	// Protected from being deleted or changed, by the project's owner.
	Protected Kind = "protected"
	// Assigned: to be unassigned first.
	Assigned Kind = "assigned"
	// RateLimited: not before Error.RetryAt. The API said so, or the call was not even sent.
	RateLimited Kind = "rate_limited"
	// Unavailable: the location has none left at the moment.
	Unavailable Kind = "unavailable"
	// Invalid: the API will never accept it as it is.
	Invalid Kind = "invalid"
	// Temporary: worth another try later.
	Temporary Kind = "temporary"
	// Unknown: no answer came to a call that changes something, so it may have happened, or still happen.
	Unknown Kind = "unknown"
)

// KindOf returns the kind of an error of this package; Unknown for any other error, and empty for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unknown
}

// Error is a call that did not do what was asked. Its text is for people, and stable: equal failures have equal texts.
type Error struct {
	// Op is what was asked, such as "assign floating ip 12 to server 34".
	Op   string
	Kind Kind
	// Code of the API; empty when it gave none.
	Code string
	// Message of the API, or what happened instead of an answer.
	Message string
	// RetryAt is set with RateLimited: no call is made before.
	RetryAt time.Time
	// Uncertain: what was asked may have happened all the same, or still happen. Always with Unknown, and with
	// an error of the API's own (5xx) on a call that changes something.
	Uncertain bool

	// advice is the way out, where there is one.
	advice string
	// cause is what Unwrap returns: how the caller's context ended. What others say has no way out but through Message,
	// which is clean of the token.
	cause error
}

func (e *Error) Error() string {
	text := e.Op + ": " + e.Message
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	if e.advice != "" {
		text += ": " + e.advice
	}
	return text
}

func (e *Error) Unwrap() error { return e.cause }

// kinds of the API's error codes. Source: the section "Errors" of Hetzner's API reference, and the description of
// each operation.
var kinds = map[string]Kind{
	"not_found":               NotFound,
	"uniqueness_error":        NameTaken,
	"resource_limit_exceeded": LimitReached,
	"unauthorized":            Unauthorized,
	"token_readonly":          Unauthorized,
	"forbidden":               Unauthorized,
	"protected":               Protected,
	"must_be_unassigned":      Assigned,
	"floating_ip_assigned":    Assigned,
	"rate_limit_exceeded":     RateLimited,
	"resource_unavailable":    Unavailable,
	"invalid_input":           Invalid,
	"locked":                  Temporary,
	"conflict":                Temporary,
	"maintenance":             Temporary,
	"timeout":                 Temporary,
	"unavailable":             Temporary,
	"server_error":            Temporary,
	"service_error":           Temporary,
	"bad_gateway":             Temporary,
	"unknown_error":           Temporary,
	"action_failed":           Temporary,
}

// failure turns what hcloud-go returned into an Error. changes: the call changes something at Hetzner.
func (c *conn) failure(op string, changes bool, resp *hcloud.Response, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	e := &Error{Op: op}
	if refused, ok := errors.AsType[*refusal](err); ok {
		e.Kind, e.RetryAt, e.Message, e.advice = RateLimited, refused.until, refused.Error(), c.advice(RateLimited)
		return e
	}
	status := 0
	if resp != nil && resp.Response != nil {
		status = resp.StatusCode
	}
	if answer, ok := errors.AsType[hcloud.Error](err); ok {
		e.Code, e.Message = c.clean(string(answer.Code)), c.clean(answer.Message)
		e.Kind = kinds[string(answer.Code)]
		if e.Kind == "" {
			e.Kind = kindOfStatus(status, Invalid)
		}
	} else if status >= http.StatusBadRequest {
		e.Message = fmt.Sprintf("HTTP status %d without a word of the API", status)
		e.Kind = kindOfStatus(status, Temporary)
	} else {
		c.noAnswer(e, changes, status, err)
		return e
	}
	e.Uncertain = changes && status >= http.StatusInternalServerError
	if e.Kind == RateLimited {
		e.RetryAt = c.budget.blockedUntil()
	}
	e.advice = c.advice(e.Kind)
	return e
}

// unknown is an answer from which it cannot be told what happened.
func unknown(op, message string) *Error {
	return &Error{Op: op, Kind: Unknown, Uncertain: true, Message: message}
}

// noAnswer judges a call that ended without an answer that can be read.
func (c *conn) noAnswer(e *Error, changes bool, status int, err error) {
	e.Kind, e.Message = Temporary, c.clean(reason(err))
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, end) {
			e.Message, e.cause = "no answer before the call was given up", end
		}
	}
	if status != 0 {
		e.Message = "the answer cannot be read: " + e.Message
	}
	network, ok := errors.AsType[*net.OpError](err)
	unsent := ok && network.Op == "dial"
	if changes && !unsent {
		e.Kind, e.Uncertain = Unknown, true
	}
}

// reason is the text of an error without what differs from one time to the next, such as a port of ours.
func reason(err error) string {
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network.Op + ": " + network.Err.Error()
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		return call.Err.Error()
	}
	return err.Error()
}

// kindOfStatus is for answers whose code is missing or unknown. otherwise is the kind of a client error. A 404 without
// its code comes from a proxy or a wrong endpoint and says nothing about what was asked for.
func kindOfStatus(status int, otherwise Kind) Kind {
	switch {
	case status == http.StatusTooManyRequests:
		return RateLimited
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return Unauthorized
	case status >= http.StatusInternalServerError, status == http.StatusNotFound, status == http.StatusRequestTimeout:
		return Temporary
	}
	return otherwise
}

// advice is the way out for people.
func (c *conn) advice(kind Kind) string {
	switch kind {
	case Unauthorized:
		return fmt.Sprintf("write a valid token with read and write permission into %s", c.file)
	case RateLimited:
		return "it goes on when Hetzner gives calls back; every tool that uses the project shares the limit"
	case LimitReached:
		return "have Hetzner raise the limit of the project, delete Floating IPs that are not used, or set maxAddresses on the pool"
	case Protected:
		return "take the protection off in Hetzner's console to have it deleted"
	}
	return ""
}

// clean takes the token out of a text of somebody else's: what is said ends up in logs and events.
func (c *conn) clean(text string) string {
	if c.token == "" {
		return text
	}
	return strings.ReplaceAll(text, c.token, "(token)")
}
