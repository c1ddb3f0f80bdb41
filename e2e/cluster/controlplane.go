package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	etcdPort      = 2379
	etcdPeerPort  = 2380
	apiServerPort = 6443
)

// auditPolicy logs every write once, when it is answered: that is what Writes counts. Of the accounts of Mooring's it logs
// reads too, and a watch already when it begins: it may outlive the API server.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, Panic]
rules:
- level: Metadata
  users: ["` + accountPrefix + controllerAccount + `", "` + accountPrefix + agentAccount + `"]
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
  omitStages: [ResponseStarted]
- level: None
`

// startControlPlane starts etcd, the API server and the controller manager, and makes the administrator's clients.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	if err := writePKI(c.work, net.IPv4(127, 0, 0, 1), ControlPlane4.AsSlice(), ControlPlane6.AsSlice()); err != nil {
		return err
	}
	if err := os.WriteFile(c.file("audit-policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	if err := c.writeUsers(); err != nil {
		return err
	}

	c.Etcd = c.kube("etcd", nil, "etcd",
		"--data-dir="+c.file("etcd"),
		"--unsafe-no-fsync", // the data dies with the namespaces anyway
		"--listen-client-urls=http://"+localhost(etcdPort), "--advertise-client-urls=http://"+localhost(etcdPort),
		"--listen-peer-urls=http://"+localhost(etcdPeerPort), "--initial-advertise-peer-urls=http://"+localhost(etcdPeerPort),
		"--initial-cluster=default=http://"+localhost(etcdPeerPort),
	)
	c.APIServer = c.kube("kube-apiserver", nil, "kube-apiserver",
		"--etcd-servers=http://"+localhost(etcdPort),
		"--bind-address=::", fmt.Sprintf("--secure-port=%d", apiServerPort), "--advertise-address="+ControlPlane4.String(),
		"--tls-cert-file="+c.file("server.crt"), "--tls-private-key-file="+c.file("server.key"),
		"--token-auth-file="+c.file("tokens.csv"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range="+serviceSubnets,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.file("sa.key"), "--service-account-signing-key-file="+c.file("sa.key"),
		"--endpoint-reconciler-type=none", // no Pod talks to it
		"--audit-policy-file="+c.file("audit-policy.yaml"), "--audit-log-path="+c.auditLog(), "--audit-log-maxsize=4096",
	)
	grace := c.options.NodeMonitorGracePeriod
	c.ControllerManager = c.kube("kube-controller-manager", nil, "kube-controller-manager",
		"--kubeconfig="+c.kubeconfig("kube-controller-manager"),
		"--cloud-provider=external",
		"--bind-address=127.0.0.1", "--cert-dir="+c.file("controller-manager"),
		"--leader-elect=false",
		"--use-service-account-credentials",
		"--service-account-private-key-file="+c.file("sa.key"), "--root-ca-file="+c.file("ca.crt"),
		"--cluster-cidr="+podSubnets, "--allocate-node-cidrs=false",
		"--node-monitor-grace-period="+grace.String(), "--node-monitor-period="+min(5*time.Second, grace/4).String(),
	)

	c.Kubeconfig = c.kubeconfig("admin")
	var err error
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return err
	}
	c.Config.QPS = -1
	if c.Kube, err = kubernetes.NewForConfig(c.Config); err != nil {
		return err
	}
	if c.NodeAddresses, err = v1alpha1.NewClient(c.Config); err != nil {
		return err
	}

	c.options.Progress("starting etcd, kube-apiserver and kube-controller-manager")
	if err := c.Etcd.Start(); err != nil {
		return err
	}
	if err := Await(ctx, "etcd listens", func(ctx context.Context) error { return listens(ctx, c.Etcd, etcdPort) }); err != nil {
		return err
	}
	if err := c.APIServer.Start(); err != nil {
		return err
	}
	if err := c.AwaitAPIServer(ctx); err != nil {
		return err
	}
	return c.ControllerManager.Start()
}

// AwaitAPIServer waits until the API server is ready.
func (c *Cluster) AwaitAPIServer(ctx context.Context) error {
	return Await(ctx, "kube-apiserver is ready", func(ctx context.Context) error {
		if err := c.APIServer.Ended(); err != nil {
			return err
		}
		return c.Kube.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

func listens(ctx context.Context, p *Process, port int) error {
	if err := p.Ended(); err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", localhost(port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// writeUsers writes the static tokens of everybody who has one, and their kubeconfigs. What Mooring's processes use
// is not among them: they have the tokens of their ServiceAccounts.
func (c *Cluster) writeUsers() error {
	users := map[string]string{
		"admin":                   "admin,admin,system:masters",
		"kube-controller-manager": "system:kube-controller-manager,system:kube-controller-manager,",
		"kube-proxy":              "system:kube-proxy,system:kube-proxy,",
		"kube-scheduler":          "system:kube-scheduler,system:kube-scheduler,",
	}
	for _, node := range c.Nodes {
		users[node.Name] = fmt.Sprintf("system:node:%s,%s,system:nodes", node.Name, node.Name)
	}
	var lines strings.Builder
	for name, user := range users {
		token := "token-of-" + name // reaches as far as the namespaces do
		fields := strings.SplitN(user, ",", 3)
		fmt.Fprintf(&lines, "%s,%s,%s,%q\n", token, fields[0], fields[1], fields[2])
		if err := c.writeKubeconfig(name, token); err != nil {
			return err
		}
	}
	return os.WriteFile(c.file("tokens.csv"), []byte(lines.String()), 0o600)
}

func (c *Cluster) kubeconfig(user string) string { return c.file(user + ".kubeconfig") }

func (c *Cluster) writeKubeconfig(user, token string) error {
	server := "https://" + netip.AddrPortFrom(ControlPlane4, apiServerPort).String()
	return writeKubeconfig(c.kubeconfig(user), server, c.file("ca.crt"), token)
}

// Kubectl runs kubectl as the administrator and returns what it prints.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return run(ctx, filepath.Join(c.root, KubeBinary), append([]string{"kubectl", "--kubeconfig=" + c.Kubeconfig}, args...)...)
}

// run returns what a program prints; its error has what it prints on standard error.
func run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), errors.Join(fmt.Errorf("%s %s: %w", filepath.Base(program), strings.Join(args, " "), err), errors.New(stderr.String()))
	}
	return stdout.String(), nil
}

// Apply applies a kustomize directory as a user would. What the API server warns of is an error.
func (c *Cluster) Apply(ctx context.Context, dir string) error {
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(c.root, dir)
	}
	_, err := c.Kubectl(ctx, "apply", "--server-side", "--warnings-as-errors", "-k", dir)
	return err
}
