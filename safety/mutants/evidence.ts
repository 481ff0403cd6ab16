import { type JudgeOptions, judgeGate } from '../../src/index.ts'
import type { ConsumerClass, Evidence, EvidenceGroup, ObjectEvidence, SystemName } from '../../src/rotation.ts'
import { observationDigest } from '../../src/verify/observation.ts'
import type { Random } from '../random.ts'
import type { Answer, Mutant } from './mutant.ts'
import type { Look, Recording } from './recordings.ts'

type Mutator = (recording: Recording, random: Random, strangers: readonly string[]) => Mutant | null

/** By class: what a verifier may be shown by a cluster, a clock or a person that is wrong. */
export const evidenceMutators: Readonly<Record<string, Mutator>> = {
  'evidence/stale': stale,
  'evidence/future': future,
  'evidence/partial': partial,
  'evidence/site-missing': siteMissing,
  'evidence/site-doubled': siteDoubled,
  'evidence/foreign-cluster': foreignCluster,
  'evidence/other-step': otherStep,
  'evidence/other-rotation': otherRotation,
  'evidence/damaged': damaged,
  'evidence/times-reordered': timesReordered,
  'evidence/alone': alone,
  'evidence/too-soon': tooSoon,
  'evidence/not-delivered': notDelivered,
  'evidence/object-missing': objectMissing,
  'evidence/canary-sealed': canarySealed,
  'evidence/wrong-keys': wrongKeys,
  'evidence/old-roots': oldRoots,
  'evidence/old-leaf': oldLeaf,
  'evidence/consumer-unread': consumerUnread,
  'evidence/consumers-gone': consumersGone,
}

export function evidenceAnswer(
  recording: Recording,
  evidence: readonly Evidence[],
  now: Date,
  options: JudgeOptions,
): Answer {
  const { verdict, gates } = judgeGate(recording.plan, evidence, now, {
    attestations: recording.attestations,
    ...options,
  })
  const reasons = gates.filter(gate => gate.verdict !== 'holds').map(gate => `${gate.id} ${gate.verdict}`)
  return { passed: verdict === 'holds', reasons: [...new Set(reasons)] }
}

/** Some moment at which the evidence is still fresh. */
export function momentOf(recording: Recording, evidence: readonly Evidence[], random: Random): Date {
  const last = Math.max(...evidence.map(({ to }) => Date.parse(to)))
  const first = Math.min(...evidence.map(({ from }) => Date.parse(from)))
  // A minute is as long as a look and the writing of it take; leaves that end are another matter.
  return new Date(last + random.whole(Math.min(60_000, first + recording.plan.gates.fresh - last)))
}

export function optionsOf({ evidence }: Look): JudgeOptions {
  const [{ phase, step }] = evidence
  const clusters = Object.fromEntries(evidence.map(({ site, cluster }) => [site, cluster.uid]))
  return { phase, step, sites: evidence.map(({ site }) => site), clusters }
}

// ------------------------------------------------------------------------------------------------------ how evidence is changed

interface Broken {
  readonly what: string
  readonly evidence: readonly Evidence[]
  readonly expected: readonly string[]
  readonly alongside?: RegExp
  readonly now?: Date
  readonly options?: JudgeOptions
}

function mutantOf(recording: Recording, random: Random, kind: string, look: Look, broken: Broken): Mutant {
  const now = broken.now ?? momentOf(recording, look.evidence, random)
  return {
    system: recording.system,
    kind,
    name: `${look.file} at ${now.toISOString()}: ${broken.what}`,
    expected: new Set(broken.expected),
    ...(broken.alongside === undefined ? {} : { alongside: broken.alongside }),
    answer: () => evidenceAnswer(recording, broken.evidence, now, broken.options ?? optionsOf(look)),
  }
}

/** One site's evidence replaced. */
function struck(look: Look, random: Random, change: (evidence: Evidence) => Evidence): readonly Evidence[] {
  const place = random.whole(look.evidence.length)
  return look.evidence.map((one, index) => (index === place ? change(one) : one))
}

