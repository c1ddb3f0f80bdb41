package manifests_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const chart = "charts/mooring"

var emptyLines = regexp.MustCompile(`\n(\s*\n)+`)

// helm runs helm, without a cluster, and returns what it prints; an error has what it complains of.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	const binary = "../_output/bin/helm"
	require.FileExists(t, binary, "run hack/build-helm.sh")
	// The result of a test is remembered until a file changes that the test has opened, and helm is another process.
	require.NoError(t, filepath.WalkDir("charts", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	}))
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = errors.Join(err, errors.New(stderr.String()))
	}
	return stdout.String(), err
}

// renderChart renders the chart as helm install does and decodes its objects.
func renderChart(t *testing.T, args ...string) []runtime.Object {
	t.Helper()
	rendered, err := helm(t, append([]string{"template", "mooring", chart}, args...)...)
	require.NoError(t, err)
	return decode(t, []byte(rendered))
}

// example are the arguments for one of the chart's examples.
func example(name string, args ...string) []string {
	return append([]string{"--values=" + chart + "/examples/" + name + ".yaml"}, args...)
}

// byName are the objects as YAML, by kind, namespace and name, without what need not be the same: the order of keys and the
// comments of the cloud-config, and the empty lines that kustomize puts into folded text before lines that are indented.
func byName(t *testing.T, objects []runtime.Object) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, object := range objects {
		accessor, err := meta.Accessor(object)
		require.NoError(t, err)
		key := object.GetObjectKind().GroupVersionKind().Kind + " " + path.Join(accessor.GetNamespace(), accessor.GetName())
		require.NotContains(t, texts, key, "twice")
		if configMap, ok := object.(*corev1.ConfigMap); ok {
			for name, data := range configMap.Data {
				var config any
				require.NoError(t, yaml.Unmarshal([]byte(data), &config))
				sorted, err := yaml.Marshal(config)
				require.NoError(t, err)
				configMap.Data[name] = string(sorted)
			}
		}
		text, err := yaml.Marshal(object)
		require.NoError(t, err)
		texts[key] = emptyLines.ReplaceAllString(string(text), "\n")
	}
	return texts
}

// same says of each object that is missing, too many or different which one it is, and what is different.
func same(t *testing.T, want, have map[string]string) {
	t.Helper()
	assert.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(have)))
	for name, text := range want {
		if other, ok := have[name]; ok {
			assert.Equal(t, text, other, name)
		}
	}
}

// fromChart are the chart's objects by name, without where they differ from a kustomization's on purpose: of what outlives
// an installation the CRD tells Helm to keep it, and the Namespace is not part of a chart.
func fromChart(t *testing.T, args ...string) map[string]string {
	t.Helper()
	objects := renderChart(t, args...)
	for _, crd := range all[*apiextensionsv1.CustomResourceDefinition](objects) {
		const policy = "helm.sh/resource-policy"
		assert.Equal(t, "keep", crd.Annotations[policy])
		delete(crd.Annotations, policy)
	}
	return byName(t, objects)
}

// fromOverlay are the objects of a kustomization by name, without the Namespace.
func fromOverlay(t *testing.T, directory, namespace string) map[string]string {
	t.Helper()
	objects := byName(t, render(t, directory))
	require.Contains(t, objects, "Namespace "+namespace)
	delete(objects, "Namespace "+namespace)
	return objects
}

