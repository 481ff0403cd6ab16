import { removalPatch } from '../../gitops/json-patch.ts'
import { trustAnnotation } from '../../names.ts'
import type { ConsumerClass, Evidence, ObjectEvidence, Plan, Verdict } from '../../rotation.ts'
import {
  attested,
  canaryUnsealed,
  clearedText,
  deliveredWith,
  deliverers,
  exceptionText,
  limited,
  notReadWith,
  objectNamed,
  ownerless,
  ownerlessHint,
  stillSealed,
  unsealers,
} from '../../verify/common-gates.ts'
import type { Case, Judged, Rule } from '../../verify/gate.ts'
import { isExternalManager } from '../../verify/objects.ts'
import { type PlannedPlace, plannedAt } from '../../verify/planned.ts'
import { instantOf } from '../../verify/values.ts'
import { worst } from '../../verify/verdict.ts'
import { type Departure, departures, type Expected, expectedOf } from './expected.ts'
import { placesOf } from './phases.ts'
import { type ConnectionKind, onboardingCommands, renewalCommands } from './runtime.ts'

const seenClaim = 'every gateway pod, runtime and object was read'
const holds: Judged = { verdict: 'holds', because: [] }

interface KymaCase extends Case {
  readonly expected: Expected
}

interface KymaRule extends Omit<Rule, 'judge'> {
  judge(subject: KymaCase): Judged
}

/**
 * Milliseconds after a change within which a node may still give a new pod the old file: the kubelet's sync of a minute with half of it as jitter, and its
 * cache. A gateway that reads its CA at its start only keeps what it was given then.
 */
const fileLag = 90_000

/** The gates of one step, in the order in which a roll-out fulfils them. What each expects is derived from the declared state. */
export function kymaRules(plan: Plan, place: PlannedPlace): readonly Rule[] {
  const expected = expectedOf(plan, place)
  const { signer, gateway } = expected.places
  const mount = gateway.form === 'mount'
  const own: KymaRule[] = [secretsDelivered]
  if (mount) own.push(surgeSafe)
  if (mount && expected.gatewayDecided) own.push(gatewayRolled)
  if (mount && !expected.gatewayDecided) own.push(fileSettled)
  if (expected.gatewayDecided) own.push(gatewayTrusts)
  if (place.phase > 0) own.push(runtimesConnected)
  if (expected.renews) own.push(runtimesRenewed)
  own.push(noOverrides, everythingSeen)
  return [
    deliveredWith(() => [signer.secret, gateway.secret]),
    canaryUnsealed('kyma/canary', seenClaim),
    ...own.map(ruleOf),
    // Applications hold certificates that no API shows: they must have new ones before the old CA goes.
    ...(expected.renews && plan.gates.attest.length > 0 ? [attestedSince] : []),
  ]
}

function ruleOf({ id, claim, hint, judge }: KymaRule): Rule {
  return { id, claim, hint, judge: subject => judge({ ...subject, expected: expectedOf(subject.plan, subject.place) }) }
}

// ----------------------------------------------------------------------------------------------- objects

