{{/* Parts of pods that workloads, hooks, test and canary share. */}}

{{- define "exfilwatch.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "exfilwatch.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Call: list . LOG_FORMAT */}}
{{- define "exfilwatch.env" -}}
{{- $root := index . 0 -}}
- name: EXFILWATCH_LOG
  value: {{ $root.Values.log.level | quote }}
- name: EXFILWATCH_LOG_FORMAT
  value: {{ index . 1 | quote }}
{{- with $root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Folders, never `subPath`: only a mounted folder follows a change of its ConfigMap or Secret. */}}
{{- define "exfilwatch.mounts" -}}
{{- $folder := include "exfilwatch.folder" . -}}
- {name: config, mountPath: {{ $folder }}/config, readOnly: true}
- {name: rules, mountPath: {{ $folder }}/rules, readOnly: true}
{{- end -}}

{{- define "exfilwatch.secretMounts" -}}
{{- $folder := include "exfilwatch.folder" . -}}
{{- $c := .Values.credentials -}}
{{- if $c.sasl.mechanism }}
- {name: sasl, mountPath: {{ $folder }}/secrets/sasl, readOnly: true}
{{- end }}
{{- if $c.oauthbearer.enabled }}
- {name: oauth, mountPath: {{ $folder }}/secrets/oauth, readOnly: true}
{{- end }}
{{- if and $c.tls.enabled $c.tls.caSecret }}
- {name: ca, mountPath: {{ $folder }}/secrets/ca, readOnly: true}
{{- end }}
{{- if and $c.tls.enabled $c.tls.clientSecret }}
- {name: client, mountPath: {{ $folder }}/secrets/client, readOnly: true}
{{- end }}
{{- if .Values.canary.existingSecret }}
- {name: canary, mountPath: {{ $folder }}/secrets/canary, readOnly: true}
{{- end }}
{{- end -}}

{{/* Each Secret with just the keys that are used; readable by the group that owns the mount. */}}
{{- define "exfilwatch.secretVolumes" -}}
{{- $c := .Values.credentials -}}
{{- if $c.sasl.mechanism }}
- name: sasl
  secret:
    secretName: {{ $c.sasl.existingSecret }}
    defaultMode: 0440
    items:
      {{- if not $c.sasl.username }}
      - {key: {{ $c.sasl.usernameKey }}, path: {{ $c.sasl.usernameKey }}}
      {{- end }}
      - {key: {{ $c.sasl.passwordKey }}, path: {{ $c.sasl.passwordKey }}}
{{- end }}
{{- if $c.oauthbearer.enabled }}
- name: oauth
{{- if $c.oauthbearer.existingSecret }}
  secret:
    secretName: {{ $c.oauthbearer.existingSecret }}
    defaultMode: 0440
    items: [{key: {{ $c.oauthbearer.tokenKey }}, path: {{ $c.oauthbearer.tokenKey }}}]
{{- else }}
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: {{ $c.oauthbearer.audience | quote }}
          expirationSeconds: {{ $c.oauthbearer.expirationSeconds | int64 }}
          path: token
{{- end }}
{{- end }}
{{- if and $c.tls.enabled $c.tls.caSecret }}
- name: ca
  secret:
    secretName: {{ $c.tls.caSecret }}
    defaultMode: 0440
    items: [{key: {{ $c.tls.caKey }}, path: {{ $c.tls.caKey }}}]
{{- end }}
{{- if and $c.tls.enabled $c.tls.clientSecret }}
- name: client
  secret:
    secretName: {{ $c.tls.clientSecret }}
    defaultMode: 0440
    items:
      - {key: {{ $c.tls.certKey }}, path: {{ $c.tls.certKey }}}
      - {key: {{ $c.tls.keyKey }}, path: {{ $c.tls.keyKey }}}
      {{- with $c.tls.keyPasswordKey }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- if .Values.canary.existingSecret }}
- name: canary
  secret:
    secretName: {{ .Values.canary.existingSecret }}
    defaultMode: 0440
    items: [{key: {{ .Values.canary.key }}, path: {{ .Values.canary.key }}}]
{{- end }}
{{- end -}}

{{- define "exfilwatch.rulesConfigMap" -}}
{{- default (printf "%s-rules" (include "exfilwatch.fullname" .)) .Values.rulesConfigMap -}}
{{- end -}}

