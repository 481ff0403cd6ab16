import { valuesName } from '../../../phases/linkerd/files.ts'
import { type Certificate, readCertificate } from '../../pki/certificate.ts'
import { findPaths } from '../../pki/path.ts'
import type {
  ConsumerClass,
  Evidence,
  EvidenceException,
  EvidenceGroup,
  Fingerprint,
  Instant,
  Plan,
  TrustState,
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
  notReadWith,
  objectNamed,
  ownerlessKeys,
  stillSealed,
  unsealers,
  writtenWhole,
} from '../../verify/common-gates.ts'
import type { Case, Judged, Rule } from '../../verify/gate.ts'
import { bundleDigest, type PlannedPlace, stoodBefore } from '../../verify/planned.ts'
import { instantOf } from '../../verify/values.ts'
import { worst } from '../../verify/verdict.ts'
import { type IdentityView, identityChecks } from './checks.ts'
import { type Departure, departures, type Expected, expectedOf, withStuck } from './expected.ts'
import { deliveredIssuer, issuerSecretName, schemeKeys } from './issuer-secret.ts'
import { anchorsSetting, controlPlaneKey } from './phases.ts'
import { linkerdVersion, rulesOf } from './version.ts'
import { injectorWebhook, webhookOwner } from './webhooks.ts'

/** A rule of a Linkerd step, whose `expected` is what the state at its place declares. */
interface LinkerdRule extends Pick<Rule, 'id' | 'claim' | 'hint'> {
  judge(subject: LinkerdCase): Judged
}

interface LinkerdCase extends Case {
  readonly expected: Expected
}

/** The claim of the gate that names what was not seen: other gates refer to it. */
const seenClaim = 'every proxy runs, and its leaf and anchors were read'

const holds: Judged = { verdict: 'holds', because: [] }

/** Where a gate only repeats that nothing has been applied yet. */
const bringsHint = 'the deliverer brings it: see above what that waits for'

/**
 * The gates of one step, in the order in which a roll-out fulfils them. What each expects is derived from the declared state, so steps, undos
 * and nudges of every strategy have the gates that fit them.
 */
export function linkerdRules(plan: Plan, place: PlannedPlace): readonly Rule[] {
  const { state } = place.tree
  const rules: LinkerdRule[] = []
  if (place.phase === 0) rules.push(wiringInEffect)
  rules.push(issuerDelivered, anchorsPublished, controlPlaneRolled)
  if (Object.keys(state.restarts).some(key => key.startsWith('data-plane'))) rules.push(workloadsRestarted)
  rules.push(
    consumersSeen,
    machinesDeclared,
    webhookAccepted,
    controlPlaneTrusts,
    proxiesTrust,
    issuerLoaded,
    leavesIssued,
  )
  // An emergency breaks links on purpose until all have restarted.
  if (plan.strategy !== 'emergency' || place.full) rules.push(controlLinks)
  rules.push(checksPass)
  // What machines outside the cluster were last asked to trust.
  const stood = stoodBefore(plan, place)
  const vouched = place.full && stood !== null && bundleDigest(plan, stood) !== bundleDigest(plan, state)
  return [
    deliveredWith(({ tree }) => [deliveredIssuer(tree.state.settings).name]),
    canaryUnsealed('linkerd/canary', seenClaim),
    ...rules.map(rule => ({
      ...rule,
      judge: (subject: Case) => rule.judge({ ...subject, expected: expectedOf(subject.plan, subject.place) }),
    })),
    ...(vouched ? [attested('linkerd/attested')] : []),
  ]
}

// ----------------------------------------------------------------------------------------------------- objects

