{{- /* Each takes a dict: "top" is the chart's own context, "name" that of the part. */ -}}

{{- define "furiosa.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: furiosa-npu
{{- end }}

{{- define "furiosa.metadata" -}}
name: {{ .name }}
namespace: {{ .top.Release.Namespace }}
labels:
  {{- include "furiosa.labels" . | nindent 2 }}
{{- end }}

{{- /* Where a pod of ours runs. */ -}}
{{- define "furiosa.placement" -}}
{{- $values := .top.Values -}}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $selector := deepCopy (default dict $values.nodeSelector) -}}
{{- if and $values.requireCards (not $values.emulate) -}}
{{- $_ := set $selector "feature.node.kubernetes.io/pci-1ed2.present" "true" -}}
{{- end -}}
{{- with $selector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "furiosa.priority" -}}
{{- with .top.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "furiosa.image" -}}
image: {{ printf "%s:%s" .top.Values.image.repository (default .top.Chart.AppVersion .top.Values.image.tag) | quote }}
imagePullPolicy: {{ .top.Values.image.pullPolicy }}
{{- end }}

{{- /* Of all but the broker: root without any of its rights, as the folders of the node are root's. */ -}}
{{- define "furiosa.confined" -}}
securityContext:
  runAsUser: 0
  runAsGroup: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop:
      - ALL
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "furiosa.environment" -}}
{{- if .node }}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}
- name: FURIOSA_BROKER
  value: unix:/run/furiosa/broker.sock
{{- end }}

{{- define "furiosa.sockets" -}}
- name: sockets
  hostPath:
    path: /run/furiosa
    type: DirectoryOrCreate
{{- end }}

{{- /* The broker makes it; until then the pod waits. Who has it may reserve cores. */ -}}
{{- define "furiosa.manager" -}}
- name: manager
  hostPath:
    path: /var/lib/furiosa/grants/manager
    type: File
{{- end }}