const secretsDelivered: KymaRule = {
  id: 'kyma/secrets',
  claim: 'both Secrets hold the planned keys, and nobody has written them over since',
  hint: 'the deliverer writes both; see delivery/applied',
  judge({ evidence, expected, place }) {
    const { signer, gateway } = expected.places
    const sealed = stillSealed(evidence, signer.secret)
    if (sealed !== null) return sealed
    const known = [...deliverers[evidence.delivery.kind], ...unsealers]
    const unsealing =
      objectNamed(evidence, 'SealedSecret', signer.secret) ?? objectNamed(evidence, 'ExternalSecret', signer.secret)
    const verdicts: Verdict[] = []
    const because: string[] = []
    let hint: string | undefined
    const say = (verdict: Verdict, text: string, todo?: string): void => {
      verdicts.push(verdict)
      because.push(text)
      if (todo !== undefined) hint = todo
    }
    for (const [namespace, name, keys] of [
      [signer.namespace, signer.secret, [signer.certificateKey, signer.privateKey]],
      [gateway.namespace, gateway.secret, [gateway.key]],
    ] as const) {
      const id = `Secret/${namespace}/${name}`
      const found = evidence.objects.find(object => object.id === id)
      if (found === undefined) say('unknown', `${id} could not be read`)
      else if (!found.present)
        say(
          'violated',
          `${id} does not exist`,
          'bring it back at once: while it is missing Kyma’s setup job makes a new CA and overwrites both Secrets',
        )
      else if (found.keys === null) say('unknown', `${id} has no managedFields, so its keys are not known`)
      else
        for (const key of keys) {
          const managers = found.managers[key] ?? []
          if (!found.keys.includes(key)) say('pending', ownerless(id, key), ownerlessHint)
          else if (
            managers.some(manager => known.includes(manager) || isExternalManager(manager)) ||
            isTakenOver(found, unsealing)
          )
            continue
          else if (place.before === null)
            say('pending', `${id}: key ${key} is not taken over yet: it is of ${managers.join(', ') || 'nobody'}`)
          else
            say(
              'violated',
              `${id}: key ${key} was written over by ${managers.join(', ') || 'someone'}`,
              overwrittenHint(managers),
            )
        }
    }
    if (because.length === 0) return holds
    return { verdict: worst(verdicts), because: limited(because), ...(hint === undefined ? {} : { hint }) }
  },
}

/**
 * Whether the controller that unseals has found the very values in the Secret that it was to put there: an update that changes nothing owns nothing, so that the
 * keys stay those of who wrote them before.
 */
function isTakenOver(secret: ObjectEvidence, unsealing: ObjectEvidence | null): boolean {
  // Of the controller itself the other values may be, which it wrote after what it reads had changed.
  const written = secret.facts.others ?? secret.facts.written
  if (unsealing?.lastChange == null || written === undefined) return false
  return (
    unsealing.id.replace(/^(Sealed|External)/, '') === secret.id &&
    Date.parse(written) <= Date.parse(unsealing.lastChange)
  )
}

/** Who writes these keys, as far as it is known. */
function overwrittenHint(managers: readonly string[]): string {
  if (managers.some(manager => /helm/i.test(manager)))
    return 'a chart renders this Secret (Kyma 1.12: with an empty cacert): pin it there, so that it is never written while it exists'
  return 'find who writes it: Kyma’s setup job (global.applicationConnectorCa is set), a chart, or a runtime agent in this very cluster, which writes the CA that the connector answers with; stop it, then let the deliverer reconcile'
}

const surgeSafe: KymaRule = {
  id: 'kyma/gateway-surge',
  claim: 'a roll-out of the gateway brings a new pod up before an old one goes',
  hint: 'set maxSurge to 100% and maxUnavailable to 0 where the gateway is declared (IstioOperator, its Helm values), before it is rolled',
  judge({ evidence, expected }) {
    const found = gatewayDeployment(evidence, expected)
    if (found === null) return notReadWith(seenClaim, 'the Deployment of the gateway could not be read')
    if (!found.present) return { verdict: 'violated', because: [`${found.id} does not exist`] }
    const { surge = '' } = found.facts
    return surge === 'safe' ? holds : { verdict: 'violated', because: [`${found.id}: ${surge}`] }
  },
}

const gatewayRolled: KymaRule = {
  id: 'kyma/gateway-rolled',
  claim: 'the gateway is rolled out with the planned restart',
  hint: 'a pod that hangs says why in its events; where it uses the host’s ports a new pod finds no node',
  judge({ evidence, expected }) {
    const found = gatewayDeployment(evidence, expected)
    if (found === null) return notReadWith(seenClaim, 'the Deployment of the gateway could not be read')
    if (!found.present) return { verdict: 'violated', because: [`${found.id} does not exist`] }
    const { token = null } = found.facts
    // Whatever takes the folder back by hand leaves the restart where it is: the template is not the folder's own.
    if (token !== null && expected.token === null) {
      const because = [
        `${found.id}: its pod template still carries the restart of a later step, as after a revert by hand`,
      ]
      const { namespace, deployment } = expected.places.gateway
      const patch = removalPatch([['spec', 'template', 'metadata', 'annotations', trustAnnotation]])
      const hint = `nothing takes that away by itself: kubectl --namespace ${namespace} patch deployment ${deployment} --type=json --patch '${patch}', which rolls the gateway with the file as it is now`
      return { verdict: 'pending', because, hint }
    }
    if (token !== expected.token)
      return { verdict: 'pending', because: [`${found.id}: its pod template does not carry the planned restart yet`] }
    return found.facts.rolled === 'true'
      ? holds
      : { verdict: 'pending', because: [`${found.id}: ${found.facts.rolling ?? ''}`] }
  },
}