/** As a verifier that saw so twice would have written it. */
function resealed(evidence: Evidence): Evidence {
  const observation = observationDigest(evidence)
  const { agreesWith } = evidence
  return { ...evidence, observation, agreesWith: agreesWith === null ? null : { ...agreesWith, observation } }
}

function shifted(instant: string, ms: number): string {
  return new Date(Date.parse(instant) + ms).toISOString().replace(/\.\d{3}Z$/, 'Z')
}

/** The last step of each phase, after which everyone has been seen. */
function fullLooks({ plan, looks }: Recording): readonly Look[] {
  return looks.filter(({ evidence: [{ phase, step }] }) => {
    const steps = plan.phases.find(({ number }) => number === phase)?.steps ?? []
    return steps.at(-1)?.number === step
  })
}

const minute = 60_000
const day = 86_400_000

/** Gates that look at the dates of certificates. */
const judgedByDate = /^linkerd\/(control-links|identity-checks) /

// ------------------------------------------------------------------------------------------------------ times

function stale(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const { fresh } = recording.plan.gates
  const first = Math.min(...look.evidence.map(({ from }) => Date.parse(from)))
  const now = new Date(first + fresh + 1 + random.whole(random.chance(0.5) ? minute : 30 * day))
  return mutantOf(recording, random, 'evidence/stale', look, {
    what: 'too old',
    evidence: look.evidence,
    expected: ['evidence/fresh unknown'],
    // What was seen ends, too: by then leaves and CAs have.
    alongside: judgedByDate,
    now,
  })
}

function future(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const last = Math.max(...look.evidence.map(({ to }) => Date.parse(to)))
  const now = new Date(last - minute - 1_000 - random.whole(random.chance(0.5) ? 10 * minute : day))
  return mutantOf(recording, random, 'evidence/future', look, {
    what: 'from a time to come',
    evidence: look.evidence,
    expected: ['evidence/fresh unknown'],
    // Certificates made for this rotation are not valid yet by a clock that is days behind.
    alongside: judgedByDate,
    now,
  })
}

function timesReordered(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const way = random.pick(['span', 'change', 'agreement'] as const)
  const far = minute + 1_000 + random.whole(day)
  const change = (one: Evidence): Evidence => {
    if (way === 'span') return { ...one, from: shifted(one.to, far) }
    if (way === 'change') return { ...one, lastChange: shifted(one.to, far) }
    const agreesWith =
      one.agreesWith === null ? null : { ...one.agreesWith, at: shifted(one.from, 1_000 + random.whole(far)) }
    return { ...one, agreesWith }
  }
  return mutantOf(recording, random, 'evidence/times-reordered', look, {
    what: `${way} by ${far} ms`,
    evidence: struck(look, random, change),
    expected: [way === 'agreement' ? 'evidence/settled unknown' : 'evidence/fresh unknown'],
    alongside: way === 'change' ? /^(evidence\/hold|cassandra\/stable) pending$/ : /^evidence\/settled pending$/,
  })
}

function alone(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const other = random.chance(0.5) ? random.bytes(32).toString('hex') : null
  const change = (one: Evidence): Evidence => ({
    ...one,
    agreesWith: other === null ? null : { at: one.agreesWith?.at ?? one.from, observation: other },
  })
  return mutantOf(recording, random, 'evidence/alone', look, {
    what: other === null ? 'nothing agrees with it' : `agrees with ${other.slice(0, 8)}`,
    evidence: struck(look, random, change),
    expected: [other === null ? 'evidence/settled pending' : 'evidence/settled unknown'],
  })
}

