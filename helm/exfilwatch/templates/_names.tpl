{{/* Names, labels and annotations that every object has. */}}

{{- define "exfilwatch.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters leave room for what is put behind it: a name has 63 at most, and that of a
StatefulSet's pods a hash of 10. */}}
{{- define "exfilwatch.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "exfilwatch.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "exfilwatch.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "exfilwatch.selector" -}}
app.kubernetes.io/name: {{ include "exfilwatch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Call: list . COMPONENT */}}
{{- define "exfilwatch.labels" -}}
{{- $root := index . 0 -}}
{{ include "exfilwatch.selector" $root }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: exfilwatch
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name, labels and annotations of an object. Call: list . COMPONENT SUFFIX ANNOTATIONS LABELS */}}
{{- define "exfilwatch.metadata" -}}
{{- $root := index . 0 -}}
{{- $annotations := merge (dict) (default (dict) (index . 3)) $root.Values.commonAnnotations -}}
name: {{ include "exfilwatch.fullname" $root }}{{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "exfilwatch.labels" (list $root (index . 1)) | nindent 2 }}
  {{- with index . 4 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "exfilwatch.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "exfilwatch.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "exfilwatch.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Port of metrics and probes. */}}
{{- define "exfilwatch.port" -}}
{{- $http := default (dict) .Values.config.http -}}
{{- default "0.0.0.0:9464" $http.listen | regexFind "[0-9]+$" -}}
{{- end -}}

{{/* Annotations of a hook. Call: list EVENTS WEIGHT */}}
{{- define "exfilwatch.hook" -}}
helm.sh/hook: {{ index . 0 }}
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