const wiringInEffect: LinkerdRule = {
  id: 'linkerd/wiring',
  claim: 'what reanchor delivers reaches the control plane and the workloads',
  hint: 'the Component in the folder patches nothing: check that the kustomization includes it and that kind and name match',
  judge({ evidence, plan, place }) {
    const marks = plan.follows === undefined ? [plan.metadata.name] : [plan.metadata.name, plan.follows]
    const deployments = evidence.objects.filter(({ id }) => id.startsWith('Deployment/'))
    if (deployments.length === 0) return notRead('no Deployment of the control plane was seen')
    // A chart makes the Deployments anew from its values, and nothing patches them.
    const { install = 'manifests' } = place.tree.state.settings
    const because =
      install === 'manifests'
        ? deployments
            .filter(({ facts }) => !marks.includes(facts.rotation ?? ''))
            .map(({ id, facts }) => `${id}: annotation reanchor.dev/rotation is ${facts.rotation ?? 'absent'}`)
        : []
    if (install === 'helmRelease') {
      const release = evidence.objects.find(({ id }) => id.startsWith('HelmRelease/'))
      if (release === undefined) return notRead('the HelmRelease of the control plane could not be read')
      if (!release.present) because.push(`${release.id} does not exist`)
      else if (release.facts.wired !== 'true') because.push(`${release.id}: valuesFrom does not name ${valuesName}`)
    }
    const { treeDigest } = evidence.delivery
    const applied = treeDigest !== null && (plan.formerDigests[treeDigest] ?? treeDigest) === place.tree.digest
    const early = applied ? {} : { hint: bringsHint }
    if (!restartsWorkloads(plan, evidence.site))
      return { verdict: because.length === 0 ? 'holds' : 'pending', because, ...early }
    const workloads = evidence.objects.find(({ id }) => id === 'Workloads')
    if (workloads === undefined) return notRead('workloads were not listed')
    if (workloads.present) return { verdict: because.length === 0 ? 'holds' : 'pending', because, ...early }
    because.push('no workload carries annotation reanchor.dev/rotation of this rotation')
    return { verdict: 'pending', because, ...early, ...validatorsHint(evidence) }
  },
}

function restartsWorkloads(plan: Plan, site: string): boolean {
  return plan.phases
    .flatMap(phase => phase.steps)
    .some(step => Object.keys(step.sites[site]?.state.restarts ?? {}).some(key => key.startsWith('data-plane')))
}

const issuerDelivered: LinkerdRule = {
  id: 'linkerd/issuer-secret',
  claim: 'Secret linkerd-identity-issuer has exactly the keys of its form, and no one else owns one',
  hint: 'the deliverer writes the Secret; see delivery/applied',
  judge(subject) {
    const { name } = deliveredIssuer(subject.place.tree.state.settings)
    const own = [...deliverers[subject.evidence.delivery.kind], ...unsealers]
    if (name === issuerSecretName) return judgeIssuer(subject, issuerSecretName, own)
    // What the folder delivers, and what the chart has made of it.
    const judged = [judgeIssuer(subject, name, own), judgeIssuer(subject, issuerSecretName, ['helm-controller'])]
    return judged.find(({ verdict }) => verdict === worst(judged.map(each => each.verdict))) ?? holds
  },
}

/** Who has made the Secret with Linkerd itself, and writes it no more: `linkerd install | kubectl apply`, and Helm by hand. */
const installers: ReadonlySet<string> = new Set(['kubectl-create', 'kubectl-client-side-apply', 'kubectl', 'helm'])

/** `known`: field managers that may own a key of it. */
function judgeIssuer({ evidence, place }: LinkerdCase, name: string, known: readonly string[]): Judged {
  const found = objectNamed(evidence, 'Secret', name)
  if (found === null) return notRead(`Secret ${name} could not be read`)
  const sealed = stillSealed(evidence, name)
  if (sealed !== null) return sealed
  if (!found.present)
    return { verdict: 'violated', because: [`${found.id} does not exist: identity cannot start without it`] }
  const { keys } = found
  if (keys === null)
    return { verdict: 'unknown', because: [`${found.id} has no managedFields, so its keys are not known`] }
  const scheme = place.tree.state.settings.scheme === 'kubernetes.io/tls' ? 'kubernetes.io/tls' : 'linkerd.io/tls'
  const form = schemeKeys[scheme]
  const wanted = [form.certificate, form.key, ...(form.anchors === null ? [] : [form.anchors])]
  const missing = wanted.filter(key => !keys.includes(key))
  if (missing.length > 0) return ownerlessKeys(found.id, missing)
  const extra = keys.filter(key => !wanted.includes(key))
  if (extra.length > 0)
    return { verdict: 'violated', because: extra.map(key => `${found.id}: key ${key} is not of the form ${scheme}`) }
  if (writtenWhole(evidence, name)) return holds
  const foreign = keys.filter(key => (found.managers[key] ?? []).some(manager => !known.includes(manager)))
  if (foreign.length === 0) return holds
  const owners = [...new Set(wanted.flatMap(key => found.managers[key] ?? []))]
  if (place.phase === 0 && owners.length > 0 && owners.every(owner => installers.has(owner))) {
    const because = [`${found.id} is owned by ${owners.join(', ')}, as before: the deliverer has not taken it over yet`]
    return { verdict: 'pending', because, hint: bringsHint }
  }
  return {
    verdict: 'violated',
    because: foreign.map(key => `${found.id}: key ${key} is also owned by ${(found.managers[key] ?? []).join(', ')}`),
    hint: 'its value would survive the next step: find out who writes it (cert-manager, a person, an operator) and stop that first',
  }
}

