// Package manifests_test holds the files that users apply to what they promise: every object is one that the API server
// takes, and nothing may do more than it needs.
package manifests_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/externalips"
)

// render builds a kustomization as kubectl does and decodes its objects.
func render(t *testing.T, directory string) []runtime.Object {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	require.NoError(t, err)
	rendered, err := resources.AsYaml()
	require.NoError(t, err)
	return decode(t, rendered)
}

// decode decodes every document into its type, refusing unknown fields.
func decode(t *testing.T, rendered []byte) []runtime.Object {
	t.Helper()
	types := runtime.NewScheme()
	require.NoError(t, scheme.AddToScheme(types))
	require.NoError(t, apiextensionsv1.AddToScheme(types))
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()

	var objects []runtime.Object
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(rendered)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		object, _, err := decoder.Decode(document, nil, nil)
		require.NoError(t, err, "%s", document)
		objects = append(objects, object)
	}
}

// all returns the objects of one type.
func all[T runtime.Object](objects []runtime.Object) []T {
	var found []T
	for _, object := range objects {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// named returns the object of that name, nil when there is none.
func named[T interface {
	runtime.Object
	GetName() string
}](objects []T, name string) (found T) {
	for _, object := range objects {
		if object.GetName() == name {
			return object
		}
	}
	return found
}

func TestEveryObjectDecodesStrictly(t *testing.T) {
	for directory, count := range map[string]int{"base": 24, "overlays/bare-metal": 25, "overlays/hetzner": 26, "overlays/updater": 19} {
		t.Run(directory, func(t *testing.T) {
			assert.Len(t, render(t, directory), count)
		})
	}
}

// After what a user edits, nothing of the base is left to fill in: images, a cloud-config that this version serves, and
// the files that it names.
func TestExamplesAreComplete(t *testing.T) {
	for _, directory := range []string{"overlays/bare-metal", "overlays/hetzner", "overlays/updater"} {
		t.Run(directory, func(t *testing.T) {
			objects := render(t, directory)
			deployment := all[*appsv1.Deployment](objects)[0]
			controller := deployment.Spec.Template.Spec
			assert.Regexp(t, `^registry\.example\.com/mooring/mooring-cloud-controller-manager:v\d`, controller.Containers[0].Image)
			for _, daemonSet := range all[*appsv1.DaemonSet](objects) {
				assert.Regexp(t, `^registry\.example\.com/mooring/mooring-agent:v\d`, daemonSet.Spec.Template.Spec.Containers[0].Image)
			}

			configMap := named(all[*corev1.ConfigMap](objects), controller.Volumes[0].ConfigMap.Name)
			require.NotNil(t, configMap)
			const file = "cloud-config.yaml"
			assert.Equal(t, controller.Containers[0].VolumeMounts[0].MountPath+"/"+file, flag(controller, "cloud-config"))
			require.Contains(t, configMap.Data, file)
			cfg, err := config.Parse([]byte(configMap.Data[file]))
			require.NoError(t, err)

			agents := slices.ContainsFunc(cfg.Pools, func(p config.Pool) bool { return p.Updater == nil })
			assert.Equal(t, agents, len(all[*appsv1.DaemonSet](objects)) == 1, "addresses are bound by agents, and nothing else needs them")

			if config.Buys(cfg) {
				assert.NotContains(t, []string{"", "kubernetes"}, flag(controller, "cluster-name"), "the controller does not start with it")
			}
			if cfg.Hetzner != nil {
				secret := all[*corev1.Secret](objects)[0]
				assert.Equal(t, deployment.Namespace, secret.Namespace)
				assert.Equal(t, secret.Name, controller.Volumes[1].Secret.SecretName)
				name, mounted := strings.CutPrefix(cfg.Hetzner.TokenFile, controller.Containers[0].VolumeMounts[1].MountPath+"/")
				assert.True(t, mounted, cfg.Hetzner.TokenFile)
				assert.Contains(t, secret.Data, name)
			}
		})
	}
}

// flag is the value of a flag of the pod's one container; empty when it is not given.
func flag(pod corev1.PodSpec, name string) string {
	for _, arg := range pod.Containers[0].Args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}

// Where no address is bound there is nothing of the agents: no pod that is root on a node, and no account that could be
// stolen. The rest is what everybody applies.
func TestWithoutAgents(t *testing.T) {
	objects := render(t, "overlays/updater")
	assert.Empty(t, all[*appsv1.DaemonSet](objects))
	for _, account := range all[*corev1.ServiceAccount](objects) {
		assert.NotContains(t, account.Name, "agent")
	}
	for _, role := range all[*rbacv1.ClusterRole](objects) {
		assert.NotContains(t, role.Name, "agent")
	}
	for _, binding := range all[*rbacv1.ClusterRoleBinding](objects) {
		assert.NotContains(t, binding.Name, "agent")
		for _, subject := range binding.Subjects {
			assert.NotContains(t, subject.Name, "agent")
		}
	}
	assert.Nil(t, named(all[*admissionregistrationv1.ValidatingAdmissionPolicy](objects), "mooring-agent"))
	assert.Nil(t, named(all[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](objects), "mooring-agent"))
	assert.NotEmpty(t, all[*apiextensionsv1.CustomResourceDefinition](objects), "the controller reads NodeAddresses at its start")
}

func TestNothingIsGrantedThatIsNotNeeded(t *testing.T) {
	objects := render(t, "base")
	verbs := map[string][]string{}
	for _, role := range all[*rbacv1.ClusterRole](objects) {
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				verbs[role.Name+" "+resource] = rule.Verbs
			}
		}
	}
	for _, role := range all[*rbacv1.Role](objects) {
		for _, rule := range role.Rules {
			key := strings.Join(append([]string{role.Name, role.Namespace, rule.Resources[0]}, rule.ResourceNames...), " ")
			verbs[key] = rule.Verbs
		}
	}
	read := []string{"get", "list", "watch"}
	assert.Equal(t, map[string][]string{
		"mooring:agent nodeaddresses":        read,
		"mooring:agent nodeaddresses/status": {"patch"},

		"mooring:cloud-controller-manager services":        {"list", "watch"},
		"mooring:cloud-controller-manager services/status": {"update", "patch"},
		// Mooring never deletes a Node.
		"mooring:cloud-controller-manager nodes":          {"get", "list", "watch", "update", "patch"},
		"mooring:cloud-controller-manager nodes/status":   {"patch"},
		"mooring:cloud-controller-manager namespaces":     {"list", "watch"},
		"mooring:cloud-controller-manager endpointslices": {"list", "watch"},
		"mooring:cloud-controller-manager events":         {"create", "patch"},
		// No nodeaddresses/status: an acknowledgement is the agent's alone.
		"mooring:cloud-controller-manager nodeaddresses": {"get", "list", "watch", "create", "patch", "delete"},

		"mooring:cloud-controller-manager kube-system leases":                                                {"create"},
		"mooring:cloud-controller-manager kube-system leases mooring-cloud-controller-manager mooring-epoch": {"get", "update"},
		"mooring:cloud-controller-manager mooring-system configmaps mooring-external-ips":                    {"list", "watch", "create", "update", "patch"},
	}, verbs)
}

