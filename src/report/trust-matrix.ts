import type { PlanStep } from '../plan/steps.ts'
import type { Evidence, EvidenceGroup, Fingerprint, Plan, TrustState } from '../rotation.ts'
import type { SafetyModel } from '../systems/system.ts'
import type { CertificateName, MatrixRow, SeenTrust } from './report-view.ts'

type Name = (sha256: Fingerprint) => CertificateName

/**
 * Who presents and who trusts what at every place, once a step has reached everyone, beside what was seen. Sites whose rows are alike share them. Pure.
 */
export function trustMatrix(
  { plan, model, name }: { readonly plan: Plan; readonly model: SafetyModel; readonly name: Name },
  { step }: PlanStep,
  evidence: readonly Evidence[],
): readonly MatrixRow[] {
  const links = model.links(plan.parties)
  const holders = new Set(links.map(link => link.holder))
  const verifiers = new Set(links.map(link => link.verifier))
  const parties = [...new Set(links.flatMap(({ holder, verifier }) => [holder, verifier]))]
  const rows = plan.sites.flatMap(({ name: site }): readonly MatrixRow[] => {
    const state = step.sites[site]?.state
    if (state === undefined) return []
    const groups = evidence.filter(each => each.site === site).flatMap(each => each.groups)
    // Copies of a bundle, say: seen, and in no handshake.
    const others = groups.map(group => group.consumer).filter(consumer => !parties.includes(consumer))
    const row = (party: string, presents: boolean, trusts: boolean): MatrixRow => ({
      sites: [site],
      party: model.partyName(party),
      presents: presents ? [name(state.issuer)] : null,
      trusts: trusts ? trusted(state, name) : null,
      seen: together(groups.filter(group => group.consumer === party).map(group => seenTrust(group, name))),
    })
    return [
      ...parties.map(party => row(party, holders.has(party), verifiers.has(party))),
      ...[...new Set(others)].map(party => row(party, false, false)),
    ]
  })
  return alike(rows)
}

export function seenTrust({ count, presents, trusts }: EvidenceGroup, name: Name): SeenTrust {
  const [issuer] = presents ?? []
  return {
    count,
    presents: issuer === undefined ? null : [name(issuer)],
    trusts: trusts === null ? null : trusts.map(name),
  }
}

function trusted(state: Pick<TrustState, 'bundle'>, name: Name): readonly CertificateName[] {
  return [...new Set(state.bundle)].map(name)
}

/** Issuing CAs that sites have of their own say the same by what they are; roots are told apart. */
function keyOf({ presents, trusts }: Pick<SeenTrust, 'presents' | 'trusts'>): string {
  const anchors = trusts === null ? '-' : trusts.map(each => each.sha256).join('+')
  const issuers = presents === null ? '-' : [...new Set(presents.map(issuerKey))].join('+')
  return `${issuers} ${anchors}`
}

function issuerKey({ name, side, sha256 }: CertificateName): string {
  return name.endsWith('issuing CA') ? `${side} ${name}` : sha256
}

function joined(one: MatrixRow['presents'], other: MatrixRow['presents']): MatrixRow['presents'] {
  if (one === null || other === null) return one ?? other
  return [...new Map([...one, ...other].map(each => [each.sha256, each])).values()]
}

/** The same seen of several owners is one, the most of them first. */
function together(seen: readonly SeenTrust[]): readonly SeenTrust[] {
  const found = new Map<string, SeenTrust>()
  for (const each of seen) {
    const before = found.get(keyOf(each))
    found.set(
      keyOf(each),
      before === undefined
        ? each
        : { ...before, count: before.count + each.count, presents: joined(before.presents, each.presents) },
    )
  }
  return [...found.values()].sort((one, other) => other.count - one.count)
}

/** What holders present and what verifiers trust, whatever their class, by sites that are alike. Pure. */
export function trustCourse(rows: readonly MatrixRow[]): readonly Pick<MatrixRow, 'sites' | 'presents' | 'trusts'>[] {
  const sites = [...new Set(rows.flatMap(row => row.sites))]
  const bySite = sites.map(site => {
    const own = rows.filter(row => row.sites.includes(site))
    return {
      sites: [site],
      party: '',
      presents: own.find(row => row.presents !== null)?.presents ?? null,
      trusts: own.find(row => row.trusts !== null)?.trusts ?? null,
      seen: [],
    }
  })
  return alike(bySite)
}

/** Rows that say the same of several sites, with the counts summed. */
function alike(rows: readonly MatrixRow[]): readonly MatrixRow[] {
  const found = new Map<string, MatrixRow>()
  for (const row of rows) {
    const key = [row.party, keyOf(row), ...row.seen.map(keyOf)].join('\n')
    const before = found.get(key)
    if (before === undefined) found.set(key, row)
    else
      found.set(key, {
        ...before,
        sites: [...before.sites, ...row.sites],
        presents: joined(before.presents, row.presents),
        seen: together([...before.seen, ...row.seen]),
      })
  }
  const order = [...new Set(rows.map(row => row.party))]
  return [...found.values()].sort((one, other) => order.indexOf(one.party) - order.indexOf(other.party))
}
