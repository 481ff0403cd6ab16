import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseDocument } from 'yaml'
import type { Cluster, KubernetesObject, ResourceType } from '../../src/cluster/cluster.ts'
import { judgeMint } from '../../src/mint/gate.ts'
import { observeMint } from '../../src/mint/observe.ts'
import { day, issued, oneMint, root } from './fixture.ts'

/** A cluster of these objects that writes down what it is asked for. */
function clusterOf(objects: readonly KubernetesObject[]): { readonly cluster: Cluster; readonly asked: string[] } {
  const asked: string[] = []
  const found = (type: ResourceType, namespace: string | null) => {
    const kind = { certificates: 'Certificate', certificaterequests: 'CertificateRequest' }[type.plural]
    return objects.filter(object => object.kind === kind && object.metadata.namespace === namespace)
  }
  const never = async (): Promise<never> => {
    throw new Error('not a question of this look')
  }
  const cluster: Cluster = {
    identity: async () => ({ uid: 'uid', now: '2026-11-30T09:00:00Z' }),
    async get(type, namespace, name) {
      asked.push(`get ${type.group}/${type.plural} ${namespace}`)
      return found(type, namespace).find(object => object.metadata.name === name) ?? null
    },
    metadata: never,
    async *list(type, options = {}) {
      asked.push(`list ${type.group}/${type.plural} ${options.namespace}`)
      yield found(type, options.namespace ?? null)
    },
    httpGet: never,
    servedTls: never,
    close: async () => {},
  }
  return { cluster, asked }
}

const base64 = (text: string): string => Buffer.from(text).toString('base64')

describe('a look at a minted CA', () => {
  it('reads what was issued from its own request, without a Secret, within roles/cert-manager.yaml', async () => {
    const mint = await oneMint()
    const good = issued()
    const { namespace, name } = mint
    const certificate = {
      kind: 'Certificate',
      metadata: { name, namespace, uid: 'own', generation: 1, creationTimestamp: '2026-11-30T08:59:00Z' },
      spec: mint.manifest.spec,
      status: {
        revision: 1,
        notAfter: good.certificate.notAfter,
        renewalTime: good.certificate.notAfter,
        conditions: [{ type: 'Ready', status: 'True', observedGeneration: 1 }],
      },
    }
    const request = (owner: string, pem: string) => ({
      kind: 'CertificateRequest',
      metadata: {
        name: `${name}-${owner}`,
        namespace,
        annotations: { 'cert-manager.io/certificate-name': name, 'cert-manager.io/certificate-revision': '1' },
        ownerReferences: [{ kind: 'Certificate', name, uid: owner }],
      },
      status: { certificate: base64(pem), ca: base64(root.certificate) },
    })
    // One of a Certificate that had this name before.
    const { cluster, asked } = clusterOf([
      certificate,
      request('before', issued().pair.certificate),
      request('own', good.pair.certificate),
    ])
    const { gate, pin } = judgeMint(mint, await observeMint(cluster, mint), { lasts: 30 * day, pinned: null })
    expect([gate.verdict, gate.because]).toEqual(['holds', []])
    expect(pin?.sha256).toBe(good.certificate.sha256)

    const text = readFileSync(new URL('../../roles/cert-manager.yaml', import.meta.url), 'utf8')
    const { rules } = parseDocument(text.split('\n---\n')[0] ?? '').toJS() as {
      rules: readonly { apiGroups: readonly string[]; resources: readonly string[]; verbs: readonly string[] }[]
    }
    const granted = rules.flatMap(rule =>
      rule.verbs.map(verb => `${verb} ${rule.apiGroups[0]}/${rule.resources[0]} cert-manager`),
    )
    expect(granted.sort()).toEqual(asked.sort())
  })

  it('tells of no request where the status holds what is no certificate', async () => {
    const mint = await oneMint()
    const { namespace, name } = mint
    const owner = { kind: 'Certificate', name, uid: 'own' }
    const { cluster } = clusterOf([
      { kind: 'Certificate', metadata: { name, namespace, uid: 'own' }, spec: mint.manifest.spec },
      {
        kind: 'CertificateRequest',
        metadata: { name: 'x', namespace, ownerReferences: [owner] },
        status: { certificate: base64('hello') },
      },
    ])
    expect((await observeMint(cluster, mint)).requests).toEqual([
      { name: 'x', revision: null, chain: null, root: null },
    ])
  })
})
