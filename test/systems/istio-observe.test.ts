import { describe, expect, it } from 'vitest'
import { readEnvoySecrets } from '../../src/systems/istio/observe-envoy.ts'
import { meshPod } from '../../src/systems/istio/observe-pods.ts'
import { readSync, readWatchers } from '../../src/systems/istio/observe-sync.ts'
import { readZtunnelCertificates } from '../../src/systems/istio/observe-ztunnel.ts'
import { podObject } from '../verify/mesh.ts'

const base64 = (text: string): string => Buffer.from(text).toString('base64')
const type = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'

const leaf = {
  name: 'default',
  last_updated: '2026-11-22T01:32:52.262Z',
  secret: {
    '@type': type,
    name: 'default',
    tls_certificate: {
      certificate_chain: { inline_bytes: base64('chain') },
      private_key: { inline_bytes: 'W3JlZGFjdGVkXQ==' },
    },
  },
}
const roots = {
  name: 'ROOTCA',
  last_updated: '2026-11-22T05:41:32.118Z',
  secret: { '@type': type, name: 'ROOTCA', validation_context: { trusted_ca: { inline_bytes: base64('roots') } } },
}
const waiting = {
  name: 'ROOTCA',
  version_info: 'uninitialized',
  last_updated: '2026-11-22T14:59:35.648Z',
  secret: { '@type': type, name: 'ROOTCA' },
}
const found = {
  chains: ['chain'],
  bundles: ['roots'],
  warming: [],
  ownTrustSource: false,
  crl: null,
  rootsUpdated: '2026-11-22T05:41:32.118Z',
}

describe("Envoy's /config_dump", () => {
  it('is read whole, as istioctl asks for it', () => {
    const dump = {
      configs: [
        { '@type': 'type.googleapis.com/envoy.admin.v3.SecretsConfigDump', dynamic_active_secrets: [leaf, roots] },
      ],
    }
    expect(readEnvoySecrets(JSON.stringify(dump))).toEqual(found)
  })

  it('is read with ?resource=, where configs are the secrets themselves', () => {
    const dynamic = 'type.googleapis.com/envoy.admin.v3.SecretsConfigDump.DynamicSecret'
    const dump = { configs: [leaf, roots, waiting].map(secret => ({ '@type': dynamic, ...secret })) }
    expect(readEnvoySecrets(JSON.stringify(dump))).toEqual({ ...found, warming: ['ROOTCA'] })
  })

  it('is read in camelCase, as istioctl prints it', () => {
    const dump = {
      dynamicActiveSecrets: [
        {
          name: 'default',
          secret: {
            '@type': type,
            name: 'default',
            tlsCertificate: { certificateChain: { inlineBytes: base64('chain') } },
          },
        },
        {
          name: 'ROOTCA',
          lastUpdated: '2026-11-22T05:41:32.118Z',
          secret: { '@type': type, name: 'ROOTCA', validationContext: { trustedCa: { inlineBytes: base64('roots') } } },
        },
      ],
      dynamicWarmingSecrets: [{ name: 'default', versionInfo: 'uninitialized', secret: { name: 'default' } }],
    }
    expect(readEnvoySecrets(JSON.stringify(dump))).toEqual({ ...found, warming: ['default'] })
  })

  it('is selected by name, whatever the order and whatever else there is', () => {
    const other = {
      ...leaf,
      name: 'kubernetes://edge-credential',
      secret: { ...leaf.secret, name: 'kubernetes://edge-credential' },
    }
    const dump = { configs: [{ dynamic_active_secrets: [other, roots, leaf] }] }
    expect(readEnvoySecrets(JSON.stringify(dump))).toEqual(found)
  })

  it('gives every entry of a name, for they may differ', () => {
    const second = {
      ...roots,
      secret: { ...roots.secret, validation_context: { trusted_ca: { inline_bytes: base64('others') } } },
    }
    const dump = { configs: [{ dynamic_active_secrets: [leaf, roots, second] }] }
    expect(readEnvoySecrets(JSON.stringify(dump)).bundles).toEqual(['roots', 'others'])
  })

  it('does not take a warming secret for one in use', () => {
    const dump = {
      configs: [
        { dynamic_active_secrets: [leaf], dynamic_warming_secrets: [waiting, { name: 'configmap://some/thing' }] },
      ],
    }
    expect(readEnvoySecrets(JSON.stringify(dump))).toMatchObject({ bundles: [], warming: ['ROOTCA'] })
  })

  it("tells SPIRE's validator from Istio's roots", () => {
    const context = {
      trusted_ca: {},
      custom_validator_config: {
        name: 'envoy.tls.cert_validator.spiffe',
        typed_config: { trust_domains: [{ name: 'east.local', trust_bundle: { inline_bytes: base64('east') } }] },
      },
    }
    const dump = {
      configs: [
        { dynamic_active_secrets: [leaf, { ...roots, secret: { ...roots.secret, validation_context: context } }] },
      ],
    }
    expect(readEnvoySecrets(JSON.stringify(dump))).toMatchObject({ bundles: [], ownTrustSource: true })
  })

  it('names the file of a revocation list', () => {
    const context = {
      trusted_ca: { inline_bytes: base64('roots') },
      crl: { filename: '/var/run/secrets/istio/crl/ca-crl.pem' },
    }
    const dump = {
      configs: [{ dynamic_active_secrets: [{ ...roots, secret: { ...roots.secret, validation_context: context } }] }],
    }
    expect(readEnvoySecrets(JSON.stringify(dump)).crl).toBe('/var/run/secrets/istio/crl/ca-crl.pem')
  })

  it.each(['{}', '[]', 'null', '{"configs":[null,1,"x",{"secret":null}]}', '{"configs":{"0":1}}'])(
    'finds nothing in %s',
    text => {
      expect(readEnvoySecrets(text)).toMatchObject({ chains: [], bundles: [], warming: [] })
    },
  )

  it('throws for what is not JSON', () => {
    expect(() => readEnvoySecrets('<html>')).toThrow(SyntaxError)
  })
})

