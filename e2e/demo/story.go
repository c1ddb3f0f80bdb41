package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
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
	began, ended := attempts.outage(cut)
	s.say("a client that connects every 10 ms could not connect for %.2f s", ended.Sub(began).Seconds())
	s.say("most of that is the time in which a node is silent before it counts as lost: the controller asks each agent's\n"+
		"          health port every 300 ms, and gives a node up after three silent rounds and a last burst, about 1.2 s.\n"+
		"          The rest is two writes to the API server, and binding and announcing on %s", now.Name)
	if err := s.sayShare(ctx, attempts, ended, lost, now, grace); err != nil {
		return err
	}
	return s.lossEvent(ctx, lost)
}

// sayShare tells what became of connections after the outage: the address has moved, the backends have not.
func (s *show) sayShare(ctx context.Context, attempts *attempts, ended time.Time, lost, now *cluster.Node, grace time.Duration) error {
	const enough = 100
	var all, failed int
	err := cluster.Await(ctx, "connections end", func(context.Context) error {
		if all, failed = attempts.after(ended); all < enough {
			return fmt.Errorf("%d have", all)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.say("of the next %d connections %d failed: Mooring moves the address and not the pods, and kube-proxy on %s sends a\n"+
		"          share of them to the one on %s until Kubernetes itself calls that node NotReady, after its\n"+
		"          node-monitor-grace-period (%v here). externalTrafficPolicy: Local avoids it\n", all, failed, now.Name, lost.Name, grace)
	return nil
}

// lossEvent prints how the Node shows what the probe has found.
func (s *show) lossEvent(ctx context.Context, lost *cluster.Node) error {
	args := []string{"get", "events", "--field-selector", "reason=NodeLost"}
	var text string
	err := cluster.Await(ctx, "an event says that "+lost.Name+" is lost", func(ctx context.Context) (err error) {
		if text, err = s.cluster.Kubectl(ctx, args...); err == nil && !strings.Contains(text, "node/"+lost.Name) {
			err = errors.New("there is none")
		}
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("    $ kubectl %s\n%s\n", strings.Join(args, " "), indent(text))
	s.say("Kubernetes still says Ready of %s below, and its line of NodeAddresses (na) is what its agent reported last\n", lost.Name)
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

// outage began with the first attempt after the moment that got nothing, and ended with the first one after it that
// succeeded. Both are the moment when no attempt failed.
func (a *attempts) outage(moment time.Time) (began, ended time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.all {
		if !one.begun.Before(moment) && one.err != nil && (began.IsZero() || one.begun.Before(began)) {
			began = one.begun
		}
	}
	for _, one := range a.all {
		if one.err == nil && !began.IsZero() && one.begun.After(began) && (ended.IsZero() || one.begun.Before(ended)) {
			ended = one.begun
		}
	}
	if began.IsZero() || ended.IsZero() {
		return moment, moment
	}
	return began, ended
}

// after counts the attempts that began after the moment and have ended, and those of them that failed.
func (a *attempts) after(moment time.Time) (all, failed int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.all {
		if !one.begun.After(moment) {
			continue
		}
		all++
		if one.err != nil {
			failed++
		}
	}
	return all, failed
}
