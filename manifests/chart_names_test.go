package manifests_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/mooring-lb/mooring/cloud/config"
)

// A namespace may have a name that is something else in YAML: both ways to install keep it a name, and name the accounts
// that policies and rights speak of with it.
func TestNamespacesWithNamesThatYAMLTakesForSomethingElse(t *testing.T) {
	for _, namespace := range []string{"123", "007", "1e3", "0x1f", "2026-11-22", "true", "on", "n", "null"} {
		t.Run(namespace, func(t *testing.T) {
			directory := renamed(t, namespace)
			for overlay, args := range map[string][]string{
				"hetzner": {"--set=secrets.existingSecret=", "--set-file=secrets.files.hcloud-token=overlays/hetzner/hcloud-token"},
				"updater": nil,
			} {
				want := map[string]string{}
				for name, text := range fromOverlay(t, "overlays/"+overlay, "mooring-system") {
					// In JSON every name is in quotes.
					object, err := yaml.YAMLToJSON([]byte(text))
					require.NoError(t, err)
					moved, err := yaml.JSONToYAML(bytes.ReplaceAll(object, []byte("mooring-system"), []byte(namespace)))
					require.NoError(t, err)
					want[strings.ReplaceAll(name, "mooring-system", namespace)] = string(moved)
				}
				same(t, want, fromOverlay(t, filepath.Join(directory, "overlays", overlay), namespace))
				same(t, want, fromChart(t, example(overlay, append(args, "--namespace="+namespace)...)...))
			}
		})
	}
}

// What is text stays text, as it was written.
func TestChartKeepsTextThatYAMLTakesForSomethingElse(t *testing.T) {
	const template = `
image: {prefix: TEXT, tag: TEXT, pullSecrets: [{name: TEXT}]}
clusterName: TEXT
secrets: {existingSecret: TEXT}
cloudConfig:
  apiVersion: mooring.dev/v1alpha1
  kind: CloudConfig
  pools: [{name: a, addresses: [192.0.2.1], interface: pl0, nodeSelector: {matchLabels: {TEXT: TEXT}}}]
controller: &pod
  nodeSelector: {TEXT: TEXT}
  tolerations: [{key: TEXT, operator: Equal, value: TEXT, effect: NoExecute, tolerationSeconds: 100000000}]
  extraEnv: [{name: TEXT, value: TEXT}]
  podLabels: {TEXT: TEXT}
  podAnnotations: {TEXT: TEXT}
agents: *pod
`
	for _, text := range []string{"1.10", "007", "1e3", "0x1f", "2026-11-22", "true", "on", "n", "null"} {
		t.Run(text, func(t *testing.T) {
			values := filepath.Join(t.TempDir(), "values.yaml")
			require.NoError(t, os.WriteFile(values, []byte(strings.ReplaceAll(template, "TEXT", strconv.Quote(text))), 0o600))
			objects := renderChart(t, "--values="+values)

			deployment, daemonSet := all[*appsv1.Deployment](objects)[0], all[*appsv1.DaemonSet](objects)[0]
			for name, pod := range map[string]corev1.PodTemplateSpec{
				"mooring-cloud-controller-manager": deployment.Spec.Template,
				"mooring-agent":                    daemonSet.Spec.Template,
			} {
				container := pod.Spec.Containers[0]
				assert.Equal(t, text+"/"+name+":"+text, container.Image)
				assert.Contains(t, container.Env, corev1.EnvVar{Name: text, Value: text})
				assert.Equal(t, []corev1.LocalObjectReference{{Name: text}}, pod.Spec.ImagePullSecrets)
				assert.Equal(t, text, pod.Spec.NodeSelector[text])
				assert.Equal(t, text, pod.Labels[text])
				assert.Equal(t, text, pod.Annotations[text])
				assert.Contains(t, pod.Spec.Tolerations, corev1.Toleration{
					Key: text, Operator: corev1.TolerationOpEqual, Value: text, Effect: corev1.TaintEffectNoExecute,
					TolerationSeconds: new(int64(100000000)),
				})
			}
			assert.Equal(t, text, flag(deployment.Spec.Template.Spec, "cluster-name"))
			assert.Equal(t, text, deployment.Spec.Template.Spec.Volumes[1].Secret.SecretName)

			configMap := named(all[*corev1.ConfigMap](objects), "mooring-cloud-config")
			require.NotNil(t, configMap)
			cfg, err := config.Parse([]byte(configMap.Data["cloud-config.yaml"]))
			require.NoError(t, err)
			assert.True(t, cfg.Pools[0].NodeSelector.Matches(labels.Set{text: text}))
		})
	}
}
