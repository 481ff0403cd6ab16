import { removalPatch } from '../../gitops/json-patch.ts'
import type {
  ConsumerClass,
  Evidence,
  EvidenceException,
  EvidenceGroup,
  ObjectEvidence,
  Plan,
  Verdict,
} from '../../rotation.ts'
import {
  attested,
  canaryUnsealed,
  clearedText,
  deliveredWith,
  deliverers,
  exceptionText,
  limited,
  namedAtMost,
  notReadHint,
  notReadWith,
  objectNamed,
  ownerlessKeys,
  stillSealed,
  unsealers,
  writtenWhole,
} from '../../verify/common-gates.ts'
import type { Case, Judged, Rule } from '../../verify/gate.ts'
import { bundleDigest, type PlannedPlace, plannedAt } from '../../verify/planned.ts'
import { worst } from '../../verify/verdict.ts'
import { type Departure, departures, type Expected, expectedOf, restartedFor } from './expected.ts'
import { multirootSetting, xdsAgentSetting } from './phases.ts'

/** The rules of one place, in the order in which a roll-out fulfils them. */
export function istioRules(plan: Plan, place: PlannedPlace): readonly Rule[] {
  return rulesFor(plan, place).map(rule => ({
    ...rule,
    judge: subject => rule.judge({ ...subject, expected: expectedOf(subject.plan, subject.place) }),
  }))
}

interface IstioCase extends Case {
  readonly expected: Expected
}

interface IstioRule extends Omit<Rule, 'judge'> {
  judge(subject: IstioCase): Judged
}

function rulesFor(plan: Plan, place: PlannedPlace): readonly IstioRule[] {
  const { state } = place.tree
  const rules: IstioRule[] = [
    deliveredWith(({ tree }) => (tree.state.source === 'plugged' ? ['cacerts'] : [])),
    canaryUnsealed('istio/canary', consumersSeen.claim),
  ]
  if (place.phase === 0) rules.push(wiringInEffect)
  rules.push(state.source === 'plugged' ? secretDelivered : secretAbsent, controlPlaneRolled)
  if (Object.keys(state.restarts).some(key => key.startsWith('workloads'))) rules.push(workloadsRestarted)
  rules.push(consumersSeen, machinesDeclared)
  if (!place.full) return [...rules, istiodRestarted]
  rules.push(istiodServes)
  if (restartedFor(state)) rules.push(istiodStarted)
  rules.push(rootConfigMaps, webhooks, rootsTrusted)
  if (state.settings[xdsAgentSetting] === 'true') rules.push(proxiesSubscribed)
  rules.push(leavesIssued)
  if (place.before !== null && bundleDigest(plan, place.before) !== bundleDigest(plan, state))
    rules.push(attested('istio/attested'))
  return rules
}

// --------------------------------------------------------------------------------------------- objects

const wiringInEffect: IstioRule = {
  id: 'istio/wiring',
  claim: 'what reanchor delivers reaches the control plane and the workloads',
  hint: 'the Component in the folder patches nothing: check that the kustomization includes it and that kind and name match',
  judge({ evidence, plan, place }) {
    const because: string[] = []
    const carrier = evidence.objects.find(({ id }) => id.startsWith('Istio/') || id.startsWith('HelmRelease/'))
    if (carrier !== undefined && !carrier.present) because.push(`${carrier.id} does not exist`)
    if (
      carrier?.present === true &&
      carrier.id.startsWith('Istio/') &&
      !marks(plan).includes(carrier.facts.rotation ?? '')
    ) {
      because.push(`${carrier.id}: annotation reanchor.dev/rotation is ${carrier.facts.rotation ?? 'absent'}`)
    }
    if (carrier?.present === true && carrier.id.startsWith('HelmRelease/') && carrier.facts.wired !== 'true') {
      because.push(`${carrier.id}: valuesFrom does not name reanchor-istiod-values`)
    }
    if (restartsWorkloads(plan, evidence.site)) {
      const workloads = evidence.objects.find(({ id }) => id === 'Workloads')
      if (workloads === undefined) return { verdict: 'unknown', because: ['workloads were not listed'] }
      if (!workloads.present) because.push('no workload carries annotation reanchor.dev/rotation of this rotation')
    }
    if (place.phase === 0 && carrier === undefined && unseenCarrier(evidence)) {
      return { verdict: 'unknown', because: ['what declares the control plane could not be read'] }
    }
    return { verdict: because.length === 0 ? 'holds' : 'pending', because }
  },
}