// The policy is about whom the DaemonSet runs as; a policy without a binding, or about somebody else, would let everything
// pass and nobody would notice.
func TestAgentsAreHeldToTheirNode(t *testing.T) {
	for _, directory := range []string{"base", "overlays/bare-metal", "overlays/hetzner"} {
		t.Run(directory, func(t *testing.T) {
			objects := render(t, directory)
			agents := all[*appsv1.DaemonSet](objects)[0]
			user := "system:serviceaccount:" + agents.Namespace + ":" + agents.Spec.Template.Spec.ServiceAccountName
			policy := named(all[*admissionregistrationv1.ValidatingAdmissionPolicy](objects), "mooring-agent")
			require.NotNil(t, policy)
			assert.Equal(t, admissionregistrationv1.Fail, *policy.Spec.FailurePolicy)
			require.Len(t, policy.Spec.MatchConditions, 1)
			assert.Equal(t, "request.userInfo.username == '"+user+"'", policy.Spec.MatchConditions[0].Expression)
			binding := named(all[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](objects), "mooring-agent")
			require.NotNil(t, binding)
			assert.Equal(t, admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName:        policy.Name,
				ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			}, binding.Spec)
		})
	}
}

// What others do with Services must not depend on Mooring: the one policy that refuses when it cannot be evaluated goes by an
// object whose kind is always there, and lets everything pass while that is missing.
func TestOthersAreNotHeldUp(t *testing.T) {
	for _, directory := range []string{"base", "overlays/bare-metal", "overlays/hetzner", "overlays/updater"} {
		t.Run(directory, func(t *testing.T) {
			objects := render(t, directory)
			pools := named(all[*admissionregistrationv1.ValidatingAdmissionPolicy](objects), "mooring-external-ips")
			require.NotNil(t, pools)
			assert.Equal(t, admissionregistrationv1.Fail, *pools.Spec.FailurePolicy)
			assert.Equal(t, admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}, *pools.Spec.ParamKind)
			reference := allowing(t, objects, pools)
			parameters := named(all[*corev1.ConfigMap](objects), externalips.Name)
			require.NotNil(t, parameters)
			assert.Equal(t, []string{parameters.Namespace, parameters.Name}, []string{reference.Namespace, reference.Name})
			assert.Empty(t, parameters.Data, "applying it again would take away what the controller wrote")
		})
	}
}

