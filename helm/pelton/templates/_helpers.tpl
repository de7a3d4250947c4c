{{- define "pelton.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pelton.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "pelton.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pelton.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pelton.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: processor
{{- end -}}

{{- /* Labels of everything but the selected pods' own; `component` is given by whoever is not the processor. */ -}}
{{- define "pelton.metaLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pelton.labels" -}}
{{ include "pelton.selectorLabels" . }}
{{ include "pelton.metaLabels" . }}
{{- end -}}

{{- define "pelton.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "pelton.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "pelton.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pelton.configMapName" -}}
{{- .Values.existingConfigMap | default (printf "%s-config" (include "pelton.fullname" .)) -}}
{{- end -}}

{{- define "pelton.secretName" -}}
{{- if .Values.existingSecret -}}
{{- .Values.existingSecret -}}
{{- else if .Values.secret -}}
{{- printf "%s-env" (include "pelton.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- /* The label `application` of all series. */ -}}
{{- define "pelton.application" -}}
{{- .Values.config.application | default .Release.Name -}}
{{- end -}}

{{- /* Where modules come from, as a volume; nothing where an image or `extraVolumes` bring them. */ -}}
{{- define "pelton.modulesVolume" -}}
{{- with .Values.modules -}}
{{- if .binaryData }}
configMap: { name: {{ include "pelton.fullname" $ }}-modules }
{{- else if .existingConfigMap }}
configMap: { name: {{ .existingConfigMap }} }
{{- else if .image.reference }}
image: { reference: {{ .image.reference | quote }}, pullPolicy: {{ .image.pullPolicy }} }
{{- else if .volume }}
{{ toYaml .volume }}
{{- end }}
{{- end -}}
{{- end -}}

{{- /* Volumes and mounts that the processor and the test pod share; `cache` is each one's own. ConfigMaps are mounted as directories: only then do
changes reach a running pod. */ -}}
{{- define "pelton.volumes" -}}
- name: config
  configMap: { name: {{ include "pelton.configMapName" . }} }
- name: run
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
{{- with include "pelton.modulesVolume" . | trim }}
- name: modules
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pelton.volumeMounts" -}}
- { name: config, mountPath: /etc/pelton, readOnly: true }
- { name: cache, mountPath: /var/cache/pelton }
- { name: run, mountPath: /run/pelton }
{{- if include "pelton.modulesVolume" . | trim }}
- { name: modules, mountPath: {{ .Values.modules.path }}, readOnly: true }
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The environment wins over files: with any configuration the probes find the admin server, `kubectl exec` its socket, and
the cache is a directory of Pelton's own inside of the volume, which itself belongs to root. */ -}}
{{- define "pelton.env" -}}
- name: PELTON_INSTANCE
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- { name: PELTON__ADMIN__LISTEN, value: "0.0.0.0:{{ .Values.admin.port }}" }
- { name: PELTON__ADMIN__SOCKET, value: /run/pelton/admin }
- { name: PELTON__CACHE_DIR, value: /var/cache/pelton/compiled }
{{- if .Values.restartOn.config }}
- { name: PELTON__RELOAD_ON_CHANGE, value: "false" }
{{- end }}
{{- with .Values.log.filter }}
- { name: PELTON_LOG, value: {{ . | quote }} }
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pelton.envFrom" -}}
{{- with include "pelton.secretName" . }}
- secretRef: { name: {{ . }} }
{{- end }}
{{- with .Values.extraEnvFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Input topics of `config`, as a JSON list. */ -}}
{{- define "pelton.inputTopics" -}}
{{- $topics := list -}}
{{- range $name, $transform := .Values.config.transforms -}}
{{- $topics = concat $topics $transform.input.topics -}}
{{- end -}}
{{- $topics | uniq | sortAlpha | toJson -}}
{{- end -}}

{{- /* A duration of Pelton's in milliseconds. */ -}}
{{- define "pelton.milliseconds" -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $factor := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit -}}
{{- mulf (float64 $number) $factor | int64 -}}
{{- end -}}

{{- /* What the schema cannot say. */ -}}
{{- define "pelton.validate" -}}
{{- $grace := mul .Values.terminationGracePeriodSeconds 1000 -}}
{{- $drain := include "pelton.milliseconds" (.Values.config.drain_limit | default "60s") -}}
{{- if le (int64 $grace) (int64 $drain) -}}
{{- fail (printf "terminationGracePeriodSeconds (%vs) must be more than config.drain_limit (%s), or Kubernetes kills Pelton in the middle of a drain" .Values.terminationGracePeriodSeconds (.Values.config.drain_limit | default "60s")) -}}
{{- end -}}
{{- if and .Values.keda.enabled .Values.hpa.enabled -}}
{{- fail "keda and hpa would fight over the number of pods: enable one of them" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor and serviceMonitor would scrape every pod twice: enable one of them" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.service.enabled) -}}
{{- fail "serviceMonitor needs service.enabled" -}}
{{- end -}}
{{- if and .Values.secret .Values.existingSecret -}}
{{- fail "secret and existingSecret: give one of them (extraEnvFrom takes more)" -}}
{{- end -}}
{{- with .Values.modules -}}
{{- $sources := 0 -}}
{{- range list .binaryData .existingConfigMap .image.reference .volume -}}{{- if . -}}{{- $sources = add1 $sources -}}{{- end -}}{{- end -}}
{{- if gt (int $sources) 1 -}}
{{- fail "modules: give one of binaryData, existingConfigMap, image.reference and volume" -}}
{{- end -}}
{{- end -}}
{{- $static := dig "kafka" "static_membership" false .Values.config -}}
{{- if and $static (eq .Values.workload.kind "Deployment") -}}
{{- fail "kafka.static_membership needs names that stay: workload.kind StatefulSet" -}}
{{- end -}}
{{- if and .Values.keda.enabled .Values.existingConfigMap (not (and .Values.keda.bootstrapServers .Values.keda.consumerGroup .Values.keda.topics)) -}}
{{- fail "keda cannot look into existingConfigMap: give keda.bootstrapServers, consumerGroup and topics" -}}
{{- end -}}
{{- end -}}
