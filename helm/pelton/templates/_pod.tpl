{{- /* The pod template, the same for both kinds of workload. */ -}}
{{- define "pelton.podTemplate" -}}
metadata:
  labels:
    {{- include "pelton.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: pelton
    {{- if and .Values.restartOn.config .Values.config }}
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- end }}
    {{- if and .Values.restartOn.config .Values.modules.binaryData }}
    checksum/modules: {{ toYaml .Values.modules.binaryData | sha256sum }}
    {{- end }}
    {{- if and .Values.restartOn.secret .Values.secret }}
    checksum/secret: {{ toYaml .Values.secret | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pelton.serviceAccountName" . }}
  automountServiceAccountToken: false
  # A service named "pelton" would put PELTON_… into the environment.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .Values.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $selector := dict "labelSelector" (dict "matchLabels" (include "pelton.selectorLabels" $ | fromYaml)) }}
    - {{ toYaml (merge (deepCopy .) $selector) | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  {{- with .Values.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: pelton
      image: {{ include "pelton.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        - --config=/etc/pelton/config.yaml
        - --log-format={{ .Values.log.format }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- include "pelton.env" . | nindent 8 }}
      {{- with include "pelton.envFrom" . | trim }}
      envFrom:
        {{- . | nindent 8 }}
      {{- end }}
      ports:
        - { name: admin, containerPort: {{ .Values.admin.port }}, protocol: TCP }
      # Modules are compiled before it is over, which takes a while where the cache is empty.
      startupProbe:
        httpGet: { path: /startupz, port: admin }
        {{- toYaml .Values.probes.startup | nindent 8 }}
      # Never depends on Kafka: a broker that is away must not get pods killed.
      livenessProbe:
        httpGet: { path: /livez, port: admin }
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        {{- toYaml .Values.probes.readiness | nindent 8 }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        {{- include "pelton.volumeMounts" . | nindent 8 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: cache
      {{- toYaml (.Values.cache.volume | default (dict "emptyDir" (dict "sizeLimit" "2Gi"))) | nindent 6 }}
    {{- include "pelton.volumes" . | nindent 4 }}
{{- end -}}