describe("ztunnel's /config_dump", () => {
  const pem = (name: string): string => `-----BEGIN CERTIFICATE-----\n${name}\n-----END CERTIFICATE-----\n`
  const certificate = (name: string) => ({
    pem: base64(pem(name)),
    serialNumber: '1',
    validFrom: '',
    expirationTime: '',
  })

  it('has chain and roots of every identity', () => {
    const dump = {
      certificates: [
        {
          identity: 'spiffe://cluster.local/ns/a/sa/b',
          state: 'Available',
          certChain: [certificate('leaf'), certificate('ca')],
          rootCerts: [certificate('one'), certificate('two')],
        },
        { identity: 'spiffe://cluster.local/ns/a/sa/c', state: 'Unavailable: denied', certChain: [], rootCerts: [] },
      ],
    }
    expect(readZtunnelCertificates(JSON.stringify(dump))).toEqual([
      {
        identity: 'spiffe://cluster.local/ns/a/sa/b',
        state: 'Available',
        chain: pem('leaf') + pem('ca'),
        roots: pem('one') + pem('two'),
      },
      { identity: 'spiffe://cluster.local/ns/a/sa/c', state: 'Unavailable: denied', chain: '', roots: '' },
    ])
  })

  it('takes the last of the chain for the root where an older ztunnel shows none', () => {
    const dump = {
      certificates: [{ identity: 'i', state: 'Available', certChain: [certificate('leaf'), certificate('root')] }],
    }
    expect(readZtunnelCertificates(JSON.stringify(dump))[0]?.roots).toBe(pem('root'))
  })

  it('does not take a leaf alone for its own root', () => {
    const dump = { certificates: [{ identity: 'i', state: 'Available', certChain: [certificate('leaf')] }] }
    expect(readZtunnelCertificates(JSON.stringify(dump))[0]?.roots).toBe('')
  })
})

describe("istiod's /debug", () => {
  it('shows who asked for pushed trust', () => {
    const pcds = 'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig'
    const answer = [
      { cluster_id: 'Kubernetes', proxy: 'cart-1.shop', resources: { [pcds]: { sent: 'a', acked: 'a' } } },
      { cluster_id: 'Kubernetes', proxy: 'front-1.v2.shop', resources: {} },
      { cluster_id: 'far', proxy: 'old-1.shop', cluster_sent: 'x' },
      { proxy: 'nameless' },
    ]
    expect(readSync(JSON.stringify(answer))).toEqual([
      { name: 'shop/cart-1', cluster: 'Kubernetes', subscribed: true },
      { name: 'shop/front-1.v2', cluster: 'Kubernetes', subscribed: false },
      { name: 'shop/old-1', cluster: 'far', subscribed: null },
    ])
  })

  it('answers null without any proxy, and nothing else is a list', () => {
    expect(readSync('null')).toEqual([])
    expect(() => readSync('{"error":"x"}')).toThrow(TypeError)
  })

  it('shows watches, where syncz shows no resources', () => {
    const watches = { 'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig': [] }
    const answer = {
      totalClients: 2,
      clients: [
        { connectionId: 'cart-1.shop-17', watches },
        { connectionId: 'front-1.shop-18', watches: {} },
      ],
    }
    expect([...readWatchers(JSON.stringify(answer))]).toEqual(['shop/cart-1'])
  })
})

