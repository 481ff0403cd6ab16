import { generateKeyPairSync } from 'node:crypto'
import { istioFixtures } from '../phases/fixtures/istio.ts'
import { fixtureInputs } from '../phases/fixtures/render.ts'
import { createIssuing, createLeaf, createRoot, privateKeyPem } from '../src/pki/authority.ts'
import { makePlan } from '../src/plan/make.ts'
import type { FileTree, Plan } from '../src/rotation.ts'

const day = 86_400_000

/** A rotation of one site whose present root has a key, so that there are leaves to present. */
export interface MeshMaterial {
  readonly plan: Plan
  /** The user's repository with the plan's files and rotation.yaml, before any step. */
  readonly files: FileTree
  /** A leaf of the present root and its key, PEM. */
  readonly leaf: { readonly chain: string; readonly key: string }
  /** Old and new root together, PEM. */
  readonly roots: string
}

export async function meshMaterial(now: Date): Promise<MeshMaterial> {
  const site = 'eu-1'
  const time = now.getTime()
  const dated = { notBefore: new Date(time - day), notAfter: new Date(time + 3000 * day) }
  const newKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const [oldKey, rootKey, leafKey] = [newKey(), newKey(), newKey()]
  const old = await createRoot({ ...dated, subject: 'O=cluster.local', key: oldKey, serial: '01' })
  const root = await createRoot({ ...dated, subject: 'O=Istio,CN=Root CA', key: rootKey, serial: '02' })
  const issuer = await createIssuing({
    notBefore: dated.notBefore,
    notAfter: new Date(time + 1500 * day),
    subject: 'O=Istio,CN=Issuing CA',
    key: newKey(),
    issuer: { certificate: root, key: rootKey },
    serial: '03',
  })
  const leaf = await createLeaf({
    notBefore: new Date(time - 3_600_000),
    notAfter: new Date(time + day),
    serial: '04',
    key: leafKey,
    issuer: { certificate: old, key: oldKey },
    uris: ['spiffe://cluster.local/ns/shop/sa/cart'],
    dns: ['istiod.istio-system.svc'],
  })
  const fixture = istioFixtures().find(each => each.name === 'istio-graceful-sail')
  if (fixture === undefined) throw new Error('the fixture istio-graceful-sail is gone')
  const noKey = 'bench: no key\n'
  const current = {
    issuer: old,
    chain: [old],
    roots: [old],
    key: noKey,
    source: 'own',
    settings: {},
    restarts: {},
  } as const
  const made = await makePlan({
    ...(await fixtureInputs(fixture)),
    current: { [site]: current },
    next: { [site]: { root, issuer, chain: [issuer, root], key: noKey } },
    now,
  })
  const declaration = `rotations/${made.plan.metadata.name}/rotation.yaml`
  return {
    plan: made.plan,
    files: new Map([...fixture.files, ...made.files, [declaration, fixture.declaration]]),
    leaf: { chain: leaf.pem, key: privateKeyPem(leafKey) },
    roots: old.pem + root.pem,
  }
}