const anchorsPublished: LinkerdRule = {
  id: 'linkerd/anchors-published',
  claim: 'the ConfigMap holds exactly the planned anchors, in a form that Linkerd can read',
  hint: 'see whether the control plane’s kustomization takes the Component in, and what else writes the ConfigMap',
  judge: subject => judgeConsumers(subject, ['configmap'], ['roots']),
}

const controlPlaneRolled: LinkerdRule = {
  id: 'linkerd/control-plane',
  claim: 'every Deployment of the control plane carries the declared restart and is rolled out',
  hint: 'an unready replica shows its reason in `kubectl describe pod`; identity that exits names the anchor or the key it cannot read',
  judge({ evidence, expected }) {
    const found = evidence.objects.filter(({ id }) => id.startsWith('Deployment/'))
    if (found.length === 0) return notRead('no Deployment of the control plane was seen')
    const token = expected.restarts[controlPlaneKey]
    const release = evidence.objects.find(({ id }) => id.startsWith('HelmRelease/'))
    const because = found.flatMap(({ id, facts }) => [
      ...(token !== undefined && facts.restart !== token
        ? [`${id}: restart is ${facts.restart ?? 'unset'}, expected ${token}`]
        : []),
      ...(facts.rolled === 'true' ? [] : [`${id}: ${facts.rolling ?? 'roll-out unknown'}`]),
    ])
    const counted = { of: found.length, conform: Math.max(0, found.length - because.length) }
    if (release?.present && (release.facts.observed !== 'true' || release.facts.ready !== 'True'))
      because.unshift(
        `${release.id} is not ready${release.facts.message === undefined ? '' : `: ${release.facts.message}`}`,
      )
    return { verdict: because.length === 0 ? 'holds' : 'pending', because, counted }
  },
}

const workloadsRestarted: LinkerdRule = {
  id: 'linkerd/workloads-restarted',
  claim: 'every wired workload carries the restart and is rolled out',
  hint: 'the owner of a workload that hangs has to look at it; reanchor restarts nothing itself',
  judge({ evidence, expected, place }) {
    const found = evidence.objects.find(({ id }) => id === 'Workloads')
    if (found === undefined) return notRead('workloads were not listed')
    const tokens = [
      ...new Set(
        Object.entries(expected.restarts).flatMap(([key, token]) => (key.startsWith('data-plane') ? [token] : [])),
      ),
    ]
    const wired = Number(found.facts.wired ?? '0')
    const carried = tokens.map(token => Number(found.facts[`restart ${token}`] ?? '0'))
    const carrying = carried.reduce((sum, count) => sum + count, 0)
    const rolling = evidence.exceptions.filter(({ reason }) => reason === 'not-rolled')
    const because = rolling.map(exceptionText)
    if (carried.some(count => count === 0)) because.unshift('no workload carries the restart token of this step')
    if (expected.full && everyBatchRestarts(place.tree.state) && carrying < wired)
      because.unshift(`${wired - carrying} of ${wired} wired workloads lack the restart token`)
    const counted = { of: wired, conform: Math.max(0, carrying - rolling.length) }
    const verdict = because.length === 0 ? 'holds' : 'pending'
    return { verdict, because: limited(because), counted, ...validatorsHint(evidence) }
  },
}

/** A way back from between two batches restarts only those that the phase had come to: the others have no token, and what they trust was never changed. */
function everyBatchRestarts({ settings, restarts }: TrustState): boolean {
  const literal = anchorsSetting('')
  const batches = Object.keys(settings).filter(key => key.startsWith(anchorsSetting('data-plane')))
  return batches.every(key => restarts[key.slice(literal.length)] !== undefined)
}

