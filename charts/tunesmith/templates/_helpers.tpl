{{/* The name of all objects of a release; "tunesmith" alone where the release is called that. */}}
{{- define "tunesmith.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tunesmith.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tunesmith.labels" -}}
{{ include "tunesmith.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* An image with the tag of this release unless another is given. Takes a dict of root and image. */}}
{{- define "tunesmith.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* A setting as the operator reads it: a list is joined, resources are CPU,MEMORY, a large number is no 1e+06. */}}
{{- define "tunesmith.setting" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if kindIs "map" . }}{{ .cpu }},{{ .memory }}
{{- else if kindIs "string" . }}{{ . }}
{{- else }}{{ toJson . }}{{ end }}
{{- end }}

{{/* What the operator may do in the namespaces that it watches. */}}
{{- define "tunesmith.rules" -}}
- apiGroups: [tunesmith.dev]
  resources: [rlhfpipelines]
  verbs: [list, watch, delete]
# the jobs of a pipeline's stages are made, and told when to sleep
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs/status, rlhfpipelines/status]
  verbs: [patch]
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
