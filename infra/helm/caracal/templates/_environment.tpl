{{/* The environment of a role, without its secrets: dict of variable -> value. */}}
{{- define "caracal.roleSettings" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $name := .name -}}
{{- $service := index $values.services $name -}}
{{- $all := dict "CARACAL_MODE" $values.global.mode "HOST" "0.0.0.0" "PORT" $service.port "LOG_LEVEL" $values.global.logLevel -}}
{{- if gt (int $values.global.opsPort) 0 -}}
{{- $_ := set $all "CARACAL_OPS_PORT" $values.global.opsPort -}}
{{- end -}}
{{- with $values.global.environment -}}
{{- $_ := set $all "CARACAL_ENV" . -}}
{{- end -}}
{{- if include "caracal.hasCa" $root -}}
{{- $_ := set $all "CARACAL_TLS_EXTRA_CA_FILE" "/run/ca/ca.crt" -}}
{{- end -}}
{{- if has $name (list "sts" "gateway" "coordinator") -}}
{{- $_ := set $all "ISSUER_URL" (include "caracal.issuer" $root) -}}
{{- end -}}
{{- if has $name (list "gateway" "coordinator" "api") -}}
{{- $_ := set $all "STS_URL" (include "caracal.url" (dict "root" $root "name" "sts")) -}}
{{- $_ := set $all "TRUST_PROXY" $service.trustProxy -}}
{{- end -}}
{{- if has $name (list "sts" "api") -}}
{{- $_ := set $all "CONTROL_AUDIENCE" $values.control.audience -}}
{{- end -}}
{{- if include "caracal.keepsEvidence" . -}}
{{- $_ := set $all "AUDIT_REPLAY_DIR" "/var/lib/caracal/audit-replay" -}}
{{- end -}}
{{- if eq $name "gateway" -}}
{{- with $service.upstreamHostAllowlist -}}
{{- $_ := set $all "UPSTREAM_HOST_ALLOWLIST" (join "," .) -}}
{{- end -}}
{{- end -}}
{{- if eq $name "api" -}}
{{- $_ := set $all "CARACAL_GATEWAY_URL" (include "caracal.url" (dict "root" $root "name" "gateway")) -}}
{{- $_ := set $all "CARACAL_COORDINATOR_URL" (include "caracal.url" (dict "root" $root "name" "coordinator")) -}}
{{- end -}}
{{- if eq $name "coordinator" -}}
{{- $receipts := $values.secrets.idempotency -}}
{{- $_ := set $all "AGENT_COORDINATOR_SCOPE" $service.requiredScope -}}
{{- $_ := set $all "SESSION_RETENTION_DAYS" (int64 $service.sessionRetentionDays) -}}
{{- $_ := set $all "IDEMPOTENCY_RETENTION_SECONDS" (int64 $receipts.retentionSeconds) -}}
{{- $_ := set $all "GENERATED_IDEMPOTENCY_RETENTION_SECONDS" (int64 $receipts.generatedRetentionSeconds) -}}
{{- $_ := set $all "IDEMPOTENCY_MAX_RECEIPTS_PER_SCOPE" (int64 $receipts.maxReceiptsPerScope) -}}
{{- $_ := set $all "COORDINATOR_BODY_LIMIT_BYTES" (int64 $receipts.bodyLimitBytes) -}}
{{- end -}}
{{- range $variable, $value := $all }}
- name: {{ $variable }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end -}}
