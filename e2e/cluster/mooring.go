package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names in the manifests.
const (
	Namespace         = "mooring-system"
	controllerAccount = "mooring-cloud-controller-manager"
	agentAccount      = "mooring-agent"
)

// AgentHealthPort is where every agent answers.
const AgentHealthPort = 10269

// CloudConfig is the file that every controller reads.
func (c *Cluster) CloudConfig() string { return c.file("cloud-config.yaml") }

// Configure replaces the cloud-config in one step, as an editor or a ConfigMap volume does.
func (c *Cluster) Configure(cloudConfig string) error {
	next := c.CloudConfig() + ".next"
	if err := os.WriteFile(next, []byte(cloudConfig), 0o600); err != nil {
		return err
	}
	return os.Rename(next, c.CloudConfig())
}

// AddController makes one more instance of the controller, which the caller starts: with the arguments of the
// manifests' Deployment, the token of its ServiceAccount, and the cloud-config of Configure. Flags are added last and
// so win. A lease names the instance by its Process's Name, or by that of its node.
func (c *Cluster) AddController(ctx context.Context, flags ...string) (*Process, error) {
	return c.addController(ctx, nil, flags...)
}

// AddControllerOn is AddController on a node, whose network it then has, and whose fate it shares.
func (c *Cluster) AddControllerOn(ctx context.Context, node *Node, flags ...string) (*Process, error) {
	controller, err := c.addController(ctx, node.Host, flags...)
	if err == nil {
		node.others = append(node.others, controller)
	}
	return controller, err
}

func (c *Cluster) addController(ctx context.Context, host *Host, flags ...string) (*Process, error) {
	if err := c.built(ControllerBinary); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("controller-%d", len(c.Controllers)+1)
	deployment, err := c.Kube.AppsV1().Deployments(c.options.Namespace).Get(ctx, controllerAccount, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	env := map[string]string{"POD_NAME": name, "POD_NAMESPACE": c.options.Namespace}
	args, err := containerArgs(deployment.Spec.Template.Spec, env)
	if err != nil {
		return nil, fmt.Errorf("deployment %s: %w", deployment.Name, err)
	}
	token, err := c.token(ctx, controllerAccount, nil)
	if err != nil {
		return nil, err
	}
	if err := c.writeKubeconfig(name, token); err != nil {
		return nil, err
	}
	process := c.process(name, host, append([]string{filepath.Join(c.root, ControllerBinary)}, args...)...)
	kubeconfig := c.kubeconfig(name)
	process.args = append(process.args,
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--cloud-config="+c.CloudConfig(),
		// Instances may share one network namespace.
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.ControllerPort(len(c.Controllers))),
		"--cert-dir="+c.file(name),
	)
	process.args = append(process.args, flags...)
	process.env = variables(env)
	process.supervised = true
	c.Controllers = append(c.Controllers, process)
	return process, nil
}

// Leader is the controller that holds the lease, live or not, and nil when none of ours does.
func (c *Cluster) Leader(ctx context.Context) (*Process, error) {
	lease, err := c.Kube.CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx, controllerAccount, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if lease.Spec.HolderIdentity == nil {
		return nil, nil
	}
	// The identity is the host name, which beside the control plane is the process's own, and something random.
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	for _, controller := range c.Controllers {
		if controller.hostName() == name {
			return controller, nil
		}
	}
	return nil, nil
}

// ControllerPort is the secure port of the i-th controller, counted from 0, on 127.0.0.1.
func (c *Cluster) ControllerPort(i int) int { return 10300 + i }

// StartAgent starts the agent on the node as the manifests' DaemonSet would: with its arguments, and with the token of
// a Pod on that node. A node whose Node was deleted and came back needs a new one, as it would get a new Pod. An agent
// that runs already is stopped first.
func (c *Cluster) StartAgent(ctx context.Context, node *Node, flags ...string) error {
	if err := c.built(AgentBinary); err != nil {
		return err
	}
	daemonSet, err := c.Kube.AppsV1().DaemonSets(c.options.Namespace).Get(ctx, agentAccount, metav1.GetOptions{})
	if err != nil {
		return err
	}
	env := map[string]string{"NODE_NAME": node.Name, "POD_NAMESPACE": c.options.Namespace}
	args, err := containerArgs(daemonSet.Spec.Template.Spec, env)
	if err != nil {
		return fmt.Errorf("daemonset %s: %w", daemonSet.Name, err)
	}
	token, err := c.AgentToken(ctx, node.Name)
	if err != nil {
		return err
	}
	name := node.Name + "-agent"
	if err := c.writeKubeconfig(name, token); err != nil {
		return err
	}
	if node.Agent != nil {
		if err := node.Agent.Stop(); err != nil {
			return err
		}
	}
	node.Agent = c.process(name, node.Host, append([]string{filepath.Join(c.root, AgentBinary)}, args...)...)
	node.Agent.args = append(node.Agent.args, "--kubeconfig="+c.kubeconfig(name))
	node.Agent.args = append(node.Agent.args, flags...)
	node.Agent.env = variables(env)
	node.Agent.supervised = true
	return node.Agent.Start()
}

