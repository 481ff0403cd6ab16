import type { LinkerdFlow } from '../../systems/linkerd/version.ts'
import type { DeclareOptions, FleetOptions } from '../system.ts'
import { demoLeafHours, demoVersions, isByArgo, isByHelm } from './names.ts'

/** rotation.yaml of the demo: what an engineer writes for its fleet. */
export function linkerdDeclaration(
  flow: LinkerdFlow,
  { sites, ageRecipient, rotation, paths, variant }: FleetOptions & DeclareOptions,
): { readonly path: string; readonly text: string } {
  const each = (line: (site: string) => string) => sites.map(line).join('')
  const byArgo = isByArgo(variant)
  const custody = byArgo
    ? `sealedSecrets: {certificate: sealed-secrets.pem, age: [${ageRecipient}]}`
    : `sops: {age: [${ageRecipient}]}`
  const delivery = (site: string): string =>
    byArgo
      ? `argocd: {application: argocd/trust, file: clusters/${site}/trust.yaml, repoURL: ssh://git@git.example.com/platform/fleet.git}`
      : `flux: {kustomization: flux-system/trust, file: clusters/${site}/trust.yaml}`
  return {
    path: `rotations/${rotation}/rotation.yaml`,
    text: `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata:
  name: ${rotation}
spec:
  system: linkerd
  strategy: graceful
  base: main
  forge: local
  current: {from: cluster}
  custody:
    ${custody}
  sites:
${each(
  site => `    - name: ${site}
      path: ${paths[site] ?? `trust/${site}`}
      cluster: {context: ${site}}
      delivery: {${delivery(site)}}
`,
)}  reload:
    workloads:
${each(site => `      - {site: ${site}, path: apps/${site}, kinds: [Deployment, StatefulSet, DaemonSet]}\n`)}  linkerd:
    flow: ${flow}
    version: ${demoVersions[flow]}
    leafTTL: ${demoLeafHours}h
${isByHelm(variant) ? '    install: helmRelease\n' : ''}    controlPlane:
${each(site => `      ${site}: ${isByHelm(variant) ? `{file: linkerd/${site}/release.yaml, name: linkerd-control-plane}` : `{path: linkerd/${site}}`}\n`)}`,
  }
}
