import { openKubernetesCluster } from '../src/cluster/kubernetes.ts'
import { gatherEvidence } from '../src/verify/gather.ts'
import { judge } from '../src/verify/judge.ts'
import { meshMaterial } from './mesh.ts'

/**
 * Gathers and judges once, in a process of its own: `pods.js KUBECONFIG`. Lists come from the API server named there, page by page; the
 * port-forwards are answered here, as their cost is the network's. Prints how many proxies trust the planned roots.
 */
const now = new Date()
const { plan, leaf, roots } = await meshMaterial(now)
const opened = await openKubernetesCluster({ kind: 'kubeconfig', file: process.argv[2] ?? '', context: null })
const bytes = (text: string) => ({ inline_bytes: Buffer.from(text).toString('base64') })
const entry = (name: string, secret: object) => ({ name, last_updated: now.toISOString(), secret: { name, ...secret } })
const dump = JSON.stringify({
  configs: [
    {
      dynamic_active_secrets: [
        entry('default', { tls_certificate: { certificate_chain: bytes(leaf.chain) } }),
        entry('ROOTCA', { validation_context: { trusted_ca: bytes(roots) } }),
      ],
    },
  ],
})
const evidence = await gatherEvidence({
  cluster: {
    ...opened,
    // A turn of the event loop each, as a conversation has many.
    httpGet: () => new Promise(resolve => setImmediate(resolve, dump)),
  },
  plan,
  site: 'eu-1',
  phase: 2,
  step: 2,
  delivery: {
    kind: 'flux',
    namespace: 'flux-system',
    name: 'trust',
    file: null,
    source: { namespace: 'flux-system', name: 'flux-system' },
    decryptionSecret: 'sops-age',
  },
  declared: {
    system: 'istio',
    istio: {
      install: 'sail',
      namespace: 'istio-system',
      trustDomain: 'cluster.local',
      controlPlane: {},
      ambient: false,
      leafHours: 24,
    },
  },
  repository: { treeDigestAt: async () => null, isDescendant: async () => false },
  previous: null,
  now,
})
const { gates } = judge(plan, [evidence], now)
process.stdout.write(`${JSON.stringify(gates.find(({ id }) => id === 'istio/roots-trusted')?.counted ?? null)}\n`)
