import { removalPatch } from '../../gitops/json-patch.ts'
import type { ConsumerClass, ObjectEvidence, Plan, Verdict } from '../../rotation.ts'
import {
  attested,
  canaryUnsealed,
  clearedText,
  deliveredWith,
  deliverers,
  exceptionText,
  ownerlessKeys,
  stillSealed,
  writtenWhole,
} from '../../verify/common-gates.ts'
import type { Case, Judged, Rule } from '../../verify/gate.ts'
import { isExternalManager } from '../../verify/objects.ts'
import { type PlannedPlace, stoodBefore } from '../../verify/planned.ts'
import { instantOf } from '../../verify/values.ts'
import { worst } from '../../verify/verdict.ts'
import { type Departure, departures, type Expected, expectedOf } from './expected.ts'

/** A rule of a Cassandra step, whose `expected` is what the state at its place declares. */
interface CassandraRule extends Pick<Rule, 'id' | 'claim' | 'hint'> {
  judge(subject: CassandraCase): Judged
}

interface CassandraCase extends Case {
  readonly expected: Expected
}

const holds: Judged = { verdict: 'holds', because: [] }

/**
 * The gates of one step, in the order in which a roll-out fulfils them, beside those of delivery and canary. Steps, undos and both strategies have
 * the same: what each expects is derived from the declared state.
 */
export function cassandraRules(plan: Plan, place: PlannedPlace): readonly Rule[] {
  const rules: CassandraRule[] = [
    secretDelivered,
    clusterReady,
    dataTakenUp,
    setsRolled,
    nodesRestarted,
    rootsTrusted,
    leavesPresented,
  ]
  if (helpersIn(plan)) rules.push(helpersRestarted)
  rules.push(strangersDeclared, everythingSeen)
  if (place.phase > 0) rules.push(stable)
  return [
    deliveredWith(at => [at.tree.state.settings.secret ?? '']),
    canaryUnsealed('cassandra/canary', everythingSeen.claim),
    ...rules.map(rule => ({
      ...rule,
      judge: (subject: Case) => rule.judge({ ...subject, expected: expectedOf(subject.plan, subject.place) }),
    })),
    ...(plan.gates.attest.length > 0 && needsWord(plan, place) ? [attested('cassandra/attested', asked(place))] : []),
  ]
}

/** Of an undo only that of swap asks. */
function asked({ phase, variant }: PlannedPlace): string {
  if (variant === 'undo') return 'whether all present certificates of the old CA again, where they present any'
  return phase === 1
    ? 'whether all trust the new CA beside the old one'
    : 'whether all present certificates of the new CA, where they present any'
}

/**
 * Who is not seen must trust the new CA before anyone presents it, and present it before the old one goes. On the way back from where the new CA signs,
 * whoever presents certificates of it by now must take the old ones again before a further step back takes trust in it away. All are asked: that
 * a name has no word for the new CA yet does not say that nobody behind it has begun.
 */
function needsWord(plan: Plan, place: PlannedPlace): boolean {
  const { state } = place.tree
  const before = stoodBefore(plan, place)
  if (place.variant === 'undo') return before?.issuer !== state.issuer
  if (before === null || !state.bundle.includes(before.issuer)) return false
  return state.issuer !== before.issuer || state.bundle.some(root => !before.bundle.includes(root))
}

function helpersIn(plan: Plan): boolean {
  return plan.parties.includes('prober')
}

// ----------------------------------------------------------------------------------------------- objects

