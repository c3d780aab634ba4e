{{/* From `capacity` to the memory limit of a pod and the ceiling of its window tables.

A pod must carry the partitions of one that is away, so a member is reckoned to hold its share of one
pod fewer. What it takes, from docs/OPERATIONS.md, "Sizing":
- window tables: 80 bytes for each key and each slot of up to four windows, in the 5/8 of the ceiling
  that are for slots, and 1,000 bytes for each promoted key, in the quarter that is for them (the last
  eighth is for sketches); the greater of both sums counts;
- fixed: 64 MiB for the process, 64 MiB for each queue of the Kafka client that is used, the queues
  of each worker (alerts twice: its own and the producer's copy), records held back for each
  partition of an input, rows of one flush of ingest, for each partition that detect holds a writer
  of checkpoints (1 MiB) and a reader while it is taken on (8 MiB, at most 16 at a time), remembered
  rows of inputs that retry.
The ceiling is the limit less the fixed part, and at most three quarters of the limit: then small keys
are estimated, and an alert says so, before the kernel ends the process. */}}

{{- define "exfilwatch.slots" -}}
{{- if .Values.capacity.meters -}}
{{- .Values.capacity.meters -}}
{{- else -}}
{{- $slots := 0 -}}
{{- range .Values.rules -}}
{{- $windows := dict -}}
{{- range .limits }}{{ $_ := set $windows (toString .window) true }}{{ end -}}
{{- $slots = add $slots (div (add (len $windows) 3) 4) -}}
{{- end -}}
{{- if ne (toString .Values.config.default_rules) "false" }}{{ $slots = add $slots 1 }}{{ end -}}
{{- max $slots 1 -}}
{{- end -}}
{{- end -}}

{{/* Rules that sum bytes: every key of theirs is promoted. */}}
{{- define "exfilwatch.byteRules" -}}
{{- $count := 0 -}}
{{- range .Values.rules }}{{ if eq (toString .measure) "bytes" }}{{ $count = add $count 1 }}{{ end }}{{ end -}}
{{- $count -}}
{{- end -}}

{{/* Partitions of the events topic that one member may have to hold. */}}
{{- define "exfilwatch.partitionsPerMember" -}}
{{- $members := sub (include "exfilwatch.detectReplicasMin" . | int64) 1 | max 1 -}}
{{- div (add .Values.topics.partitions $members -1) $members -}}
{{- end -}}

{{- define "exfilwatch.detectReplicasMin" -}}
{{- if .Values.keda.detect.enabled -}}
{{- .Values.keda.detect.minReplicas -}}
{{- else -}}
{{- .Values.detect.replicas -}}
{{- end -}}
{{- end -}}

{{/* Bytes that window tables need. */}}
{{- define "exfilwatch.windowBytes" -}}
{{- $given := (default (dict) .Values.config.detect).memory_limit -}}
{{- if $given -}}
{{- include "exfilwatch.bytes" $given -}}
{{- else -}}
{{- $share := include "exfilwatch.partitionsPerMember" . | int64 -}}
{{- $partitions := .Values.topics.partitions | int64 -}}
{{- $keys := div (add (mul .Values.capacity.principals $share) $partitions -1) $partitions -}}
{{- $slots := include "exfilwatch.slots" . | int64 -}}
{{- $bytes := include "exfilwatch.byteRules" . | int64 -}}
{{- $promoted := add (mul $keys $bytes) (div (mul $keys $slots .Values.capacity.promotedPercent) 100) -}}
{{- max (div (mul $keys $slots 80 8) 5) (mul $promoted 1000 4) 67108864 -}}
{{- end -}}
{{- end -}}

