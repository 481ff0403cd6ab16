import { describe, expect, it } from 'vitest'
import { readDeclaration } from '../../../src/declaration/read.ts'
import { writeDeclaration } from '../../../src/declaration/write.ts'
import type { ReanchorError } from '../../../src/errors.ts'
import { kymaProfiles } from '../../../src/systems/kyma/profile.ts'
import { kymaOf, runtimesOf } from '../../../src/systems/kyma/settings.ts'

const head = `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata:
  name: kyma-2026
spec:
  system: kyma
  strategy: renew
  sites:
    - name: central
      path: trust/central
      delivery: {flux: {kustomization: flux-system/trust}}
  gates:
    attest:
      - {name: applications, why: their owners renew them}
`

/** rotation.yaml with these lines under spec.kyma. */
const declared = (...lines: readonly string[]): string =>
  `${head}  kyma:\n${lines.map(line => `    ${line}\n`).join('')}`
const runtime = 'runtimes: [{name: shop, kind: central, connection: shop}]'

async function refused(text: string): Promise<readonly ReanchorError[]> {
  try {
    await readDeclaration(text, 'rotation.yaml')
  } catch (error) {
    const { errors } = error as { readonly errors?: readonly ReanchorError[] }
    return errors ?? [error as ReanchorError]
  }
  throw new Error('it was accepted')
}

describe('spec.kyma', () => {
  it('takes names of Secrets and keys from the release, and single ones from where they are given', async () => {
    const read = await readDeclaration(
      declared("profile: '1.11'", 'signer: {namespace: connectors}', 'gateway: {deployment: ingress}', runtime),
      'rotation.yaml',
    )
    const { signer, gateway, leafDays, applications, compromised } = kymaOf(read)
    expect(signer).toEqual({ ...kymaProfiles['1.11'].signer, namespace: 'connectors' })
    expect(gateway).toEqual({ ...kymaProfiles['1.11'].gateway, deployment: 'ingress' })
    expect({ leafDays, applications, compromised }).toEqual({ leafDays: 92, applications: true, compromised: null })
  })

  it('reads a runtime in a context of its own, which is its name where nothing is said; Compass has one name for its connection', async () => {
    const read = await readDeclaration(
      declared(
        'runtimes:',
        '  - {name: shop, kind: central, connection: shop-1}',
        '  - {name: mobile, kind: compass, kubeconfig: ../mobile.yaml, context: admin}',
      ),
      'rotation.yaml',
    )
    expect(runtimesOf(kymaOf(read), 'central')).toEqual([
      {
        name: 'shop',
        site: null,
        kind: 'central',
        connection: 'shop-1',
        cluster: { kind: 'context', context: 'shop' },
      },
      {
        name: 'mobile',
        site: null,
        kind: 'compass',
        connection: 'compass-connection',
        cluster: { kind: 'kubeconfig', file: '../mobile.yaml', context: 'admin' },
      },
    ])
  })

  it.each([
    ['runbook', ['profile: runbook', runtime]],
    ['names of its own', ["profile: '1.11'", 'gateway: {credentialName: own, secret: own-cacert}', runtime]],
    [
      'files in place of a credential',
      ["profile: '1.18'", 'gateway: {form: mount, key: ca.crt}', 'applications: none', 'leafDays: 30', runtime],
    ],
  ])('reads back what it writes: %s', async (_what, lines) => {
    const read = await readDeclaration(declared(...lines), 'rotation.yaml')
    expect(await readDeclaration(writeDeclaration(read), 'rotation.yaml')).toEqual(read)
  })
})

describe('a spec.kyma that would rotate nothing, or the wrong thing, is refused with the place in the file', () => {
  it.each([
    ['the part is missing', head, ['spec.kyma', 'is missing']],
    ['an unknown release', declared("profile: '3.0'", runtime), ['spec.kyma.profile', '"3.0"']],
    [
      'the key that documents name and Istio never reads',
      declared("profile: '1.11'", 'gateway: {key: tls.crt}', runtime),
      ['spec.kyma.gateway', 'never tls.crt'],
    ],
    [
      'the runbook’s Secret under a credential name, which does not end in -cacert',
      declared('profile: runbook', 'gateway: {form: sds, credentialName: kyma-gateway-certs}', runtime),
      ['spec.kyma.gateway', 'never kyma-gateway-ca-certs'],
    ],
    [
      'a credential without its name',
      declared('profile: runbook', 'gateway: {form: sds}', runtime),
      ['spec.kyma', 'none is given'],
    ],
    [
      'a runtime without the name of its connection',
      declared('runtimes: [{name: shop, kind: central}]'),
      ['spec.kyma.runtimes[0].connection', 'is missing'],
    ],
    [
      'a runtime of a site that is not there',
      declared('runtimes: [{name: shop, site: east, connection: shop}]'),
      ['spec.kyma.runtimes[0].site', 'east'],
    ],
    [
      'a runtime with the name of a site',
      declared('runtimes: [{name: central, connection: shop}]'),
      ['spec.kyma.runtimes[0].name', 'another cluster'],
    ],
    [
      'two runtimes of one name',
      declared('runtimes: [{name: a, connection: a}, {name: a, connection: b}]'),
      ['spec.kyma.runtimes[1].name', 'another cluster'],
    ],
    [
      'an emergency that does not say of what',
      declared(runtime).replace('renew', 'emergency'),
      ['spec.kyma.compromised', 'is missing'],
    ],
    [
      'what is compromised without an emergency',
      declared('compromised: key', runtime),
      ['spec.kyma.compromised', 'stands beside'],
    ],
    ['leaves that live no day', declared('leafDays: 0', runtime), ['spec.kyma.leafDays', '0']],
    ['a field that does not exist', declared('signer: {key: ca.key}', runtime), ['spec.kyma.signer', 'key']],
    ['nobody at all who holds a certificate (F20)', declared('applications: none'), ['spec.kyma.runtimes', 'nobody']],
  ])('%s', async (_what, text, [field = '', words = '']) => {
    const errors = await refused(text)
    const found = errors.find(({ where }) => where.field?.startsWith(field))
    expect(found, JSON.stringify(errors)).toBeDefined()
    expect(found?.where).toMatchObject({ file: 'rotation.yaml', line: expect.any(Number) })
    expect(String(found)).toContain(words)
    expect(found?.exit).toBe(2)
  })
})
