import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import type { PlainSecret } from '../../src/custody/custody.ts'
import { createSealedSecretsCustody } from '../../src/custody/sealed-secrets.ts'
import { selfSignedCa } from '../../src/rehearsal/certificates.ts'
import { listAt, type Manifest, recordAt, type StoredObject, textAt } from '../../src/rehearsal/objects.ts'
import { SealedSecrets } from '../../src/rehearsal/sealed-secrets.ts'
import { bareSite, second } from './site.ts'

// What sealed-secrets 0.36.6 did under a real API server.

const day = 86_400_000
const pair = await selfSignedCa('sealed-secrets', {
  notBefore: new Date(Date.now() - day),
  notAfter: new Date(Date.now() + 3650 * day),
})

function world() {
  const { site, clock, store } = bareSite()
  const writes: string[] = []
  store.onChange(({ object, what }) => writes.push(`${what} ${object.kind}`))
  const controller = new SealedSecrets(site, pair.key)
  const annotate = (annotations: Record<string, string>): void => {
    const found = secret()
    if (found === null) throw new Error('no Secret')
    store.update(found, 'kubectl-annotate', next => {
      next.metadata.annotations = annotations
    })
  }
  const secret = (): StoredObject | null => store.get('', 'Secret', 'mesh', 'cacerts')
  return {
    clock,
    store,
    controller,
    writes,
    secret,
    annotate,
    async apply(value: string, namespace = 'mesh'): Promise<void> {
      const plain: PlainSecret = {
        name: 'cacerts',
        namespace,
        type: 'Opaque',
        labels: {},
        annotations: {},
        data: { value },
        privateKeys: ['value'],
      }
      // A custody keeps the ciphertext of an equal value.
      const custody = createSealedSecretsCustody({
        certificatePem: pair.certificate,
        scope: 'strict',
        random: randomBytes,
        now: new Date(),
      })
      const manifest = parse(await custody.seal(plain, 'trust/eu-1/cacerts.yaml')) as Manifest
      manifest.metadata.namespace = 'mesh'
      store.apply(manifest, 'argocd-controller')
    },
    async foreign(annotations: Record<string, string> = {}): Promise<void> {
      const data = { value: Buffer.from('theirs').toString('base64'), mine: 'eA==' }
      const metadata = { name: 'cacerts', namespace: 'mesh', annotations }
      store.put({ apiVersion: 'v1', kind: 'Secret', metadata, type: 'Opaque', data }, 'kubectl-create')
    },
    edit(value: string): void {
      store.update(secret()!, 'kubectl-edit', next => {
        next.data = { value: Buffer.from(value).toString('base64') }
      })
    },
    values: () =>
      Object.fromEntries(
        Object.entries(recordAt(secret(), 'data')).map(([key, text]) => [
          key,
          Buffer.from(String(text), 'base64').toString(),
        ]),
      ),
    status(): string | undefined {
      const sealed = store.get('bitnami.com', 'SealedSecret', 'mesh', 'cacerts')
      return textAt(listAt(sealed, 'status', 'conditions')[0], 'status')
    },
    seconds: (count: number): Promise<void> => clock.advance(count * second),
  }
}

describe('the Sealed Secrets controller', () => {
  it('makes a Secret that it manages again when someone deletes it', async () => {
    const mesh = world()
    await mesh.apply('old')
    await mesh.seconds(3)
    const first = mesh.secret()
    mesh.store.delete(first!)
    await mesh.seconds(3)
    expect(mesh.values()).toEqual({ value: 'old' })
    expect(mesh.secret()?.metadata.uid).not.toBe(first?.metadata.uid)
  })

  it('leaves a Secret gone whose SealedSecret is gone', async () => {
    const mesh = world()
    await mesh.apply('old')
    await mesh.seconds(3)
    mesh.store.delete(mesh.store.get('bitnami.com', 'SealedSecret', 'mesh', 'cacerts')!)
    expect(mesh.secret()).not.toBeNull()
    mesh.store.delete(mesh.secret()!)
    await mesh.seconds(60)
    expect(mesh.secret()).toBeNull()
  })

  it.each([
    ['its SealedSecret changes', async (mesh: ReturnType<typeof world>) => await mesh.apply('old')],
    ['it starts anew', async (mesh: ReturnType<typeof world>) => mesh.controller.restart()],
  ])('leaves an edit of the live Secret until %s', async (_when, action) => {
    const mesh = world()
    await mesh.apply('old')
    await mesh.seconds(3)
    mesh.edit('edited')
    await mesh.seconds(3_600)
    expect(mesh.values()).toEqual({ value: 'edited' })
    await action(mesh)
    await mesh.seconds(3)
    expect(mesh.values()).toEqual({ value: 'old' })
  })

  it.each([
    ['its SealedSecret changes', async (mesh: ReturnType<typeof world>) => await mesh.apply('new')],
    ['it starts anew', async (mesh: ReturnType<typeof world>) => mesh.controller.restart()],
  ])('takes over a Secret that it has refused, once that is allowed and %s', async (_when, action) => {
    const mesh = world()
    await mesh.foreign()
    await mesh.apply('new')
    await mesh.seconds(3)
    expect(mesh.status()).toBe('False')
    mesh.annotate({ 'sealedsecrets.bitnami.com/managed': 'true' })
    await mesh.seconds(3_600)
    expect(mesh.values()).toHaveProperty('mine')
    await action(mesh)
    await mesh.seconds(3)
    expect(mesh.values()).toEqual({ value: 'new' })
    expect(mesh.status()).toBe('True')
  })

  it('takes over a Secret that allowed it before', async () => {
    const mesh = world()
    await mesh.foreign({ 'sealedsecrets.bitnami.com/managed': 'true' })
    await mesh.apply('new')
    await mesh.seconds(3)
    expect(mesh.values()).toEqual({ value: 'new' })
  })

  it('tries again for a moment only, and reports a failure once', async () => {
    const mesh = world()
    await mesh.foreign()
    await mesh.apply('new')
    // Within the moment of its tries.
    while (mesh.status() === undefined) await mesh.clock.advance(1)
    mesh.annotate({ 'sealedsecrets.bitnami.com/managed': 'true' })
    await mesh.seconds(1)
    expect(mesh.values()).toEqual({ value: 'new' })

    const other = world()
    await other.apply('moved', 'elsewhere')
    await other.seconds(60)
    expect(other.status()).toBe('False')
    expect(other.writes.filter(write => write === 'status SealedSecret')).toHaveLength(1)
  })
})