// --------------------------------------------------------------------------------------------------- consumers

/** Reasons that another gate names. */
const claimed: ReadonlySet<string> = new Set([
  'stale-roots',
  'foreign-root',
  'old-issuer',
  'foreign-issuer',
  'not-restarted',
  'not-rolled',
  'needs-attestation',
])

const consumersSeen: LinkerdRule = {
  id: 'linkerd/consumers-seen',
  claim: seenClaim,
  hint: 'a proxy that cannot be seen cannot be counted: allow port-forwards (roles/linkerd-portforward.yaml), or make it run',
  judge({ evidence }) {
    const standing = evidence.exceptions.filter(({ reason }) => !claimed.has(reason))
    const of = evidence.groups.reduce((sum, group) => sum + group.count, 0)
    const conform = Math.max(0, of - new Set(standing.map(({ consumer, name }) => `${consumer} ${name}`)).size)
    return {
      verdict: worst(standing.map(({ verdict }) => verdict)),
      because: limited(standing.map(exceptionText)),
      counted: { of, conform },
    }
  },
}

const machinesDeclared: LinkerdRule = {
  id: 'linkerd/machines-declared',
  claim: 'every machine outside the cluster is declared',
  hint: 'declare it under gates.attest in rotation.yaml, by namespace/name or namespace/*, and say why it is there',
  judge({ evidence, plan }) {
    const machines = evidence.exceptions.filter(({ reason }) => reason === 'needs-attestation')
    const undeclared = machines.filter(({ name }) => !plan.gates.attest.some(declared => covers(declared.name, name)))
    const because = undeclared.map(({ name }) => `ExternalWorkload ${name} is not declared under gates.attest`)
    const counted = { of: machines.length, conform: machines.length - undeclared.length }
    return { verdict: undeclared.length > 0 ? 'violated' : 'holds', because: limited(because), counted }
  },
}

function covers(declared: string, machine: string): boolean {
  return declared === machine || (declared.endsWith('/*') && machine.startsWith(declared.slice(0, -1)))
}

const controlPlaneTrusts: LinkerdRule = {
  id: 'linkerd/control-plane-trusts',
  claim: 'every container of the control plane was started with the anchors of this step',
  hint: 'its anchors are read once, at the start of the container: wait for the roll-out, or look at what holds it up',
  judge(subject) {
    const classes = ['control-plane', 'identity'] as const
    // There is always one of each: proxies of the control plane that are not there were not seen, whatever identity shows.
    const unseen = classes.find(each => !subject.evidence.groups.some(({ consumer }) => consumer === each))
    if (unseen !== undefined) return notRead(`no ${unseen} was seen`)
    return judgeConsumers(subject, classes, ['roots', 'restart', 'running'])
  },
}

const proxiesTrust: LinkerdRule = {
  id: 'linkerd/proxies-trust',
  claim: 'every proxy of the data plane was started with the anchors of this step',
  hint: 'a proxy keeps the anchors that it was injected with: its workload has to be restarted by its owner, whatever made the pod',
  judge: subject => judgeConsumers(subject, ['proxy', 'gateway'], ['roots', 'running'], true),
}

/**
 * Pods that trust and present what was planned may still refuse one another where two steps meet. The links to the control plane break everything
 * when they break, and nothing that one sees between two workloads tells of them (F12). Asked of what was seen, by the search that judges handshakes.
 */
const controlLinks: LinkerdRule = {
  id: 'linkerd/control-links',
  claim: 'every proxy accepts what the control plane presents, and the control plane what every proxy presents',
  hint: 'a proxy that refuses identity gets no leaf and dies with the one that it has: see which of the two lacks a root, and restart it',
  judge({ evidence, plan, now }) {
    const classes = (list: readonly ConsumerClass[]) =>
      evidence.groups.filter(({ consumer }) => list.includes(consumer))
    const plane = classes(['control-plane'])
    const mesh = classes(['proxy', 'gateway'])
    const accepts = acceptance(plan, evidence, now)
    const because = new Set<string>()
    for (const [holders, verifiers] of [
      [plane, mesh],
      [mesh, plane],
      [plane, plane],
    ] as const)
      for (const holder of holders)
        for (const verifier of verifiers)
          if (!accepts(holder.presents, verifier.trusts))
            because.add(`${verifier.owner} refuses the leaf of ${holder.owner}`)
    return { verdict: because.size === 0 ? 'holds' : 'violated', because: limited([...because]) }
  },
}

