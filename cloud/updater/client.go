package updater

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-resty/resty/v2"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/cloud/config"
)

const (
	// maxBody is what is read of an answer, in bytes. An updater says {} or one sentence.
	maxBody = 64 << 10
	// maxCalls are under way to one URL at once.
	maxCalls = 4
)

// errTimeout ends a call that takes too long.
var errTimeout = errors.New("no answer in time")

// ClientOptions say whom a Client calls, and how.
type ClientOptions struct {
	// URL of the API, such as http://192.0.2.1:3000/api/v1/lb.
	URL string
	// BearerTokenFile and TLS name files that are read again before each call; empty: none.
	BearerTokenFile string
	TLS             *config.TLS
	// Timeout of a call with its answer.
	Timeout time.Duration
	// Transport of all calls; nil: the network, with TLS.
	Transport http.RoundTripper
	// Clock; nil: the real one.
	Clock clock.Clock
	// Version of Mooring for the User-Agent.
	Version string
}

// Client calls the updater at one URL. Its methods are safe for concurrent use; every error is an *Error, and a call is made
// once.
type Client struct {
	options ClientOptions
	url     string
	shown   string
	secrets *secrets
}

// NewClient returns the client of a URL; an error when it is none. No file is read yet.
func NewClient(o ClientOptions) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("the updater has no usable URL: write one such as http://192.0.2.1:3000/api/v1/lb into urls")
	}
	if o.Timeout <= 0 {
		return nil, fmt.Errorf("timeout %s leaves an updater no time: write one such as 10s", o.Timeout)
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	c := &Client{options: o, url: u.String(), shown: shown(u), secrets: &secrets{tokenFile: o.BearerTokenFile, given: o.Transport}}
	if o.TLS != nil {
		c.secrets.tls = *o.TLS
	}
	return c, nil
}

// shown is a URL for people: without credentials and without what may hold them.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// URL of the updater for people, without credentials.
func (c *Client) URL() string { return c.shown }

// Close lets go of idle connections. A call that is under way goes on.
func (c *Client) Close() { c.secrets.close() }

// post is the body of a POST; Source of the protocol: the handlers of nginx-lb-updater.
type post struct {
	BackendName                string   `json:"backendName"`
	LBPort                     int      `json:"lbPort"`
	LBProtocol                 string   `json:"lbProtocol"`
	UpstreamServers            []server `json:"upstreamServers"`
	ProxyTimeoutSeconds        int      `json:"proxyTimeoutSeconds"`
	ProxyConnectTimeoutSeconds int      `json:"proxyConnectTimeoutSeconds"`
}

// server is a target. Host stands before a colon and the port in the file, so an IPv6 address has brackets.
type server struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

type remove struct {
	BackendName string `json:"backendName"`
}

// Set creates or overwrites the backend of a name on a port. Invalid, and not sent: it would break the file.
func (c *Client) Set(ctx context.Context, name string, k Key, b Backend) error {
	op := "set backend " + name
	if err := errors.Join(ValidName(name), k.Validate(), b.Validate()); err != nil {
		return &Error{Op: op, Kind: Invalid, Message: err.Error()}
	}
	b = b.canonical()
	body := post{
		BackendName:                name,
		LBPort:                     int(k.Port),
		LBProtocol:                 strings.ToLower(string(k.Protocol)),
		ProxyTimeoutSeconds:        int(b.ProxyTimeout / time.Second),
		ProxyConnectTimeoutSeconds: int(b.ConnectTimeout / time.Second),
	}
	for _, t := range b.Targets {
		host := t.Addr().String()
		if t.Addr().Is6() {
			host = "[" + host + "]"
		}
		body.UpstreamServers = append(body.UpstreamServers, server{host, int(t.Port())})
	}
	return c.call(ctx, op, http.MethodPost, body)
}

// Remove removes the backend of a name; one that does not exist is removed.
func (c *Client) Remove(ctx context.Context, name string) error {
	op := "remove backend " + name
	if err := ValidName(name); err != nil {
		return &Error{Op: op, Kind: Invalid, Message: err.Error()}
	}
	return c.call(ctx, op, http.MethodDelete, remove{name})
}

func (c *Client) call(ctx context.Context, op, method string, body any) error {
	e := c.do(ctx, method, body)
	if e == nil {
		return nil
	}
	e.Op, e.URL = op, c.shown
	return e
}

