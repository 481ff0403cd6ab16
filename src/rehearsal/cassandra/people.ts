import type { LocalForge } from '../../forge/local.ts'
import { cassandraOf } from '../../systems/cassandra/settings.ts'
import type { StoredObject } from '../objects.ts'
import { textAt } from '../objects.ts'
import type { DemoMoment } from '../system.ts'
import { cassandraRegionOf } from './region.ts'

/**
 * What people do while `next` waits: they restart prober and reaper, as the gate says, and see to what no API shows: the owners of CQL clients, or of
 * a region without an operator, add the new CA to their truststores in `add`, and take certificates of it in `swap`; then one of them vouches for it.
 */
export async function meanwhile(moment: DemoMoment): Promise<void> {
  const { gates, rehearsal } = moment
  const waiting = (id: string, site: string): boolean =>
    gates.some(gate => gate.id === `cassandra/${id}` && gate.site === site && gate.verdict !== 'holds')
  for (const [site, { store }] of rehearsal.sites) {
    const rolled = !['secret', 'taken-up', 'rolled', 'nodes-restarted'].some(id => waiting(id, site))
    if (!rolled || !waiting('helpers-restarted', site)) continue
    for (const deployment of store.list('apps', 'Deployment').filter(isHelper))
      store.update(deployment, 'kubectl-rollout', next => restart(next, rehearsal.clock.instant()))
  }
  const waited = gates.find(({ id, verdict }) => id === 'cassandra/attested' && verdict !== 'holds')
  const rolling = gates.some(
    ({ id, verdict }) => /^(cassandra|delivery)\//.test(id) && id !== 'cassandra/attested' && verdict !== 'holds',
  )
  if (waited !== undefined && !rolling) await vouch(moment, waited.site)
}

function isHelper(deployment: StoredObject): boolean {
  return ['prober', 'reaper'].includes(deployment.metadata.labels?.['cassandra-cluster-component'] ?? '')
}

/** `kubectl rollout restart` */
function restart(deployment: StoredObject, now: string): void {
  const template = (deployment.spec as { template: { metadata: { annotations?: Record<string, string> } } }).template
  template.metadata.annotations = { ...template.metadata.annotations, 'kubectl.kubernetes.io/restartedAt': now }
}

/** What the word is about is done first, then it is given, for the step that the site is at: in `add`, in `swap`, and after an undo of `swap`. */
async function vouch({ context, rotation, rehearsal }: DemoMoment, site: string): Promise<void> {
  const [{ loadRotation, positionsAt }, { attest }] = await Promise.all([
    import('../../commands/rotation.ts'),
    import('../../commands/attest.ts'),
  ])
  const { snapshot, plan, declaration } = await loadRotation(context.repository, { rotation, base: 'main' })
  const at = (await positionsAt(snapshot, plan))[site]
  if (at?.kind !== 'at') return
  const of = (role: string) => plan.certificates.find(certificate => certificate.role === role)
  const back = at.variant === 'undo'
  const signs = of(back ? 'old-root' : 'new-root')
  const { store } = rehearsal.sites.get(site) ?? {}
  if (signs === undefined || store === undefined) return
  const { ca } = cassandraOf(declaration)
  for (const outsider of cassandraRegionOf(store).outsiders.filter(each => each.ca === ca)) {
    if (!back && plan.phases.find(({ number }) => number === at.phase)?.name === 'add') outsider.trust(signs.pem)
    // Whoever has the pair at hand signs it for them: here it is read where the operator has it.
    else await outsider.present(signingPair(store.list('', 'Secret'), signs.pem), lifeOf(signs))
  }
  const forge = (await context.openForge(declaration)) as LocalForge
  for (const { name } of plan.gates.attest) {
    const { pullRequest } = await attest(context, {
      rotation,
      base: null,
      name,
      phase: at.phase,
      by: context.author.name,
    })
    // Rehearsals have the forge of this machine, on which people merge by a command too.
    if (pullRequest !== null)
      await forge.merge(pullRequest.number, { method: 'merge', by: context.author, at: context.now() })
  }
}

function lifeOf(ca: { readonly notBefore: string; readonly notAfter: string }) {
  return { notBefore: new Date(ca.notBefore), notAfter: new Date(ca.notAfter) }
}

function signingPair(secrets: readonly StoredObject[], certificate: string): { certificate: string; key: string } {
  for (const secret of secrets) {
    const value = (key: string): string => Buffer.from(textAt(secret, 'data', key) ?? '', 'base64').toString('utf8')
    const [main] = Object.keys((secret.data ?? {}) as object).filter(key => value(key).trim() === certificate.trim())
    const signer = Object.keys((secret.data ?? {}) as object).find(key => value(key).includes('RSA PRIVATE KEY'))
    if (main !== undefined && signer !== undefined) return { certificate: value(main), key: value(signer) }
  }
  throw new Error('no Secret holds the new CA and its key')
}
