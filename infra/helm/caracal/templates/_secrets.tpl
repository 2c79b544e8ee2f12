{{/*
What each role reads, once: variable, file under /run/secrets, Secret and key. Environment and volume
are both made from it, so that a file that is named is a file that is there.
*/}}
{{- define "caracal.roleSecrets" -}}
{{- $secrets := .root.Values.secrets -}}
{{- $name := .name -}}
{{- $common := dict "DATABASE_URL" (printf "%sDatabaseUrl" $name) "REDIS_URL" "redisUrl" "AUDIT_HMAC_KEY" "auditHmacKey" -}}
{{- $kek := dict "SECRET_STORE_KEK" "secretStoreKek" -}}
{{- if $secrets.kekRotation -}}
{{- $_ := set $kek "SECRET_STORE_KEK_PREVIOUS" "secretStoreKekPrevious" -}}
{{- end -}}
{{- $streams := dict "STREAMS_HMAC_KEY" "streamsHmacKey" -}}
{{- $leg := dict "GATEWAY_STS_HMAC_KEY" "gatewayStsHmacKey" -}}
{{- $own := dict -}}
{{- if eq $name "sts" -}}
{{- $own = merge $kek $leg -}}
{{- else if eq $name "gateway" -}}
{{- $own = $leg -}}
{{- else if eq $name "api" -}}
{{- $own = merge $kek $leg $streams (dict "CARACAL_ADMIN_TOKEN" "caracalAdminToken") -}}
{{- else if eq $name "coordinator" -}}
{{- $own = merge $streams (dict "CARACAL_COORDINATOR_TOKEN" "caracalCoordinatorToken") -}}
{{- if not $secrets.idempotencyHmacKey.secretName -}}
{{- $own = merge $own $kek -}}
{{- end -}}
{{- end -}}
{{- $elsewhere := dict "METRICS_BEARER" (dict "secretName" (default $secrets.runtimeSecretName $secrets.metricsBearer.secretName) "key" $secrets.metricsBearer.key "path" "metricsBearer") -}}
{{- $optional := dict "sts" (dict "STS_ADMIN_TOKEN" "stsAdminToken") "audit" (dict "AUDIT_ADMIN_TOKEN" "auditAdminToken" "AUDIT_CHECKPOINT_KEY" "auditCheckpointKey") "coordinator" (dict "IDEMPOTENCY_HMAC_KEY" "idempotencyHmacKey") -}}
{{- range $variable, $value := default dict (index $optional $name) -}}
{{- $reference := index $secrets $value -}}
{{- if $reference.secretName -}}
{{- $_ := set $elsewhere $variable (dict "secretName" $reference.secretName "key" $reference.key "path" $value) -}}
{{- end -}}
{{- end -}}
{{- $all := $elsewhere -}}
{{- range $variable, $key := merge $common $own -}}
{{- $_ := set $all $variable (dict "secretName" $secrets.runtimeSecretName "key" $key "path" $key) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{- define "caracal.migrationSecrets" -}}
{{- $name := .Values.secrets.runtimeSecretName -}}
{{- $all := dict "DATABASE_URL" (dict "secretName" $name "key" "databaseUrl" "path" "databaseUrl") -}}
{{- range $role := include "caracal.roles" . | fromYamlArray -}}
{{- $key := printf "%sDbPassword" $role -}}
{{- $_ := set $all (printf "CARACAL_%s_DB_PASSWORD" (upper $role)) (dict "secretName" $name "key" $key "path" $key) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{- define "caracal.secretEnvironment" -}}
{{- range $variable, $reference := . }}
- name: {{ $variable }}_FILE
  value: /run/secrets/{{ $reference.path }}
{{- end }}
{{- end -}}

{{- define "caracal.secretVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- $bySecret := dict }}
      {{- range $variable, $reference := . }}
      {{- $items := append (default list (index $bySecret $reference.secretName)) $reference }}
      {{- $_ := set $bySecret $reference.secretName $items }}
      {{- end }}
      {{- range $secretName, $items := $bySecret }}
      - secret:
          name: {{ $secretName }}
          items:
            {{- range $items }}
            - {key: {{ .key }}, path: {{ .path }}}
            {{- end }}
      {{- end }}
{{- end -}}

{{/* Certificates that outbound TLS trusts besides the system's. */}}
{{- define "caracal.caVolume" -}}
{{- with .Values.tls.caBundle }}
{{- if or .configMapName .secretName }}
- name: ca
  projected:
    defaultMode: 0444
    sources:
      {{- if .configMapName }}
      - configMap:
          name: {{ .configMapName }}
      {{- else }}
      - secret:
          name: {{ .secretName }}
      {{- end }}
          items:
            - {key: {{ .key }}, path: ca.crt}
{{- end }}
{{- end }}
{{- end -}}

{{- define "caracal.hasCa" -}}
{{- with .Values.tls.caBundle }}{{ if or .configMapName .secretName }}true{{ end }}{{ end -}}
{{- end -}}

{{/* A text as a part of a URL. */}}
{{- define "caracal.urlPart" -}}
{{- urlquery . | replace "+" "%20" -}}
{{- end -}}