/** Whether anchors verify leaves of an issuer; also where one of the two was not seen, which another gate says. Each mix is searched once. */
function acceptance(plan: Plan, evidence: Evidence, now: Date) {
  const certificates = certificatesOf(plan, evidence)
  const known = new Map<string, boolean>()
  return (presents: EvidenceGroup['presents'], trusts: EvidenceGroup['trusts']): boolean => {
    const [issuer] = certificates(presents?.slice(0, 1) ?? [])
    if (issuer === undefined || trusts === null) return true
    const key = `${issuer.sha256} ${trusts.join(' ')}`
    const before = known.get(key)
    if (before !== undefined) return before
    const anchors = certificates(trusts)
    const direct = anchors.some(anchor => anchor.sha256 === issuer.sha256)
    const between = certificates(presents?.slice(1) ?? [])
    const found = direct || findPaths(issuer, between, anchors, { at: now, purpose: 'server' }).paths.length > 0
    known.set(key, found)
    return found
  }
}

/** Certificates of the plan, and those that were seen beside it, by fingerprint. */
function certificatesOf(plan: Plan, evidence: Evidence): (list: readonly Fingerprint[]) => readonly Certificate[] {
  const pems = new Map([...plan.certificates, ...evidence.certificates].map(({ sha256, pem }) => [sha256, pem]))
  const read = new Map<Fingerprint, Certificate>()
  return list =>
    list.flatMap(sha256 => {
      const pem = pems.get(sha256)
      if (pem === undefined) return []
      const certificate = read.get(sha256) ?? readCertificate(pem)
      read.set(sha256, certificate)
      return [certificate]
    })
}

/** A PKI of its own, which the rotation must leave alone and on which each of its restarts depends. */
const webhookAccepted: LinkerdRule = {
  id: 'linkerd/webhook',
  claim: 'the API server accepts the injector, by certificates that are not the mesh’s',
  hint: 'pods that are made now are refused, or come up without a proxy: renew Secret linkerd-proxy-injector-k8s-tls and caBundle first (linkerd upgrade, Helm or cert-manager makes both)',
  judge({ evidence, plan }) {
    const found = evidence.objects.find(({ id }) => id === webhookOwner(injectorWebhook))
    if (found === undefined) return notRead('the webhook of the injector could not be read')
    if (!found.present) return { verdict: 'violated', because: [`${found.id} does not exist: nothing injects proxies`] }
    const groups = evidence.groups.filter(({ consumer }) => consumer === 'webhook')
    const injector = groups.filter(({ facts }) => facts.webhook === undefined)
    const mesh = new Set(plan.certificates.map(({ sha256 }) => sha256))
    const because = injector.flatMap(group => [
      ...((group.trusts ?? []).some(root => mesh.has(root)) ? [`${group.owner}: caBundle holds a CA of the mesh`] : []),
      ...refusedWebhook(group),
    ])
    if (because.length > 0) return { verdict: 'violated', because }
    // tap's injector, where the API server refuses pods without its word.
    const others = groups.filter(({ facts }) => facts.asks === 'pods')
    const refused = others.flatMap(refusedWebhook)
    if (refused.length > 0) {
      const hint =
        'pods that are made now are refused, as its failurePolicy is Fail: renew Secret tap-injector-k8s-tls and caBundle first (linkerd viz install, Helm or cert-manager makes both)'
      return { verdict: 'violated', because: refused, hint }
    }
    const served = injector.filter(({ facts }) => facts.accepted === 'true')
    return served.length === 0 ? notRead('what the injector serves was not seen') : holds
  },
}

function refusedWebhook({ owner, facts }: EvidenceGroup): readonly string[] {
  return facts.accepted === 'false' ? [`${owner}: ${facts.why ?? 'refused'}`] : []
}

/**
 * Validators of ServiceProfiles and policies that the API server refuses. No step writes such an object, so they stop none; but the deliverer tries
 * every object of a kustomization before it applies one, and then a workload beside a policy does not get its restart.
 */