// Who installs by Helm gets what the documents, and the other tests, say of the kustomizations.
func TestChartRendersWhatTheOverlaysDo(t *testing.T) {
	for overlay, args := range map[string][]string{
		"bare-metal": nil,
		"hetzner":    {"--set=secrets.existingSecret=", "--set-file=secrets.files.hcloud-token=overlays/hetzner/hcloud-token"},
		"updater":    nil,
	} {
		t.Run(overlay, func(t *testing.T) {
			want := fromOverlay(t, "overlays/"+overlay, "mooring-system")
			same(t, want, fromChart(t, example(overlay, append(args, "--namespace=mooring-system")...)...))
		})
		t.Run(overlay+" in another namespace, and with the file of the cloud-config", func(t *testing.T) {
			directory := renamed(t, "lb")
			want := fromOverlay(t, filepath.Join(directory, "overlays", overlay), "lb")

			file := "overlays/" + overlay + "/cloud-config.yaml"
			have := fromChart(t, example(overlay, append(args, "--namespace=lb", "--set-file=cloudConfig="+file)...)...)
			same(t, want, have)
			for name, text := range have {
				assert.NotContains(t, text, "mooring-system", name)
			}
		})
	}
}

// A package holds what base links to, and renders as the directory does.
func TestChartIsWholeInAPackage(t *testing.T) {
	directory := t.TempDir()
	_, err := helm(t, "package", chart, "--destination="+directory, "--version=1.2.3", "--app-version=v1.2.3")
	require.NoError(t, err)
	args := []string{"--namespace=lb", "--set=image.tag="}
	packaged, err := helm(t, append([]string{"template", "mooring", filepath.Join(directory, "mooring-1.2.3.tgz")}, example("bare-metal", args...)...)...)
	require.NoError(t, err)
	unpacked, err := helm(t, append([]string{"template", "mooring", chart}, example("bare-metal", "--namespace=lb", "--set=image.tag=v1.2.3")...)...)
	require.NoError(t, err)
	assert.Equal(t, unpacked, packaged, "without a tag the images are those of the chart's version")
}

