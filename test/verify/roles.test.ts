import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { istio, look, type Mesh, meshAt, planOf, sealedBy, syncedFromStore } from './mesh.ts'

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
  readonly verbs: readonly string[]
}

interface Granted extends Rule {
  /** `*`: the whole cluster. */
  readonly namespace: string
}

function rulesIn(file: string): readonly Granted[] {
  const text = readFileSync(new URL(`../../roles/${file}`, import.meta.url), 'utf8')
  return parseAllDocuments(text).flatMap(document => {
    const { kind, metadata, rules } = document.toJS() as {
      kind: string
      metadata: { namespace?: string }
      rules?: Rule[]
    }
    if (kind !== 'Role' && kind !== 'ClusterRole') return []
    return (rules ?? []).map(rule => ({ ...rule, namespace: kind === 'Role' ? (metadata.namespace ?? '') : '*' }))
  })
}

function covers(rule: Granted, request: string): boolean {
  const [verb = '', path = '', namespace = '', name = ''] = request.split(' ')
  const slash = path.indexOf('/')
  if (!rule.verbs.includes(verb) || !rule.apiGroups.includes(path.slice(0, slash))) return false
  if (!rule.resources.includes(path.slice(slash + 1))) return false
  if (rule.namespace !== '*' && rule.namespace !== namespace) return false
  return rule.resourceNames === undefined || rule.resourceNames.includes(name)
}

/** Every request of every way of installing and delivering, with a pod that goes away and a proxy that nobody knows. */
async function everyRequest(): Promise<readonly string[]> {
  const plan = await planOf()
  const asked = new Set<string>()
  const argo = {
    kind: 'argocd',
    namespace: 'argocd',
    name: 'trust',
    file: null,
    repoURL: null,
    project: 'default',
  } as const
  const runs = [
    { declared: { system: 'istio' as const, istio } },
    { declared: { system: 'istio' as const, istio }, fromStore: true },
    { declared: { system: 'istio' as const, istio: { ...istio, install: 'helmRelease' as const } } },
    {
      declared: { system: 'istio' as const, istio: { ...istio, install: 'argoApplication' as const } },
      delivery: argo,
    },
  ]
  for (const run of runs) {
    const mesh: Mesh = await meshAt(plan, 2, 2)
    if ('delivery' in run) sealedBy('controller', mesh)
    if ('fromStore' in run) syncedFromStore(mesh)
    mesh.pods.get('shop/cart-1')!.http = {}
    await look(plan, mesh, { phase: 2, step: 2, ...run })
    for (const request of mesh.asked) asked.add(request)
  }
  return [...asked]
}

describe('the roles', () => {
  const read = rulesIn('istio.yaml')
  const forwarding = rulesIn('istio-portforward.yaml')

  it('cover every request that the verifier makes', async () => {
    const uncovered = (await everyRequest()).filter(
      request => ![...read, ...forwarding].some(rule => covers(rule, request)),
    )
    expect(uncovered).toEqual([])
  })

  it('grant nothing that the verifier does not ask for', async () => {
    const requests = await everyRequest()
    const single = [...read, ...forwarding].flatMap(rule =>
      rule.verbs.flatMap(verb =>
        rule.resources.flatMap(resource =>
          (rule.resourceNames ?? ['']).map(name => ({
            ...rule,
            verbs: [verb],
            resources: [resource],
            ...(name === '' ? {} : { resourceNames: [name] }),
          })),
        ),
      ),
    )
    const unused = single.filter(rule => !requests.some(request => covers(rule, request)))
    expect(unused).toEqual([])
  })

  it('change nothing: port-forward, which could, stands alone in its own file', () => {
    const verbs = new Set(read.flatMap(rule => rule.verbs))
    expect([...verbs].sort()).toEqual(['get', 'list'])
    expect(read.flatMap(rule => rule.resources).filter(resource => resource.includes('/'))).toEqual([])
    expect(forwarding.flatMap(rule => rule.resources)).toEqual(['pods/portforward'])
  })

  it('reach no Secret but two, by name, in one namespace', () => {
    const secrets = read.filter(rule => rule.resources.includes('secrets'))
    expect(secrets).toEqual([
      {
        apiGroups: [''],
        resources: ['secrets'],
        resourceNames: ['cacerts', 'reanchor-canary'],
        verbs: ['get'],
        namespace: 'istio-system',
      },
    ])
  })
})