function validatorsHint({ groups }: Evidence): { readonly hint?: string } {
  const refused = groups.filter(({ facts }) => facts.asks === 'objects' && facts.accepted === 'false')
  if (refused.length === 0) return {}
  const names = refused.map(({ facts }) => `${facts.webhook ?? ''} (${facts.why ?? 'refused'})`)
  return {
    hint: `the API server refuses ${[...new Set(names)].join(' and ')}, so a kustomization with ServiceProfiles or policies in it cannot be applied: renew the certificate and caBundle (linkerd upgrade, Helm or cert-manager makes both); see \`linkerd check\``,
  }
}

const issuerLoaded: LinkerdRule = {
  id: 'linkerd/issuer-loaded',
  claim: 'every replica of identity that shows its issuer holds the planned one',
  hint: 'a replica that missed the change of its Secret goes on with the old issuer: `reanchor next --nudge` restarts it (linkerd2#15109)',
  judge(subject) {
    const showing = subject.evidence.groups.filter(({ facts }) => facts.issuer !== 'not-shown')
    const evidence = { ...subject.evidence, groups: showing }
    const judged = judgeConsumers({ ...subject, evidence }, ['identity'], ['issuer'], true)
    return judged.verdict === 'holds' ? judged : { ...judged, ...hinted(subject.evidence) }
  },
}

/**
 * The gate that both runbooks lack (linkerd2#4287, F1): while one proxy presents a leaf of the old issuer, taking the old root out of the others
 * cuts it off. Asked of every proxy by a handshake, in the control plane too.
 */
const leavesIssued: LinkerdRule = {
  id: 'linkerd/leaves-issued',
  claim: 'every proxy presents a leaf of the planned issuer',
  hint: 'proxies renew after 70 % of what is left of a leaf’s life; a restart of the workload, or `reanchor next --nudge`, gives a new leaf now',
  judge(subject) {
    const judged = judgeConsumers(subject, ['control-plane', 'proxy', 'gateway'], ['issuer', 'running'])
    if (judged.verdict === 'holds') return judged
    const behind = subject.evidence.groups.filter(group =>
      departures(group, subject.expected).some(({ reason }) => reason === 'old-issuer'),
    )
    const ends = behind.flatMap(({ leavesExpire }) => (leavesExpire === null ? [] : [leavesExpire.last])).sort()
    const last = ends.at(-1)
    if (last === undefined) return { ...judged, ...hinted(subject.evidence) }
    const cleared = clearedText(behind)
    const retryAt = renewalOf(last, subject)
    return { ...judged, ...hinted(subject.evidence), because: [...judged.because, ...cleared], retryAt }
  },
}

/** Share of a leaf's life after which its proxy renews it (linkerd2-proxy linkerd/proxy/identity-client/src/certify.rs). */
const renewedAfter = 0.7
/** Milliseconds after which to look again where the renewal should have been by now. */
const soon = 10 * 60_000

/** When the leaf that ends last is due for its renewal. */
function renewalOf(last: Instant, { plan, now }: Case): Instant {
  const due = Date.parse(last) - (1 - renewedAfter) * plan.leafHours * 3_600_000
  return instantOf(new Date(Math.max(due + 60_000, now.getTime() + soon)))
}

/** What identity's events say, as a hint beside what was seen: of the Secret as it is now, and not of one before it, such as an earlier rotation's (trap 15). */
function hinted(evidence: Evidence): { readonly hint?: string } {
  const facts = evidence.objects.find(({ id }) => id === 'Events')?.facts ?? {}
  const since = Date.parse(objectNamed(evidence, 'Secret', issuerSecretName)?.lastChange ?? '')
  const timeOf = (reason: string): number => {
    const time = Date.parse(facts[reason] ?? '')
    return time >= since ? time : Number.NEGATIVE_INFINITY
  }
  const updated = timeOf('IssuerUpdated')
  for (const reason of ['IssuerUpdateSkipped', 'IssuerValidationFailed']) {
    const time = timeOf(reason)
    if (!Number.isFinite(time) || time < updated) continue
    return {
      hint: `identity said ${reason} at ${facts[reason]}: ${facts[`${reason} message`] ?? ''}; its anchors are those of its start, so restart it with both roots first`,
    }
  }
  if (!Number.isFinite(updated)) return {}
  return {
    hint: `identity said IssuerUpdated at ${facts.IssuerUpdated}; proxies renew after 70 % of what is left of their leaf’s life`,
  }
}