// KubectlMooring runs kubectl mooring as the administrator and returns what it prints.
func (c *Cluster) KubectlMooring(ctx context.Context, args ...string) (string, error) {
	if err := c.built(KubectlBinary); err != nil {
		return "", err
	}
	output, err := run(ctx, filepath.Join(c.root, KubectlBinary), append([]string{"--kubeconfig=" + c.Kubeconfig}, args...)...)
	said := output
	if err != nil {
		said += err.Error()
	}
	return output, errors.Join(err, c.note(kubectlLog, said))
}

// kubectlLog has what kubectl mooring printed.
const kubectlLog = "kubectl-mooring.log"

// note adds text to a file beside the logs.
func (c *Cluster) note(name, text string) error {
	file, err := os.OpenFile(filepath.Join(c.Logs, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

func (c *Cluster) built(binary string) error {
	if _, err := os.Stat(filepath.Join(c.root, binary)); err != nil {
		return fmt.Errorf("%s is not built: run make build", binary)
	}
	return nil
}

// AwaitAgent waits until the node's agent says that it is ready.
func (c *Cluster) AwaitAgent(ctx context.Context, node *Node) error {
	return Await(ctx, "the agent of "+node.Name+" is ready", func(ctx context.Context) error {
		if err := node.Agent.Ended(); err != nil {
			return err
		}
		_, err := node.Get(ctx, netip.MustParseAddrPort(localhost(AgentHealthPort)), "/readyz")
		return err
	})
}

// AgentToken makes a Pod of the agents' ServiceAccount on the node and asks for its token, as the kubelet does. From it
// the API server knows the node, for as long as the Pod exists. The Pod does nothing: the agent is a process.
func (c *Cluster) AgentToken(ctx context.Context, node string) (string, error) {
	mount := false
	pod, err := c.Kube.CoreV1().Pods(c.options.Namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: agentAccount + "-" + node + "-"},
		Spec: corev1.PodSpec{
			NodeName:                     node,
			ServiceAccountName:           agentAccount,
			AutomountServiceAccountToken: &mount,
			Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers:                   []corev1.Container{{Name: "agent", Image: agentAccount}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create a Pod for the agent of %s: %w", node, err)
	}
	return c.token(ctx, agentAccount, &authenticationv1.BoundObjectReference{
		APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
	})
}

// token asks for a token of the ServiceAccount, which lasts no longer than what it is bound to; nil: to nothing.
func (c *Cluster) token(ctx context.Context, account string, bound *authenticationv1.BoundObjectReference) (string, error) {
	seconds := int64(24 * 60 * 60)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds, BoundObjectRef: bound}}
	token, err := c.Kube.CoreV1().ServiceAccounts(c.options.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("ask for a token of ServiceAccount %s: %w", account, err)
	}
	// Its beginning is that of all such tokens; what makes it one is the signature.
	c.Secret("a token of ServiceAccount "+account, token.Status.Token[strings.LastIndex(token.Status.Token, ".")+1:])
	return token.Status.Token, nil
}

// containerArgs are the arguments of the Pod's only container, with $(NAME) replaced as the kubelet does.
func containerArgs(pod corev1.PodSpec, env map[string]string) ([]string, error) {
	if len(pod.Containers) != 1 {
		return nil, fmt.Errorf("it has %d containers instead of one", len(pod.Containers))
	}
	var replacements []string
	for name, value := range env {
		replacements = append(replacements, "$("+name+")", value)
	}
	replacer := strings.NewReplacer(replacements...)
	var args []string
	for _, arg := range pod.Containers[0].Args {
		args = append(args, replacer.Replace(arg))
	}
	return args, nil
}

func variables(env map[string]string) []string {
	var entries []string
	for name, value := range env {
		entries = append(entries, name+"="+value)
	}
	return entries
}
