import { generateKeyPairSync } from 'node:crypto'
import { istioFixtures } from '../phases/fixtures/istio.ts'
import { fixtureInputs } from '../phases/fixtures/render.ts'
import { createIssuing, createRoot, serialFrom } from '../src/pki/authority.ts'
import { type Certificate, certificateFacts } from '../src/pki/certificate.ts'
import { type MadePlan, makePlan } from '../src/plan/make.ts'
import { treeDigest } from '../src/repository/tree-digest.ts'
import type { FileTree, Plan, PlannedSite, PlannedTree, TrustState } from '../src/rotation.ts'

const day = 86_400_000
const site = 'eu-1'

/** A plan of one rendered site, and copies of that site, each with an issuing CA of its own. */
export interface Fleet {
  readonly plan: Plan
  readonly made: MadePlan
  /** A step's folder of the site with that number. */
  readonly folder: (step: string, number: number) => FileTree
}

/** Rendering a thousand sites takes longer than all that is measured with them, so one is rendered and the others are written from it. */
export async function fleetOf(count: number): Promise<Fleet> {
  const fixture = istioFixtures().find(each => each.name === 'istio-graceful-sail')
  if (fixture === undefined) throw new Error('the fixture istio-graceful-sail is gone')
  const inputs = await fixtureInputs(fixture)
  const now = inputs.now.getTime()
  const dates = { notBefore: new Date(now - day), notAfter: new Date(now + 1500 * day) }
  let serial = 1
  const numbered = () => serialFrom(size => Buffer.alloc(size, 1).fill(String(serial++), 1))
  const rootKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const root = await createRoot({
    subject: 'CN=Mesh root 2026',
    key: rootKey,
    ...dates,
    notAfter: new Date(now + 3000 * day),
    serial: numbered(),
  })
  const issuers: Certificate[] = []
  for (let number = 0; number < count; number++) {
    const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey
    const subject = `CN=Mesh issuing ${String(number).padStart(6, '0')}`
    issuers.push(
      await createIssuing({ subject, key, issuer: { certificate: root, key: rootKey }, ...dates, serial: numbered() }),
    )
  }
  const [first] = issuers
  if (first === undefined) throw new Error('a fleet has at least one site')
  const made = await makePlan({
    ...inputs,
    next: { [site]: { root, issuer: first, chain: [first, root], key: 'bench: no key\n' } },
  })
  const names = issuers.map((_, number) => nameOf(number))

  const folder = (step: string, number: number): FileTree => {
    const prefix = `rotations/${made.plan.metadata.name}/phases/${step}/${site}/`
    const issuer = issuers[number] ?? first
    const files = new Map<string, string>()
    for (const [path, text] of made.files)
      if (path.startsWith(prefix)) files.set(path.slice(prefix.length), written(text, first, issuer, nameOf(number)))
    return files
  }
  const rewritten = (state: TrustState, number: number): TrustState => {
    const swap = (sha256: string) => (sha256 === first.sha256 ? (issuers[number]?.sha256 ?? sha256) : sha256)
    return { ...state, issuer: swap(state.issuer), chain: state.chain.map(swap) }
  }
  const treeOf = (tree: PlannedTree, step: string, number: number): PlannedTree => ({
    digest: treeDigest(folder(step, number)),
    state: rewritten(tree.state, number),
  })
  const phases = made.plan.phases.map(phase => ({
    ...phase,
    steps: phase.steps.map(step => {
      const base = `${phase.number}-${phase.name}/${step.number}-${step.name}`
      const planned = step.sites[site]
      if (planned === undefined) return step
      const sites = names.map((name, number): [string, PlannedSite] => [
        name,
        {
          ...treeOf(planned, base, number),
          undo: planned.undo === null ? null : treeOf(planned.undo, `${base}/undo`, number),
          nudge: planned.nudge === null ? null : treeOf(planned.nudge, `${base}/nudge`, number),
        },
      ])
      return { ...step, sites: Object.fromEntries(sites) }
    }),
  }))
  const others = issuers.slice(1).map((issuer, index) => ({
    ...certificateFacts(issuer),
    role: 'new-issuing' as const,
    sites: [nameOf(index + 1)],
    file: `certificates/new-issuing-${nameOf(index + 1)}.pem`,
  }))
  const plan: Plan = {
    ...made.plan,
    certificates: [...made.plan.certificates, ...others],
    sites: names.map(name => ({ name, path: `trust/${name}` })),
    batches: [names],
    phases,
    // Wiring lies in the user's own files; for many sites it would be measured instead of what is wanted.
    wiring: count === 1 ? made.plan.wiring : [],
    canaries: Object.fromEntries(names.map(name => [name, made.plan.canaries[site] ?? ''])),
  }
  return { plan, made, folder }
}

export function nameOf(number: number): string {
  return number === 0 ? site : `site-${number}`
}

/** A file of the first site as another site has it. */
function written(text: string, first: Certificate, issuer: Certificate, name: string): string {
  const swap = (pem: string) => pem.replaceAll(first.pem, issuer.pem)
  return swap(text)
    .replaceAll(first.sha256, issuer.sha256)
    .replaceAll(first.subject, issuer.subject)
    .replace(/^(reanchor .*) eu-1$/m, `$1 ${name}`)
    .replaceAll(/^( {2}(?:ca-cert|cert-chain)\.pem: )(\S+)$/gm, (_, key: string, value: string) => {
      return key + Buffer.from(swap(Buffer.from(value, 'base64').toString())).toString('base64')
    })
}