/** Warnings of the checks belong to a rotation: an issuer that is about to end, pods that have not restarted yet (trap 14). */
const checksPass: LinkerdRule = {
  id: 'linkerd/identity-checks',
  claim: 'no identity check of `linkerd check --proxy` fails',
  hint: 'run `linkerd check --proxy` beside it',
  judge({ evidence, plan, place, now, expected }) {
    const view = viewOf(evidence, plan, place, now, expected)
    const failed = identityChecks(view).filter(({ result }) => result === 'error')
    const [first] = failed
    if (first === undefined) return holds
    return {
      verdict: 'violated',
      because: failed.map(({ description, error }) => `× ${description}: ${(error ?? '').replace(/\s*\n\s*/g, ' ')}`),
      hint: `see ${first.hint} for hints`,
    }
  },
}

/** What the nine checks are asked of: the anchors as published, the issuer as declared, and each pod by what it was started with. */
function viewOf(evidence: Evidence, plan: Plan, place: PlannedPlace, now: Date, expected: Expected): IdentityView {
  const certificates = certificatesOf(plan, evidence)
  const { state } = place.tree
  const published = evidence.groups.find(({ consumer }) => consumer === 'configmap')
  const broken = evidence.exceptions.find(({ reason }) => reason === 'broken-bundle')
  const proxies = evidence.groups.filter(
    ({ consumer }) => consumer === 'proxy' || consumer === 'gateway' || consumer === 'control-plane',
  )
  return {
    now,
    rules: rulesOf(linkerdVersion(state.settings.version ?? 'stable-2.14')),
    configProblem: broken === undefined ? null : broken.detail,
    anchors: certificates(published?.trusts ?? expected.roots),
    issuer: certificates([state.issuer])[0] ?? null,
    chain: certificates(state.chain),
    pods: proxies.map(({ owner, trusts }) => ({ name: owner, anchors: trusts })),
  }
}

// ------------------------------------------------------------------------------------------------------ shared

/** Counts consumers of some classes that conform in some aspects. `mayBeNone`: else seeing none means that something was not seen. */
function judgeConsumers(
  subject: LinkerdCase,
  classes: readonly ConsumerClass[],
  aspects: readonly Departure['aspect'][],
  mayBeNone = false,
): Judged {
  const { evidence, expected } = subject
  const verdicts: Verdict[] = []
  const because: string[] = []
  const said = new Set<string>()
  let names: ReadonlyMap<string, readonly EvidenceException[]> | null = null
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
    names ??= namesByDetail(evidence.exceptions)
    const details = departed.map(({ detail }) => withStuck(detail, group.facts.stuck))
    // Many groups depart alike, and their members stand in one list: it is said once.
    for (const detail of details) {
      const key = `${group.consumer}\n${detail}`
      if (said.has(key)) continue
      said.add(key)
      because.push(...(names.get(key) ?? []).map(exceptionText))
    }
    if (details.every(detail => !names?.has(`${group.consumer}\n${detail}`)))
      because.push(`${group.owner} (${group.count}): ${details.join('; ')}`)
  }
  const counted = { of, conform }
  if (of === 0 && !mayBeNone) return { ...notRead(`no ${classes.join(' or ')} was seen`), counted }
  return { verdict: overdue(subject, worst(verdicts)), because: limited([...new Set(because)]), counted }
}

function namesByDetail(exceptions: readonly EvidenceException[]): ReadonlyMap<string, readonly EvidenceException[]> {
  const names = new Map<string, EvidenceException[]>()
  for (const exception of exceptions) {
    const key = `${exception.consumer}\n${exception.detail}`
    const known = names.get(key)
    if (known === undefined) names.set(key, [exception])
    else known.push(exception)
  }
  return names
}

/** Waiting ends when even the slowest renewal, a whole life of a leaf, has passed since the last change. */
function overdue({ evidence, plan, now }: Case, verdict: Verdict): Verdict {
  if (verdict !== 'pending' || evidence.lastChange === null) return verdict
  return now.getTime() - Date.parse(evidence.lastChange) > plan.leafHours * 3_600_000 ? 'violated' : verdict
}

function notRead(because: string): Judged {
  return notReadWith(seenClaim, because)
}