function tooSoon(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const untold = random.chance(0.3)
  const ago = random.whole(recording.plan.gates.hold / 1_000) * 1_000
  const change = (one: Evidence): Evidence => ({ ...one, lastChange: untold ? null : shifted(one.to, -ago) })
  return mutantOf(recording, random, 'evidence/too-soon', look, {
    what: untold ? 'no time of a change' : `changed ${ago} ms ago`,
    evidence: struck(look, random, change),
    expected: [untold ? 'evidence/hold unknown' : 'evidence/hold pending'],
    alongside: /^cassandra\/stable (pending|unknown)$/,
  })
}

// ------------------------------------------------------------------------------------------------------ what it is about

function partial(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  return mutantOf(recording, random, 'evidence/partial', look, {
    what: 'a list came back incomplete',
    evidence: struck(look, random, one => resealed({ ...one, complete: false })),
    expected: ['evidence/complete unknown'],
  })
}

function siteMissing(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const gone = random.pick(look.evidence)
  return mutantOf(recording, random, 'evidence/site-missing', look, {
    what: `without ${gone.site}`,
    evidence: look.evidence.filter(one => one !== gone),
    expected: ['evidence/present unknown'],
  })
}

function siteDoubled(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const twice = random.pick(look.evidence)
  return mutantOf(recording, random, 'evidence/site-doubled', look, {
    what: `${twice.site} twice`,
    evidence: random.shuffled([...look.evidence, { ...twice, to: shifted(twice.to, random.whole(5) * 1_000) }]),
    expected: ['evidence/present unknown'],
    // The doubled one is also another piece from the same cluster, to its twin's neighbours no business.
  })
}

function foreignCluster(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const [first, second] = look.evidence
  const uid = random.chance(0.3)
    ? ''
    : second !== undefined && random.chance(0.5)
      ? first.cluster.uid
      : random.bytes(16).toString('hex')
  const victim = second ?? first
  const evidence = look.evidence.map(one => (one === victim ? resealed({ ...one, cluster: { uid } }) : one))
  return mutantOf(recording, random, 'evidence/foreign-cluster', look, {
    what: `${victim.site} from cluster ${JSON.stringify(uid)}`,
    evidence,
    expected: ['evidence/cluster unknown'],
  })
}

/** What was seen of one step is given out for another. */
function otherStep(recording: Recording, random: Random): Mutant | null {
  const look = random.pick(recording.looks)
  const other = random.pick(recording.looks)
  const [{ phase, step, site }] = other.evidence
  const [own] = look.evidence
  if (own.phase === phase && own.step === step) return null
  // Batches: the other site enters the step by a look of its own.
  if (!look.evidence.some(one => one.site === site)) return null
  const claims = random.chance(0.5)
  const evidence = claims ? look.evidence.map(one => ({ ...one, phase, step })) : look.evidence
  return mutantOf(recording, random, 'evidence/other-step', look, {
    what: `${claims ? 'says it is' : 'shown as'} that of phase ${phase} step ${step}`,
    evidence,
    expected: ['evidence/step unknown'],
    // No gate can be judged by it.
    alongside: / unknown$/,
    options: { ...optionsOf(look), phase, step },
  })
}

function otherRotation(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const rotation = `${recording.plan.metadata.name}-${random.whole(1_000)}`
  return mutantOf(recording, random, 'evidence/other-rotation', look, {
    what: rotation,
    evidence: struck(look, random, one => ({ ...one, rotation })),
    expected: ['evidence/step unknown'],
    alongside: / unknown$/,
  })
}

