import { App } from 'cdk8s'
import { describe, expect, it } from 'vitest'
import { cassandraCharts } from '../../../phases/cassandra/charts.ts'
import { placedObjects } from '../../../phases/site-file.ts'

const data = { 'ca.crt': 'old\n', 'ca.key': 'key\n', 'ca2.crt': 'new\n' }

function objects(phase: string, delivery: 'flux' | 'argocd') {
  const Chart = cassandraCharts[phase]
  if (Chart === undefined) throw new Error(`no chart ${phase}`)
  const chart = new Chart(new App(), 'eu-1', {
    rotation: 'db-2026',
    state: { bundle: [], issuer: '', chain: [], source: 'plugged', settings: {}, restarts: {} },
    secret: { namespace: 'anton', name: 'example-cluster-manual-tls-ca', type: 'kubernetes.io/tls' },
    data,
    privateKeys: ['ca.key'],
    canary: 'canary',
    delivery,
  })
  return placedObjects(chart).map(({ object, file }) => ({ manifest: object.toJson(), file }))
}

describe('the charts of Cassandra’s phases', () => {
  it.each(['adopt', 'add', 'swap', 'drop', 'replace'])(
    '%s: one Secret under its own name and type, by `data` alone, with every value as it was given',
    phase => {
      const secret = objects(phase, 'flux').find(({ file }) => file.path === 'ca-secret.yaml')
      expect(secret?.manifest).toMatchObject({
        kind: 'Secret',
        type: 'kubernetes.io/tls',
        metadata: { name: 'example-cluster-manual-tls-ca', namespace: 'anton' },
      })
      expect(secret?.manifest.stringData).toBeUndefined()
      expect(
        Object.fromEntries(
          Object.entries(secret?.manifest.data as Record<string, string>).map(([key, value]) => [
            key,
            Buffer.from(value, 'base64').toString(),
          ]),
        ),
      ).toEqual(data)
      expect(secret?.file.privateKeys).toEqual(['ca.key'])
    },
  )

  it.each([
    ['flux', { 'kustomize.toolkit.fluxcd.io/prune': 'disabled', 'kustomize.toolkit.fluxcd.io/substitute': 'disabled' }],
    ['argocd', { 'argocd.argoproj.io/sync-options': 'Prune=false,Delete=false' }],
  ] as const)(
    'cannot be pruned away by %s, and carry nothing that is the operator’s (F18)',
    (delivery, annotations) => {
      for (const { manifest } of objects('swap', delivery)) {
        expect(manifest.metadata.annotations).toEqual(annotations)
        expect(JSON.stringify(manifest)).not.toMatch(/cassandra-cluster-(checksum|instance)|Force|Replace/)
      }
    },
  )
})
