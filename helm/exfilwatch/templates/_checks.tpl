{{/* What can be known to be wrong before anything is installed, each with a sentence that helps.
Shapes and types are refused by values.schema.json before this. */}}

{{- define "exfilwatch.checks" -}}
{{- $v := .Values -}}
{{- $config := $v.config -}}
{{- if not $v.image.repository -}}
{{- fail "image.repository is empty: there is no public image; build one from the Dockerfile, push it, and say where it is" -}}
{{- end -}}
{{- if not $config.kafka.bootstrap_servers -}}
{{- fail "config.kafka.bootstrap_servers is empty: name one broker or more as host:port, separated by commas" -}}
{{- end -}}
{{- if not $config.inputs -}}
{{- fail "config.inputs is empty: name the topics that your sources write to, each as {topic: NAME}" -}}
{{- end -}}
{{- if and (not $v.rules) (not $v.rulesConfigMap) -}}
{{- fail "rules is empty: without a rule nothing is counted; write rules here, or name a ConfigMap of rule files in rulesConfigMap" -}}
{{- end -}}
{{- if and $v.rules $v.rulesConfigMap -}}
{{- fail "rules and rulesConfigMap are both given: choose one of the two" -}}
{{- end -}}
{{- if and $v.rulesConfigMap (not $v.capacity.meters) -}}
{{- fail "capacity.meters is needed with rulesConfigMap: memory is worked out from it, and the chart cannot see those rules" -}}
{{- end -}}
{{- range splitList "," $config.kafka.bootstrap_servers -}}
{{- if not (regexMatch "^.+:[0-9]+$" (trim .)) -}}
{{- fail (printf "config.kafka.bootstrap_servers: %q is no broker; expected host:port, several separated by commas" (trim .)) -}}
{{- end -}}
{{- end -}}
{{- include "exfilwatch.checkReplicas" . -}}
{{- include "exfilwatch.checkTimes" . -}}
{{- include "exfilwatch.checkCredentials" . -}}
{{- include "exfilwatch.checkTopics" . -}}
{{- if and $v.podMonitor.enabled $v.serviceMonitor.enabled -}}
{{- fail "podMonitor and serviceMonitor are both enabled: every series would be scraped twice; enable one" -}}
{{- end -}}
{{- if and $v.prometheusRule.enabled (not $v.runbookUrl) -}}
{{- fail "runbookUrl is empty: alerts link to docs/RUNBOOK.md; say where your organisation can read it" -}}
{{- end -}}
{{- $canonical := false -}}
{{- range $config.inputs -}}{{- if eq (default "json" .format) "json" -}}{{- $canonical = true -}}{{- end -}}{{- end -}}
{{- if and $v.canary.existingSecret (not $canonical) -}}
{{- fail "canary.existingSecret: a canary is canonical JSON, and none of config.inputs takes that (format: json); without such an input leave canaries out" -}}
{{- end -}}
{{- if and $v.canary.cronJob.enabled (not $v.canary.existingSecret) -}}
{{- fail "canary.cronJob needs canary.existingSecret: an unsigned canary is an ordinary event" -}}
{{- end -}}
{{- end -}}