/** Names that the annotation may hold: a rotation that follows another begins with that one's final folders. */
function marks(plan: Plan): readonly string[] {
  return plan.follows === undefined ? [plan.metadata.name] : [plan.metadata.name, plan.follows]
}

function unseenCarrier(evidence: Evidence): boolean {
  return evidence.exceptions.some(({ consumer, name }) => consumer === 'object' && /^(Istio|HelmRelease)\//.test(name))
}

function restartsWorkloads(plan: Plan, site: string): boolean {
  const steps = plan.phases.flatMap(phase => phase.steps)
  return steps.some(step =>
    Object.keys(step.sites[site]?.state.restarts ?? {}).some(key => key.startsWith('workloads')),
  )
}

const secretKeys = ['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem', 'root-cert.pem'] as const

/**
 * A key of `cacerts` that anyone else owns survives Flux and Argo CD, and a stale `tls.crt` beats `ca-cert.pem` (istio security/pkg/pki,
 * detectSigningCABundleAndCRL).
 */
const secretDelivered: IstioRule = {
  id: 'istio/secret',
  claim: 'Secret cacerts has exactly the four keys, and no one else owns one',
  hint: 'the deliverer creates the Secret; see delivery/applied',
  judge({ evidence }) {
    const found = objectNamed(evidence, 'Secret', 'cacerts')
    if (found === null) return notRead('Secret cacerts could not be read')
    const sealed = stillSealed(evidence, 'cacerts')
    if (sealed !== null) return sealed
    if (!found.present) return { verdict: 'pending', because: [`${found.id} does not exist`] }
    const { keys } = found
    if (keys === null)
      return { verdict: 'unknown', because: [`${found.id} has no managedFields, so its keys are not known`] }
    const namespace = found.id.split('/')[1] ?? 'istio-system'
    const extra = keys.filter(key => !secretKeys.some(wanted => wanted === key))
    if (extra.length > 0) {
      const removals = removalPatch(extra.map(key => ['data', key]))
      return {
        verdict: 'violated',
        because: extra.map(key => `${found.id}: key ${key} is not ours (owned by ${owners(found, key)})`),
        hint: `free it: kubectl --namespace ${namespace} patch secret cacerts --type=json --patch '${removals}'`,
      }
    }
    const missing = secretKeys.filter(key => !keys.includes(key))
    if (missing.length > 0) return ownerlessKeys(found.id, missing)
    if (writtenWhole(evidence, 'cacerts')) return { verdict: 'holds', because: [] }
    const known = [...deliverers[evidence.delivery.kind], ...unsealers]
    const foreign = keys.filter(key => (found.managers[key] ?? []).some(manager => !known.includes(manager)))
    if (foreign.length === 0) return { verdict: 'holds', because: [] }
    return {
      verdict: 'violated',
      because: foreign.map(key => `${found.id}: key ${key} is also owned by ${owners(found, key)}`),
      hint: freeing(found, namespace, known),
    }
  },
}

/**
 * Takes the entries of others out of managedFields, last first, each only if it is still there. Clearing managedFields as a whole frees nothing:
 * kustomize-controller applies only what differs (fluxcd/pkg ssa, manager_apply.go), so the Secret would stay without any owner.
 */
function freeing(found: ObjectEvidence, namespace: string, known: readonly string[]): string {
  const entries = JSON.parse(found.facts.entries ?? '[]') as readonly (readonly [number, string])[]
  const patch = entries
    .filter(([, manager]) => !known.includes(manager))
    .reverse()
    .flatMap(([place, manager]) => [
      { op: 'test', path: `/metadata/managedFields/${place}/manager`, value: manager },
      { op: 'remove', path: `/metadata/managedFields/${place}` },
    ])
  return `free it: kubectl --namespace ${namespace} patch secret cacerts --type=json --patch '${JSON.stringify(patch)}'`
}

function owners(found: ObjectEvidence, key: string): string {
  const managers = found.managers[key] ?? []
  return managers.length === 0 ? 'no one' : managers.join(', ')
}

const secretAbsent: IstioRule = {
  id: 'istio/secret',
  claim: 'no Secret cacerts stands beside the self-signed CA',
  hint: 'an istiod that restarts would plug it in: find out who made it, and move it away or adopt it',
  judge({ evidence }) {
    const found = objectNamed(evidence, 'Secret', 'cacerts')
    if (found === null) return notRead('whether a Secret cacerts exists could not be read')
    if (!found.present) return { verdict: 'holds', because: [] }
    return { verdict: 'violated', because: [`${found.id} exists, but the folder declares istiod's own CA`] }
  },
}

const controlPlaneRolled: IstioRule = {
  id: 'istio/control-plane',
  claim: 'the declared settings are live and every istiod Deployment is rolled out',
  hint: 'see the status of the object named; an unready replica shows its reason in `kubectl describe pod`',
  judge({ evidence, expected }) {
    const { objects } = evidence
    const because: string[] = []
    const multiroot = expected.settings[multirootSetting]
    const agent = expected.settings[xdsAgentSetting]
    const token = expected.restarts.istiod
    for (const { id, present, facts } of objects) {
      const wants = (fact: string, wanted: string | undefined): void => {
        if (wanted !== undefined && facts[fact] !== wanted)
          because.push(`${id}: ${fact} is ${facts[fact] ?? 'unset'}, expected ${wanted}`)
      }
      if (id.startsWith('Istio/')) {
        if (!present) because.push(`${id} does not exist`)
        wants(multirootSetting, multiroot)
        wants(xdsAgentSetting, agent)
        wants('restart', token)
        wants('observed', 'true')
        wants('reconciled', 'True')
        if (facts.failure !== undefined) because.push(`${id}: ${facts.failure}`)
        wants('ready', 'True')
      }
      if (id.startsWith('HelmRelease/')) {
        wants('observed', 'true')
        wants('ready', 'True')
      }
      if (id.startsWith('Deployment/')) {
        wants(multirootSetting, multiroot)
        wants('restart', token)
        if (facts.rolled !== 'true') because.push(`${id}: ${facts.rolling ?? 'roll-out unknown'}`)
      }
      if (isMeshConfig(id)) wants(xdsAgentSetting, agent)
    }
    if (because.length > 0) return { verdict: 'pending', because }
    if (!objects.some(({ id }) => id.startsWith('Deployment/'))) {
      return { verdict: 'unknown', because: ['no Deployment of istiod was seen'] }
    }
    if (agent !== undefined && !objects.some(({ id }) => isMeshConfig(id))) {
      return { verdict: 'unknown', because: ['no MeshConfig was seen, so what the injector writes is not known'] }
    }
    return { verdict: 'holds', because: [] }
  },
}

function isMeshConfig(id: string): boolean {
  return /^ConfigMap\/[^/]+\/istio(-|$)/.test(id)
}

const workloadsRestarted: IstioRule = {
  id: 'istio/workloads-restarted',
  claim: 'every wired workload carries the restart and is rolled out',
  hint: 'the owner of a workload that hangs has to look at it; reanchor restarts nothing itself',
  judge({ evidence, expected }) {
    const found = evidence.objects.find(({ id }) => id === 'Workloads')
    if (found === undefined) return { verdict: 'unknown', because: ['workloads were not listed'] }
    const tokens = [...new Set(workloadTokens(expected))]
    const wired = Number(found.facts.wired ?? '0')
    const carried = tokens.map(token => Number(found.facts[`restart ${token}`] ?? '0'))
    const carrying = carried.reduce((sum, count) => sum + count, 0)
    const rolling = evidence.exceptions.filter(({ reason }) => reason === 'not-rolled')
    const because = rolling.map(exceptionText)
    if (carried.some(count => count === 0)) because.unshift('no workload carries the restart token of this step')
    // Batches restart one after another: only at the last step does every wired workload have a token of the plan's.
    if (expected.full && carrying < wired)
      because.unshift(`${wired - carrying} of ${wired} wired workloads lack the restart token`)
    const counted = { of: wired, conform: Math.max(0, carrying - rolling.length) }
    return { verdict: because.length === 0 ? 'holds' : 'pending', because: limited(because), counted }
  },
}

function workloadTokens(expected: Expected): readonly string[] {
  return Object.entries(expected.restarts).flatMap(([key, token]) => (key.startsWith('workloads') ? [token] : []))
}

// ------------------------------------------------------------------------------------------- consumers

const consumersSeen: IstioRule = {
  id: 'istio/consumers-seen',
  claim: 'every consumer runs, was read, and takes its trust from this mesh',
  hint: 'a consumer that cannot be seen cannot be counted: make it readable, remove it, or declare it under gates.attest',
  judge({ evidence }) {
    const standing = evidence.exceptions.filter(exception => !isClaimedElsewhere(exception))
    const of = evidence.groups.reduce((sum, group) => sum + group.count, 0)
    const conform = Math.max(0, of - new Set(standing.map(({ consumer, name }) => `${consumer} ${name}`)).size)
    const because = exceptionTexts(standing)
    return {
      verdict: worst(standing.map(({ verdict }) => verdict)),
      because: limited(because),
      counted: { of, conform },
    }
  },
}

const ownGates: Readonly<Record<string, true>> = {
  'stale-roots': true,
  'foreign-root': true,
  'other-bytes': true,
  'old-issuer': true,
  'foreign-issuer': true,
  'entries-differ': true,
  'root-entries-differ': true,
  'setting-missing': true,
  'not-subscribed': true,
  'not-restarted': true,
  'stale-start': true,
}

/** Every exception decides exactly one gate. */
function isClaimedElsewhere({ consumer, reason }: EvidenceException): boolean {
  if (consumer === 'vm') return reason === 'needs-attestation'
  return consumer !== 'object' && consumer !== 'delivery' && ownGates[reason] === true
}

const istiodRestarted: IstioRule = {
  id: 'istio/istiod-rolled',
  claim: 'every replica of istiod runs with the declared settings',
  hint: 'wait for the roll-out; a replica that stays behind is named',
  judge: subject => judgeConsumers(subject, ['istiod'], ['settings', 'restart', 'running']),
}

const istiodServes: IstioRule = {
  id: 'istio/istiod-serves',
  claim: 'every replica of istiod runs with the declared settings and is certified by the planned CA',
  hint: 'istiod reads another CA than the folder declares: restart it declaratively, and see its log for `root-cert`',
  judge: subject => judgeConsumers(subject, ['istiod'], ['settings', 'restart', 'issuer', 'running']),
}

/**
 * A replica that started with what its node still had hands out those roots to whoever connects. Proxies tell of it only while they are
 * connected to that very replica, so it is asked itself (observe-authorities.ts).
 */
const istiodStarted: IstioRule = {
  id: 'istio/istiod-roots',
  claim: 'every replica of istiod started with exactly the planned roots',
  hint: 'its node gave it older files: delete that pod, and its successor starts with the files of now',
  judge(subject) {
    const judged = judgeConsumers(subject, ['istiod'], ['start'])
    const stale = subject.evidence.exceptions.filter(({ reason }) => reason === 'stale-start')
    if (judged.hint !== undefined || stale.length === 0) return judged
    const commands = stale.slice(0, namedAtMost).map(({ name }) => {
      const [namespace = '', pod = ''] = name.split('/')
      return `\`kubectl --namespace ${namespace} delete pod ${pod}\``
    })
    return {
      ...judged,
      hint: `its node gave it older files; its successor starts with the files of now: ${commands.join(', ')}`,
    }
  },
}

const rootConfigMaps: IstioRule = {
  id: 'istio/root-configmaps',
  claim: 'every ConfigMap istio-ca-root-cert is exactly the planned bundle',
  hint: 'istiod writes them; the leader among its replicas may still hold the bundle of before',
  judge(subject) {
    const judged = judgeConsumers(subject, ['configmap'], ['roots', 'bundle'])
    // No step of this phase restarts istiod, which takes up no second root that somebody has put into cacerts before.
    if (judged.verdict !== 'pending' || subject.place.phase > 0) return judged
    const commands = subject.evidence.objects.flatMap(({ id }) => {
      const [kind, namespace, name] = id.split('/')
      return kind === 'Deployment' ? [`kubectl --namespace ${namespace} rollout restart deployment ${name}`] : []
    })
    if (commands.length === 0) return judged
    const hint = `istiod writes them; what somebody changed in cacerts before the rotation it may take up at a start only: ${commands.join(' and ')}`
    return { ...judged, hint }
  },
}

const webhooks: IstioRule = {
  id: 'istio/webhooks',
  claim: 'every webhook of istiod is called with exactly the planned roots',
  hint: 'istiod patches caBundle; under Argo CD it must be ignored in the comparison, or Argo CD writes the old one back',
  judge: subject => judgeConsumers(subject, ['webhook'], ['roots']),
}

const rootsTrusted: IstioRule = {
  id: 'istio/roots-trusted',
  claim: 'every proxy trusts exactly the planned roots',
  hint: rootsHint('a restart of the workload gives'),
  judge(subject) {
    const judged = judgeConsumers(subject, proxies, ['roots', 'running', 'restart'], true)
    const { plan, place, evidence } = subject
    const nudge = plannedAt(plan, evidence.site, place.phase, place.step, 'nudge')
    if (judged.verdict === 'holds' || judged.hint !== undefined || nudge === null) return judged
    return { ...judged, hint: rootsHint('`reanchor next --nudge` or a restart of the workload gives') }
  },
}

/** A replica that started with what its node still had pushes its own roots to whoever connects, as long as it runs (istio pilot/pkg/bootstrap/istio_ca.go). */
function rootsHint(now: string): string {
  return `a proxy that stays behind gets the roots with its next leaf; ${now} them now. Where some come and go, a replica of istiod may have started with older files and hands out what they hold: \`istioctl proxy-status\` tells whose proxies they are, and a restart of that replica mends it`
}

const proxiesSubscribed: IstioRule = {
  id: 'istio/proxies-subscribed',
  claim: 'every proxy was started with PROXY_CONFIG_XDS_AGENT and has asked for pushed trust',
  hint: 'the variable is written at injection: workloads made before it have to be created anew by their owners',
  judge: subject => judgeConsumers(subject, envoys, ['settings', 'subscription', 'running'], true),
}

const leavesIssued: IstioRule = {
  id: 'istio/leaves-issued',
  claim: 'every proxy presents a leaf of the planned CA',
  hint: '`reanchor next --nudge` repeats the root once more in the bundle, which makes every subscribed proxy renew at once',
  judge: subject => judgeConsumers(subject, proxies, ['issuer', 'running'], true),
}

const proxies: readonly ConsumerClass[] = ['sidecar', 'gateway', 'waypoint', 'ztunnel']
const envoys: readonly ConsumerClass[] = ['sidecar', 'gateway', 'waypoint']

/**
 * Counts consumers of some classes that conform in some aspects. `mayBeNone`: a mesh may have no consumer of these classes;
 * otherwise seeing none means that something was not seen.
 */
function judgeConsumers(
  subject: IstioCase,
  classes: readonly ConsumerClass[],
  aspects: readonly Departure['aspect'][],
  mayBeNone = false,
): Judged {
  const { evidence, expected } = subject
  const verdicts: Verdict[] = []
  const groupTexts: string[] = []
  let of = 0
  let conform = 0
  const behind: EvidenceGroup[] = []
  for (const group of evidence.groups) {
    if (!classes.includes(group.consumer)) continue
    of += group.count
    const departed = departures(group, expected).filter(({ aspect }) => aspects.includes(aspect))
    if (departed.length === 0) {
      conform += group.count
      continue
    }
    verdicts.push(...departed.map(({ verdict }) => verdict))
    groupTexts.push(`${group.owner} (${group.count}): ${departed.map(({ detail }) => detail).join('; ')}`)
    if (departed.some(({ aspect }) => aspect === 'issuer')) behind.push(group)
  }
  const named = evidence.exceptions.filter(
    exception => classes.some(wanted => wanted === exception.consumer) && aspectOf(exception.reason, aspects),
  )
  verdicts.push(...named.map(({ verdict }) => verdict))
  const counted = { of, conform }
  if (of === 0 && !mayBeNone) {
    return { ...notRead(`no ${classes.join(' or ')} was seen`), counted }
  }
  const verdict = overdue(subject, worst(verdicts))
  // Advice on what is behind would send people after what may be well.
  const unread = verdict === 'unknown' && !named.some(exception => exception.verdict === 'unknown')
  const because = limited(named.length > 0 ? exceptionTexts(named) : groupTexts)
  const cleared = clearedText(behind)
  const texts = verdict === 'holds' ? [] : [...because, ...cleared]
  return { verdict, because: texts, counted, ...(unread ? { hint: notReadHint(consumersSeen.claim) } : {}) }
}

/** Reasons that a gate about these aspects names; each belongs to one aspect. */
const reasonAspects: Readonly<Record<string, Departure['aspect']>> = {
  'stale-roots': 'roots',
  'foreign-root': 'roots',
  'other-bytes': 'bundle',
  'old-issuer': 'issuer',
  'foreign-issuer': 'issuer',
  'root-entries-differ': 'roots',
  'entries-differ': 'issuer',
  'setting-missing': 'settings',
  'not-subscribed': 'subscription',
  'not-restarted': 'restart',
  'stale-start': 'start',
}

function aspectOf(reason: string, aspects: readonly Departure['aspect'][]): boolean {
  const aspect = reasonAspects[reason]
  return aspect !== undefined && aspects.includes(aspect)
}

/** Waiting ends when even the slowest renewal, a whole life of a leaf, has passed since the last change. */
function overdue({ evidence, plan, now }: Case, verdict: Verdict): Verdict {
  if (verdict !== 'pending' || evidence.lastChange === null) return verdict
  return now.getTime() - Date.parse(evidence.lastChange) > plan.leafHours * 3_600_000 ? 'violated' : verdict
}

const machinesDeclared: IstioRule = {
  id: 'istio/machines-declared',
  claim: 'every machine outside the cluster is declared',
  hint: 'declare it under gates.attest in rotation.yaml, by namespace/name or namespace/*, and say why it is there',
  judge({ evidence, plan }) {
    const machines = evidence.exceptions.filter(
      ({ consumer, reason }) => consumer === 'vm' && reason === 'needs-attestation',
    )
    const undeclared = machines.filter(({ name }) => !plan.gates.attest.some(declared => covers(declared.name, name)))
    const because = undeclared.map(({ name }) => `WorkloadEntry ${name} is not declared under gates.attest`)
    const counted = { of: machines.length, conform: machines.length - undeclared.length }
    return { verdict: undeclared.length > 0 ? 'violated' : 'holds', because: limited(because), counted }
  },
}

/** A declared name stands for a machine by its namespace/name, or for a whole namespace as `namespace/*`. */
function covers(declared: string, machine: string): boolean {
  return declared === machine || (declared.endsWith('/*') && machine.startsWith(declared.slice(0, -1)))
}

// ---------------------------------------------------------------------------------------------- shared

const gravity: Readonly<Record<EvidenceException['verdict'], number>> = { violated: 0, unknown: 1, pending: 2 }

function byGravity(one: EvidenceException, other: EvidenceException): number {
  return gravity[one.verdict] - gravity[other.verdict] || (one.name < other.name ? -1 : 1)
}

/** The gravest first. Where they are too many to be named here, those that are alike are counted and a few of them named. */
function exceptionTexts(exceptions: readonly EvidenceException[]): readonly string[] {
  const sorted = [...exceptions].sort(byGravity)
  if (sorted.length <= namedAtMost) return sorted.map(exceptionText)
  const groups = new Map<string, EvidenceException[]>()
  for (const exception of sorted) {
    const key = [exception.verdict, exception.consumer, exception.detail].join('\n')
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [exception])
    else group.push(exception)
  }
  return [...groups.values()].flatMap(group => {
    const [first] = group
    if (first === undefined || group.length <= namedOfAlike) return group.map(exceptionText)
    const names = group.slice(0, namedOfAlike).map(({ name }) => name)
    return [`${group.length} of class ${first.consumer}, such as ${names.join(', ')}: ${first.detail}`]
  })
}

const namedOfAlike = 3

/** A result names this many; the evidence names all. */

function notRead(because: string): Judged {
  return notReadWith(consumersSeen.claim, because)
}
