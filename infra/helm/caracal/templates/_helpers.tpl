{{/* Names. */}}
{{- define "caracal.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "caracal.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "caracal.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "caracal.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "caracal.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The roles, in the order in which they are rendered. */}}
{{- define "caracal.roles" -}}
- sts
- gateway
- api
- coordinator
- audit
{{- end -}}

{{/* The roles that write evidence to a local log first. */}}
{{- define "caracal.keepsEvidence" -}}
{{- if has .name (list "sts" "gateway" "api") }}true{{ end -}}
{{- end -}}

{{- define "caracal.stateful" -}}
{{- if and (include "caracal.keepsEvidence" .) .root.Values.replayPersistence.enabled }}true{{ end -}}
{{- end -}}

{{/* Labels of an object, without the component. */}}
{{- define "caracal.labels" -}}
{{ include "caracal.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: caracal
{{- end -}}

{{/* What selects: nothing here may ever change, since workloads and claims can't. */}}
{{- define "caracal.selector" -}}
app.kubernetes.io/name: {{ include "caracal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Annotations; one that an overlay set to null is gone. */}}
{{- define "caracal.annotations" -}}
{{- $kept := dict -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $kept $key $value -}}
{{- end -}}
{{- end -}}
{{- with $kept -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* Image reference of dict "root" "image". */}}
{{- define "caracal.image" -}}
{{- $global := .root.Values.global -}}
{{- $tag := default .root.Chart.AppVersion $global.tag -}}
{{- printf "%s/%s:v%s" $global.registry .image $tag -}}
{{- with $global.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Where roles reach role "name". */}}
{{- define "caracal.url" -}}
{{- $service := index .root.Values.services .name -}}
{{- default (printf "http://%s-%s:%v" (include "caracal.fullname" .root) .name $service.port) $service.internalUrl -}}
{{- end -}}

{{- define "caracal.issuer" -}}
{{- default (include "caracal.url" (dict "root" . "name" "sts")) .Values.services.sts.issuerUrl -}}
{{- end -}}

{{/* The port of health, readiness and metrics, by name. */}}
{{- define "caracal.opsPortName" -}}
{{- if gt (int .Values.global.opsPort) 0 }}ops{{ else }}http{{ end -}}
{{- end -}}

{{- define "caracal.opsPort" -}}
{{- $ops := int .root.Values.global.opsPort -}}
{{- if gt $ops 0 }}{{ $ops }}{{ else }}{{ (index .root.Values.services .name).port }}{{ end -}}
{{- end -}}

{{/* Strings of a structure are templates that see the role as .name and the prefix as .fullname. */}}
{{- define "caracal.templated" -}}
{{- $context := merge (dict "name" .name "fullname" (include "caracal.fullname" .root)) .root -}}
{{- tpl (toYaml .value) $context -}}
{{- end -}}

{{- define "caracal.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "caracal.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Replicas that are there at least. */}}
{{- define "caracal.leastReplicas" -}}
{{- if .hpa.enabled }}{{ .hpa.minReplicas }}{{ else }}{{ .replicas }}{{ end -}}
{{- end -}}