{{/* Bytes beside the window tables. Call: list . ROLES, where ROLES is `detect`, `ingest` or `both` */}}
{{- define "exfilwatch.fixedBytes" -}}
{{- $root := index . 0 -}}
{{- $roles := index . 1 -}}
{{- $config := $root.Values.config -}}
{{- $mib := 1048576 -}}
{{- $fixed := mul 64 $mib -}}
{{- $properties := default (dict) $config.kafka.properties -}}
{{- $fetch := default 65536 (get $properties "queued.max.messages.kbytes") | int64 | mul 1024 -}}
{{- $send := default 65536 (get $properties "queue.buffering.max.kbytes") | int64 | mul 1024 -}}
{{- if ne $roles "ingest" -}}
{{- $detect := default (dict) $config.detect -}}
{{- $alerts := default (dict) $config.alerts -}}
{{- $queue := include "exfilwatch.bytes" (default "32MiB" $detect.queue_bytes) | int64 -}}
{{- $outbox := include "exfilwatch.bytes" (default "8MiB" $alerts.queue_bytes) | int64 -}}
{{- $held := include "exfilwatch.partitionsPerMember" $root | int64 -}}
{{- $fixed = add $fixed $fetch (mul $root.Values.capacity.threads (add $queue $outbox $outbox)) -}}
{{- $fixed = add $fixed (mul $held $mib) (mul (min $held 16) 8 $mib) -}}
{{- $retries := false -}}
{{- range $config.inputs -}}
{{- if or (eq (toString .retries) "true") (and (eq (toString .format) "trino") (ne (toString .retries) "false")) -}}
{{- $retries = true -}}
{{- end -}}
{{- end -}}
{{- if $retries -}}
{{- $entries := 262144 -}}
{{- with $config.dedup }}{{ if hasKey . "entries" }}{{ $entries = int64 .entries }}{{ end }}{{ end -}}
{{- $each := 75 -}}
{{- range until 24 -}}
{{- $power := 1 -}}
{{- range until . }}{{ $power = mul $power 2 }}{{ end -}}
{{- if eq (int64 $power) (int64 $entries) }}{{ $each = 64 }}{{ end -}}
{{- end -}}
{{- $fixed = add $fixed (mul $entries $each $held) -}}
{{- end -}}
{{- end -}}
{{- if ne $roles "detect" -}}
{{- $ingest := default (dict) $config.ingest -}}
{{- $hold := include "exfilwatch.bytes" (default "4MiB" $ingest.hold_bytes) | int64 -}}
{{- $fixed = add $fixed $fetch $send (mul 16 $mib) (mul $hold $root.Values.capacity.inputPartitions) -}}
{{- end -}}
{{- $fixed -}}
{{- end -}}

{{/* Memory limit in bytes: the one given, or the one worked out. Call: list . ROLES RESOURCES */}}
{{- define "exfilwatch.limitBytes" -}}
{{- $root := index . 0 -}}
{{- $roles := index . 1 -}}
{{- $given := (default (dict) (index . 2).limits).memory -}}
{{- if $given -}}
{{- include "exfilwatch.bytes" $given -}}
{{- else -}}
{{- $mib := 1048576 -}}
{{- $fixed := include "exfilwatch.fixedBytes" (list $root $roles) | int64 -}}
{{- $need := $fixed -}}
{{- if ne $roles "ingest" -}}
{{- $windows := include "exfilwatch.windowBytes" $root | int64 -}}
{{- $need = max (add $windows $fixed) (div (mul $windows 4) 3) -}}
{{- end -}}
{{- mul (div (add $need $mib -1) $mib) $mib -}}
{{- end -}}
{{- end -}}

{{/* Ceiling of the window tables in MiB (`detect.memory_limit`). Call: list . ROLES RESOURCES */}}
{{- define "exfilwatch.ceilingMiB" -}}
{{- $root := index . 0 -}}
{{- $limit := include "exfilwatch.limitBytes" . | int64 -}}
{{- $fixed := include "exfilwatch.fixedBytes" (list $root (index . 1)) | int64 -}}
{{- $ceiling := min (sub $limit $fixed) (div (mul $limit 3) 4) -}}
{{- $mib := 1048576 -}}
{{- if lt (int64 $ceiling) (int64 67108864) -}}
{{- fail (printf "detect.resources.limits.memory leaves %d MiB for counting and %d MiB are fixed (queues and buffers); the least for counting is 64 MiB: leave the limit out, and the chart works one out from capacity" (div (max $ceiling 0) $mib) (div $fixed $mib)) -}}
{{- end -}}
{{- div $ceiling $mib -}}
{{- end -}}

{{/* `resources` with the memory that was worked out. Call: list . ROLES RESOURCES */}}
{{- define "exfilwatch.resources" -}}
{{- $resources := deepCopy (index . 2) -}}
{{- $memory := printf "%dMi" (div (include "exfilwatch.limitBytes" . | int64) 1048576) -}}
{{- $limits := default (dict) $resources.limits -}}
{{- if $limits.memory }}{{ $memory = $limits.memory }}{{ end -}}
{{- $_ := set $limits "memory" $memory -}}
{{- $requests := default (dict) $resources.requests -}}
{{- if not $requests.memory }}{{ $_ := set $requests "memory" $memory }}{{ end -}}
{{- toYaml (dict "requests" $requests "limits" $limits) -}}
{{- end -}}
