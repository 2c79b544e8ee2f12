{{/* The pod template of a role: dict "root" "name". */}}
{{- define "caracal.pod" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $name := .name -}}
{{- $service := index $values.services $name -}}
{{- $fullname := include "caracal.fullname" $root -}}
{{- $secrets := include "caracal.roleSecrets" . | fromYaml -}}
{{- $ops := include "caracal.opsPortName" $root -}}
metadata:
  labels:
    {{- include "caracal.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $name }}
    {{- with $values.global.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ $name }}
    # Pods roll when what they read once, at their start, changes.
    checksum/secrets: {{ ternary (pick $values.secrets "plaintext" "revision" "database" "redis") (pick $values.secrets "revision") $values.secrets.create | toJson | sha256sum }}
    {{- with $values.global.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $service.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "caracal.serviceAccountName" $root }}
  automountServiceAccountToken: {{ $values.serviceAccount.automountToken }}
  enableServiceLinks: false
  {{- with $values.global.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with default $values.scheduling.priorityClassName $service.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $values.scheduling.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "caracal.podSecurity" $root | nindent 4 }}
  {{- with $values.scheduling.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.scheduling.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with default $values.scheduling.affinity $service.affinity }}
  affinity:
    {{- include "caracal.templated" (dict "root" $root "name" $name "value" .) | nindent 4 }}
  {{- end }}
  {{- with default $values.scheduling.topologySpreadConstraints $service.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- include "caracal.templated" (dict "root" $root "name" $name "value" .) | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $name }}
      image: {{ include "caracal.image" (dict "root" $root "image" $service.image) }}
      imagePullPolicy: {{ $values.global.imagePullPolicy }}
      args: [serve, {{ $name }}]
      securityContext:
        {{- include "caracal.containerSecurity" $root | nindent 8 }}
      env:
        {{- include "caracal.roleSettings" . | nindent 8 }}
        {{- include "caracal.secretEnvironment" $secrets | nindent 8 }}
        {{- with $service.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $service.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ $service.port }}
        {{- if eq $ops "ops" }}
        - name: ops
          containerPort: {{ $values.global.opsPort }}
        {{- end }}
      startupProbe:
        httpGet: {path: /health, port: {{ $ops }}}
        periodSeconds: 2
        timeoutSeconds: 3
        failureThreshold: 75
      livenessProbe:
        httpGet: {path: /health, port: {{ $ops }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /ready, port: {{ $ops }}}
        periodSeconds: 5
        # A role gives its own checks two seconds.
        timeoutSeconds: 3
        failureThreshold: 2
      {{- if gt (int $values.scheduling.preStopSleepSeconds) 0 }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $values.scheduling.preStopSleepSeconds }}
      {{- end }}
      resources:
        {{- toYaml $service.resources | nindent 8 }}
      volumeMounts:
        - {name: secrets, mountPath: /run/secrets, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if include "caracal.hasCa" $root }}
        - {name: ca, mountPath: /run/ca, readOnly: true}
        {{- end }}
        {{- if include "caracal.keepsEvidence" . }}
        - {name: replay, mountPath: /var/lib/caracal}
        {{- end }}
        {{- with $service.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "caracal.secretVolume" $secrets | nindent 4 }}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- include "caracal.caVolume" $root | nindent 4 }}
    {{- if and (include "caracal.keepsEvidence" .) (not (include "caracal.stateful" .)) }}
    - name: replay
      emptyDir:
        sizeLimit: {{ $values.replayPersistence.size }}
    {{- end }}
    {{- with $service.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