const fileSettled: KymaRule = {
  id: 'kyma/gateway-file',
  claim: 'every node has had the time to take up the changed file',
  hint: 'wait: a gateway pod that starts while its node still has the old file keeps that',
  judge({ evidence, expected }) {
    const { namespace, secret } = expected.places.gateway
    const changed = evidence.objects.find(({ id }) => id === `Secret/${namespace}/${secret}`)?.lastChange ?? null
    if (changed === null) return notReadWith(seenClaim, 'when the Secret of the gateway changed is not known')
    const until = Date.parse(changed) + fileLag
    if (until <= Date.parse(evidence.to)) return holds
    const retryAt = instantOf(new Date(until))
    return { verdict: 'pending', because: [`it changed at ${changed}; nodes have it by ${retryAt}`], retryAt }
  },
}

function gatewayDeployment(evidence: Evidence, { places }: Expected): ObjectEvidence | null {
  const { namespace, deployment } = places.gateway
  return evidence.objects.find(({ id }) => id === `Deployment/${namespace}/${deployment}`) ?? null
}

const noOverrides: KymaRule = {
  id: 'kyma/overrides',
  claim: 'Kyma’s installer has no override that would write the old CA back',
  hint: 'take both keys out of the override, or see that they are out: with both Secrets complete the setup job leaves them alone at an upgrade',
  judge({ evidence }) {
    const found = evidence.exceptions.filter(({ reason }) => reason === 'override')
    return { verdict: worst(found.map(({ verdict }) => verdict)), because: limited(found.map(exceptionText)) }
  },
}

// ------------------------------------------------------------------------------------------- consumers

const gatewayTrusts: KymaRule = {
  id: 'kyma/gateway-trusts',
  claim: 'every gateway pod trusts exactly the planned CAs',
  hint: 'with a credential name istiod pushes them: see its logs and the Secret’s key; with files the pod must start anew',
  judge(subject) {
    const judged = judgeConsumers(subject, ['gateway'], ['running', 'restart', 'roots'])
    const stale = subject.evidence.groups.some(({ facts }) => facts.file === 'old')
    if (!stale) return judged
    const { plan, place, evidence, expected } = subject
    const nudge = plannedAt(plan, evidence.site, place.phase, place.step, 'nudge')
    const { namespace, deployment } = expected.places.gateway
    const hint =
      nudge === null
        ? `roll the gateway once more: kubectl --namespace ${namespace} rollout restart deployment ${deployment}`
        : 'open the nudge, which rolls the gateway once more: reanchor next --nudge'
    return { ...judged, hint }
  },
}

const runtimesConnected: KymaRule = {
  id: 'kyma/runtimes-connected',
  claim: 'every runtime reaches the gateway',
  hint: 'a runtime synchronises every 5 minutes; its own error says what it met',
  judge: subject => judgeConsumers(subject, ['runtime'], ['connected'], true),
}

const runtimesRenewed: KymaRule = {
  id: 'kyma/runtimes-renewed',
  claim: 'every runtime holds a certificate that the connector issued from the CA of this step',
  hint: 'wait for the automatic renewal, or tell each runtime',
  judge(subject) {
    const judged = judgeConsumers(subject, ['runtime'], ['renewed'], true)
    if (judged.verdict === 'holds') return judged
    const waiting = subject.evidence.groups.filter(
      group =>
        group.consumer === 'runtime' && departures(group, subject.expected).some(({ aspect }) => aspect === 'renewed'),
    )
    const commands = waiting.flatMap(({ owner, facts }) => {
      const [runtime = '', , connection = ''] = owner.split('/')
      const kind: ConnectionKind = facts.kind === 'compass' ? 'compass' : 'central'
      const when = facts.renewsAt === undefined ? '' : `, or wait until ${facts.renewsAt}, when it renews by itself`
      // Renewal goes through the gateway, which takes neither an expired certificate nor one of a CA that it no longer trusts.
      const refused = facts.expired !== undefined || (!subject.expected.sameKey && subject.expected.roots.length === 1)
      return [
        refused
          ? onboardingCommands(runtime, kind, connection)
          : `${renewalCommands(runtime, kind, connection)}${when}`,
      ]
    })
    // Renewal goes through the gateway, so that waiting for the end is no way (kyma 08-09-renew-client-cert.md: only certificates that are still valid).
    const ends = clearedText(waiting).map(text => `${text}; an ended one cannot renew, and needs a new token`)
    const because = [...judged.because, ...ends]
    return commands.length === 0 ? judged : { ...judged, because, hint: limited(commands).join('; ') }
  },
}

