import { mkdir, mkdtemp, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { moduleFolder, output, program } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import { freePort, logEnd, type Server, until } from './server.ts'

const source = 'github.com/cert-manager/trust-manager'

/** The real trust-manager of a cluster, with its kinds; its webhook is never asked, since nothing registers it. */
export async function startTrustManager(plane: ControlPlane): Promise<Server> {
  const kinds = join(await moduleFolder('trust-manager', source), 'deploy', 'crds')
  for (const file of await readdir(kinds)) if (file.endsWith('.yaml')) await plane.objects.applyFile(join(kinds, file))
  await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'cert-manager' } })
  const folder = await mkdtemp(join(plane.folder, 'trust-manager-'))
  const certificates = join(folder, 'webhook')
  await mkdir(certificates)
  const pair = ['-keyout', join(certificates, 'tls.key'), '-out', join(certificates, 'tls.crt')]
  const how = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=webhook']
  await output('openssl', ['req', '-x509', '-days', '2', ...how, ...pair])
  const [webhook, readiness] = [await freePort(), await freePort()]
  const server = plane.run('trust-manager', [
    await program('trust-manager'),
    `--kubeconfig=${plane.kubeconfig}`,
    '--leader-elect=false',
    '--webhook-host=127.0.0.1',
    `--webhook-port=${webhook}`,
    `--webhook-certificate-dir=${certificates}`,
    '--metrics-port=0',
    `--readiness-probe-port=${readiness}`,
    '--trust-namespace=cert-manager',
  ])
  try {
    await until(
      'trust-manager is ready',
      async () => {
        const answer = await fetch(`http://127.0.0.1:${readiness}/readyz`, { signal: AbortSignal.timeout(5000) })
        return answer.ok ? true : null
      },
      60_000,
    )
  } catch (cause) {
    throw new Error(`${String(cause)}\n${await logEnd(server)}`)
  }
  return server
}
