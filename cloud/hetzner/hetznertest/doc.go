// Package hetznertest is the stand-in for the Hetzner Cloud API, against which everything that speaks to Hetzner is
// tested: in one process over a RoundTripper, also inside a testing/synctest bubble, and over HTTP where real processes
// run. It keeps projects with their tokens, servers, Floating IPs and actions in memory, and it is strict: a path, a
// query parameter, a field or a type that the API does not describe is refused, because a stand-in that lets a mistake
// pass proves nothing.
//
// It is for tests alone: the product never imports it. It knows nothing of Mooring, neither its labels nor its names;
// a test that would pass only because the stand-in is kinder than Hetzner is worth nothing. It never records a token:
// who called is told by the project and by the name that the caller gave.
//
// # What is known from where
//
// From the public documentation of the API (https://docs.hetzner.cloud/reference/cloud) and its changelog: the paths,
// fields and types, paging (25 an answer unless asked for, at most 50), the syntax of labels and label selectors and the
// reserved prefix hetzner.cloud/, the form of errors, the general error codes and their HTTP status, the rate limit (3600
// calls an hour and project, given back one by one, and its three headers), actions and that GET /actions answers for
// given ids alone, that server and home_location of a new Floating IP exclude each other, that PUT replaces all labels,
// that a Floating IP may be assigned to a server in any location, floating_ip_assigned, must_be_unassigned, with which the
// deletion of an assigned Floating IP is refused since 2026-05-01, and that servers show their location alone, since the
// data center was announced to go after 2026-07-01.
//
// From public reports by users of the API: unassigning what is not assigned is refused with service_error, which says no
// more than its message (https://github.com/hetznercloud/terraform-provider-hcloud/issues/279), and a Floating IP is
// locked for a while after its server was deleted.
//
// Not documented, and therefore chosen so that a client which relies on more than the documentation is caught, or left to
// the test by an option:
//
//   - When an action's effect can be seen: only when the action has ended in success.
//   - What a running action locks: every modification of its Floating IP, PUT and DELETE included; with
//     Options.LockServers also other actions on its server.
//   - Whether an assign moves a Floating IP that is assigned elsewhere: it does, or with Options.RefuseMoves it is
//     refused with floating_ip_assigned.
//   - Assigning to the server that has it already: floating_ip_assigned.
//   - How long a list lags behind a create: Options.ListLag.
//   - What RateLimit-Reset says on a refusal: the time at which the whole limit is there again, or with
//     Options.ResetIsNext the time at which the next call is let through.
//   - Names of Floating IPs: at most 63 characters of those that a label value may have.
//   - The fields in which an unknown server is refused (not_found) or an unknown location (invalid_input).
//
// # Order of things in a request
//
// A request is recognised (token, rate limit, path), written to the log, delayed if a rule says so, shown to the hooks,
// judged and executed at once, shown to the hooks again, and answered. Nothing of that depends on whether the caller is
// still there: a request whose context has ended after it was sent has its effect nevertheless, as it has at Hetzner.
package hetznertest
