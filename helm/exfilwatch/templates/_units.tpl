{{/* Lengths of time and sizes as the program writes them, and sizes as Kubernetes does. */}}

{{/* `90s`, `5m`, `500ms` as whole seconds, rounded up. */}}
{{- define "exfilwatch.seconds" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9]+" $text | int64 -}}
{{- $unit := regexFind "[a-z]+$" $text -}}
{{- $scale := dict "s" 1 "m" 60 "h" 3600 "d" 86400 -}}
{{- if eq $unit "ms" -}}
{{- div (add $number 999) 1000 -}}
{{- else if hasKey $scale $unit -}}
{{- mul $number (get $scale $unit) -}}
{{- else -}}
{{- fail (printf "%s is no length of time: write 90s, 5m or 1h" $text) -}}
{{- end -}}
{{- end -}}

{{/* `64MiB`, `1Gi`, `1000000` as bytes. */}}
{{- define "exfilwatch.bytes" -}}
{{- $text := toString . -}}
{{- if kindIs "float64" . }}{{ $text = printf "%.0f" . }}{{ end -}}
{{- $number := regexFind "^[0-9]+" $text | int64 -}}
{{- $unit := regexReplaceAll "^[0-9]+" $text "" | trimSuffix "B" -}}
{{- $scale := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776
      "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- if not (and (hasKey $scale $unit) (regexMatch "^[0-9]+" $text)) -}}
{{- fail (printf "%s is no size: write a whole number and a unit, such as 512Mi or 2Gi" $text) -}}
{{- end -}}
{{- mul $number (get $scale $unit) -}}
{{- end -}}