// The policy that is looked at once for each node is for those who ask for it.
func TestAddressesInUseAreLookedAtOnRequest(t *testing.T) {
	const name = "mooring-external-ips-in-use"
	base := render(t, "base")
	assert.Nil(t, named(all[*admissionregistrationv1.ValidatingAdmissionPolicy](base), name))

	directory := filepath.Join(copied(t), "overlays", "bare-metal")
	file := filepath.Join(directory, "kustomization.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, append(text, "components: [../../components/external-ips-in-use]\n"...), 0o600))
	objects := render(t, directory)
	policies := all[*admissionregistrationv1.ValidatingAdmissionPolicy](objects)
	inUse := named(policies, name)
	require.NotNil(t, inUse)
	assert.Equal(t, admissionregistrationv1.Ignore, *inUse.Spec.FailurePolicy, "its parameters' kind may be missing")
	assert.Equal(t, named(policies, "mooring-external-ips").Spec.MatchConditions, inUse.Spec.MatchConditions)
	allowing(t, objects, inUse)
}

// allowing returns what a policy's binding says of its parameters, without which everything passes.
func allowing(t *testing.T, objects []runtime.Object, policy *admissionregistrationv1.ValidatingAdmissionPolicy) admissionregistrationv1.ParamRef {
	t.Helper()
	binding := named(all[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](objects), policy.Name)
	require.NotNil(t, binding)
	assert.Equal(t, policy.Name, binding.Spec.PolicyName)
	assert.Equal(t, admissionregistrationv1.AllowAction, *binding.Spec.ParamRef.ParameterNotFoundAction)
	return *binding.Spec.ParamRef
}

// Replicas that stand on one node, or are drained at once, are as good as one.
func TestReplicasFailApart(t *testing.T) {
	objects := render(t, "base")
	deployment := all[*appsv1.Deployment](objects)[0]
	labels := deployment.Spec.Selector
	assert.Greater(t, *deployment.Spec.Replicas, int32(1))
	apart := deployment.Spec.Template.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	require.Len(t, apart, 1)
	assert.Equal(t, corev1.LabelHostname, apart[0].TopologyKey)
	assert.Equal(t, labels, apart[0].LabelSelector)
	spread := deployment.Spec.Template.Spec.TopologySpreadConstraints
	require.Len(t, spread, 1)
	assert.Equal(t, corev1.LabelTopologyZone, spread[0].TopologyKey)
	assert.Equal(t, corev1.ScheduleAnyway, spread[0].WhenUnsatisfiable, "a cluster in one zone has two replicas, too")
	assert.Equal(t, labels, spread[0].LabelSelector)

	budget := all[*policyv1.PodDisruptionBudget](objects)[0]
	assert.Equal(t, deployment.Namespace, budget.Namespace)
	assert.Equal(t, labels, budget.Spec.Selector)
	assert.Nil(t, budget.Spec.MinAvailable, "it would hold up the drain of a cluster with one replica")
	assert.Equal(t, 1, budget.Spec.MaxUnavailable.IntValue())
}

// Requests hold what was measured with 3,000 Services, so that the scheduler reckons with it; a limit keeps a leak from
// taking the node's memory, with room for many more Services. CPU has no limit: who is throttled is taken for dead.
func TestResources(t *testing.T) {
	objects := render(t, "base")
	for name, row := range map[string]struct {
		container corev1.Container
		megabytes int64
	}{
		"controller": {all[*appsv1.Deployment](objects)[0].Spec.Template.Spec.Containers[0], 138},
		"agent":      {all[*appsv1.DaemonSet](objects)[0].Spec.Template.Spec.Containers[0], 32},
	} {
		resources := row.container.Resources
		assert.False(t, resources.Requests.Cpu().IsZero(), name)
		assert.Zero(t, resources.Limits.Cpu().Sign(), name)
		assert.GreaterOrEqual(t, resources.Requests.Memory().Value(), row.megabytes*1_000_000, name)
		assert.GreaterOrEqual(t, resources.Limits.Memory().Value(), 4*resources.Requests.Memory().Value(), name)
	}
}

func TestContainersAreConfined(t *testing.T) {
	objects := render(t, "base")
	controller := all[*appsv1.Deployment](objects)[0].Spec.Template.Spec
	agent := all[*appsv1.DaemonSet](objects)[0].Spec.Template.Spec

	for name, pod := range map[string]corev1.PodSpec{"controller": controller, "agent": agent} {
		require.Len(t, pod.Containers, 1, name)
		assert.Empty(t, pod.InitContainers, name)
		assert.False(t, pod.HostPID || pod.HostIPC, name)
		assert.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type, name)
		security := pod.Containers[0].SecurityContext
		assert.Nil(t, security.Privileged, name)
		assert.False(t, *security.AllowPrivilegeEscalation, name)
		assert.True(t, *security.ReadOnlyRootFilesystem, name)
		assert.Equal(t, []corev1.Capability{"ALL"}, security.Capabilities.Drop, name)
	}
	assert.True(t, *controller.SecurityContext.RunAsNonRoot)
	assert.Empty(t, controller.Containers[0].SecurityContext.Capabilities.Add)
	assert.Equal(t, []corev1.Capability{"NET_ADMIN", "NET_RAW"}, agent.Containers[0].SecurityContext.Capabilities.Add)
	require.Len(t, agent.Volumes, 1, "the agent reaches one directory of the host")
	assert.Equal(t, "/proc/sys/net", agent.Volumes[0].HostPath.Path)
}