function damaged(recording: Recording, random: Random, [stranger = '']: readonly string[]): Mutant {
  const look = random.pick(recording.looks)
  const way = random.pick(['roots', 'issuer', 'fact', 'object', 'owner', 'cluster', 'group', 'delivery'] as const)
  const change = (one: Evidence): Evidence => {
    const place = random.whole(one.groups.length)
    const groups = (turn: (group: EvidenceGroup) => EvidenceGroup) => ({
      ...one,
      groups: one.groups.map((group, index) => (index === place ? turn(group) : group)),
    })
    if (way === 'roots') return groups(group => ({ ...group, trusts: [...(group.trusts ?? []), stranger] }))
    if (way === 'issuer') return groups(group => ({ ...group, presents: [stranger] }))
    if (way === 'fact')
      return groups(group => ({ ...group, facts: { ...group.facts, restart: stranger.slice(0, 16) } }))
    if (way === 'owner') return groups(group => ({ ...group, owner: `${group.owner}-2` }))
    if (way === 'group') return { ...one, groups: one.groups.filter((_group, index) => index !== place) }
    if (way === 'object') return { ...one, objects: one.objects.slice(1) }
    if (way === 'cluster') return { ...one, cluster: { uid: `${one.cluster.uid}0` } }
    return { ...one, delivery: { ...one.delivery, inventory: one.delivery.inventory.slice(1) } }
  }
  return mutantOf(recording, random, 'evidence/damaged', look, {
    what: way,
    evidence: struck(look, random, change),
    expected: ['evidence/intact unknown'],
  })
}

// ------------------------------------------------------------------------------------------------------ what was delivered

function notDelivered(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const way = random.pick([
    'suspended',
    'not ready',
    'not observed',
    'no commit',
    'another tree',
    'not in its inventory',
  ] as const)
  const change = (one: Evidence): Evidence => {
    const { delivery } = one
    const other = {
      suspended: { suspended: true },
      'not ready': { ready: false },
      'not observed': { observed: false },
      'no commit': { revision: null },
      'another tree': { treeDigest: random.bytes(32).toString('hex') },
      'not in its inventory': { inventory: [] },
    }[way]
    return resealed({ ...one, delivery: { ...delivery, ...other } })
  }
  return mutantOf(recording, random, 'evidence/not-delivered', look, {
    what: way,
    evidence: struck(look, random, change),
    expected: [
      {
        suspended: 'delivery/applied violated',
        'not ready': 'delivery/applied pending',
        'not observed': 'delivery/applied pending',
        'no commit': 'delivery/applied unknown',
        'another tree': 'delivery/applied pending',
        'not in its inventory': 'delivery/applied pending',
      }[way],
    ],
  })
}

/** The Secret that holds each system's CA, and the gates that need to see it. */
const caSecrets: Readonly<Record<SystemName, { readonly name: RegExp; readonly gate: string; readonly more: RegExp }>> =
  {
    istio: { name: /^Secret\/.*\/cacerts$/, gate: 'istio/secret', more: /^$/ },
    linkerd: {
      name: /^Secret\/.*\/linkerd-identity-issuer$/,
      gate: 'linkerd/issuer-secret',
      more: /^linkerd\/(identity-checks|anchors-published) /,
    },
    kyma: {
      name: /^Secret\/.*\/connector-service-app-ca$/,
      gate: 'kyma/secrets',
      more: /^kyma\/(attested|gateway-file) /,
    },
    cassandra: { name: /^Secret\/.*-tls-ca$/, gate: 'cassandra/secret', more: /^cassandra\/taken-up / },
  }

const canaryName = /^Secret\/.*\/reanchor-canary$/

function withObject(one: Evidence, name: RegExp, turn: (object: ObjectEvidence) => ObjectEvidence | null): Evidence {
  return resealed({
    ...one,
    objects: one.objects.flatMap(object => (name.test(object.id) ? (turn(object) ?? []) : object)),
  })
}

function has(look: Look, name: RegExp): boolean {
  return look.evidence.every(({ objects }) => objects.some(({ id, present }) => present && name.test(id)))
}