// Every value arrives where it is said to, and takes away nothing of what the base has there.
func TestChartValues(t *testing.T) {
	const values = `
image: {prefix: registry.example.com/lb/, tag: v9, pullPolicy: Always, pullSecrets: [{name: pull}]}
clusterName: east
secrets: {existingSecret: tokens}
controller:
  replicas: 1
  resources: {limits: {memory: 2Gi}}
  nodeSelector: {disk: fast}
  tolerations: [{key: example.com/one, operator: Exists}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
  extraArgs: [--v=4]
  extraEnv: [{name: HTTPS_PROXY, value: "http://192.0.2.3:3128"}]
  podLabels: {team: net}
  podAnnotations: {example.com/a: b}
agents:
  resources: {requests: {cpu: 1}}
  nodeSelector: {edge: "true"}
  tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
  extraArgs: [--v=5]
  extraEnv: [{name: A, value: b}]
  podLabels: {team: agents}
  podAnnotations: {example.com/c: d}
`
	file := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(file, []byte(values), 0o600))
	base := render(t, "base")
	objects := renderChart(t, example("bare-metal", "--values="+file)...)

	deployment, plain := all[*appsv1.Deployment](objects)[0], all[*appsv1.Deployment](base)[0]
	assert.Equal(t, int32(1), *deployment.Spec.Replicas)
	controller, plainController := deployment.Spec.Template.Spec, plain.Spec.Template.Spec
	container, plainContainer := controller.Containers[0], plainController.Containers[0]
	assert.Equal(t, "registry.example.com/lb/mooring-cloud-controller-manager:v9", container.Image)
	assert.Equal(t, append(plainContainer.Args, "--cluster-name=east", "--v=4"), container.Args)
	assert.Equal(t, append(plainContainer.Env, corev1.EnvVar{Name: "HTTPS_PROXY", Value: "http://192.0.2.3:3128"}), container.Env)
	assert.Equal(t, plainContainer.Resources.Requests, container.Resources.Requests)
	assert.Equal(t, "2Gi", container.Resources.Limits.Memory().String())
	assert.Equal(t, map[string]string{"disk": "fast"}, controller.NodeSelector)
	assert.Equal(t, append(plainController.Tolerations, corev1.Toleration{Key: "example.com/one", Operator: corev1.TolerationOpExists}), controller.Tolerations)
	assert.Equal(t, plainController.Affinity.PodAntiAffinity, controller.Affinity.PodAntiAffinity)
	assert.NotNil(t, controller.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
	assert.Equal(t, "tokens", controller.Volumes[1].Secret.SecretName)
	assert.Equal(t, map[string]string{"team": "net", "app.kubernetes.io/name": "mooring", "app.kubernetes.io/component": "cloud-controller-manager"}, deployment.Spec.Template.Labels)
	assert.Equal(t, map[string]string{"example.com/a": "b", "kubectl.kubernetes.io/default-container": "controller"}, deployment.Spec.Template.Annotations)
	assert.Equal(t, plain.Spec.Selector, deployment.Spec.Selector)

	daemonSet, plainDaemonSet := all[*appsv1.DaemonSet](objects)[0], all[*appsv1.DaemonSet](base)[0]
	agent, plainAgent := daemonSet.Spec.Template.Spec, plainDaemonSet.Spec.Template.Spec
	assert.Equal(t, "registry.example.com/lb/mooring-agent:v9", agent.Containers[0].Image)
	assert.Equal(t, append(plainAgent.Containers[0].Args, "--v=5"), agent.Containers[0].Args)
	assert.Equal(t, append(plainAgent.Containers[0].Env, corev1.EnvVar{Name: "A", Value: "b"}), agent.Containers[0].Env)
	assert.Equal(t, "1", agent.Containers[0].Resources.Requests.Cpu().String())
	assert.Equal(t, plainAgent.Containers[0].Resources.Limits, agent.Containers[0].Resources.Limits)
	assert.Equal(t, map[string]string{"edge": "true", "kubernetes.io/os": "linux"}, agent.NodeSelector)
	assert.Len(t, agent.Tolerations, len(plainAgent.Tolerations)+1)
	assert.NotNil(t, agent.Affinity)
	assert.Equal(t, "agents", daemonSet.Spec.Template.Labels["team"])
	assert.Equal(t, "d", daemonSet.Spec.Template.Annotations["example.com/c"])

	for _, pod := range []corev1.PodSpec{controller, agent} {
		assert.Equal(t, corev1.PullAlways, pod.Containers[0].ImagePullPolicy)
		assert.Equal(t, []corev1.LocalObjectReference{{Name: "pull"}}, pod.ImagePullSecrets)
	}
	assert.Empty(t, all[*corev1.Secret](objects))
}

// A cloud-config of any layout arrives as it was written, and names that YAML takes for something else stay names.
func TestChartPassesTextOn(t *testing.T) {
	const config = "\n   # a comment that is indented\napiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\npools:\n- {name: a, addresses: [192.0.2.1], interface: pl0}"
	directory := t.TempDir()
	text, values := filepath.Join(directory, "cloud-config.yaml"), filepath.Join(directory, "values.yaml")
	require.NoError(t, os.WriteFile(text, []byte(config), 0o600))
	require.NoError(t, os.WriteFile(values, []byte(`secrets: {files: {"null": x, "true": "y\"\n", "1.5": z, "-": "1", empty: ""}}`), 0o600))
	objects := renderChart(t, "--set=image.prefix=registry.example.com/mooring", "--set-file=cloudConfig="+text, "--values="+values)
	var configs []string
	for _, c := range all[*corev1.ConfigMap](objects) {
		if c.Name == "mooring-cloud-config" {
			configs = append(configs, c.Data["cloud-config.yaml"])
		}
	}
	require.Len(t, configs, 1)
	assert.Equal(t, config, strings.TrimRight(configs[0], "\n"))
	secrets := all[*corev1.Secret](objects)
	require.Len(t, secrets, 1)
	assert.Equal(t, map[string][]byte{"null": []byte("x"), "true": []byte("y\"\n"), "1.5": []byte("z"), "-": []byte("1"), "empty": {}}, secrets[0].Data)
}

