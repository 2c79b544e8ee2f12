{{/* Who calls whom, once: caller -> called roles. */}}
{{- define "caracal.calls" -}}
sts: []
gateway: [sts]
coordinator: [sts]
api: [sts, gateway, coordinator]
audit: []
{{- end -}}

{{/* Paths that callers outside the cluster need, of role "name". */}}
{{- define "caracal.publicPaths" -}}
{{- if eq . "sts" -}}
- {path: /oauth/2/token, type: Exact}
- {path: /.well-known/jwks.json, type: Exact}
- {path: /approvals, type: Prefix}
{{- else if eq . "api" -}}
- {path: /v1, type: Prefix}
{{- else if eq . "coordinator" -}}
- {path: /zones, type: Prefix}
- {path: /v1/verify, type: Exact}
{{- else -}}
- {path: /, type: Prefix}
{{- end -}}
{{- end -}}

{{- define "caracal.isPublished" -}}
{{- $ingress := default dict (index .root.Values.ingress .name) -}}
{{- $route := default dict (index .root.Values.httpRoute .name) -}}
{{- if or $ingress.enabled $route.enabled }}true{{ end -}}
{{- end -}}

{{/* Pods of role "name". */}}
{{- define "caracal.peer" -}}
- podSelector:
    matchLabels:
      {{- include "caracal.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{/* Name servers and what is open to every pod. */}}
{{- define "caracal.commonEgress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if $policy.allowOpenDns }}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}
{{- with $policy.dnsEgress }}
{{ toYaml . }}
{{- end }}
{{- with $policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A store: dict "root" "peers" "port". */}}
{{- define "caracal.storeEgress" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- if .peers }}
- to:
    {{- toYaml .peers | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ .port }}}
{{- else if and (not $policy.extraEgress) (ne .root.Values.global.mode "stable") }}
- ports:
    - {protocol: TCP, port: {{ .port }}}
{{- end }}
{{- end -}}
