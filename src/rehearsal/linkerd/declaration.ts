import type { LinkerdFlow } from '../../systems/linkerd/version.ts'
import type { DeclareOptions, FleetOptions } from '../system.ts'
import { demoLeafHours, demoVersions } from './names.ts'

/** rotation.yaml of the demo: what an engineer writes for its fleet. */
export function linkerdDeclaration(
  flow: LinkerdFlow,
  { sites, ageRecipient, rotation, paths }: FleetOptions & DeclareOptions,
): { readonly path: string; readonly text: string } {
  const each = (line: (site: string) => string) => sites.map(line).join('')
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
    sops: {age: [${ageRecipient}]}
  sites:
${each(
  site => `    - name: ${site}
      path: ${paths[site] ?? `trust/${site}`}
      cluster: {context: ${site}}
      delivery: {flux: {kustomization: flux-system/trust, file: clusters/${site}/trust.yaml}}
`,
)}  reload:
    workloads:
${each(site => `      - {site: ${site}, path: apps/${site}, kinds: [Deployment, StatefulSet, DaemonSet]}\n`)}  linkerd:
    flow: ${flow}
    version: ${demoVersions[flow]}
    leafTTL: ${demoLeafHours}h
    controlPlane:
${each(site => `      ${site}: {path: linkerd/${site}}\n`)}`,
  }
}
