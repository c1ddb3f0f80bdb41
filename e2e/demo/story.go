package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// serve creates the Service and makes the first request the moment its address is published.
func (s *show) serve(ctx context.Context) (netip.AddrPort, error) {
	service := cluster.LoadBalancer(metav1.NamespaceDefault, "web")
	var backends []*cluster.Backend
	for _, node := range s.cluster.Nodes {
		backend, err := node.StartBackend(ctx)
		if err != nil {
			return netip.AddrPort{}, err
		}
		backends = append(backends, backend)
	}
	if err := s.cluster.Endpoints(ctx, service, backends...); err != nil {
		return netip.AddrPort{}, err
	}

	created := time.Now()
	var err error
	if s.service, err = s.cluster.Kube.CoreV1().Services(service.Namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return netip.AddrPort{}, err
	}
	addresses, err := s.cluster.AwaitPublished(ctx, service.Namespace, service.Name)
	if err != nil {
		return netip.AddrPort{}, err
	}
	at := netip.AddrPortFrom(addresses[0], 80)
	s.say("EXTERNAL-IP %s appeared %v after the Service was created", at.Addr(), time.Since(created).Round(time.Millisecond))

	asked := time.Now()
	answer, err := s.cluster.Client.Get(ctx, at, "/")
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the first request to %s: %w", at, err)
	}
	s.say("the first request to it, from a machine outside of the cluster, was answered after %v by the backend on %q",
		time.Since(asked).Round(time.Millisecond), answer[:2])
	if s.service, err = s.cluster.Kube.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{}); err != nil {
		return netip.AddrPort{}, err
	}
	s.say("the Service says: %s\n", condition(s.service))
	return at, nil
}

// holder is the node that has the address.
func (s *show) holder(addr netip.Addr, except *cluster.Node) (*cluster.Node, error) {
	holders, err := s.cluster.Holders("pl0", addr)
	if err != nil {
		return nil, err
	}
	for _, node := range holders {
		if node != except {
			return node, nil
		}
	}
	return nil, errNoHolder
}

// lose cuts the holder off and measures how long clients cannot connect.
func (s *show) lose(ctx context.Context, at netip.AddrPort, grace time.Duration) error {
	lost, err := s.holder(at.Addr(), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", at.Addr(), err)
	}
	attempts := s.connect(ctx, at)
	defer attempts.stop()
	if err := cluster.Await(ctx, "connections succeed", func(context.Context) error { return attempts.since(s.begin) }); err != nil {
		return err
	}
	if err := lost.CutOff(); err != nil {
		return err
	}
	cut := time.Now()
	s.say("%s held it; its cable is pulled now, and the machine runs on", lost.Name)

	var now *cluster.Node
	err = cluster.AwaitFor(ctx, grace+cluster.Guard, "another node holds "+at.Addr().String(), func(context.Context) (err error) {
		now, err = s.holder(at.Addr(), lost)
		return err
	})
	if err != nil {
		return err
	}
	s.say("%s holds it now, %.2f s after the cut", now.Name, time.Since(cut).Seconds())
	if err := cluster.Await(ctx, "connections succeed again", func(context.Context) error { return attempts.since(cut) }); err != nil {
		return err
	}
	s.say("a client that connects every 10 ms could not connect for %.2f s", attempts.outage(cut).Seconds())
	s.say("most of it is Kubernetes' node-monitor-grace-period (%v here, 50 s by default): in this version a lost node is\n"+
		"          noticed by its Ready condition\n", grace)
	return nil
}

// comeBack restores the lost node: it gives the address up, and the address stays where it is.
func (s *show) comeBack(ctx context.Context, at netip.AddrPort) error {
	for _, node := range s.cluster.Nodes {
		if err := node.Restore(); err != nil {
			return err
		}
	}
	err := cluster.Await(ctx, "one node alone holds "+at.Addr().String(), func(context.Context) error {
		holders, err := s.cluster.Holders("pl0", at.Addr())
		if err == nil && len(holders) != 1 {
			err = fmt.Errorf("%d nodes hold it", len(holders))
		}
		return err
	})
	if err != nil {
		return err
	}
	now, err := s.holder(at.Addr(), nil)
	if err != nil {
		return err
	}
	answer, err := s.cluster.Client.Get(ctx, at, "/")
	if err != nil {
		return err
	}
	s.say("its agent has removed the address; %s keeps it, and a request is answered by the backend on %q", now.Name, answer[:2])
	return nil
}

// attempts are connects to one address, one begun every 10 ms.
type attempts struct {
	stop func()

	mu  sync.Mutex
	all []attempt
}

type attempt struct {
	begun time.Time
	err   error
}

var errNoneYet = errors.New("no connection since then")

// connect begins to connect from the client, until stop is called.
func (s *show) connect(ctx context.Context, at netip.AddrPort) *attempts {
	const (
		interval = 10 * time.Millisecond
		// Shorter than TCP's first retransmission: an attempt tells about the moment in which it began.
		patience = 300 * time.Millisecond
	)
	ctx, cancel := context.WithCancel(ctx)
	a := &attempts{}
	var group sync.WaitGroup
	a.stop = func() {
		cancel()
		group.Wait()
	}
	group.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			group.Go(func() {
				begun := time.Now()
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				conn, err := s.cluster.Client.DialContext(ctx, "tcp", at.String())
				if err == nil {
					_ = conn.Close()
				}
				a.mu.Lock()
				defer a.mu.Unlock()
				a.all = append(a.all, attempt{begun, err})
			})
		}
	})
	return a
}

// since is nil when an attempt that began after the moment has succeeded.
func (a *attempts) since(moment time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.all {
		if one.begun.After(moment) && one.err == nil {
			return nil
		}
	}
	return errNoneYet
}

// outage is the time from the first attempt after the moment that got nothing to the first one after it that
// succeeded.
func (a *attempts) outage(moment time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	var first, again time.Time
	for _, one := range a.all {
		switch {
		case one.begun.Before(moment):
		case one.err != nil && (first.IsZero() || one.begun.Before(first)):
			first = one.begun
		}
	}
	for _, one := range a.all {
		if one.err == nil && !first.IsZero() && one.begun.After(first) && (again.IsZero() || one.begun.Before(again)) {
			again = one.begun
		}
	}
	if again.IsZero() {
		return 0
	}
	return again.Sub(first)
}
