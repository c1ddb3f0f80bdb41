package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Namespace makes a Kubernetes namespace for the test. When the test ends its Services are deleted, and that they
// really go is part of the test. The rest of the namespace goes in its own time: Kubernetes takes 5 s over any.
func (c *Cluster) Namespace(t T, name string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := c.Kube.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create namespace %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(c.deleteServices(ctx, name), c.Kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})); err != nil {
			t.Errorf("%v\n%s", err, c.Dump(ctx))
		}
	})
	return name
}

func (c *Cluster) deleteServices(ctx context.Context, namespace string) error {
	services := c.Kube.CoreV1().Services(namespace)
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, service := range list.Items {
		if err := services.Delete(ctx, service.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return Await(ctx, "the Services of "+namespace+" go", func(ctx context.Context) error {
		left, err := services.List(ctx, metav1.ListOptions{})
		if err == nil && len(left.Items) > 0 {
			err = fmt.Errorf("%d are left, the first is %s", len(left.Items), left.Items[0].Name)
		}
		return err
	})
}

// DeleteNamespace deletes a namespace and waits until it is gone.
func (c *Cluster) DeleteNamespace(ctx context.Context, name string) error {
	namespaces := c.Kube.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return Await(ctx, "namespace "+name+" goes", func(ctx context.Context) error {
		namespace, err := namespaces.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("it is still there: %v", namespace.Status.Conditions)
	})
}

// LoadBalancer is a Service of that type without a selector: TCP port 80, to what Endpoints names. The caller changes
// what the case needs.
func LoadBalancer(namespace, name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type:  corev1.ServiceTypeLoadBalancer,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(BackendPort)}},
		},
	}
}

// DualStack makes the Service ask for an address of each family.
func DualStack(service *corev1.Service) *corev1.Service {
	policy := corev1.IPFamilyPolicyRequireDualStack
	service.Spec.IPFamilyPolicy = &policy
	return service
}

// Endpoints makes the backends the Service's, and the only ones, with an EndpointSlice for each family. Ports are the
// Service's.
func (c *Cluster) Endpoints(ctx context.Context, service *corev1.Service, backends ...*Backend) error {
	families := map[discoveryv1.AddressType]func(*Backend) netip.Addr{
		discoveryv1.AddressTypeIPv4: func(b *Backend) netip.Addr { return b.IPv4 },
		discoveryv1.AddressTypeIPv6: func(b *Backend) netip.Addr { return b.IPv6 },
	}
	for family, address := range families {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: service.Namespace,
				Name:      service.Name + map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "-v4", discoveryv1.AddressTypeIPv6: "-v6"}[family],
				Labels: map[string]string{
					discoveryv1.LabelServiceName: service.Name,
					discoveryv1.LabelManagedBy:   "mooring-e2e",
				},
			},
			AddressType: family,
		}
		for _, port := range service.Spec.Ports {
			number := int32(BackendPort)
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &port.Name, Protocol: &port.Protocol, Port: &number})
			if port.Protocol == "" {
				slice.Ports[len(slice.Ports)-1].Protocol = nil // TCP
			}
		}
		ready := true
		for _, backend := range backends {
			endpoint := discoveryv1.Endpoint{
				Addresses:  []string{address(backend).String()},
				Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			}
			if backend.Node != nil {
				endpoint.NodeName = &backend.Node.Name
			}
			slice.Endpoints = append(slice.Endpoints, endpoint)
		}
		if err := c.putSlice(ctx, slice); err != nil {
			return fmt.Errorf("write endpoints of %s/%s: %w", service.Namespace, service.Name, err)
		}
	}
	return nil
}

func (c *Cluster) putSlice(ctx context.Context, slice *discoveryv1.EndpointSlice) error {
	slices := c.Kube.DiscoveryV1().EndpointSlices(slice.Namespace)
	_, err := slices.Create(ctx, slice, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = slices.Update(ctx, slice, metav1.UpdateOptions{})
	}
	return err
}

// Published are the addresses in the Service's status, read live.
func (c *Cluster) Published(ctx context.Context, namespace, name string) ([]netip.Addr, error) {
	service, err := c.Kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(ingress.IP)
		if err != nil {
			return nil, fmt.Errorf("status of %s/%s: %w", namespace, name, err)
		}
		addresses = append(addresses, addr)
	}
	return addresses, nil
}

// AwaitPublished waits until the Service's status holds addresses.
func (c *Cluster) AwaitPublished(ctx context.Context, namespace, name string) ([]netip.Addr, error) {
	var addresses []netip.Addr
	err := Await(ctx, fmt.Sprintf("%s/%s gets an address", namespace, name), func(ctx context.Context) (err error) {
		addresses, err = c.Published(ctx, namespace, name)
		if err == nil && len(addresses) == 0 {
			err = errors.New("its status holds none")
		}
		return err
	})
	return addresses, err
}

// Holders are the nodes that have the address on the interface.
func (c *Cluster) Holders(iface string, addr netip.Addr) ([]*Node, error) {
	var holders []*Node
	for _, node := range c.Nodes {
		holds, err := node.Holds(iface, addr)
		if err != nil {
			return nil, err
		}
		if holds {
			holders = append(holders, node)
		}
	}
	return holders, nil
}