{{/* A container that runs one command and ends, with its pod.
Call: dict "root" . "component" NAME "name" NAME "args" LIST "config" CONFIGMAP "rules" CONFIGMAP
"secrets" BOOL "account" BOOL */}}
{{- define "exfilwatch.oncePod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "exfilwatch.labels" (list $root .component) | nindent 4 }}
  {{- with merge (dict) $root.Values.jobPod.annotations $root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: Never
  {{- with $root.Values.jobPod.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $root.Values.jobPod.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.jobPod.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .account }}
  serviceAccountName: {{ include "exfilwatch.serviceAccount" $root }}
  {{- end }}
  {{- include "exfilwatch.podSecurity" $root | nindent 2 }}
  containers:
    - name: {{ .name }}
      image: {{ include "exfilwatch.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      env:
        {{- include "exfilwatch.env" (list $root "text") | nindent 8 }}
      {{- include "exfilwatch.containerSecurity" $root | nindent 6 }}
      resources:
        {{- toYaml $root.Values.jobResources | nindent 8 }}
      volumeMounts:
        {{- include "exfilwatch.mounts" $root | nindent 8 }}
        {{- if .secrets }}
        {{- with include "exfilwatch.secretMounts" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- end }}
        {{- with $root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ .config }}}
    - name: rules
      configMap: {name: {{ .rules }}}
    {{- if .secrets }}
    {{- with include "exfilwatch.secretVolumes" $root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with $root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* A pod of exfilwatch.
Call: dict "root" . "component" NAME "roles" ROLES "workload" VALUES "static" BOOL */}}
{{- define "exfilwatch.memberPod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $name := include "exfilwatch.fullname" $root -}}
{{- $config := include "exfilwatch.config" (dict "root" $root "roles" .roles "resources" .workload.resources "makesTopics" (eq $v.topics.create "program")) -}}
metadata:
  labels:
    {{- include "exfilwatch.labels" (list $root .component) | nindent 4 }}
    exfilwatch/member: "true"
    {{- with .workload.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A change of the configuration takes a restart; a change of rules does not.
    checksum/config: {{ $config | sha256sum }}
    {{- with merge (dict) .workload.podAnnotations $v.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "exfilwatch.serviceAccount" $root }}
  {{- include "exfilwatch.podSecurity" $root | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "exfilwatch.graceSeconds" $root }}
  {{- with .workload.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .workload.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .workload.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .workload.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $v.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: {{ $v.topologySpread.maxSkew }}
      topologyKey: {{ . }}
      whenUnsatisfiable: {{ $v.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "exfilwatch.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $.component }}
    {{- end }}
  {{- end }}
  containers:
    - name: exfilwatch
      image: {{ include "exfilwatch.image" $root | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        - run
        - --config={{ include "exfilwatch.folder" $root }}/config/exfilwatch.yaml
        {{- if .static }}
        # A static member: a pod that is back within the session keeps its partitions.
        - --instance-id=$(POD_NAME)
        {{- end }}
      env:
        {{- if .static }}
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- end }}
        {{- include "exfilwatch.env" (list $root $v.log.format) | nindent 8 }}
      ports:
        - {name: http, containerPort: {{ include "exfilwatch.port" $root }}, protocol: TCP}
      # None of them asks the broker: /startupz is about the restore, /readyz about partitions and
      # what waits in them, /healthz about loops that turn.
      startupProbe:
        httpGet: {path: /startupz, port: http}
        {{- toYaml $v.probes.startup | nindent 8 }}
        timeoutSeconds: 3
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        {{- toYaml $v.probes.readiness | nindent 8 }}
        timeoutSeconds: 3
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        {{- toYaml $v.probes.liveness | nindent 8 }}
        timeoutSeconds: 3
      {{- include "exfilwatch.containerSecurity" $root | nindent 6 }}
      resources:
        {{- include "exfilwatch.resources" (list $root .roles .workload.resources) | nindent 8 }}
      volumeMounts:
        {{- include "exfilwatch.mounts" $root | nindent 8 }}
        {{- with include "exfilwatch.secretMounts" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ $name }}{{ ternary "-ingest" "" (eq .component "ingest") }}}
    - name: rules
      configMap: {name: {{ include "exfilwatch.rulesConfigMap" $root }}}
    {{- with include "exfilwatch.secretVolumes" $root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