// What could not work is refused before anything is installed, by a message that names the value and the way out.
func TestChartRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		want []string
	}{
		"a typo":                   {example("bare-metal", "--set=agents.enbled=false"), []string{"/agents", "enbled"}},
		"a typo at the top":        {example("bare-metal", "--set=clustername=a"), []string{"clustername"}},
		"a typo in a toleration":   {example("bare-metal", "--set=agents.tolerations[0].kee=a"), []string{"/agents/tolerations/0", "kee"}},
		"a typo in resources":      {example("bare-metal", "--set=agents.resources.limit.memory=1Gi"), []string{"/agents/resources", "limit"}},
		"a value of another kind":  {example("bare-metal", "--set-string=agents.enabled=no"), []string{"/agents/enabled"}},
		"a number for text":        {example("bare-metal", "--set=image.tag=110"), []string{"/image/tag", "got number, want string"}},
		"a part that is taken out": {example("bare-metal", "--set=agents.extraArgs=null"), []string{"/agents", "extraArgs"}},
		"a label that selects":     {example("bare-metal", `--set=agents.podLabels.app\.kubernetes\.io/name=a`), []string{"agents.podLabels has app.kubernetes.io/name"}},
		"a file with a space":      {example("bare-metal", "--set=secrets.files.a b=c"), []string{`secrets.files has "a b"`}},
		"a tag with a colon":       {example("bare-metal", "--set=image.tag=v1:2"), []string{"/image/tag", "v1:2"}},
		"a cluster with a space":   {example("bare-metal", "--set=clusterName=a b"), []string{"/clusterName", "a b"}},
		"no images":                {example("bare-metal", "--set=image.prefix="), []string{"image.prefix", "make image"}},
		"no cloud-config":          {[]string{"--set=image.prefix=a"}, []string{"cloudConfig", "--set-file"}},
		"another file":             {example("bare-metal", "--set-file=cloudConfig=base/namespace.yaml"), []string{"cloudConfig", `"Namespace"`}},
		"a text that is no YAML":   {example("bare-metal", "--set-file=cloudConfig=chart_test.go"), []string{"cloudConfig", "yaml: line"}},
		"pools that are no list":   {example("bare-metal", "--set=cloudConfig.pools=office"), []string{"cloudConfig: pools is not a list"}},
		"a pool that is a name":    {example("bare-metal", "--set=cloudConfig.pools={office}"), []string{`pools has "office"`}},
		"a pool whose name is a number, without agents": {
			example("bare-metal", "--set=agents.enabled=false,cloudConfig.pools[0].name=12"), []string{"pool 12 has no updater"},
		},
		"no pools": {example("bare-metal", "--set-json=cloudConfig.pools=[]"), []string{"cloudConfig: pools is empty"}},
		"a pool without a name, without agents": {
			example("bare-metal", "--set=agents.enabled=false,cloudConfig.pools[0].name=null"), []string{"cloudConfig.pools[0], which has no name, has no updater"},
		},
		"agents taken from addresses": {
			example("bare-metal", "--set=agents.enabled=false"), []string{"agents.enabled", "pool office"},
		},
		"a nameless cluster that buys": {example("hetzner", "--set=clusterName="), []string{"clusterName", "pool bought"}},
		"a cluster that buys by the framework's name": {
			example("hetzner", "--set=clusterName=kubernetes"), []string{"clusterName", "kubernetes"},
		},
		"two sources of secrets": {example("hetzner", "--set=secrets.files.a=b"), []string{"secrets.existingSecret", "secrets.files"}},
		"an older Kubernetes":    {example("bare-metal", "--kube-version=v1.35.9"), []string{"1.36", "v1.35.9"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := helm(t, append([]string{"template", "mooring", chart}, row.args...)...)
			require.Error(t, err)
			for _, word := range row.want {
				assert.ErrorContains(t, err, word)
			}
		})
	}
}
