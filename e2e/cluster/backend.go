package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
)

// BackendPort is where every backend listens, with TCP (HTTP) and UDP.
const BackendPort = 8080

// Backend is a process of a pod on a node, or on a host that is no Node. It answers each request, over HTTP and UDP,
// with the host's name, a space and the address that the request came from.
type Backend struct {
	// Node is nil when the host is none.
	Node       *Node
	IPv4, IPv6 netip.Addr

	closers []interface{ Close() error }
}

// StartBackend starts a backend on the node, with addresses of its own.
func (n *Node) StartBackend(ctx context.Context) (*Backend, error) {
	v4, v6, err := n.newPod()
	if err != nil {
		return nil, err
	}
	return n.startBackend(ctx, &Backend{Node: n, IPv4: v4, IPv6: v6})
}

// StartBackend starts a backend on a host that is no Node, at the host's own addresses. No node's end is its end.
func (h *Host) StartBackend(ctx context.Context) (*Backend, error) {
	return h.startBackend(ctx, &Backend{IPv4: h.IPv4, IPv6: h.IPv6})
}

func (h *Host) startBackend(ctx context.Context, b *Backend) (*Backend, error) {
	for _, addr := range []netip.Addr{b.IPv4, b.IPv6} {
		at := netip.AddrPortFrom(addr, BackendPort)
		listener, err := h.Listen(ctx, at)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s of %s: %w", at, h.Name, err), b.Stop())
		}
		b.closers = append(b.closers, listener)
		go answer(listener, h.Name)
		conn, err := h.ListenPacket(ctx, at)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s/UDP of %s: %w", at, h.Name, err), b.Stop())
		}
		b.closers = append(b.closers, conn)
		go answerPackets(conn, h.Name)
	}
	return b, nil
}

// Stop ends the backend: its ports refuse from now on.
func (b *Backend) Stop() error {
	var errs []error
	for _, closer := range b.closers {
		errs = append(errs, closer.Close())
	}
	b.closers = nil
	return errors.Join(errs...)
}

// answer serves HTTP until the listener is closed.
func answer(listener net.Listener, name string) {
	server := &http.Server{
		ReadHeaderTimeout: Guard,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			_, _ = io.WriteString(w, identity(name, host))
		}),
	}
	_ = server.Serve(listener) // ends with the listener
}

func answerPackets(conn net.PacketConn, name string) {
	question := make([]byte, 1500)
	for {
		_, from, err := conn.ReadFrom(question)
		if err != nil {
			return // closed
		}
		host, _, _ := net.SplitHostPort(from.String())
		_, _ = conn.WriteTo([]byte(identity(name, host)), from) // whoever gets no answer asks again
	}
}

// identity is a backend's whole answer.
func identity(name, client string) string { return name + " " + client }
