{{- /*
mooring.base prints a file of manifests/base for the release's namespace, which accounts are named with, too. The base has
the name in quotes wherever it is a value of its own, because 123, true and null are good names of namespaces.
*/ -}}
{{- define "mooring.base" -}}
{{- .root.Files.Get (printf "base/%s" .file) | replace "mooring-system" .root.Release.Namespace -}}
{{- end -}}

{{- /*
mooring.pod changes a pod template of the base as the values (.Values.controller or .Values.agents) say, and prints
nothing. Of maps what the values say counts before the base's; what lists hold comes after it.
*/ -}}
{{- define "mooring.pod" -}}
{{- $metadata := .template.metadata -}}
{{- $pod := .template.spec -}}
{{- $container := first $pod.containers -}}
{{- $image := .root.Values.image -}}
{{- $prefix := required "image.prefix is empty: set it to what the names of your images begin with, such as registry.example.com/mooring (make image IMAGE_PREFIX=... PUSH=1 builds and pushes them)" $image.prefix -}}
{{- $_ := set $container "image" (printf "%s/%s:%s" (trimSuffix "/" $prefix) $container.image ($image.tag | default .root.Chart.AppVersion)) -}}
{{- with $image.pullPolicy -}}
{{- $_ := set $container "imagePullPolicy" . -}}
{{- end -}}
{{- with $image.pullSecrets -}}
{{- $_ := set $pod "imagePullSecrets" . -}}
{{- end -}}
{{- $_ := set $container "args" (concat $container.args .values.extraArgs) -}}
{{- $_ := set $container "env" (concat $container.env .values.extraEnv) -}}
{{- $_ := set $container "resources" (merge (deepCopy .values.resources) $container.resources) -}}
{{- with .values.nodeSelector -}}
{{- $_ := set $pod "nodeSelector" (merge (deepCopy .) ($pod.nodeSelector | default dict)) -}}
{{- end -}}
{{- $_ := set $pod "tolerations" (concat $pod.tolerations .values.tolerations) -}}
{{- with .values.affinity -}}
{{- $_ := set $pod "affinity" (merge (deepCopy .) ($pod.affinity | default dict)) -}}
{{- end -}}
{{- $_ := set $metadata "labels" (merge (deepCopy .values.podLabels) $metadata.labels) -}}
{{- with .values.podAnnotations -}}
{{- $_ := set $metadata "annotations" (merge (deepCopy .) ($metadata.annotations | default dict)) -}}
{{- end -}}
{{- end -}}

{{- /* mooring.cloudConfig prints the text of the cloud-config. */ -}}
{{- define "mooring.cloudConfig" -}}
{{- if kindIs "string" .Values.cloudConfig -}}
{{- .Values.cloudConfig -}}
{{- else -}}
{{- toYaml .Values.cloudConfig -}}
{{- end -}}
{{- end -}}

{{- /* mooring.secret prints the name of the Secret that the cloud-config's files come from. */ -}}
{{- define "mooring.secret" -}}
{{- .Values.secrets.existingSecret | default "mooring-secrets" -}}
{{- end -}}

{{- /*
mooring.check ends the installation where it could not work, and prints nothing. Of the cloud-config it looks at what
has to fit the other values; the rest is the controller's to judge, and that of `kubectl mooring validate`.
*/ -}}
{{- define "mooring.check" -}}
{{- if not .Values.cloudConfig -}}
{{- fail "cloudConfig is empty: set it to a cloud-config with your pools, or pass the file with --set-file cloudConfig=cloud-config.yaml; examples are in the chart's directory examples" -}}
{{- end -}}
{{- $config := include "mooring.cloudConfig" . | fromYaml -}}
{{- if ne ($config.kind | default "" | toString) "CloudConfig" -}}
{{- fail (printf "cloudConfig is not a cloud-config, which has apiVersion: mooring.dev/v1alpha1 and kind: CloudConfig: %s" ($config.Error | default (printf "its kind is %q" ($config.kind | default "" | toString)))) -}}
{{- end -}}
{{- if not (kindIs "slice" $config.pools) -}}
{{- fail "cloudConfig: pools is not a list: write at least one pool, as in the chart's directory examples" -}}
{{- end -}}
{{- if not $config.pools -}}
{{- fail "cloudConfig: pools is empty, and the controller does not start: write at least one pool, as in the chart's directory examples" -}}
{{- end -}}
{{- range $i, $_ := $config.pools -}}
{{- if not (kindIs "map" .) -}}
{{- fail (printf "cloudConfig: pools has %q, which is no pool: write it as in the chart's directory examples" (toString .)) -}}
{{- end -}}
{{- $pool := printf "cloudConfig.pools[%d], which has no name," $i -}}
{{- with .name -}}
{{- $pool = printf "pool %s" (toString .) -}}
{{- end -}}
{{- if and (not $.Values.agents.enabled) (not .updater) -}}
{{- fail (printf "agents.enabled is false, but %s has no updater: its addresses are bound by agents; set agents.enabled to true, or remove the pool" $pool) -}}
{{- end -}}
{{- if and (has $.Values.clusterName (list "" "kubernetes")) (dig "hetzner" "ephemeral" false .) -}}
{{- fail (printf "clusterName is %q, but %s buys: set it to a name of your own, which stands on what is bought" $.Values.clusterName $pool) -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := .Values.secrets.files -}}
{{- if not (regexMatch "^[-._a-zA-Z0-9]+$" $key) -}}
{{- fail (printf "secrets.files has %q, which is no name of a file in a Secret: use letters, digits, -, _ and . alone" $key) -}}
{{- end -}}
{{- end -}}
{{- range $part := list "controller" "agents" -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/component" -}}
{{- if hasKey (index $.Values $part).podLabels $label -}}
{{- fail (printf "%s.podLabels has %s, by which the workload selects its pods: leave it out, or choose another label" $part $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.secrets.existingSecret .Values.secrets.files -}}
{{- fail (printf "secrets.existingSecret is %s, so the chart makes no Secret for secrets.files: set one of the two" .Values.secrets.existingSecret) -}}
{{- end -}}
{{- /* The lookup finds nothing where there is no cluster, or where the namespace is about to be made. */ -}}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace -}}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "privileged" $namespace -}}
{{- if ne $level "privileged" -}}
{{- fail (printf "namespace %s has the Pod Security level %s, which keeps all pods of Mooring from being made, because they use the network of the host: install into a namespace of its own, or kubectl label --overwrite namespace %s pod-security.kubernetes.io/enforce=privileged" .Release.Namespace $level .Release.Namespace) -}}
{{- end -}}
{{- end -}}