function objectMissing(recording: Recording, random: Random): Mutant | null {
  const { system } = recording
  const look = random.pick(recording.looks)
  const ca = caSecrets[system]
  const canary = random.chance(0.5)
  const name = canary ? canaryName : ca.name
  if (!has(look, name)) return null
  const unseen = random.chance(0.5)
  const evidence = struck(look, random, one =>
    withObject(one, name, object => (unseen ? null : { ...object, present: false, keys: null })),
  )
  // Without a CA Secret the system makes up a CA of its own, or cannot start; Istio's comes with the delivery, later.
  const absent = canary || system === 'istio' ? 'pending' : 'violated'
  return mutantOf(recording, random, 'evidence/object-missing', look, {
    what: `${canary ? 'the canary' : 'the CA'} ${unseen ? 'was not seen' : 'is not there'}`,
    evidence,
    expected: [`${canary ? `${system}/canary` : ca.gate} ${unseen ? 'unknown' : absent}`],
    ...(canary ? {} : { alongside: ca.more }),
  })
}

function canarySealed(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const sha256 = random.bytes(32).toString('hex')
  return mutantOf(recording, random, 'evidence/canary-sealed', look, {
    what: `the canary is ${sha256.slice(0, 8)}`,
    evidence: struck(look, random, one =>
      withObject(one, canaryName, object => ({ ...object, facts: { ...object.facts, sha256 } })),
    ),
    expected: [`${recording.system}/canary violated`],
  })
}

/** A key of the CA's Secret is missing, or one stands there that is nobody's business, or somebody else writes one. */
function wrongKeys(recording: Recording, random: Random): Mutant | null {
  const { system } = recording
  const look = random.pick(recording.looks)
  const { name, gate, more } = caSecrets[system]
  if (!has(look, name)) return null
  // Kyma's Secrets are shared with its setup job, which may keep keys of its own in them.
  const ways = system === 'kyma' ? (['missing', 'owner'] as const) : (['missing', 'extra', 'owner'] as const)
  const way = random.pick(ways)
  // Of Cassandra's keys only those that a later step takes away must be the deliverer's alone.
  if (system === 'cassandra' && way === 'owner') return null
  const manager = random.pick(['kubectl-edit', 'cert-manager-certificates-issuing', 'helm'])
  const turn = (object: ObjectEvidence): ObjectEvidence => {
    const keys = object.keys ?? []
    const key = random.pick(keys)
    if (way === 'missing') return { ...object, keys: keys.filter(other => other !== key) }
    if (way === 'extra')
      return {
        ...object,
        keys: [...keys, 'extra.crt'].sort(),
        managers: { ...object.managers, 'extra.crt': [manager] },
      }
    const all = Object.fromEntries(keys.map(each => [each, [manager]]))
    return { ...object, managers: all }
  }
  const [{ phase }] = look.evidence
  // While Secrets are being taken over they are still of who made them: Kyma's of anyone, Linkerd's of who installs it.
  const takenOver =
    phase === 0 && way === 'owner' && (system === 'kyma' || (system === 'linkerd' && manager === 'helm'))
  const verdict = way === 'missing' || takenOver ? 'pending' : 'violated'
  return mutantOf(recording, random, 'evidence/wrong-keys', look, {
    what: `${way} (${manager})`,
    evidence: struck(look, random, one => withObject(one, name, turn)),
    expected: [`${gate} ${verdict}`],
    alongside: more,
  })
}

// ------------------------------------------------------------------------------------------------------ who was seen

/** The gate that names what each class of consumers trusts, and presents. */
const rootGates: Readonly<Record<SystemName, Readonly<Partial<Record<ConsumerClass, string>>>>> = {
  istio: {
    sidecar: 'istio/roots-trusted',
    gateway: 'istio/roots-trusted',
    configmap: 'istio/root-configmaps',
    webhook: 'istio/webhooks',
  },
  linkerd: {
    proxy: 'linkerd/proxies-trust',
    'control-plane': 'linkerd/control-plane-trusts',
    identity: 'linkerd/control-plane-trusts',
    configmap: 'linkerd/anchors-published',
  },
  kyma: { gateway: 'kyma/gateway-trusts' },
  cassandra: { node: 'cassandra/roots-trusted' },
}
const leafGates: typeof rootGates = {
  istio: { sidecar: 'istio/leaves-issued', gateway: 'istio/leaves-issued', istiod: 'istio/istiod-serves' },
  linkerd: {
    proxy: 'linkerd/leaves-issued',
    'control-plane': 'linkerd/leaves-issued',
    identity: 'linkerd/issuer-loaded',
  },
  kyma: {},
  cassandra: { node: 'cassandra/leaves-presented' },
}
/** Gates that ask of a handshake between consumers what others ask of each of them. */
const betweenThem = /^linkerd\/(control-links|identity-checks) /