describe('a pod', () => {
  const consumer = (shape: Parameters<typeof podObject>[1], name = 'some-1') =>
    meshPod(podObject(name, shape), 'istio-system')?.consumer ?? null

  it.each([
    ['sidecar', {}],
    ['sidecar', { native: true }],
    ['gateway', { annotations: { 'inject.istio.io/templates': 'gateway' } }],
    [
      'gateway',
      {
        labels: {
          'gateway.networking.k8s.io/gateway-name': 'edge',
          'gateway.istio.io/managed': 'istio.io-gateway-controller',
        },
      },
    ],
    ['gateway', { labels: { 'gateway.istio.io/managed': 'istio.io-eastwest-controller' } }],
    [
      'waypoint',
      {
        labels: {
          'gateway.networking.k8s.io/gateway-name': 'w',
          'gateway.istio.io/managed': 'istio.io-mesh-controller',
        },
      },
    ],
    ['ztunnel', { labels: { app: 'ztunnel' } }],
    ['istiod', { namespace: 'istio-system', labels: { app: 'istiod' }, container: 'discovery' }],
  ] as const)('is a %s by %j', (expected, shape) => {
    expect(consumer(shape)).toBe(expected)
  })

  it('is nothing to the mesh without a proxy, whatever its labels say', () => {
    expect(
      consumer({ container: 'app-2', labels: { 'service.istio.io/canonical-name': 'x', app: 'istiod' } }),
    ).toBeNull()
  })

  it('counts on the host network too', () => {
    expect(consumer({ spec: { hostNetwork: true } })).toBe('sidecar')
  })

  it('is not running while its proxy waits, whatever the phase says', () => {
    const state = { waiting: { reason: 'CrashLoopBackOff' } }
    expect(meshPod(podObject('some-1', { state }), 'istio-system')?.notRunning).toBe(
      'container istio-proxy: CrashLoopBackOff',
    )
    expect(meshPod(podObject('some-1', { phase: 'Pending' }), 'istio-system')?.notRunning).toBe('phase Pending')
    expect(meshPod(podObject('some-1', { native: true, state }), 'istio-system')?.notRunning).toContain(
      'CrashLoopBackOff',
    )
  })

  it('belongs to its Deployment, its CronJob or itself', () => {
    const owned = (kind: string, name: string) => {
      const pod = podObject('some-1')
      return meshPod(
        { ...pod, metadata: { ...pod.metadata, ownerReferences: [{ kind, name, controller: true }] } },
        'istio-system',
      )
    }
    expect(meshPod(podObject('cart-1'), 'istio-system')?.owner).toBe('shop/Deployment/cart')
    expect(owned('StatefulSet', 'db')?.owner).toBe('shop/StatefulSet/db')
    expect(owned('Job', 'report-28391230')).toMatchObject({ owner: 'shop/CronJob/report', transient: true })
    expect(
      meshPod({ ...podObject('lone'), metadata: { name: 'lone', namespace: 'shop' } }, 'istio-system')?.owner,
    ).toBe('shop/Pod/lone')
  })

  it('takes its trust from elsewhere with a SPIRE socket, mounted certificates or istio-csr', () => {
    const source = (shape: Parameters<typeof podObject>[1]) =>
      meshPod(podObject('some-1', shape), 'istio-system')?.ownTrustSource
    expect(source({ spec: { volumes: [{ name: 'workload-socket', csi: { driver: 'csi.spiffe.io' } }] } })).toContain(
      'SPIFFE',
    )
    expect(source({ spec: { volumes: [{ name: 'workload-certs', secret: {} }] } })).toContain('mounted certificates')
    expect(source({ spec: { volumes: [{ name: 'workload-certs', emptyDir: {} }] } })).toBeNull()
    expect(source({ env: { CA_ADDR: 'cert-manager-istio-csr.cert-manager.svc:443' } })).toContain('istio-csr')
  })
})
