import { takeOverCommand } from '../custody/sealed-secrets.ts'
import { canaryName } from '../names.ts'
import type { Evidence, EvidenceException, EvidenceGroup, ObjectEvidence, Plan, Verdict } from '../rotation.ts'
import type { Judged, Rule } from './gate.ts'
import { sealedManagers } from './objects.ts'
import { type PlannedPlace, vouchedBundle } from './planned.ts'
import { short } from './values.ts'

/** Gates that every system has, and what gates are made with. */

/** As many reasons stand in a gate's result; the rest is in the evidence. */
export const namedAtMost = 20

/** Field managers of what applies a site's folder: a key of a Secret that anyone else owns outlives the folder. */
export const deliverers: Readonly<Record<Evidence['delivery']['kind'], readonly string[]>> = {
  flux: ['kustomize-controller'],
  argocd: ['argocd-controller', 'argocd-application-controller'],
  none: [],
}
/** Those of the controllers that unseal. */
export const unsealers: readonly string[] = [...sealedManagers, 'external-secrets']

/** Whether a controller writes the whole of the Secret's `data` each time, so that no key of another manager outlives it. */
export function writtenWhole(evidence: Evidence, name: string): boolean {
  return ['SealedSecret', 'ExternalSecret'].some(kind => objectNamed(evidence, kind, name) !== null)
}

/** `secrets`: names of the Secrets that the folder delivers at a place, the canary aside. */
export function deliveredWith(secrets: (place: PlannedPlace) => readonly string[]): Rule {
  return {
    id: 'delivery/applied',
    claim: 'the deliverer has applied this step',
    hint: 'look at the delivery object; it says what it waits for',
    judge({ evidence, place, plan }) {
      const { delivery } = evidence
      const hint = deliveryHint(delivery)
      const retryAt = delivery.nextDue
      const wait = (because: string, verdict: Verdict = 'pending'): Judged => ({
        verdict,
        because: [`${delivery.object}: ${because}${delivery.message === '' ? '' : ` (${delivery.message})`}`],
        retryAt,
        ...(hint === undefined ? {} : { hint }),
      })
      if (delivery.suspended && !syncedByHand(delivery, plan.formerDigests, place))
        return { ...wait('is suspended', 'violated'), hint: suspendedHint(delivery) }
      if (delivery.revision === null) return wait('shows no applied commit', 'unknown')
      if (!delivery.observed) return wait('has not taken up its newest declaration')
      if (!delivery.ready) return wait('is not ready')
      // It goes on by itself: the wait between a merge and its apply, or another branch.
      if (delivery.treeDigest === null && delivery.message.includes('does not contain'))
        return wait('has not applied the merge yet')
      if (delivery.treeDigest === null) {
        const because = `applied commit ${delivery.revision}, whose folder is not in this clone`
        return { ...wait(because, 'unknown'), hint: 'fetch the base branch into this clone and look again' }
      }
      const applied = plan.formerDigests[delivery.treeDigest] ?? delivery.treeDigest
      if (applied !== place.tree.digest) {
        return wait(
          `applied tree ${short(delivery.treeDigest)} of commit ${short(delivery.revision)}, expected ${short(place.tree.digest)}`,
        )
      }
      const missing = [canaryName, ...secrets(place)].filter(
        name => !delivery.inventory.some(id => sealedKinds.test(id) && id.endsWith(`/${name}`)),
      )
      if (missing.length > 0) return wait(`its inventory lacks ${missing.join(', ')}`)
      return { verdict: 'holds', because: [] }
    },
  }
}

/**
 * Argo CD goes on comparing what it does not sync by itself, so it knows that someone synced the step, and that it still stands. A suspended
 * Kustomization is looked at by no one.
 */
function syncedByHand(
  { kind, observed, ready, treeDigest }: Evidence['delivery'],
  formerDigests: Plan['formerDigests'],
  place: PlannedPlace,
): boolean {
  if (kind !== 'argocd' || !observed || !ready || treeDigest === null) return false
  return (formerDigests[treeDigest] ?? treeDigest) === place.tree.digest
}

