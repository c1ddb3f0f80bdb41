package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Fault is something wrong with the wire that lasts until Mend.
type Fault struct{ table string }

// CutControlPlane keeps the host and the control plane, with the controllers beside it, from hearing each other. The
// host stays on the wire with all the others.
func (c *Cluster) CutControlPlane(h *Host) (*Fault, error) {
	return c.wire.fault("cut-"+h.Name,
		fmt.Sprintf("chain in { type filter hook input priority 0; iifname %q drop; }", h.port()),
		fmt.Sprintf("chain out { type filter hook output priority 0; oifname %q drop; }", h.port()),
	)
}

// CutOthers keeps the host and all the other hosts from hearing each other. The host and the control plane do.
func (c *Cluster) CutOthers(h *Host) (*Fault, error) {
	return c.wire.fault("island-"+h.Name,
		fmt.Sprintf("chain pass { type filter hook forward priority 0; iifname %[1]q drop; oifname %[1]q drop; }", h.port()),
	)
}

// LoseProbes loses so many percent of the packets between the control plane and the agents' health ports, each way.
func (c *Cluster) LoseProbes(percent int) (*Fault, error) {
	return c.wire.fault("lossy",
		fmt.Sprintf("chain in { type filter hook input priority 0; tcp sport %d numgen random mod 100 < %d drop; }", AgentHealthPort, percent),
		fmt.Sprintf("chain out { type filter hook output priority 0; tcp dport %d numgen random mod 100 < %d drop; }", AgentHealthPort, percent),
	)
}

// fault has the bridge drop frames by nftables rules in a table of the name.
func (w *wire) fault(name string, chains ...string) (*Fault, error) {
	f := &Fault{table: name}
	return f, nft(fmt.Sprintf("table bridge %s {\n%s\n}\n", f.table, strings.Join(chains, "\n")))
}

// Mend ends the fault.
func (f *Fault) Mend() error { return nft("delete table bridge " + f.table) }

func nft(rules string) error {
	cmd := exec.CommandContext(context.Background(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("nft %s: %w: %s", rules, err, out.String())
	}
	return nil
}

// processes that run on the node.
func (n *Node) processes() []*Process {
	all := []*Process{n.Kubelet, n.Proxy}
	if n.Agent != nil {
		all = append(all, n.Agent)
	}
	if n.cluster.runner != nil {
		all = append(all, n.cluster.runner.processes(n)...)
	}
	return append(all, n.others...)
}

// Freeze stops the node as a hypervisor does that pauses a machine: nothing on it goes on, and no packet comes in.
func (n *Node) Freeze() error {
	errs := []error{n.CutOff()}
	for _, process := range n.processes() {
		if process.Running() {
			errs = append(errs, process.Pause())
		}
	}
	return errors.Join(errs...)
}

// Thaw lets a frozen node go on from where it was.
func (n *Node) Thaw() error {
	errs := []error{n.Restore()}
	for _, process := range n.processes() {
		if process.Running() {
			errs = append(errs, process.Resume())
		}
	}
	return errors.Join(errs...)
}