const anyWord = attested(
  'kyma/attested',
  'whether each of them holds a certificate that it got after the connector had the CA of this step',
)

/**
 * A word is about certificates that the connector has issued since it has the CA of this step: one that was given before says nothing of it, as after an undo, when the
 * clients that it was about have certificates of the wrong CA.
 */
const attestedSince: Rule = {
  ...anyWord,
  judge(subject) {
    const { signer } = placesOf(subject.place.tree.state)
    const id = `Secret/${signer.namespace}/${signer.secret}`
    const seen = subject.evidence.objects.find(object => object.id === id)
    const since = seen?.facts.written ?? seen?.lastChange ?? null
    if (since === null) return notReadWith(seenClaim, 'since when the connector has its CA is not known')
    const isOld = ({ at }: { readonly at?: string }): boolean => at === undefined || Date.parse(at) < Date.parse(since)
    const judged = anyWord.judge({ ...subject, attestations: subject.attestations.filter(word => !isOld(word)) })
    const early = subject.attestations.filter(word => word.phase === subject.place.phase && isOld(word))
    if (judged.verdict === 'holds' || early.length === 0) return judged
    const because = early.map(
      ({ name, at }) =>
        `${name}: the word of ${at ?? 'an unknown time'} is older than what the connector issues from, which it has since ${since}`,
    )
    return { ...judged, because: limited([...judged.because, ...because]) }
  },
}

const claimed: ReadonlySet<string> = new Set([
  'not-ready',
  'not-restarted',
  'stale-file',
  'stale-roots',
  'no-roots-yet',
  'foreign-root',
  'not-connected',
  'doubtful',
  'old-leaf',
  'old-issuer',
  'foreign-issuer',
  'override',
])

const everythingSeen: KymaRule = {
  id: 'kyma/consumers-seen',
  claim: seenClaim,
  hint: 'what cannot be seen cannot be counted: make it readable (roles/kyma.yaml, in the runtimes’ clusters too)',
  judge({ evidence }) {
    const standing = evidence.exceptions.filter(({ reason }) => !claimed.has(reason))
    const of = evidence.groups.reduce((sum, group) => sum + group.count, 0) + standing.length
    return {
      verdict: worst(standing.map(({ verdict }) => verdict)),
      because: limited(standing.map(exceptionText)),
      counted: { of, conform: of - standing.length },
    }
  },
}

/** Counts consumers of some classes that conform in some aspects. `mayBeNone`: else seeing none means that something was not seen. */
function judgeConsumers(
  { evidence, expected }: KymaCase,
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
    const named = evidence.exceptions.filter(
      ({ consumer, detail }) => consumer === group.consumer && departed.some(each => each.detail === detail),
    )
    const details = departed.map(({ detail }) => detail).join('; ')
    because.push(...(named.length > 0 ? named.map(exceptionText) : [`${group.owner} (${group.count}): ${details}`]))
  }
  const unseen = evidence.exceptions.filter(
    ({ consumer, reason }) => classes.some(each => each === consumer) && !claimed.has(reason),
  )
  if (unseen.length > 0) {
    verdicts.push(...unseen.map(({ verdict }) => verdict))
    because.push(...unseen.map(exceptionText))
    of += unseen.length
  }
  const counted = { of, conform }
  if (of === 0 && !mayBeNone) return { ...notReadWith(seenClaim, `no ${classes.join(' or ')} was seen`), counted }
  return { verdict: worst(verdicts), because: limited([...new Set(because)]), counted }
}
