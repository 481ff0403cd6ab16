import { bundleAnchors } from '../../../phases/linkerd/files.ts'
import type { FoundPlace } from '../../report/trust-places.ts'
import type { TrustState } from '../../rotation.ts'
import { coursePhase, futureCa, type System } from '../system.ts'
import { linkerdRules } from './gates.ts'
import { schemeKeys } from './issuer-secret.ts'
import { linkerdModel } from './model.ts'
import { linkerdPhases, missingStrategies } from './phases.ts'
import { issuerName, linkerdOf, linkerdSettings } from './settings.ts'
import { chartRestarts, linkerdVersion, rulesOf } from './version.ts'
import { linkerdWords } from './words.ts'

/** Linkerd: trust anchors and identity's issuer, in the three places and orders that its versions and runbooks have. */
export const linkerd: System = {
  name: 'linkerd',
  title: 'Linkerd',
  role: 'roles/linkerd.yaml',
  settings: linkerdSettings,
  strategies: missingStrategies,
  init: async () => (await import('./init.ts')).initLinkerd,

  async currentFromCluster(cluster, declaration) {
    const { liveCa } = await import('./material.ts')
    return await liveCa(cluster, linkerdOf(declaration))
  },
  async currentFromFiles(source, read, declaration) {
    const { caFromFiles } = await import('./material.ts')
    return caFromFiles(source, read, linkerdOf(declaration))
  },
  async requestSecret(declared, scene) {
    const { requestedIssuer } = await import('./request.ts')
    return await requestedIssuer(linkerdOf(declared), scene)
  },
  issuerNames: declared => [issuerName(linkerdOf(declared))],
  async newCa(declaration, next, means) {
    const { newLinkerdCa } = await import('./next-ca.ts')
    return await newLinkerdCa(declaration, next, means)
  },
  async accept(declaration, current, next, now) {
    const { acceptLinkerd } = await import('./accept.ts')
    acceptLinkerd(declaration, current, next, now)
  },
  sealedFiles: ['issuer.yaml', 'canary.yaml'],
  keptFiles: ['issuer.yaml'],
  sealedKey: state => ({ file: 'issuer.yaml', key: keysOf(state).key }),

  async planSite(inputs) {
    const { planLinkerdSite } = await import('./plan-site.ts')
    return planLinkerdSite(inputs)
  },
  leafHours: declaration => linkerdOf(declaration).leafHours,
  course(strategy, declared, { current, workloadBatches }) {
    if (missingStrategies[strategy] !== null) return []
    const { flow, leaves, install, version } = linkerdOf(declared)
    const { issuer, roots, settings } = current
    const [root] = roots
    const next = { root: strategy === 'issuer' ? (root ?? futureCa) : futureCa, issuer: futureCa, chain: [] }
    const rules = rulesOf(linkerdVersion(version))
    // Whether identity.externalCA is set stands in the chart's values, which are not read here: then it would be one step more.
    const chartRestarted = install !== 'manifests' && chartRestarts(rules, false)
    const options = { flow, leaves, workloadBatches, chartRestarts: chartRestarted }
    const material = { current: { issuer, chain: [], roots, settings, restarts: {} }, next }
    return linkerdPhases(strategy, material, options).map(coursePhase)
  },
  parties: () => ['proxy', 'control-plane', 'identity'],
  model: linkerdModel,

  async observe(options) {
    const { observeLinkerd } = await import('./observe.ts')
    return await observeLinkerd(options)
  },
  rules: linkerdRules,
  declaredState,

  words: linkerdWords,
  async rehearsal() {
    const { linkerdRehearsal } = await import('../../rehearsal/linkerd/system.ts')
    return await linkerdRehearsal()
  },
}

function keysOf(state: Pick<TrustState, 'settings'>) {
  return schemeKeys[state.settings.scheme === 'kubernetes.io/tls' ? 'kubernetes.io/tls' : 'linkerd.io/tls']
}

/** From what the issuer Secret and the anchors' ConfigMap hold; a ConfigMap of 2.8 has them in JSON, and then the PEM beside it tells. */
function declaredState(places: readonly FoundPlace[], planned: TrustState | null): TrustState | null {
  if (planned === null) return null
  const at = (file: string, key: string | null) =>
    places.find(place => place.file.endsWith(file) && (key === null || (place.key ?? '').endsWith(key)))
  const issuer = at('/issuer.yaml', keysOf(planned).certificate)?.certificates ?? []
  const anchors =
    (at('/trust-roots.yaml', 'ca-bundle.crt') ?? at('/trust-roots.yaml', bundleAnchors) ?? at('/anchors.pem', null))
      ?.certificates ?? []
  const [first] = issuer
  if (first === undefined || anchors.length === 0) return null
  return {
    ...planned,
    bundle: anchors.map(({ sha256 }) => sha256),
    issuer: first.sha256,
    chain: issuer.map(({ sha256 }) => sha256),
  }
}