function suspendedHint({ kind, object }: Evidence['delivery']): string {
  if (kind !== 'argocd') return 'resume it: nothing is applied meanwhile'
  const [, namespace, name] = object.split('/')
  return `it syncs nothing by itself: sync it by hand (argocd app sync ${namespace}/${name}), or switch automatic sync on`
}

function deliveryHint({ hurry, message, object }: Evidence['delivery']): string | undefined {
  if (hurry !== null) return `to hurry it, run: ${hurry}`
  if (message.startsWith('does not exist'))
    return 'it comes with the adopt pull request: look at what applies the folder of the file that declares it'
  // The message says which right is missing, or that the API server is away.
  if (message.startsWith('could not be read'))
    return `whether ${object} applied the step is not known until it can be read`
  return undefined
}

/** What stands in Git for a Secret, by custody. */
const sealedKinds = /^(Secret|SealedSecret|ExternalSecret)\//

/** `seen`: claim of the gate that says what was not seen. */
export function canaryUnsealed(id: string, seen: string): Rule {
  return {
    id,
    claim: 'the canary was unsealed in the cluster',
    hint: 'custody does not work in this cluster: check the decryption key of the deliverer before a CA depends on it',
    judge({ evidence, plan }) {
      const found = objectNamed(evidence, 'Secret', canaryName)
      if (found === null) return notReadWith(seen, `Secret ${canaryName} could not be read`)
      const planned = plan.canaries[evidence.site]
      if (planned === undefined) return { verdict: 'unknown', because: ['the plan holds no canary for this site'] }
      const sealed = stillSealed(evidence, canaryName)
      if (sealed !== null) return sealed
      if (!found.present) {
        const hint = evidence.delivery.inventory.some(id => id.startsWith('ExternalSecret/'))
          ? `External Secrets creates it: kubectl --namespace ${found.id.split('/')[1]} describe externalsecret ${canaryName}`
          : 'the deliverer creates it: see above what that waits for'
        return { verdict: 'pending', because: [`${found.id} does not exist`], hint }
      }
      if (found.facts.sha256 === planned) return { verdict: 'holds', because: [] }
      return {
        verdict: 'violated',
        because: [`${found.id}: its value is not the planned one: it arrived sealed, or another`],
      }
    },
  }
}

/** Whether every name under gates.attest has a word for this phase and bundle. `asked`: what its owner is to be asked. */
export function attested(id: string, asked = 'whether it trusts this bundle'): Rule {
  return {
    id,
    claim: 'a person has vouched for every consumer that no API shows',
    hint: `ask its owner ${asked}, then run \`reanchor attest NAME --phase N\``,
    judge({ plan, place, attestations }) {
      const bundle = vouchedBundle(plan, place)
      const declared = plan.gates.attest.map(({ name }) => name)
      const waiting = declared.filter(
        name => !attestations.some(word => word.name === name && word.phase === place.phase && word.bundle === bundle),
      )
      const because = waiting.map(name => `${name}: no word yet for bundle ${short(bundle)}`)
      const counted = { of: declared.length, conform: declared.length - waiting.length }
      if (waiting.length === 0) return { verdict: 'holds', because: [], counted }
      const commands = waiting.map(name => `\`reanchor attest ${shellWord(name)} --phase ${place.phase}\``)
      const hint = `ask its owner ${asked}, then run ${limited(commands).join(' and ')}`
      return { verdict: 'pending', because: limited(because), counted, hint }
    },
  }
}

/** Names such as `legacy/*` mean something else to a shell. */
function shellWord(name: string): string {
  return /^[\w./-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`
}

/** Null where the Secret is what its SealedSecret or ExternalSecret says now, or comes from neither. */
export function stillSealed(evidence: Evidence, name: string): Judged | null {
  const external = objectNamed(evidence, 'ExternalSecret', name)
  if (external !== null) return stillOutside(external)
  const sealed = objectNamed(evidence, 'SealedSecret', name)
  if (sealed === null) return null
  const { id, present, facts } = sealed
  if (!present) return { verdict: 'pending', because: [`${id} does not exist`] }
  if (facts.observed !== 'true')
    return { verdict: 'pending', because: [`${id}: its newest version is not unsealed yet`] }
  if (facts.synced === 'True') return null
  const because = [`${id}: not unsealed${facts.message === undefined ? '' : `: ${facts.message}`}`]
  const namespace = id.split('/')[1] ?? ''
  // bitnami-labs/sealed-secrets v0.36.6, pkg/controller/controller.go: a Secret that it did not make has to allow it.
  if (facts.message?.includes('not managed by SealedSecret') !== true) return { verdict: 'pending', because }
  return {
    verdict: 'pending',
    because,
    hint: `let the controller take the Secret over: ${takeOverCommand({ namespace, name })}; then start the controller anew, wherever it runs (as installed by default: kubectl --namespace kube-system rollout restart deployment sealed-secrets-controller): it has given up, and looks again only then or when the SealedSecret's spec changes`,
  }
}