// The controller connects to the health port of every agent, at the node's own address, and tells of what it finds there
// by an event on the Node.
func TestAgentsCanBeProbed(t *testing.T) {
	for _, directory := range []string{"base", "overlays/bare-metal", "overlays/hetzner"} {
		t.Run(directory, func(t *testing.T) {
			objects := render(t, directory)
			agent := all[*appsv1.DaemonSet](objects)[0].Spec.Template.Spec
			assert.True(t, agent.HostNetwork)
			host, port, err := net.SplitHostPort(flag(agent, "health-address"))
			require.NoError(t, err)
			assert.Empty(t, host, "on all addresses, of both families")
			require.Len(t, agent.Containers[0].Ports, 1)
			assert.Equal(t, strconv.Itoa(int(agent.Containers[0].Ports[0].ContainerPort)), port)
		})
	}
}

// Nodes that wait for the cloud controller are initialized although nothing else runs there yet; an agent stays on a node
// that a taint clears of addresses, to let go of them; the control plane carries no addresses.
func TestTolerations(t *testing.T) {
	objects := render(t, "base")
	tolerated := func(pod corev1.PodSpec, key string, effect corev1.TaintEffect) bool {
		taint := corev1.Taint{Key: key, Value: "anything", Effect: effect}
		for _, toleration := range pod.Tolerations {
			if toleration.ToleratesTaint(klog.Background(), &taint, false) && toleration.TolerationSeconds == nil {
				return true
			}
		}
		return false
	}
	controller := all[*appsv1.Deployment](objects)[0].Spec.Template.Spec
	agent := all[*appsv1.DaemonSet](objects)[0].Spec.Template.Spec

	const uninitialized, controlPlane = "node.cloudprovider.kubernetes.io/uninitialized", "node-role.kubernetes.io/control-plane"
	assert.True(t, tolerated(controller, uninitialized, corev1.TaintEffectNoSchedule))
	assert.True(t, tolerated(controller, controlPlane, corev1.TaintEffectNoSchedule))
	assert.True(t, tolerated(controller, corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule))
	assert.True(t, tolerated(controller, corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule), "it needs no pod network")
	assert.True(t, tolerated(agent, uninitialized, corev1.TaintEffectNoSchedule))
	assert.True(t, tolerated(agent, corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule))
	assert.True(t, tolerated(agent, corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule), "nor does it")
	assert.True(t, tolerated(agent, corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute))
	assert.True(t, tolerated(agent, corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule))
	assert.True(t, tolerated(agent, corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute))
	assert.True(t, tolerated(agent, "example.com/maintenance", corev1.TaintEffectNoExecute))
	assert.False(t, tolerated(agent, controlPlane, corev1.TaintEffectNoSchedule))
}
