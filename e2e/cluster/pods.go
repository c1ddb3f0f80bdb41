package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// accountPath is where a pod finds the token of its ServiceAccount. It is below scratch's own tmpfs.
const accountPath = "/run/secrets/kubernetes.io/serviceaccount"

// podRunner makes true what the Nodes' kubelets report, whose container runtime is a fake: for each pod that was
// scheduled it starts the program that the image is named for, with the pod's arguments, environment, files and
// ServiceAccount, in the network of its node, and ends it with the pod. The programs are Mooring's, and nginx; pods of
// other images run nothing.
type podRunner struct {
	cluster    *Cluster
	pods       corelisters.PodLister
	configMaps corelisters.ConfigMapLister
	secrets    corelisters.SecretLister
	wake       chan struct{}
	// stopping is what goes on beside the caller.
	stopping sync.WaitGroup

	mu      sync.Mutex
	running map[types.UID]*runningPod
}

type runningPod struct {
	node    *Node
	process *Process
	// files that were mounted, by the path in the pod.
	mounts map[string]string
}

// startPods starts the scheduler, and the runner, which goes on until the context ends.
func (c *Cluster) startPods(ctx context.Context) error {
	c.Scheduler = c.kube("kube-scheduler", nil, "kube-scheduler",
		"--kubeconfig="+c.kubeconfig("kube-scheduler"), "--leader-elect=false",
		"--bind-address=127.0.0.1", "--cert-dir="+c.file("scheduler"))
	if err := errors.Join(c.Scheduler.Start(), os.MkdirAll(accountPath, 0o755)); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(c.Kube, 0)
	core := factory.Core().V1()
	r := &podRunner{
		cluster: c, pods: core.Pods().Lister(), configMaps: core.ConfigMaps().Lister(), secrets: core.Secrets().Lister(),
		wake: make(chan struct{}, 1), running: map[types.UID]*runningPod{},
	}
	wake := func() {
		select {
		case r.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
	}
	for _, informer := range []cache.SharedIndexInformer{core.Pods().Informer(), core.ConfigMaps().Informer(), core.Secrets().Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	c.runner = r
	ctx, c.stopPods = context.WithCancel(ctx)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	r.stopping.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.wake:
				if err := r.sync(ctx); err != nil && ctx.Err() == nil {
					c.options.Progress("run pods: %v", err)
				}
			}
		}
	})
	return nil
}

// processes of the pods on a node; nil: on every node.
func (r *podRunner) processes(node *Node) []*Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Process
	for _, pod := range r.running {
		if pod.process != nil && (node == nil || pod.node == node) {
			all = append(all, pod.process)
		}
	}
	slices.SortFunc(all, func(a, b *Process) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// sync starts what is missing, ends what is too much, and brings files up to date.
func (r *podRunner) sync(ctx context.Context) error {
	pods, err := r.pods.List(labels.Everything())
	if err != nil {
		return err
	}
	wanted := map[types.UID]*corev1.Pod{}
	for _, pod := range pods {
		if pod.Spec.NodeName != "" && pod.DeletionTimestamp == nil {
			wanted[pod.UID] = pod
		}
	}
	var errs []error
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, pod := range r.running {
		if wanted[uid] == nil {
			delete(r.running, uid)
			if pod.process != nil {
				r.stopping.Go(func() { _ = pod.process.Stop() }) // a process that had to be killed has ended as well
			}
		}
	}
	for uid, pod := range wanted {
		running := r.running[uid]
		if running == nil {
			if running, err = r.start(ctx, pod); err != nil {
				errs = append(errs, fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err))
				continue
			}
			r.running[uid] = running
		}
		errs = append(errs, r.writeFiles(pod, running.mounts))
	}
	return errors.Join(errs...)
}