const secretDelivered: CassandraRule = {
  id: 'cassandra/secret',
  claim: 'the CA Secret has exactly the planned keys, and no one else keeps one that a later step takes away',
  hint: 'the deliverer writes the Secret; see delivery/applied',
  judge({ evidence, expected }) {
    const { namespace, secret } = expected
    const found = evidence.objects.find(({ id }) => id === `Secret/${namespace}/${secret}`)
    if (found === undefined) return unread(`Secret ${namespace}/${secret} could not be read`)
    if (!found.present)
      return {
        verdict: 'violated',
        because: [`${found.id} does not exist: the operator signs all nodes with a CA that it makes up`],
        hint: 'bring it back at once, by the deliverer or from this folder; then see which CA nodes present',
      }
    const sealed = stillSealed(evidence, secret)
    if (sealed !== null) return sealed
    const { keys } = found
    if (keys === null)
      return { verdict: 'unknown', because: [`${found.id} has no managedFields, so its keys are not known`] }
    const extra = keys.filter(key => !expected.keys.includes(key))
    const missing = expected.keys.filter(key => !keys.includes(key))
    if (missing.length > 0) return ownerlessKeys(found.id, missing)
    const known = deliverers[evidence.delivery.kind]
    // What nobody but the deliverer holds goes with its next apply, which delivery/applied waits for.
    const leaving = extra.filter(key => {
      const managers = found.managers[key] ?? []
      return managers.length > 0 && managers.every(manager => known.includes(manager) || isExternalManager(manager))
    })
    const foreignExtra = extra.filter(key => !leaving.includes(key))
    if (foreignExtra.length > 0) {
      const removals = removalPatch(foreignExtra.map(key => ['data', key]))
      return {
        verdict: 'violated',
        because: foreignExtra.map(key => `${found.id}: key ${key} is not planned (owned by ${owners(found, key)})`),
        hint: `take it away: kubectl --namespace ${namespace} patch secret ${secret} --type=json --patch '${removals}'; the operator then signs all nodes anew and restarts them`,
      }
    }
    if (leaving.length > 0)
      return {
        verdict: 'pending',
        because: leaving.map(key => `${found.id}: key ${key} is still there (owned by ${owners(found, key)})`),
      }
    if (found.facts.patched === 'true')
      return {
        verdict: 'violated',
        because: [`${found.id}: the Sealed Secrets controller only adds keys to it (sealedsecrets.bitnami.com/patch)`],
        hint: 'take that annotation away, or the old CA can never leave the Secret',
      }
    if (writtenWhole(evidence, secret)) return holds
    const foreign = expected.removable.filter(key =>
      (found.managers[key] ?? []).some(manager => !known.includes(manager)),
    )
    if (foreign.length === 0) return holds
    return {
      verdict: 'violated',
      because: foreign.map(key => `${found.id}: key ${key} is also owned by ${owners(found, key)}`),
      hint: `no step could take it away: free it, by applying the Secret with --field-manager of that owner and without the key`,
    }
  },
}

const clusterReady: CassandraRule = {
  id: 'cassandra/cluster',
  claim: 'the operator calls the cluster ready, and takes its CA from the planned Secret',
  hint: 'nothing is done to nodes before the maintenance is over',
  judge({ evidence, expected }) {
    const found = evidence.objects.find(({ id }) => id.startsWith('CassandraCluster/'))
    if (found === undefined) return unread('the CassandraCluster could not be read')
    if (!found.present) return { verdict: 'violated', because: [`${found.id} does not exist`] }
    if (found.facts.secret !== expected.secret)
      return {
        verdict: 'violated',
        because: [
          `${found.id}: its caTLSSecret is ${found.facts.secret ?? 'unset'}, and the plan is about ${expected.secret}`,
        ],
        hint: 'put the name back: it never changes in a rotation',
      }
    if ((found.facts.maintenance ?? '') !== '')
      return { verdict: 'pending', because: [`${found.id}: held down for maintenance: ${found.facts.maintenance}`] }
    // Necessary and never enough: it stays true until the operator reacts, and between the restarts of two pods.
    if (found.facts.ready === 'true') return holds
    return {
      verdict: 'pending',
      because: [`${found.id}: status.ready is not true`],
      hint: 'so it is while nodes restart; if it stays so, see its events (TLSSecretNotFound, TLSSecretInvalid, RegionInit) and the prober',
    }
  },
}

const dataTakenUp: CassandraRule = {
  id: 'cassandra/taken-up',
  claim: 'the operator has taken up exactly the planned data, by its own checksum',
  hint: 'it looks at the Secret once a minute; where it does not, see whether it runs and its events TLSSecretInvalid',
  judge({ evidence, expected }) {
    const found = evidence.objects.find(({ id }) => id === `Secret/${expected.namespace}/${expected.secret}`)
    if (found === undefined) return unread('the CA Secret could not be read')
    if (found.facts.checksum === expected.checksum) return holds
    return {
      verdict: 'pending',
      because: [
        `${found.id}: cassandra-cluster-checksum is ${found.facts.checksum ?? 'absent'}, and ${expected.checksum} is that of the planned data`,
      ],
    }
  },
}

