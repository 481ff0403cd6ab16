import type { ControlPlaneCarrier } from '../../../phases/istio/props.ts'
import { ReanchorError } from '../../errors.ts'
import { type Certificate, certificateFacts } from '../../pki/certificate.ts'
import type { Declaration, FileTree, Site } from '../../rotation.ts'
import type { PhaseDraft, SitePlan, SitePlanInputs, StepRendering } from '../system.ts'
import { helmCarrier, refuseChangedValues } from './helm-wiring.ts'
import { istioPhases } from './phases.ts'
import { renderSite } from './render.ts'
import { istioOf } from './settings.ts'
import { wiringOf } from './wiring.ts'

/** Phases, files and wiring of one site. The users' files are searched once, not at each step. */
export function planIstioSite(inputs: SitePlanInputs): SitePlan {
  const { declaration, site, files } = inputs
  const istio = istioOf(declaration)
  const controlPlane = carrierOf(declaration, site, files)
  const workloads = workloadKinds(declaration, site)
  return {
    phases: phasesOf(inputs, workloads.length),
    render: async (step: StepRendering) =>
      await renderSite({
        header: step.header,
        props: {
          rotation: declaration.name,
          state: step.state,
          certificate: sha256 => step.certificate(sha256).pem,
          issuerKey: step.state.source === 'plugged' ? issuerKey(inputs, step.state.issuer) : null,
          canary: step.canary,
          namespace: istio.namespace,
          delivery: site.delivery.kind,
          controlPlane,
          ...(istio.ambient ? { ztunnel: { name: 'default' } } : {}),
          workloads,
        },
        facts: sha256 => certificateFacts(step.certificate(sha256)),
        custody: step.custody,
        path: site.path,
      }),
    wiring(adopted) {
      const points = wiringOf(declaration, site, files)
      const delivered = adopted.get('istiod-values.yaml')
      if (delivered !== undefined) refuseChangedValues({ declaration, site, files, points, delivered })
      return points
    },
  }
}

function phasesOf(
  { declaration, site, current, next }: SitePlanInputs,
  workloadBatches: number,
): readonly PhaseDraft[] {
  if (declaration.strategy === 'issuer' && !current.roots.some(root => root.sha256 === next.root.sha256)) {
    throw new ReanchorError({
      what: 'strategy issuer keeps the root, but the new issuing CA is under another one',
      where: { object: `site ${site.name}` },
      expected: `a root among ${current.roots.map(root => root.sha256).join(', ')}`,
      found: next.root.sha256,
      todo: 'give spec.next the root in use, or choose strategy graceful',
    })
  }
  const of = (list: readonly Certificate[]) => list.map(certificate => certificate.sha256)
  return istioPhases(
    declaration.strategy,
    {
      current: {
        issuer: current.issuer.sha256,
        chain: of(current.chain),
        roots: of(current.roots),
        source: current.source,
        settings: current.settings,
        restarts: current.restarts,
      },
      next: { root: next.root.sha256, issuer: next.issuer.sha256, chain: of(next.chain) },
    },
    { workloadBatches, ztunnel: istioOf(declaration).ambient },
  )
}

function issuerKey({ site, current, next }: SitePlanInputs, issuer: string): string {
  if (next.issuer.sha256 === issuer) return next.key
  if (current.issuer.sha256 === issuer && current.key !== null) return current.key
  throw new ReanchorError({
    what: 'the private key of the CA in use is not at hand',
    where: { object: `site ${site.name}` },
    expected: `the key of ${current.issuer.subject}: while both roots are trusted, leaves are still issued by it`,
    found: 'only its certificate',
    todo: 'give spec.current.files.key, or read it from the cluster with spec.current: {from: cluster}',
  })
}

/** Kinds per batch of reload targets, as the component of each batch patches them. */
function workloadKinds(declaration: Declaration, site: Site): readonly (readonly string[])[] {
  const targets = declaration.reload.filter(target => target.site === site.name)
  const batches = [...new Set(targets.map(target => target.batch))].sort((a, b) => a - b)
  return batches.map(batch =>
    [...new Set(targets.filter(target => target.batch === batch).flatMap(target => target.kinds))].sort(),
  )
}

function carrierOf(declaration: Declaration, site: Site, files: FileTree): ControlPlaneCarrier {
  const istio = istioOf(declaration)
  if (istio.install === 'sail') return { kind: 'sail', name: istio.controlPlane[site.name]?.name ?? 'default' }
  const carrier = helmCarrier(declaration, site, files)
  if (carrier === null) return { kind: 'values' }
  const under = carrier.under.length === 0 ? {} : { under: carrier.under }
  if (carrier.kind === 'application') return { kind: 'values', ...under }
  return { kind: 'helmRelease', name: carrier.name, namespace: carrier.namespace ?? istio.namespace, ...under }
}
