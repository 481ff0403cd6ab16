import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { openKubernetesCluster } from '../src/cluster/kubernetes.ts'
import { inPool } from '../src/verify/pool.ts'
import { inTurn } from './measure.ts'
import { kubeconfigText } from './pods-api.ts'

/** As many port-forwards at a time as a verifier has. */
const width = 64

export interface Endpoints {
  /** Port of the API server whose port-forwards lead to them. */
  readonly api: number
  readonly ports: readonly number[]
}

/** Milliseconds for one probe of every endpoint, by port-forward as the verifier looks, and by bare `tls.connect`. */
export async function probeTimes(
  { api, ports }: Endpoints,
  folder: string,
): Promise<{ readonly measured: number; readonly reference: number }> {
  const file = join(folder, 'kubeconfig-endpoints')
  writeFileSync(file, kubeconfigText(api))
  const cluster = await openKubernetesCluster({ kind: 'kubeconfig', file, context: null })
  const served = async (port: number): Promise<void> => {
    const { chain } = await cluster.servedTls({ namespace: 'bench', name: `endpoint-${port}` }, port, 'endpoint.bench')
    if (chain.length !== 2) throw new Error(`port ${port} served ${chain.length} certificates`)
  }
  const times = await inTurn(
    5,
    () => inPool(ports, width, served),
    () => inPool(ports, width, bare),
  )
  await cluster.close()
  return times
}

function bare(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', servername: 'endpoint.bench', rejectUnauthorized: false })
    socket.once('error', reject)
    socket.once('secureConnect', () => {
      const { raw } = socket.getPeerCertificate(true)
      socket.destroy()
      if (raw === undefined) reject(new Error(`port ${port} served no certificate`))
      else resolve()
    })
  })
}