const setsRolled: CassandraRule = {
  id: 'cassandra/rolled',
  claim: 'every datacenter’s StatefulSet is rolled out to its newest revision, all with one POD_RESTART_CHECKSUM',
  hint: 'the operator restarts nodes one by one; a pod that hangs says why in its events, and where hosts’ ports are used, nodes of a later region wait for the earlier ones',
  judge({ evidence }) {
    const sets = evidence.objects.filter(({ id }) => id.startsWith('StatefulSet/'))
    if (sets.length === 0) return unread('no StatefulSet of the cluster was seen')
    const because = sets.flatMap(({ id, present, facts }) => {
      if (!present) return [`${id} does not exist`]
      if (facts.observed !== 'true') return [`${id}: its newest declaration is not observed yet`]
      return facts.rolled === 'true' ? [] : [`${id}: ${facts.rolling ?? 'roll-out unknown'}`]
    })
    const tokens = new Set(sets.map(({ facts }) => facts.restart ?? ''))
    if (tokens.has('')) because.push('a StatefulSet has no POD_RESTART_CHECKSUM')
    else if (tokens.size > 1) because.push('the StatefulSets differ in POD_RESTART_CHECKSUM')
    const counted = { of: sets.length, conform: sets.filter(({ facts }) => facts.rolled === 'true').length }
    return { verdict: because.length === 0 ? 'holds' : 'pending', because, counted }
  },
}

// ------------------------------------------------------------------------------------------- consumers

const nodesRestarted: CassandraRule = {
  id: 'cassandra/nodes-restarted',
  claim: 'every node is ready and was started after its certificate had been made anew',
  hint: 'the operator restarts nodes one by one; a matching checksum alone proves no restart',
  judge: subject => judgeConsumers(subject, ['node'], ['running', 'restart']),
}

const rootsTrusted: CassandraRule = {
  id: 'cassandra/roots-trusted',
  claim: 'every node trusts exactly the planned CAs',
  hint: 'a node takes its truststore up at its start only',
  judge: subject => afterRestart(subject, ['roots'], ['running', 'restart']),
}

const leavesPresented: CassandraRule = {
  id: 'cassandra/leaves-presented',
  claim: 'every node presents a certificate of the planned CA',
  hint: 'a node presents what its keystore held when it started',
  judge(subject) {
    const judged = withEnds(afterRestart(subject, ['issuer'], ['running']), subject)
    if (judged.verdict !== 'unknown') return judged
    const hint =
      'it is seen by a TLS handshake with the node: see that port-forwards are allowed (roles/cassandra-portforward.yaml)'
    return { ...judged, hint }
  },
}

/**
 * With when the last node certificate of another CA ends by itself. The operator renews none before a step, and gives each the life of its CA, so a
 * restart is what clears them; but it is the day on which a node that was left behind stops.
 */
function withEnds(judged: Judged, { evidence, expected }: CassandraCase): Judged {
  const behind = evidence.groups.filter(group => departures(group, expected).some(({ aspect }) => aspect === 'issuer'))
  return judged.verdict === 'holds' ? judged : { ...judged, because: [...judged.because, ...clearedText(behind)] }
}

const helpersRestarted: CassandraRule = {
  id: 'cassandra/helpers-restarted',
  claim: 'prober and reaper were started after the nodes’ certificates had been made anew',
  hint: 'the operator does not restart them for a new CA: restart their Deployments',
  judge(subject) {
    // What is adopted changes nothing: a prober that was there before the last leaf trusts the CA that signed it.
    if (subject.place.phase === 0) return judgeConsumers(subject, ['prober', 'reaper'], ['running'], true)
    const judged = judgeConsumers(subject, ['prober', 'reaper'], ['running', 'restart', 'roots'], true)
    const owners = subject.evidence.groups
      .filter(({ consumer, facts }) => (consumer === 'prober' || consumer === 'reaper') && facts.started !== 'after')
      .map(({ owner }) => owner.split('/'))
    const commands = owners.map(
      ([namespace, , set]) =>
        `kubectl --namespace ${namespace} rollout restart deployment ${(set ?? '').replace(/-[a-z0-9]{5,10}$/, '')}`,
    )
    const hint = `the operator does not restart them for a new CA, and readiness goes through the prober: run ${[...new Set(commands)].sort().join(' and ')}`
    return commands.length === 0 ? judged : { ...judged, hint }
  },
}

const strangersDeclared: CassandraRule = {
  id: 'cassandra/strangers-declared',
  claim: 'every other pod that mounts the nodes’ Secret is declared',
  hint: 'declare it under gates.attest in rotation.yaml, by namespace/name or namespace/*, and say why it is there',
  judge({ evidence, plan }) {
    const strangers = evidence.exceptions.filter(({ reason }) => reason === 'needs-attestation')
    const undeclared = strangers.filter(({ name }) => !plan.gates.attest.some(declared => covers(declared.name, name)))
    const counted = { of: strangers.length, conform: strangers.length - undeclared.length }
    return { verdict: undeclared.length > 0 ? 'violated' : 'holds', because: undeclared.map(exceptionText), counted }
  },
}

