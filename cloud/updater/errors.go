package updater

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// Kind is what an error means to the caller. Its text is a metric label and never changes.
type Kind string

const (
	// Retryable: the updater answered, and the same call may succeed later.
	Retryable Kind = "retryable"
	// Refused: the updater will not accept the call before a person has done something.
	Refused Kind = "refused"
	// Unreachable: no answer, so nothing else will be answered either for now.
	Unreachable Kind = "unreachable"
	// Invalid: it was not sent, because it would break the file on the other side.
	Invalid Kind = "invalid"
)

// KindOf returns the kind of an error of this package; Unreachable for any other error, and empty for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unreachable
}

// Error is a call that did not do what was asked. Its text is for people, and stable: equal failures have equal texts.
type Error struct {
	// Op is what was asked, such as "set backend prod-1a2b3c4d_8100_tcp".
	Op string
	// URL of the updater, without credentials.
	URL  string
	Kind Kind
	// Status of the HTTP answer; 0: there was none.
	Status int
	// Message of the updater, or what happened instead of an answer.
	Message string
	// Uncertain: what was asked may have happened all the same, or still happen.
	Uncertain bool

	// advice is the way out, where there is one.
	advice string
	// cause is what Unwrap returns: how the caller's context ended.
	cause error
}

func (e *Error) Error() string {
	text := e.Op
	if e.URL != "" {
		text += " at " + e.URL
	}
	text += ": "
	if e.Status != 0 {
		text += fmt.Sprintf("HTTP status %d", e.Status)
		if e.Message != "" {
			text += ": "
		}
	}
	text += e.Message
	if e.advice != "" {
		text += ": " + e.advice
	}
	return text
}

func (e *Error) Unwrap() error { return e.cause }

// kindOfStatus classifies an answer that is none of success.
func kindOfStatus(status int) Kind {
	switch {
	case status >= http.StatusInternalServerError && status != http.StatusNotImplemented,
		status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests,
		status == http.StatusConflict, status == http.StatusLocked:
		return Retryable
	}
	return Refused
}

// adviceFor a status.
func adviceFor(status int, location string) string {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "put the token that the updater expects into bearerTokenFile, or give the client certificate that it trusts"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return "correct urls: no updater answers under this one"
	case status >= 300 && status < 400:
		if location != "" {
			return fmt.Sprintf("redirects are not followed: write the URL itself into urls, probably %s", location)
		}
		return "redirects are not followed: write the URL itself into urls"
	case status >= http.StatusInternalServerError:
		return "see the updater's log"
	case status >= http.StatusBadRequest:
		return "the updater does not speak the protocol of nginx-lb-updater as it should: see its log"
	}
	return ""
}

// noAnswer judges a call that ended without an answer.
func noAnswer(err error, timeout time.Duration) *Error {
	e := &Error{Kind: Unreachable, Uncertain: true, Message: reason(err), advice: "is the updater running, and reachable from the controller?"}
	network, ok := errors.AsType[*net.OpError](err)
	if ok && network.Op == "dial" {
		e.Uncertain = false
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.Uncertain = false
		e.advice = "name the authority of the updater's certificate in tls.caFile"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		e.Uncertain, e.advice = false, "the updater does not speak TLS: write http into urls"
	}
	if ok && network.Op == "remote error" {
		// A TLS alert of the other side.
		e.advice = "give the client certificate that the updater trusts in tls.certFile and tls.keyFile"
	}
	switch {
	case errors.Is(err, errTimeout):
		e.Message = fmt.Sprintf("no answer in %s", timeout)
	case errors.Is(err, context.Canceled):
		e.Message, e.advice, e.cause = "given up before there was an answer", "", context.Canceled
	}
	return e
}

// reason is the text of an error without what differs from one time to the next, such as a port of ours.
func reason(err error) string {
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case lookup.IsNotFound:
			return "no such host " + lookup.Name
		case lookup.IsTimeout:
			return "no name server answers for " + lookup.Name
		}
		return "no name server knows " + lookup.Name
	}
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network.Op + ": " + network.Err.Error()
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		return call.Err.Error()
	}
	return err.Error()
}

// quotable makes what somebody else said fit for a log and an event: one line, short, without the token.
func quotable(text, token string) string {
	if token != "" {
		text = strings.ReplaceAll(text, token, "(token)")
	}
	text = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	const most = 200
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	return text
}