/** Null where External Secrets has written the planned values. */
function stillOutside({ id, present, facts }: ObjectEvidence): Judged | null {
  const wait = (because: string, hint?: string): Judged => ({
    verdict: 'pending',
    because: [`${id}: ${because}`],
    ...(hint === undefined ? {} : { hint }),
  })
  if (!present) return wait('does not exist')
  const why = facts.message === undefined ? '' : `: ${facts.message}`
  const put =
    'put the value into the store from the file that `plan` wrote, under the name and version that the ExternalSecret has'
  if (facts.ready !== 'True') return wait(`not synced${why}`, put)
  if (facts.observed !== 'true') return wait('its newest version is not synced yet')
  if (facts.reason !== 'SecretSynced') return wait(`not synced: ${facts.reason}${why}`)
  if (facts.planned === undefined || facts.planned === facts.arrived) return null
  return {
    verdict: 'violated',
    because: [`${id}: the Secret holds ${facts.arrived ?? 'no marks of its values'}, planned ${facts.planned}`],
    hint: 'find out who writes the Secret besides External Secrets; what it reads should be what `plan` wrote',
  }
}

export function objectNamed(evidence: Evidence, kind: string, name: string): ObjectEvidence | null {
  return evidence.objects.find(({ id }) => id.startsWith(`${kind}/`) && id.endsWith(`/${name}`)) ?? null
}

/** `claim`: of the gate that says what was not seen, and why. */
export function notReadWith(claim: string, because: string): Judged {
  return { verdict: 'unknown', because: [because], hint: notReadHint(claim) }
}

export function notReadHint(claim: string): string {
  return `nothing is known of it until it can be read: why it was not is said under “${claim}”`
}

export function exceptionText({ consumer, name, detail, ends }: EvidenceException): string {
  return `${consumer} ${name}: ${detail}${ends === undefined ? '' : `; its leaf ends ${ends}`}`
}

/** By when the lifetime of leaves alone has cleared these groups of them; nothing where one of them shows no end. */
export function clearedText(groups: readonly Pick<EvidenceGroup, 'leavesExpire'>[]): readonly string[] {
  const ends = groups.map(({ leavesExpire }) => leavesExpire?.last ?? null)
  const last = ends
    .flatMap(end => end ?? [])
    .sort()
    .at(-1)
  if (last === undefined) return []
  const unknown = ends.filter(end => end === null).length
  const but = unknown === 0 ? '' : ', of those that show an end'
  return [`at the latest at ${last} the last of these leaves has ended${but}`]
}

export function limited(because: readonly string[]): readonly string[] {
  if (because.length <= namedAtMost) return because
  return [...because.slice(0, namedAtMost), `and ${because.length - namedAtMost} more, named in the evidence`]
}

/**
 * A key of a Secret that managedFields give to nobody. What was applied by `stringData` stands in `data` and is owned by nobody there (a server-side
 * apply owns `f:stringData`, and goes on to after the key is gone), so the two look alike from here.
 */
export function ownerless(id: string, key: string): string {
  return `${id}: key ${key} is missing, or was applied as stringData`
}

/** That keys of a Secret are owned by nobody, which a deliverer may still change. */
export function ownerlessKeys(id: string, keys: readonly string[]): Judged {
  return { verdict: 'pending', because: keys.map(key => ownerless(id, key)), hint: ownerlessHint }
}

export const ownerlessHint =
  'where it was applied as stringData, apply it once more as data: only then does the API server tell whose it is'
