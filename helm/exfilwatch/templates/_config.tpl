{{/* exfilwatch.yaml, from `config` and what the chart decides. */}}

{{- define "exfilwatch.folder" -}}/etc/exfilwatch{{- end -}}

{{/* Names of the topics, defaults filled in. */}}
{{- define "exfilwatch.topics" -}}
{{- $named := default (dict) .Values.config.topics -}}
events: {{ default "exfilwatch.events" $named.events }}
state: {{ default "exfilwatch.state" $named.state }}
alerts: {{ default "exfilwatch.alerts" $named.alerts }}
dead_letter: {{ default "exfilwatch.dead-letter" $named.dead_letter }}
{{- end -}}

{{- define "exfilwatch.group" -}}
{{- default "exfilwatch" .Values.config.kafka.group_id -}}
{{- end -}}

{{- define "exfilwatch.drainSeconds" -}}
{{- $shutdown := default (dict) .Values.config.shutdown -}}
{{- include "exfilwatch.seconds" (default "20s" $shutdown.drain_timeout) -}}
{{- end -}}

{{- define "exfilwatch.graceSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "exfilwatch.drainSeconds" . | int64) 10 -}}
{{- else -}}
{{- .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* librdkafka settings that follow from `credentials`. */}}
{{- define "exfilwatch.security" -}}
{{- $folder := include "exfilwatch.folder" . -}}
{{- $c := .Values.credentials -}}
{{- $sasl := or $c.sasl.mechanism $c.oauthbearer.enabled -}}
{{- if and $sasl $c.tls.enabled }}
security.protocol: sasl_ssl
{{- else if $sasl }}
security.protocol: sasl_plaintext
{{- else if $c.tls.enabled }}
security.protocol: ssl
{{- end }}
{{- if $c.sasl.mechanism }}
sasl.mechanism: {{ $c.sasl.mechanism }}
{{- with $c.sasl.username }}
sasl.username: {{ . | quote }}
{{- end }}
{{- end }}
{{- if $c.tls.enabled }}
{{- if $c.tls.caSecret }}
ssl.ca.location: {{ $folder }}/secrets/ca/{{ $c.tls.caKey }}
{{- end }}
{{- if $c.tls.clientSecret }}
ssl.certificate.location: {{ $folder }}/secrets/client/{{ $c.tls.certKey }}
ssl.key.location: {{ $folder }}/secrets/client/{{ $c.tls.keyKey }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Those of them that are secret: property to file. */}}
{{- define "exfilwatch.secretFiles" -}}
{{- $folder := include "exfilwatch.folder" . -}}
{{- $c := .Values.credentials -}}
{{- if $c.sasl.mechanism }}
{{- if not $c.sasl.username }}
sasl.username: {{ $folder }}/secrets/sasl/{{ $c.sasl.usernameKey }}
{{- end }}
sasl.password: {{ $folder }}/secrets/sasl/{{ $c.sasl.passwordKey }}
{{- end }}
{{- if and $c.tls.enabled $c.tls.clientSecret $c.tls.keyPasswordKey }}
ssl.key.password: {{ $folder }}/secrets/client/{{ $c.tls.keyPasswordKey }}
{{- end }}
{{- end -}}

{{/* The file. Call: dict "root" . "roles" ("both" | "detect" | "ingest") "resources" RESOURCES
"makesTopics" BOOL "withoutCredentials" BOOL */}}
{{- define "exfilwatch.config" -}}
{{- $root := .root -}}
{{- $config := deepCopy $root.Values.config -}}
{{- $kafka := $config.kafka -}}
{{- $properties := dict "session.timeout.ms" (mul $root.Values.sessionTimeoutSeconds 1000) -}}
{{- if gt (int64 $root.Values.sessionTimeoutSeconds) 300 -}}
{{- /* librdkafka refuses a session longer than it, which is 300 s. */ -}}
{{- $_ := set $properties "max.poll.interval.ms" (mul $root.Values.sessionTimeoutSeconds 1000) -}}
{{- end -}}
{{- $properties = merge (dict) (default (dict) $kafka.properties) $properties -}}
{{- if not .withoutCredentials -}}
{{- $properties = merge (include "exfilwatch.security" $root | fromYaml) $properties -}}
{{- with include "exfilwatch.secretFiles" $root | fromYaml -}}
{{- $_ := set $kafka "properties_from_files" . -}}
{{- end -}}
{{- if $root.Values.credentials.oauthbearer.enabled -}}
{{- $key := ternary $root.Values.credentials.oauthbearer.tokenKey "token" (ne $root.Values.credentials.oauthbearer.existingSecret "") -}}
{{- $_ := set $kafka "oauth_token_file" (printf "%s/secrets/oauth/%s" (include "exfilwatch.folder" $root) $key) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $kafka "properties" $properties -}}
{{- if .makesTopics -}}
{{- $shape := dict "partitions" $root.Values.topics.partitions "replication" $root.Values.topics.replication -}}
{{- $_ := set $kafka "create_topics" $shape -}}
{{- end -}}
{{- if ne .roles "both" }}{{ $_ := set $config "roles" (list .roles) }}{{ end -}}
{{- if ne .roles "ingest" -}}
{{- $detect := default (dict) $config.detect -}}
{{- if not $detect.memory_limit -}}
{{- $ceiling := include "exfilwatch.ceilingMiB" (list $root .roles .resources) -}}
{{- $_ := set $detect "memory_limit" (printf "%sMiB" $ceiling) -}}
{{- end -}}
{{- if not $detect.threads }}{{ $_ := set $detect "threads" $root.Values.capacity.threads }}{{ end -}}
{{- $_ := set $config "detect" $detect -}}
{{- end -}}
{{- /* For both roles: ingest knows canaries by their signature, detect has the rule for them. */ -}}
{{- if and $root.Values.canary.existingSecret (not .withoutCredentials) -}}
{{- $_ := set $config "canary" (dict "key_file" (printf "%s/secrets/canary/%s" (include "exfilwatch.folder" $root) $root.Values.canary.key)) -}}
{{- end -}}
{{- $_ := set $config "rules" (list "../rules/*.yaml") -}}
{{- toYaml $config -}}
{{- end -}}

{{/* What the hooks mount, made before anything else is there. */}}
{{- define "exfilwatch.roles" -}}
{{- ternary "both" "detect" (eq .Values.mode "combined") -}}
{{- end -}}

{{- define "exfilwatch.rulesText" -}}
{{- dict "rules" .Values.rules | toYaml -}}
{{- end -}}