{{- define "exfilwatch.checkReplicas" -}}
{{- $v := .Values -}}
{{- $split := eq $v.mode "split" -}}
{{- if gt (int64 $v.detect.replicas) (int64 $v.topics.partitions) -}}
{{- fail (printf "detect.replicas (%d) is more than topics.partitions (%d): a partition has one owner, so the rest would be idle" (int64 $v.detect.replicas) (int64 $v.topics.partitions)) -}}
{{- end -}}
{{- if and $v.keda.detect.enabled (gt (int64 $v.keda.detect.maxReplicas) (int64 $v.topics.partitions)) -}}
{{- fail (printf "keda.detect.maxReplicas (%d) is more than topics.partitions (%d): a partition has one owner, so the rest would be idle" (int64 $v.keda.detect.maxReplicas) (int64 $v.topics.partitions)) -}}
{{- end -}}
{{- if and $v.keda.ingest.enabled $v.ingest.autoscaling.enabled -}}
{{- fail "keda.ingest and ingest.autoscaling are both enabled: two autoscalers would pull at one Deployment; KEDA makes a HorizontalPodAutoscaler of its own" -}}
{{- end -}}
{{- if and (not $split) $v.keda.ingest.enabled -}}
{{- fail "keda.ingest needs mode: split; in mode: combined there is no Deployment to scale" -}}
{{- end -}}
{{- if and (not $split) $v.ingest.autoscaling.enabled -}}
{{- fail "ingest.autoscaling needs mode: split; in mode: combined there is no Deployment to scale" -}}
{{- end -}}
{{- range $name, $it := dict "keda.ingest" $v.keda.ingest "keda.detect" $v.keda.detect "ingest.autoscaling" $v.ingest.autoscaling -}}
{{- if and $it.enabled (gt (int64 $it.minReplicas) (int64 $it.maxReplicas)) -}}
{{- fail (printf "%s.minReplicas (%d) is more than maxReplicas (%d)" $name (int64 $it.minReplicas) (int64 $it.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "exfilwatch.checkTimes" -}}
{{- $grace := include "exfilwatch.graceSeconds" . | int64 -}}
{{- $drain := include "exfilwatch.drainSeconds" . | int64 -}}
{{- $session := .Values.sessionTimeoutSeconds | int64 -}}
{{- if le $grace $drain -}}
{{- fail (printf "terminationGracePeriodSeconds (%d) must be above config.shutdown.drain_timeout (%d s): the kubelet would kill a pod that still drains" $grace $drain) -}}
{{- end -}}
{{- if lt $session (add $grace 15 | int64) -}}
{{- fail (printf "sessionTimeoutSeconds (%d) must be at least 15 above terminationGracePeriodSeconds (%d), the time to start and join again: a restart would move partitions" $session $grace) -}}
{{- end -}}
{{- end -}}

{{- define "exfilwatch.checkCredentials" -}}
{{- $v := .Values -}}
{{- $c := $v.credentials -}}
{{- $properties := default (dict) $v.config.kafka.properties -}}
{{- range $key := list "sasl.password" "ssl.key.password" "ssl.key.pem" "ssl.keystore.password" "sasl.oauthbearer.client.secret" "sasl.oauthbearer.config" "sasl.username" -}}
{{- if hasKey $properties $key -}}
{{- fail (printf "config.kafka.properties.%s: values are no place for credentials; put it into a Secret and name that under credentials" $key) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "security.protocol" "sasl.mechanism" "sasl.mechanisms" "ssl.ca.location" "ssl.certificate.location" "ssl.key.location" -}}
{{- if hasKey $properties $key -}}
{{- fail (printf "config.kafka.properties.%s: set by the chart from credentials" $key) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "session.timeout.ms" "group.instance.id" -}}
{{- if hasKey $properties $key -}}
{{- fail (printf "config.kafka.properties.%s: set by the chart; use sessionTimeoutSeconds, and leave group.instance.id to the names of the pods" $key) -}}
{{- end -}}
{{- end -}}
{{- if and $c.sasl.mechanism (not $c.sasl.existingSecret) -}}
{{- fail "credentials.sasl.existingSecret is empty: name the Secret that holds the password" -}}
{{- end -}}
{{- if and $c.sasl.existingSecret (not $c.sasl.mechanism) -}}
{{- fail "credentials.sasl.mechanism is empty: choose SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN" -}}
{{- end -}}
{{- $keda := or $v.keda.ingest.enabled $v.keda.detect.enabled -}}
{{- if and $keda $c.sasl.mechanism $c.sasl.username -}}
{{- fail "keda takes the user name from a Secret only: leave credentials.sasl.username out, and name its key in credentials.sasl.usernameKey" -}}
{{- end -}}
{{- if and $keda $c.oauthbearer.enabled -}}
{{- fail "keda cannot read the token of credentials.oauthbearer: scale by ingest.autoscaling, or write a ScaledObject of your own in extraObjects" -}}
{{- end -}}
{{- if and $c.sasl.mechanism $c.oauthbearer.enabled -}}
{{- fail "credentials.sasl.mechanism and credentials.oauthbearer are both given: a client has one SASL mechanism" -}}
{{- end -}}
{{- if and (or $c.tls.caSecret $c.tls.clientSecret) (not $c.tls.enabled) -}}
{{- fail "credentials.tls names Secrets but is not enabled: set credentials.tls.enabled: true" -}}
{{- end -}}
{{- end -}}

{{- define "exfilwatch.checkTopics" -}}
{{- $v := .Values -}}
{{- if and (or $v.strimzi.user.enabled (eq $v.topics.create "strimzi")) (not $v.strimzi.cluster) -}}
{{- fail "strimzi.cluster is empty: topics and users belong to a Kafka resource; give its name" -}}
{{- end -}}
{{- if and $v.strimzi.user.enabled $v.strimzi.namespace (ne $v.strimzi.namespace .Release.Namespace) -}}
{{- fail (printf "strimzi.user is made in strimzi.namespace (%s), and so is its Secret, which pods in %s cannot mount: install there, or make the user and copy its Secret yourself" $v.strimzi.namespace .Release.Namespace) -}}
{{- end -}}
{{- if and $v.credentials.oauthbearer.enabled (not $v.credentials.oauthbearer.existingSecret) $v.serviceAccount.create (eq $v.topics.create "job") -}}
{{- fail "topics.create: job runs before the release is there, and so before the account whose token credentials.oauthbearer takes: use topics.create: program, or an account of yours (serviceAccount.create: false)" -}}
{{- end -}}
{{- if and $v.strimzi.user.enabled (eq $v.topics.create "job") -}}
{{- fail "topics.create: job runs before the release is there, and so before the credentials of strimzi.user: use topics.create: strimzi or program" -}}
{{- end -}}
{{- if and $v.strimzi.user.enabled (not $v.credentials.sasl.existingSecret) (not $v.credentials.tls.clientSecret) -}}
{{- fail (printf "strimzi.user makes a Secret that nothing uses: name it (%s) in credentials.sasl.existingSecret, or for authentication: tls in credentials.tls.clientSecret with certKey: user.crt and keyKey: user.key" (include "exfilwatch.fullname" .)) -}}
{{- end -}}
{{- $cores := (default (dict) $v.config.detect).threads -}}
{{- if and $cores (ne (int64 $cores) (int64 $v.capacity.threads)) -}}
{{- fail (printf "config.detect.threads (%d) and capacity.threads (%d) differ: memory is worked out from the latter; give that alone" (int64 $cores) (int64 $v.capacity.threads)) -}}
{{- end -}}
{{- $window := (default (dict) $v.config.detect).memory_limit -}}
{{- if $window -}}
{{- $roles := include "exfilwatch.roles" . -}}
{{- $room := include "exfilwatch.ceilingMiB" (list . $roles $v.detect.resources) | int64 -}}
{{- $asked := div (include "exfilwatch.bytes" $window | int64) 1048576 -}}
{{- if gt $asked $room -}}
{{- fail (printf "config.detect.memory_limit (%d MiB) is more than detect.resources.limits.memory leaves for it (%d MiB): the kernel would end the process before it degrades by design" $asked $room) -}}
{{- end -}}
{{- end -}}
{{- end -}}