func (c *Client) do(ctx context.Context, method string, body any) *Error {
	text, err := json.Marshal(body)
	if err != nil {
		return &Error{Kind: Invalid, Message: err.Error()}
	}
	transport, token, stale := c.secrets.read()
	if transport == nil {
		return &Error{Kind: Refused, Message: quotable(stale.Error(), token)}
	}
	e := c.send(ctx, transport, token, method, text)
	if e != nil {
		e.Message = quotable(e.Message, token)
		if stale != nil {
			e.advice = "a changed file is not in use, " + quotable(stale.Error(), token)
		}
	}
	return e
}

func (c *Client) send(ctx context.Context, transport http.RoundTripper, token, method string, text []byte) *Error {
	ctx, end := c.limit(ctx)
	defer end()
	// A client for each call: resty's settings are not to be changed while it is in use, and the transport is what is
	// worth keeping.
	client := resty.NewWithClient(&http.Client{
		Transport: transport,
		// What redirects could have the token sent elsewhere, and a POST become a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}).SetLogger(silent{}).SetDoNotParseResponse(true)
	request := client.R().SetContext(ctx).SetBody(text).
		SetHeader("Content-Type", "application/json").
		SetHeader("Accept", "application/json, text/plain").
		SetHeader("User-Agent", "mooring/"+c.options.Version)
	if token != "" {
		request.SetAuthToken(token)
	}
	response, err := request.Execute(method, c.url)
	if err != nil {
		return noAnswer(ended(ctx, err), c.options.Timeout)
	}
	defer response.RawBody().Close()
	status := response.StatusCode()
	answer, err := io.ReadAll(io.LimitReader(response.RawBody(), maxBody+1))
	if status < 200 || status > 299 {
		// The status says it all, whether or not the rest could be read.
		e := &Error{Kind: kindOfStatus(status), Status: status, Message: said(answer, token), advice: adviceFor(status, redirect(response.RawResponse, token))}
		e.Uncertain = status >= http.StatusInternalServerError
		return e
	}
	switch {
	case err != nil:
		e := noAnswer(ended(ctx, err), c.options.Timeout)
		e.Status, e.Uncertain = status, true
		if e.cause == nil && !errors.Is(context.Cause(ctx), errTimeout) {
			e.Kind, e.Message, e.advice = Retryable, "the answer ended in the middle: "+reason(err), adviceFor(http.StatusInternalServerError, "")
		}
		return e
	case len(answer) > maxBody:
		return strange(status, fmt.Sprintf("the answer is longer than %d bytes", maxBody))
	case len(bytes.TrimSpace(answer)) == 0:
		return nil
	}
	var reply struct {
		Err any `json:"err"`
	}
	switch err := json.Unmarshal(answer, &reply); {
	case err != nil:
		return strange(status, fmt.Sprintf("the answer %q is no JSON object", said(answer, token)))
	case reply.Err != nil && reply.Err != "":
		return &Error{Kind: Retryable, Status: status, Message: said(answer, token), Uncertain: true, advice: adviceFor(http.StatusInternalServerError, "")}
	}
	return nil
}

// strange is an answer of success that no updater gives. A proxy may have given it while the updater restarts.
func strange(status int, message string) *Error {
	return &Error{Kind: Retryable, Status: status, Message: message, Uncertain: true, advice: "does the URL lead to an updater? correct urls"}
}

// limit ends a call after the timeout, by the clock of the options.
func (c *Client) limit(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := c.options.Clock.NewTimer(c.options.Timeout)
	go func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			cancel(errTimeout)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// ended returns why the call was ended by us, and else what the transport says.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// said is what an answer says: the text of its err, or the text as it is.
func said(answer []byte, token string) string {
	var reply struct {
		Err string `json:"err"`
	}
	if json.Unmarshal(answer, &reply) == nil && reply.Err != "" {
		return quotable(reply.Err, token)
	}
	return quotable(string(answer), token)
}

// redirect is where an answer sends the caller, for people.
func redirect(response *http.Response, token string) string {
	to, err := response.Location()
	if err != nil || to.Host == "" {
		return ""
	}
	return quotable(shown(to), token)
}

// silent is a log for resty that nobody reads: what it says goes into no error and no log of ours.
type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Warnf(string, ...any)  {}
func (silent) Debugf(string, ...any) {}
