{{/* Names have room for the longest suffix of an object that must keep within 63 characters, and no dot of the
release's name: Services take none. */}}
{{- define "bastide.fullname" -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- $full | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Called with a list: root context, component. */}}
{{- define "bastide.name" -}}
{{- printf "%s-%s" (include "bastide.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{- define "bastide.selector" -}}
app.kubernetes.io/name: {{ default (index . 0).Chart.Name (index . 0).Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "bastide.labels" -}}
{{ include "bastide.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/part-of: bastide
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* name and labels of an object in the release's namespace. */}}
{{- define "bastide.metadata" -}}
name: {{ include "bastide.name" . }}
namespace: {{ (index . 0).Release.Namespace | quote }}
labels:
  {{- include "bastide.labels" . | nindent 2 }}
{{- end -}}

{{- define "bastide.image" -}}
{{- with .Values.image -}}
{{- $name := ternary .repository (printf "%s/%s" (trimSuffix "/" .registry) .repository) (empty .registry) -}}
{{- if .digest -}}
{{- printf "%s@%s" $name .digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "bastide.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ quote . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Called with: root, component. */}}
{{- define "bastide.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "bastide.metadata" . | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}

{{/* Binds a ClusterRole to the ServiceAccount of the same component. */}}
{{- define "bastide.clusterRoleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "bastide.name" . }}
  labels:
    {{- include "bastide.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "bastide.name" . }}
subjects:
  - kind: ServiceAccount
    name: {{ include "bastide.name" . }}
    namespace: {{ (index . 0).Release.Namespace | quote }}
{{- end -}}

{{- define "bastide.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "bastide.metadata" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "bastide.name" . }}
subjects:
  - kind: ServiceAccount
    name: {{ include "bastide.name" . }}
    namespace: {{ (index . 0).Release.Namespace | quote }}
{{- end -}}

{{- define "bastide.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "bastide.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Called with: root, component, its values. Where it runs, and what it is pulled with. */}}
{{- define "bastide.scheduling" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
{{- include "bastide.pullSecrets" $root }}
{{- with $values.priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
nodeSelector:
  {{- mergeOverwrite (dict "kubernetes.io/os" "linux" "kubernetes.io/arch" "amd64") $values.nodeSelector | toYaml | nindent 2 }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if gt (int (default 1 $values.replicas)) 1 }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "bastide.selector" . | nindent 14 }}
{{- end }}
{{- end -}}

{{/* Probes of a server. Called with: port's name, scheme, names of checks that its readiness leaves out (optional). */}}
{{- define "bastide.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ index . 0 }}, scheme: {{ index . 1 }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: {{ index . 0 }}, scheme: {{ index . 1 }}}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet: {path: {{ include "bastide.readyz" (slice . 2) | quote }}, port: {{ index . 0 }}, scheme: {{ index . 1 }}}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}

{{- define "bastide.readyz" -}}
/readyz
{{- range $names := . }}
{{- range $at, $name := $names }}{{ ternary "?" "&" (eq $at 0) }}exclude={{ $name }}{{ end }}
{{- end }}
{{- end -}}

{{- define "bastide.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "bastide.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "bastide.selector" . | nindent 6 }}
{{- end -}}

{{/* What a process needs to ask the scanner: options, mounts, volumes. */}}
{{- define "bastide.asksScanner" -}}
{{- if and .Values.scanner.enabled (ne .Values.policy.signerGate.mode "off") }}yes{{ end -}}
{{- end -}}

{{- define "bastide.scannerOptions" -}}
- --scanner=https://{{ include "bastide.name" (list . "scanner") }}.{{ .Release.Namespace }}.svc
- --scanner-ca=/run/bastide/scanner/ca.crt
- --scanner-token=/run/bastide/scanner-token/token
{{- end -}}

{{- define "bastide.scannerMounts" -}}
- {name: scanner-ca, mountPath: /run/bastide/scanner, readOnly: true}
- {name: scanner-token, mountPath: /run/bastide/scanner-token, readOnly: true}
{{- end -}}

{{- define "bastide.scannerVolumes" -}}
- name: scanner-ca
  secret:
    secretName: {{ include "bastide.name" (list . "scanner-tls") }}
    optional: true # there as soon as the scanner has made it
    items:
      - {key: ca.crt, path: ca.crt}
- name: scanner-token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: bastide-scanner, expirationSeconds: 3600}
{{- end -}}

{{- define "bastide.policyMount" -}}
- {name: policy, mountPath: /etc/bastide/policy, readOnly: true}
{{- end -}}

{{- define "bastide.policyVolume" -}}
- name: policy
  configMap:
    name: {{ include "bastide.name" (list . "policy") }}
{{- end -}}

{{/* Network policy of a component. Called with: root, component, ingress rules, egress rules beside API server and DNS. */}}
{{- define "bastide.networkPolicy" -}}
{{- $root := index . 0 -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "bastide.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "bastide.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- index . 2 | nindent 4 }}
  egress:
    - ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
    - ports:
        {{- range $root.Values.networkPolicy.apiServerPorts }}
        - {protocol: TCP, port: {{ . }}}
        {{- end }}
      {{- with include "bastide.apiServerPeers" $root }}
      to:
        {{- . | nindent 8 }}
      {{- end }}
    {{- with index . 3 }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "bastide.apiServerPeers" -}}
{{- range .Values.networkPolicy.apiServerCidrs }}
- ipBlock: {cidr: {{ quote . }}}
{{- end }}
{{- end -}}

{{/* Ingress rule. Called with: peers (none: anyone), port. */}}
{{- define "bastide.ingressFrom" -}}
- ports:
    - {protocol: TCP, port: {{ index . 1 }}}
  {{- with index . 0 }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Ingress rule for who reads metrics. Called with: root, port. */}}
{{- define "bastide.metricsIngress" -}}
{{- include "bastide.ingressFrom" (list (index . 0).Values.networkPolicy.metricsFrom (index . 1)) -}}
{{- end -}}

{{/* Certificate of a Service by cert-manager. Called with: root, component. */}}
{{- define "bastide.certificate" -}}
{{- $root := index . 0 -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "bastide.metadata" . | nindent 2 }}
spec:
  secretName: {{ include "bastide.name" . }}-tls
  duration: 2160h
  dnsNames:
    - {{ include "bastide.name" . }}.{{ $root.Release.Namespace }}.svc
    - {{ include "bastide.name" . }}.{{ $root.Release.Namespace }}.svc.cluster.local
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, server auth]
  issuerRef:
    {{- if $root.Values.certManager.issuerRef }}
    {{- toYaml $root.Values.certManager.issuerRef | nindent 4 }}
    {{- else }}
    name: {{ include "bastide.name" (list $root "ca") }}
    kind: Issuer
    {{- end }}
{{- end -}}
