import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { moduleFolder } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import { applyKinds } from './kinds.ts'
import type { Manifest } from './objects.ts'
import { until } from './server.ts'

export const istioNamespace = 'istio-system'
/** What pods dial, and what their hosts file has to know. */
export const istiodService = { namespace: istioNamespace, name: 'istiod' } as const

export interface IstioOptions {
  /** @default 2 */
  readonly replicas?: number
  /** Environment of istiod, beside what the rig's Envoy needs. */
  readonly env?: Readonly<Record<string, string>>
  /** Environment of every proxy injected from now on. */
  readonly proxyMetadata?: Readonly<Record<string, string>>
  readonly podAnnotations?: Readonly<Record<string, string>>
  /** Name of this cluster to Istio. @default Kubernetes */
  readonly cluster?: string
  /** @default v1.31-latest */
  readonly version?: string
}

/**
 * Upstream Envoy has none of Istio's own filters: listeners that name one are refused, and so they are switched off. Without iptables
 * in the pods, nothing is intercepted: applications dial listeners of their Envoy (interceptionMode NONE).
 */
const envoyWithoutFilters = { PILOT_ENABLE_METADATA_EXCHANGE: 'false', PILOT_ENABLE_ALPN_FILTER: 'false' }

/** The Istio resource, for whoever delivers it: a test, or a GitOps repository. */
export function istioManifest(options: IstioOptions = {}): Manifest {
  const { podAnnotations, proxyMetadata, cluster } = options
  return {
    apiVersion: 'sailoperator.io/v1',
    kind: 'Istio',
    metadata: { name: 'default' },
    spec: {
      version: options.version ?? 'v1.31-latest',
      namespace: istioNamespace,
      updateStrategy: { type: 'InPlace' },
      values: {
        global: {
          istioNamespace,
          ...(cluster === undefined ? {} : { meshID: 'mesh', network: '', multiCluster: { clusterName: cluster } }),
        },
        // Its providers are filters of Istio's own as well.
        telemetry: { enabled: false },
        meshConfig: {
          trustDomain: 'cluster.local',
          enablePrometheusMerge: false,
          defaultConfig: {
            interceptionMode: 'NONE',
            concurrency: 1,
            ...(proxyMetadata === undefined ? {} : { proxyMetadata }),
          },
        },
        pilot: {
          autoscaleEnabled: false,
          replicaCount: options.replicas ?? 2,
          env: { ...envoyWithoutFilters, ...options.env },
          ...(podAnnotations === undefined ? {} : { podAnnotations }),
        },
      },
    },
  }
}

/** As YAML, as it stands in a repository. */
export function istioResource(options: IstioOptions = {}): string {
  return stringify(istioManifest(options))
}

const kinds = [
  'istio.io_all',
  'sailoperator.io_istios',
  'sailoperator.io_istiorevisions',
  'sailoperator.io_istiorevisiontags',
  'sailoperator.io_istiocnis',
  'sailoperator.io_ztunnels',
]

/** What stands in a cluster before anyone declares an Istio: the namespace and the CRDs. */
export async function installIstio(plane: ControlPlane): Promise<void> {
  const { objects } = plane
  await objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: istioNamespace } })
  await applyKinds(plane, kinds)
}

/** Waits until the roll-out of a Deployment is through, old pods gone. */
export async function rolledOut(
  plane: ControlPlane,
  namespace: string,
  name: string,
  patience = 120_000,
): Promise<void> {
  await until(`Deployment ${namespace}/${name} is rolled out`, () => isRolledOut(plane, namespace, name), patience, 200)
}

export async function isRolledOut(plane: ControlPlane, namespace: string, name: string): Promise<boolean> {
  const found = await plane.objects.get({ apiVersion: 'apps/v1', kind: 'Deployment', namespace, name })
  if (found === null) return false
  const { generation } = found.metadata as { generation?: number }
  const { replicas: wanted = 1 } = found.spec as { replicas?: number }
  const status = (found.status ?? {}) as Readonly<Record<string, number>>
  if (status.observedGeneration !== generation) return false
  return status.updatedReplicas === wanted && status.replicas === wanted && status.availableReplicas === wanted
}

/** Files of istiod's chart, as `helm dependency update` would vendor them. */
export async function istiodChart(): Promise<Record<string, string>> {
  const module = await moduleFolder('istio', 'istio.io/istio')
  const folder = join(module, 'manifests', 'charts', 'istio-control', 'istio-discovery')
  const files: Record<string, string> = {}
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    files[path.slice(folder.length + 1)] = await readFile(path, 'utf8')
  }
  return files
}
