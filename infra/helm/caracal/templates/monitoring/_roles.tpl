{{/* The enabled roles, separated by spaces. */}}
{{- define "caracal.monitoring.roles" -}}
{{- $enabled := list -}}
{{- range $role := list "sts" "gateway" "audit" "api" "coordinator" -}}
{{- if dig "services" $role "enabled" true $.Values.AsMap -}}
{{- $enabled = append $enabled $role -}}
{{- end -}}
{{- end -}}
{{- join " " $enabled -}}
{{- end -}}