/** A declared name stands for a pod by its namespace/name, or for a whole namespace as `namespace/*`. */
function covers(declared: string, name: string): boolean {
  return declared === name || (declared.endsWith('/*') && name.startsWith(declared.slice(0, -1)))
}

const claimed: ReadonlySet<string> = new Set([
  'needs-attestation',
  'not-ready',
  'not-restarted',
  'stale-roots',
  'foreign-root',
  'old-issuer',
  'foreign-issuer',
])

const everythingSeen: CassandraRule = {
  id: 'cassandra/consumers-seen',
  claim: 'every node and object was read',
  hint: 'what cannot be seen cannot be counted: make it readable',
  judge({ evidence }) {
    const standing = evidence.exceptions.filter(({ reason }) => !claimed.has(reason))
    const of = evidence.groups.reduce((sum, group) => sum + group.count, 0)
    const conform = Math.max(0, of - standing.length)
    return {
      verdict: worst(standing.map(({ verdict }) => verdict)),
      because: standing.map(exceptionText),
      counted: { of, conform },
    }
  },
}

/**
 * Milliseconds for which nothing may have changed. The operator looks again after a minute, and where its write of the nodes' Secret and that
 * of the annotation were crossed by another it signs all nodes once more: a second roll-out after one that looked complete.
 */
const stableFor = 90_000

const stable: CassandraRule = {
  id: 'cassandra/stable',
  claim: 'nothing has changed for longer than the operator takes to look again',
  hint: 'wait; a second roll-out right after the first is the operator’s way out of a write that was crossed',
  judge({ evidence }) {
    const { lastChange } = evidence
    if (lastChange === null) return { verdict: 'unknown', because: ['the cluster shows no time of a change'] }
    const until = Date.parse(lastChange) + stableFor
    if (until <= Date.parse(evidence.to)) return holds
    const retryAt = instantOf(new Date(until))
    return { verdict: 'pending', because: [`last change at ${lastChange}, stable from ${retryAt}`], retryAt }
  },
}

// ---------------------------------------------------------------------------------------------- shared

/** Counts consumers of some classes that conform in some aspects. `mayBeNone`: else seeing none means that something was not seen. */
function judgeConsumers(
  { evidence, expected }: CassandraCase,
  classes: readonly ConsumerClass[],
  aspects: readonly Departure['aspect'][],
  mayBeNone = false,
): Judged {
  const verdicts: Verdict[] = []
  const because: string[] = []
  let of = 0
  let conform = 0
  for (const group of evidence.groups) {
    if (!classes.includes(group.consumer)) continue
    of += group.count
    const departed = departures(group, expected).filter(({ aspect }) => aspects.includes(aspect))
    if (departed.length === 0) {
      conform += group.count
      continue
    }
    verdicts.push(...departed.map(({ verdict }) => verdict))
    const details = departed.map(({ detail }) => detail).join('; ')
    const named = evidence.exceptions.filter(
      ({ consumer, detail }) => consumer === group.consumer && departed.some(each => each.detail === detail),
    )
    because.push(...(named.length > 0 ? named.map(exceptionText) : [`${group.owner} (${group.count}): ${details}`]))
  }
  const counted = { of, conform }
  if (of === 0 && !mayBeNone) return { ...unread(`no ${classes.join(' or ')} was seen`), counted }
  return { verdict: worst(verdicts), because: [...new Set(because)], counted }
}

/** As `judgeConsumers`, for what only a restart brings: whom it waits for is named by the gate on restarts, and counted here. */
function afterRestart(
  subject: CassandraCase,
  own: readonly Departure['aspect'][],
  before: readonly Departure['aspect'][],
): Judged {
  const judged = judgeConsumers(subject, ['node'], own)
  const all = judgeConsumers(subject, ['node'], [...before, ...own])
  const waiting = (judged.counted?.conform ?? 0) - (all.counted?.conform ?? 0)
  if (waiting === 0) return { ...judged, verdict: all.verdict }
  const because = `${waiting} of ${all.counted?.of} nodes have not come that far: see “${nodesRestarted.claim}”`
  return { ...all, because: [...judged.because, because] }
}

function unread(because: string): Judged {
  return {
    verdict: 'unknown',
    because: [because],
    hint: `nothing is known of it until it can be read: why it was not is said under “${everythingSeen.claim}”`,
  }
}

function owners(found: ObjectEvidence, key: string): string {
  const managers = found.managers[key] ?? []
  return managers.length === 0 ? 'no one' : managers.join(', ')
}
