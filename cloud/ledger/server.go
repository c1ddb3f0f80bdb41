package ledger

// This file is about servers at the cloud: which Node runs on which.

import (
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Proves reports whether a list of servers shows one of our Nodes: then it is that of the right project.
func (l *Ledger) Proves(servers []lb.Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proves(servers)
}

func (l *Ledger) proves(servers []lb.Server) bool {
	return slices.ContainsFunc(servers, func(s lb.Server) bool {
		for _, n := range l.nodes {
			if n.Name != "" && l.runsOn(n, &s) {
				return true
			}
		}
		return false
	})
}

// runsOn reports whether a Node is a server: by the id that is known of it, else by name and one address.
func (l *Ledger) runsOn(n *node, s *lb.Server) bool {
	if id := n.serverID(); id != 0 && !n.ServerGone {
		return id == s.ID
	}
	return n.named(s)
}

// serverID is the id of the server that the Node runs on as far as it was ever known: its own, else the one that it
// was found to be; 0 when there is none.
func (n *node) serverID() int64 {
	if id := lb.HetznerID(n.Node.ProviderID); id != 0 {
		return id
	}
	return n.foundID
}

// findServer looks for the Node's server among those that the accounts showed, and reports whether that changed
// anything. proven says that the list that was read last is to be believed in what it lacks.
func (l *Ledger) findServer(n *node, proven bool) bool {
	if n.Name == "" || len(l.accounts) == 0 {
		return false
	}
	was, wasGone, before := n.Server, n.ServerGone, n.Accounts
	id := n.serverID()
	in := l.accountsWith(id)
	if len(in) == 0 && was != 0 && proven {
		n.ServerGone = true
		l.former[was] = true
		if lb.HetznerID(n.Node.ProviderID) == 0 {
			id = 0 // another server may have taken its place
		}
	}
	if id == 0 {
		if id = l.serverNamed(n); id != 0 {
			in = l.accountsWith(id)
		}
	}
	if len(in) > 0 {
		n.Server, n.Accounts, n.ServerGone, n.foundID = id, in, false, id
	}
	return n.Server != was || n.ServerGone != wasGone || !slices.Equal(n.Accounts, before)
}

// accountsWith are the accounts that have a server.
func (l *Ledger) accountsWith(id int64) (keys []string) {
	for key, a := range l.accounts {
		if _, ok := a.servers[id]; ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// serverNamed returns the server that has the Node's name and one of its addresses; 0: there is none, or several. A list
// that is older than the Node may show a server of that name that is gone.
func (l *Ledger) serverNamed(n *node) (found int64) {
	for _, a := range l.accounts {
		if a.serversAt.Before(n.since) {
			continue
		}
		for id := range a.servers {
			if s := a.servers[id]; n.named(&s) {
				if found != 0 && found != id {
					return 0
				}
				found = id
			}
		}
	}
	return found
}

func (n *node) named(s *lb.Server) bool {
	return n.Name == s.Name && (slices.ContainsFunc(n.Node.Addresses, s.Has) || slices.ContainsFunc(n.Agent.Addresses, s.Has))
}

// ourServer reports whether a server is, or was in this term, one of our Nodes.
func (l *Ledger) ourServer(id int64) bool {
	if l.former[id] {
		return true
	}
	for _, n := range l.nodes {
		if n.Server == id {
			return true
		}
	}
	return false
}

// NeedsServers reports whether the list of the account's servers has to be read again: a Node has come that is none of
// them, one of them seems to be gone, or none of them is one of our Nodes.
func (l *Ledger) NeedsServers(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[key]
	if a == nil || a.serversAt.IsZero() || a.doubted || a.closed != nil {
		return true
	}
	for _, n := range l.nodes {
		if n.Name != "" && n.Server == 0 && n.since.After(a.serversAt) {
			return true
		}
	}
	return false
}

// ServerOf returns the server that a Node runs on. It is not known while an account has not been read since the Node
// came: read says whether all were.
func (l *Ledger) ServerOf(name string) (server lb.Server, found, read bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nodes[name]
	if n == nil {
		return server, false, len(l.accounts) == 0
	}
	read = true
	for _, a := range l.accounts {
		read = read && a.serversAt.After(n.since)
	}
	if len(n.Accounts) > 0 && !n.ServerGone {
		server, found = l.accounts[n.Accounts[0]].servers[n.Server]
	}
	return server, found, read
}

// takeServers remembers the servers of an account and which Nodes they are.
func (l *Ledger) takeServers(a *account, inv lb.Inventory) {
	proven := l.proves(inv.Servers)
	a.servers = make(map[int64]lb.Server, len(inv.Servers))
	for _, s := range inv.Servers {
		a.servers[s.ID] = s
	}
	a.serversAt, a.doubted = inv.Began, false
	for _, n := range l.candidateNodes() {
		if l.findServer(n, proven) {
			l.dirty(n)
		}
	}
}

// candidateNodes are the nodes that exist, by name.
func (l *Ledger) candidateNodes() []*node {
	nodes := make([]*node, 0, len(l.candidates))
	for _, c := range l.candidates {
		nodes = append(nodes, l.nodes[c.Name])
	}
	return nodes
}
