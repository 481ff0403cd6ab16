import { currentFromFiles } from '../../plan/material.ts'
import type { Fingerprint, TrustState } from '../../rotation.ts'
import { coursePhase, futureCa, type System } from '../system.ts'
import { istioRules } from './gates.ts'
import { istioModel } from './model.ts'
import { istioPhases } from './phases.ts'
import { istioOf, istioSettings } from './settings.ts'
import { istioWords } from './words.ts'

export const istio: System = {
  name: 'istio',
  title: 'Istio',
  role: 'roles/istio.yaml',
  settings: istioSettings,
  init: async () => (await import('./init.ts')).initIstio,
  strategies: {
    graceful: null,
    issuer: null,
    emergency: null,
    // Same key and subject, new certificate: consumers that find an issuer by name cannot tell the two apart, which needs gates of its own.
    renew: {
      what: 'strategy renew is not supported for Istio in this version',
      expected: 'graceful, issuer or emergency',
      todo: 'choose graceful, which also renews, with a new key; istiod renews its own self-signed root by itself',
    },
  },
  async currentFromCluster(cluster, declaration) {
    const { currentFromCluster } = await import('./material.ts')
    return await currentFromCluster(cluster, istioOf(declaration))
  },
  currentFromFiles: async (source, read) => currentFromFiles(source, read),
  requestSecret: declared => ({
    name: 'cacerts',
    namespace: istioOf(declared).namespace,
    file: 'cacerts.yaml',
    key: 'ca-key.pem',
  }),
  async newCa(declaration, next, means) {
    const { caFromFiles, generateCa } = await import('../../plan/next-ca.ts')
    return next.from === 'generate'
      ? await generateCa(declaration, next, means)
      : caFromFiles(declaration, next, means.read)
  },
  async accept(declaration, current, next, now) {
    const { acceptCas } = await import('./accept.ts')
    acceptCas(declaration, current, next, now)
  },
  sealedFiles: ['cacerts.yaml', 'canary.yaml'],
  keptFiles: ['cacerts.yaml'],
  sealedKey: state => (state.source === 'plugged' ? { file: 'cacerts.yaml', key: 'ca-key.pem' } : null),
  async planSite(inputs) {
    const { planIstioSite } = await import('./plan-site.ts')
    return planIstioSite(inputs)
  },
  leafHours: declaration => istioOf(declaration).leafHours,
  course(strategy, declared, { current, workloadBatches }) {
    if (istio.strategies[strategy] !== null) return []
    const { issuer, roots, source, settings } = current
    const [root] = roots
    const next = { root: strategy === 'issuer' ? (root ?? futureCa) : futureCa, issuer: futureCa, chain: [] }
    const material = { current: { issuer, chain: [], roots, source, settings, restarts: {} }, next }
    return istioPhases(strategy, material, { workloadBatches, ztunnel: istioOf(declared).ambient }).map(coursePhase)
  },
  parties: declaration => [
    'sidecar',
    'gateway',
    'istiod',
    'webhook',
    ...(istioOf(declaration).ambient ? ['ztunnel', 'waypoint'] : []),
  ],
  model: istioModel,
  async observe({ declared, ...options }) {
    const { observeIstio } = await import('./observe.ts')
    return await observeIstio({ ...options, istio: istioOf(declared) })
  },
  rules: istioRules,
  declaredState(places, planned) {
    const of = (key: string): readonly Fingerprint[] | null => {
      const place = places.find(
        found => found.key === key && /^(Sealed|External)?Secret /.test(found.object ?? '') && found.sealed === null,
      )
      return place === undefined ? null : place.certificates.map(certificate => certificate.sha256)
    }
    const [bundle, issuer, chain] = [of('root-cert.pem'), of('ca-cert.pem'), of('cert-chain.pem')]
    const signing = issuer?.[0]
    if (bundle === null || signing === undefined) return null
    const state: TrustState = {
      bundle,
      issuer: signing,
      chain: chain ?? [signing],
      source: 'plugged',
      settings: planned?.settings ?? {},
      restarts: planned?.restarts ?? {},
    }
    return state
  },
  words: istioWords,
  async rehearsal() {
    const { istioRehearsal } = await import('../../rehearsal/istio/system.ts')
    return istioRehearsal
  },
}