function groupsWith(look: Look, gates: Readonly<Partial<Record<ConsumerClass, string>>>, of: 'trusts' | 'presents') {
  return look.evidence.flatMap((one, site) =>
    one.groups.flatMap((group, place) => {
      const gate = gates[group.consumer]
      return gate === undefined || group[of] === null ? [] : [{ site, place, gate, group }]
    }),
  )
}

function withGroup(
  look: Look,
  site: number,
  place: number,
  turn: (group: EvidenceGroup) => EvidenceGroup,
): readonly Evidence[] {
  return look.evidence.map((one, index) =>
    index === site
      ? resealed({ ...one, groups: one.groups.map((group, at) => (at === place ? turn(group) : group)) })
      : one,
  )
}

function planRoots({ plan }: Recording): readonly string[] {
  return plan.certificates.filter(({ role }) => role === 'old-root' || role === 'new-root').map(({ sha256 }) => sha256)
}

/** One owner's pods trust other roots than the step says: too few, too many, or somebody's. */
function oldRoots(recording: Recording, random: Random, strangers: readonly string[]): Mutant | null {
  const look = random.pick(fullLooks(recording))
  const found = groupsWith(look, rootGates[recording.system], 'trusts')
  if (found.length === 0) return null
  const { site, place, gate, group } = random.pick(found)
  const now = group.trusts ?? []
  const roots = planRoots(recording)
  const others = [[random.pick(strangers)], [...now, random.pick(strangers)], ...roots.map(root => [root]), roots]
  const trusts = [...random.pick(others)].sort()
  if (trusts.join() === [...now].sort().join()) return null
  const foreign = trusts.some(root => strangers.includes(root))
  return mutantOf(recording, random, 'evidence/old-roots', look, {
    what: `${group.owner} of site ${site} trusts ${trusts.map(root => root.slice(0, 8)).join('+')}`,
    evidence: withGroup(look, site, place, seen => ({ ...seen, trusts })),
    expected: [`${gate} ${foreign ? 'violated' : 'pending'}`],
    alongside: betweenThem,
  })
}

/** One owner's pods present leaves of another CA than the step says. */
function oldLeaf(recording: Recording, random: Random, strangers: readonly string[]): Mutant | null {
  if (recording.system === 'kyma') return runtimeNotRenewed(recording, random)
  const look = random.pick(fullLooks(recording))
  const found = groupsWith(look, leafGates[recording.system], 'presents')
  if (found.length === 0) return null
  const { site, place, gate, group } = random.pick(found)
  const issuers = recording.plan.certificates
    .filter(({ role }) => role.endsWith('-issuing'))
    .map(({ sha256 }) => sha256)
  const others = [...(issuers.length === 0 ? planRoots(recording) : issuers), ...strangers.slice(0, 1)]
  const issuer = random.pick(others.filter(other => other !== group.presents?.[0]))
  const foreign = strangers.includes(issuer)
  return mutantOf(recording, random, 'evidence/old-leaf', look, {
    what: `${group.owner} of site ${site} presents a leaf of ${issuer.slice(0, 8)}`,
    evidence: withGroup(look, site, place, seen => ({ ...seen, presents: [issuer] })),
    expected: [`${gate} ${foreign ? 'violated' : 'pending'}`],
    alongside: betweenThem,
  })
}

