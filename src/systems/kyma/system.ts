import type { Certificate } from '../../pki/certificate.ts'
import type { Declaration, TrustState } from '../../rotation.ts'
import { coursePhase, futureCa, type System } from '../system.ts'
import { kymaRules } from './gates.ts'
import { kymaLinks, kymaPartiesOf, kymaPartyName, priceNotes } from './model.ts'
import { issuerMissing, kymaPhases, kymaPlaceSettings, kymaSetting } from './phases.ts'
import { renewedAfter } from './runtime.ts'
import { kymaOf, kymaSettings } from './settings.ts'
import { kymaWords } from './words.ts'

const signerFile = 'connector-ca.yaml'
const gatewayFile = 'gateway-ca.yaml'

/** Kyma's application connectivity: the connector's CA, and the ingress gateway that verifies clients with it. */
export const kyma: System = {
  name: 'kyma',
  title: 'Kyma',
  role: 'roles/kyma.yaml',
  settings: kymaSettings,
  async init() {
    const { initKyma } = await import('./init.ts')
    return initKyma
  },
  strategies: { graceful: null, renew: null, issuer: issuerMissing, emergency: null },

  async currentFromCluster(cluster, declaration) {
    const { carried, liveKyma } = await import('./material.ts')
    const { overridesIn } = await import('./overrides.ts')
    const live = await liveKyma(cluster, kymaOf(declaration))
    const overrides = await overridesIn(cluster)
    return {
      issuer: live.signer,
      chain: [],
      roots: live.bundle,
      key: live.key,
      source: 'plugged',
      settings: {
        [carried.signerType]: live.types.signer,
        [carried.gatewayType]: live.types.gateway,
        [carried.otherSignerKeys]: live.otherKeys.signer.join(' '),
        [carried.overrides]: overrides.join('; '),
        ...kymaPlaceSettings(kymaOf(declaration)),
      },
      restarts: {},
      extra: { [carried.signerText]: live.texts.signer, [carried.gatewayText]: live.texts.gateway },
    }
  },
  async currentFromFiles(source, read) {
    const { readBundle } = await import('../../pki/bundle.ts')
    const { kymaCaFromFiles } = await import('./next-ca.ts')
    const { readCertificate } = await import('../../pki/certificate.ts')
    const bundle = (file: string): readonly Certificate[] =>
      readBundle(read(file), { file, allowRepeats: false }).certificates
    const certificate = readCertificate(read(source.certificate), { file: source.certificate })
    const key =
      source.key === null ? null : kymaCaFromFiles({ certificate: source.certificate, key: source.key }, read).key
    return {
      issuer: certificate,
      chain: [],
      roots: source.roots === null ? [certificate] : bundle(source.roots),
      key,
      source: 'plugged',
      settings: {},
      restarts: {},
    }
  },
  // The new CA's key stands in the Secret of the connector: an offline root that keeps its key could sign no client.
  requestSecret: () => null,
  async newCa(declaration, next, means) {
    const { newKymaCa } = await import('./accept.ts')
    return await newKymaCa(declaration, next, means)
  },
  async accept(declaration, current, next, now) {
    const { acceptKyma } = await import('./accept.ts')
    acceptKyma(declaration, current, next, now)
  },
  sealedFiles: [signerFile, 'canary.yaml'],
  keptFiles: [signerFile, gatewayFile],
  sealedKey: state => ({ file: signerFile, key: state.settings[kymaSetting.signerKey] ?? 'ca.key' }),

  async planSite(inputs) {
    const { planKymaSite } = await import('./plan-site.ts')
    return planKymaSite(inputs)
  },
  // The gate waits for renewals, which a person can ask for at once: the proof would wait for the life of a leaf, longer than an ending CA has.
  leafHours: () => 0,
  renewalHours: declared => kymaOf(declared).leafDays * 24 * renewedAfter,
  course(strategy, declared, { current }) {
    if (kyma.strategies[strategy] !== null) return []
    const bundle = current.roots.length === 0 ? [current.issuer] : current.roots
    const material = { profile: kymaOf(declared), current: { issuer: current.issuer, bundle, restarts: {} } }
    return kymaPhases(strategy, { ...material, next: futureCa }).map(coursePhase)
  },
  parties: (declaration: Declaration) => kymaPartiesOf(kymaOf(declaration).applications),
  model: {
    links: kymaLinks,
    partyName: kymaPartyName,
    notes(plan) {
      const notes: string[] = plan.strategy === 'emergency' ? [...priceNotes(plan)] : []
      const old = plan.certificates.find(({ role }) => role === 'old-root')
      const next = plan.certificates.find(({ role }) => role === 'new-root')
      if (old === undefined || next === undefined) return notes
      if (old.spki === next.spki)
        notes.push(
          'old and new have one key and one subject: a client that has not renewed keeps working, and what the gateway trusts tells the phases apart, not what clients present.',
        )
      else if (plan.strategy === 'graceful')
        notes.push(
          `clients must have renewed before the old CA ends (${old.notAfter}): by themselves they renew with less than 30 % of the validity of their certificate left, which may be later, so tell them.`,
        )
      return notes
    },
    // An emergency replaces both at once, and with the key kept no handshake fails: the handshakes decide.
    movesBoth: true,
  },

  async observe(options) {
    const { observeKyma } = await import('./observe.ts')
    return await observeKyma(options)
  },
  rules: kymaRules,
  // By the files of the folder, whose names are the same in every release; names of Secrets and keys are not, and an edit matches no step that would tell them.
  declaredState(places, planned): TrustState | null {
    const inFile = (file: string): readonly string[] =>
      places
        .find(place => place.file.endsWith(`/${file}`) && place.object !== null && place.certificates.length > 0)
        ?.certificates.map(({ sha256 }) => sha256) ?? []
    const bundle = [...new Set(inFile(gatewayFile))]
    const [issuer] = inFile(signerFile)
    if (bundle.length === 0 || issuer === undefined) return null
    const { settings = {}, restarts = {} } = planned ?? {}
    return { bundle, issuer, chain: [], source: 'plugged', settings, restarts }
  },

  words: kymaWords,
  async rehearsal() {
    const { kymaRehearsal } = await import('../../rehearsal/kyma/system.ts')
    return kymaRehearsal
  },
}
