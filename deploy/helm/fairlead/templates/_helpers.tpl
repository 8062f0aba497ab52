{{- /* End of the names of cluster-scoped objects, which differ between the releases of a cluster. */ -}}
{{- define "fairlead.suffix" -}}
{{- if ne .Release.Namespace "fairlead-system" }}-{{ .Release.Namespace }}{{ end -}}
{{- end -}}

{{- /* Labels of each object, besides those that the manifests in config/ have. */ -}}
{{- define "fairlead.extraLabels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* All labels of an object. Argument: list of the root and the component. */ -}}
{{- define "fairlead.labels" -}}
{{- $root := index . 0 -}}
{{ include "fairlead.extraLabels" $root }}
{{ include "fairlead.selector" . }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: fairlead
app.kubernetes.io/version: {{ $root.Chart.AppVersion }}
{{- end -}}

{{- /* The labels that select the pods of a component. */ -}}
{{- define "fairlead.selector" -}}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/name: fairlead
{{- end -}}

{{- /* The field `annotations`, or nothing. Argument: list of the root and the kind. */ -}}
{{- define "fairlead.annotations" -}}
{{- $root := index . 0 -}}
{{- $annotations := deepCopy $root.Values.commonAnnotations -}}
{{- if and (eq (index . 1) "CustomResourceDefinition") $root.Values.crds.keep -}}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" -}}
{{- end -}}
{{- with $annotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "fairlead.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The variables of both daemons that differ from their defaults. */ -}}
{{- define "fairlead.env" -}}
{{- with .Values.lbClass }}
- name: FAIRLEAD_LB_CLASS
  value: {{ . | quote }}
{{- end }}
{{- if ne (len (uniq .Values.protocols)) 2 }}
- name: FAIRLEAD_PROTOCOLS
  value: {{ join "," .Values.protocols | quote }}
{{- end }}
{{- if ne .Values.log.level "info" }}
- name: FAIRLEAD_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
{{- end }}
{{- if ne .Values.log.format "text" }}
- name: FAIRLEAD_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
{{- end }}
{{- if ne .Values.metrics.auth "none" }}
- name: FAIRLEAD_METRICS_AUTH
  value: {{ .Values.metrics.auth | quote }}
{{- end }}
{{- end -}}

{{- /* The capabilities of the speakers, separated by commas. */ -}}
{{- define "fairlead.capabilities" -}}
{{- $bgp := has "bgp" .Values.protocols -}}
{{- $capabilities := list -}}
{{- with .Values.speaker.bgp -}}
{{- if or (has "l2" $.Values.protocols) (and $bgp .unnumbered) -}}
{{- $capabilities = append $capabilities "NET_RAW" -}}
{{- end -}}
{{- if and $bgp .listenPort (lt (int .listenPort) 1024) -}}
{{- $capabilities = append $capabilities "NET_BIND_SERVICE" -}}
{{- end -}}
{{- end -}}
{{- join ", " $capabilities -}}
{{- end -}}

{{- /* Where pods run. Argument: list of the root and the values of the component. */ -}}
{{- define "fairlead.scheduling" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