/** Of Kyma's runtimes it is asked in the one phase whose CA they do not have before. */
function runtimeNotRenewed(recording: Recording, random: Random): Mutant | null {
  const [old = ''] = recording.plan.certificates.filter(({ role }) => role === 'old-root').map(({ sha256 }) => sha256)
  const issuers = new Map(
    recording.plan.phases.map(({ number, steps }) => [number, Object.values(steps[0]?.sites ?? {})[0]?.state.issuer]),
  )
  const switching = recording.looks.filter(({ evidence: [{ phase }] }) => {
    const issuer = issuers.get(phase)
    return issuer !== undefined && issuer !== old && issuers.get(phase - 1) === old
  })
  const look = random.pick(switching)
  const [{ groups }] = look.evidence
  const places = groups.flatMap(({ consumer }, place) => (consumer === 'runtime' ? [place] : []))
  if (places.length === 0) return null
  const place = random.pick(places)
  const turn = (seen: EvidenceGroup): EvidenceGroup => ({
    ...seen,
    presents: [old],
    facts: { ...seen.facts, renewed: 'false' },
  })
  return mutantOf(recording, random, 'evidence/old-leaf', look, {
    what: `${groups[place]?.owner} has not renewed`,
    evidence: withGroup(look, 0, place, turn),
    expected: ['kyma/runtimes-renewed pending'],
  })
}

/** One consumer that nobody could read is an exception by name. */
function consumerUnread(recording: Recording, random: Random): Mutant {
  const look = random.pick(recording.looks)
  const [{ groups }] = look.evidence
  const { consumer, owner } = random.pick(groups)
  const name = `${owner.split('/')[0]}/pod-${random.whole(100_000)}`
  const verdict = random.pick(['unknown', 'pending', 'violated'] as const)
  const evidence = struck(look, random, one =>
    resealed({
      ...one,
      exceptions: [
        ...one.exceptions,
        { consumer, name, reason: 'unreadable', detail: 'no answer within 15 s', verdict },
      ],
    }),
  )
  return mutantOf(recording, random, 'evidence/consumer-unread', look, {
    what: `${consumer} ${name} ${verdict}`,
    evidence,
    expected: [`${recording.system}/consumers-seen ${verdict}`],
    // Gates about its class count it too.
    alongside: new RegExp(`^${recording.system}/[a-z-]+ ${verdict}$`),
  })
}

/** Classes of which there is always one, and the gate that misses them. */
const indispensable: Readonly<Record<SystemName, readonly (readonly [consumer: ConsumerClass, gate: string])[]>> = {
  istio: [
    ['istiod', 'istio/istiod-serves'],
    ['configmap', 'istio/root-configmaps'],
    ['webhook', 'istio/webhooks'],
  ],
  linkerd: [
    ['control-plane', 'linkerd/control-plane-trusts'],
    ['identity', 'linkerd/control-plane-trusts'],
    ['configmap', 'linkerd/anchors-published'],
    ['webhook', 'linkerd/webhook'],
  ],
  kyma: [['gateway', 'kyma/gateway-trusts']],
  cassandra: [['node', 'cassandra/roots-trusted']],
}

/** A whole class of consumers is absent from what was seen, as after a list that was cut and not told so. */
function consumersGone(recording: Recording, random: Random): Mutant | null {
  const look = random.pick(fullLooks(recording))
  const [consumer, gate] = random.pick(indispensable[recording.system])
  if (!look.evidence.some(({ groups }) => groups.some(group => group.consumer === consumer))) return null
  const evidence = look.evidence.map(one =>
    resealed({ ...one, groups: one.groups.filter(group => group.consumer !== consumer) }),
  )
  return mutantOf(recording, random, 'evidence/consumers-gone', look, {
    what: `no ${consumer}`,
    evidence,
    expected: [`${gate} unknown`],
    alongside: new RegExp(`^${recording.system}/[a-z-]+ unknown$`),
  })
}
