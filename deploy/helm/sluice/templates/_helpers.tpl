{{- define "sluice.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "sluice.keysSecret" -}}
{{- if .Values.keys.existingSecret }}{{ .Values.keys.existingSecret }}{{ else }}{{ include "sluice.name" . }}-keys{{ end -}}
{{- end -}}

{{/*
The configuration file: what the chart knows itself, under what the values say. Options are written as JSON, which for
numbers, words and lists is also TOML; Helm's own toToml would make every number a float.
*/}}
{{- define "sluice.config" -}}
{{- $address := required "media.advertise: the address that clients reach the media Service at" .Values.media.advertise -}}
{{- $media := dict "shards" .Values.media.shards "udp_port" .Values.media.udpPort "tcp_port" .Values.media.tcpPort "advertise" (list $address) -}}
{{- $own := dict "server" (dict "listen" "0.0.0.0:7880" "drain_timeout" "120s") "auth" (dict "keys_file" "/run/sluice/keys") "media" $media "log" (dict "format" "json") "metrics" (dict "listen" "0.0.0.0:9464") -}}
{{- range $section, $options := mergeOverwrite $own (deepCopy .Values.config) }}
[{{ $section }}]
{{- range $option, $value := $options }}
{{ $option }} = {{ toJson $value }}
{{- end }}
{{ end -}}
{{- end -}}
