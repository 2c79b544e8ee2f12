{{/* The roles that are on, separated by spaces. */}}
{{- define "caracal.monitoring.roles" -}}
{{- $enabled := list -}}
{{- range $role := include "caracal.roles" . | fromYamlArray -}}
{{- if (index $.Values.services $role).enabled -}}
{{- $enabled = append $enabled $role -}}
{{- end -}}
{{- end -}}
{{- join " " $enabled -}}
{{- end -}}
