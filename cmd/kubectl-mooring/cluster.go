package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/explain"
)

// cluster is the way to one API server.
type cluster struct {
	core      kubernetes.Interface
	addresses nodeAddresses
	// objects are those of which we have no types.
	objects dynamic.Interface
	// namespace that is asked for, or that of the context; given: it was asked for.
	namespace string
	given     bool
}

// nodeAddresses reads NodeAddresses.
type nodeAddresses interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*v1alpha1.NodeAddresses, error)
	List(ctx context.Context, o metav1.ListOptions) (*v1alpha1.NodeAddressesList, error)
}

// apiQPS and apiBurst are no limit for a handful of lists.
const apiQPS, apiBurst = 50, 100

// nobodysChoice is the API server where nothing names one.
const nobodysChoice = "http://localhost:8080"

func connect(flags *genericclioptions.ConfigFlags) (*cluster, error) {
	loader := flags.ToRawKubeConfigLoader()
	namespace, given, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	rest, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("find the way to the API server: %w (give --kubeconfig or --context, or set KUBECONFIG)", err)
	}
	raw, err := loader.RawConfig()
	if err == nil && len(raw.Clusters) == 0 && *flags.APIServer == "" && rest.Host == nobodysChoice {
		return nil, errors.New("no kubeconfig names a cluster: give --kubeconfig, set KUBECONFIG, or name the API server with --server")
	}
	rest.QPS, rest.Burst = apiQPS, apiBurst
	rest.UserAgent = "kubectl-mooring/" + version
	core, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return nil, fmt.Errorf("client for the API server: %w", err)
	}
	addresses, err := v1alpha1.NewClient(rest)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(rest)
	if err != nil {
		return nil, fmt.Errorf("client for the API server: %w", err)
	}
	return &cluster{core: core, addresses: addresses, objects: objects, namespace: namespace, given: given}, nil
}

// configSource is where the cloud-config is read.
type configSource struct {
	file, configMap string
}

// defaultConfigMap is that of manifests/.
const defaultConfigMap = "mooring-system/mooring-cloud-config"

// configKey is the file in the ConfigMap.
const configKey = "cloud-config.yaml"

func (s *configSource) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.configMap, "cloud-config-map", defaultConfigMap, "namespace/`name` of the ConfigMap with the cloud-config")
	flags.StringVarP(&s.file, "filename", "f", "", "read the cloud-config from a `file` and not from the cluster; - reads standard input")
}

// config reads the cloud-config. One that cannot be read from the cluster is nil, and standard error says so: what the
// cluster shows without it is still worth looking at.
func (o *options) config(ctx context.Context, c *cluster, s configSource) (*config.Config, error) {
	if s.file != "" {
		return o.readConfig(s.file)
	}
	namespace, name, ok := strings.Cut(s.configMap, "/")
	if !ok {
		return nil, fmt.Errorf("--cloud-config-map %q is not namespace/name, such as %s", s.configMap, defaultConfigMap)
	}
	m, err := c.core.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		_, err = fmt.Fprintf(o.ErrOut, "warning: pools are shown as far as NodeAddresses tell: read ConfigMap %s: %v\n"+
			"         (name another one with --cloud-config-map, or give the file with -f)\n", s.configMap, err)
		return nil, err
	}
	text, ok := m.Data[configKey]
	if !ok {
		return nil, fmt.Errorf("ConfigMap %s has no key %s: name another one with --cloud-config-map", s.configMap, configKey)
	}
	return judge("ConfigMap "+s.configMap, []byte(text))
}

// read lists what explain looks at.
func (c *cluster) read(ctx context.Context) (*explain.Cluster, error) {
	var all explain.Cluster
	namespaces, err := c.core.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, listing("namespaces", err)
	}
	nodes, err := c.core.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, listing("nodes", err)
	}
	services, err := c.core.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, listing("services", err)
	}
	addresses, err := c.addresses.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, listing("nodeaddresses.mooring.dev", err)
	}
	all.Namespaces, all.Nodes, all.Services, all.Addresses = namespaces.Items, nodes.Items, services.Items, addresses.Items
	return &all, nil
}

// listing names the way out of what may go wrong with a list.
func listing(what string, err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("list %s: %w: is Mooring installed in this cluster? Its CustomResourceDefinition is part of manifests/", what, err)
	}
	return doing("list "+what, err)
}

// doing says what went wrong, and where the rights are listed that are missing, or how another cluster is chosen.
func doing(what string, err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%s: %w: docs/guides/kubectl.md lists the rights that this command needs", what, err)
	}
	if request := (*url.Error)(nil); errors.As(err, &request) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w: is that the cluster that you mean? --context, --kubeconfig or KUBECONFIG name another one", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// endpoints are the EndpointSlices of one Service.
func (c *cluster) endpoints(ctx context.Context, svc *corev1.Service) ([]*discoveryv1.EndpointSlice, error) {
	list, err := c.core.DiscoveryV1().EndpointSlices(svc.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + svc.Name,
	})
	if err != nil {
		return nil, listing("endpointslices", err)
	}
	endpoints := make([]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		endpoints[i] = &list.Items[i]
	}
	return endpoints, nil
}

// events are those of one Service.
func (c *cluster) events(ctx context.Context, svc *corev1.Service) ([]corev1.Event, error) {
	list, err := c.core.CoreV1().Events(svc.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.kind": "Service", "involvedObject.name": svc.Name}.String(),
	})
	if err != nil {
		return nil, listing("events", err)
	}
	return list.Items, nil
}