// start starts the pod's program.
func (r *podRunner) start(ctx context.Context, pod *corev1.Pod) (*runningPod, error) {
	c := r.cluster
	node := c.Node(pod.Spec.NodeName)
	if node == nil {
		return nil, fmt.Errorf("there is no node %q", pod.Spec.NodeName)
	}
	dir := filepath.Join(c.work, "pods", string(pod.UID))
	running := &runningPod{node: node, mounts: map[string]string{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	container := pod.Spec.Containers[0]
	image, _, _ := strings.Cut(path.Base(container.Image), ":")
	process := c.process(node.Name+"-"+pod.Name, node.Host)
	switch image {
	case path.Base(ControllerBinary), path.Base(AgentBinary):
		for _, mount := range container.VolumeMounts {
			if v := volume(pod, mount.Name); v != nil && (v.ConfigMap != nil || v.Secret != nil) {
				running.mounts[mount.MountPath] = filepath.Join(dir, mount.Name)
			}
		}
		env := environment(pod)
		args, err := containerArgs(pod.Spec, env)
		if err != nil {
			return nil, err
		}
		for i := range args {
			args[i] = running.redirect(args[i])
		}
		account := filepath.Join(dir, "account")
		if err := errors.Join(r.writeAccount(ctx, pod, account), r.writeFiles(pod, running.mounts), c.built("bin/"+image)); err != nil {
			return nil, err
		}
		process.args = append([]string{filepath.Join(c.root, "bin", image)}, args...)
		process.env = append(variables(env), "KUBERNETES_SERVICE_HOST="+ControlPlane4.String(), fmt.Sprintf("KUBERNETES_SERVICE_PORT=%d", apiServerPort))
		process.mounts = map[string]string{accountPath: account}
	case "nginx":
		nginx, err := exec.LookPath("nginx")
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(file, []byte(node.nginxConfiguration(dir)), 0o644); err != nil {
			return nil, err
		}
		process.args = []string{nginx, "-c", file, "-e", "stderr"}
	default:
		return running, nil
	}
	process.supervised = pod.Spec.RestartPolicy == corev1.RestartPolicyAlways
	running.process = process
	return running, process.Start()
}

// redirect changes paths in the pod to those of the files.
func (p *runningPod) redirect(text string) string {
	for at, dir := range p.mounts {
		text = strings.ReplaceAll(text, at+"/", dir+"/")
	}
	return text
}

// environment of the pod's container.
func environment(pod *corev1.Pod) map[string]string {
	fields := map[string]string{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "metadata.uid": string(pod.UID), "spec.nodeName": pod.Spec.NodeName,
	}
	env := map[string]string{}
	for _, variable := range pod.Spec.Containers[0].Env {
		env[variable.Name] = variable.Value
		if variable.ValueFrom != nil && variable.ValueFrom.FieldRef != nil {
			env[variable.Name] = fields[variable.ValueFrom.FieldRef.FieldPath]
		}
	}
	return env
}

// writeAccount writes what a kubelet projects of the pod's ServiceAccount.
func (r *podRunner) writeAccount(ctx context.Context, pod *corev1.Pod, dir string) error {
	token, err := r.cluster.token(ctx, pod.Spec.ServiceAccountName, &authenticationv1.BoundObjectReference{
		APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
	})
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(r.cluster.file("ca.crt"))
	if err != nil {
		return err
	}
	return writeDirectory(dir, map[string]string{"token": token, "ca.crt": string(ca), "namespace": pod.Namespace})
}

// writeFiles writes the pod's ConfigMaps and Secrets, in which paths below mounts are redirected.
func (r *podRunner) writeFiles(pod *corev1.Pod, mounts map[string]string) error {
	running := &runningPod{mounts: mounts}
	var errs []error
	for _, mount := range pod.Spec.Containers[0].VolumeMounts {
		dir, ok := mounts[mount.MountPath]
		if !ok {
			continue
		}
		files := map[string]string{}
		switch v := volume(pod, mount.Name); {
		case v.ConfigMap != nil:
			object, err := r.configMaps.ConfigMaps(pod.Namespace).Get(v.ConfigMap.Name)
			if err != nil {
				return err
			}
			for name, text := range object.Data {
				files[name] = running.redirect(text)
			}
		case v.Secret != nil:
			object, err := r.secrets.Secrets(pod.Namespace).Get(v.Secret.SecretName)
			if err != nil && (v.Secret.Optional == nil || !*v.Secret.Optional) {
				return err
			}
			if err == nil {
				for name, data := range object.Data {
					files[name] = string(data)
				}
			}
		}
		errs = append(errs, writeDirectory(dir, files))
	}
	return errors.Join(errs...)
}

// volume of the pod, nil when it has none of the name.
func volume(pod *corev1.Pod, name string) *corev1.Volume {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &pod.Spec.Volumes[i]
}

// writeDirectory replaces each file in one step, and leaves those alone that say the same already.
func writeDirectory(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		if old, err := os.ReadFile(file); err == nil && string(old) == text {
			continue
		}
		if err := errors.Join(os.WriteFile(file+".next", []byte(text), 0o600), os.Rename(file+".next", file)); err != nil {
			return err
		}
	}
	return nil
}

// nginxConfiguration is that of a pod of nginx: its welcome page, at the addresses of the node's pods.
func (n *Node) nginxConfiguration(dir string) string {
	return fmt.Sprintf(`daemon off;
master_process off;
user root;
pid %[1]s/pid;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
    default_type text/html;
    server {
        listen %[2]s:80 reuseport;
        listen [%[3]s]:80 reuseport;
        location / { return 200 "<title>Welcome to nginx!</title>\n"; }
    }
}
`, dir, n.podIPv4, n.podIPv6)
}
