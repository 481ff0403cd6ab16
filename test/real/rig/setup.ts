import { existsSync } from 'node:fs'
import type { TestProject } from 'vitest/node'
import { provideGitea } from '../../forges/setup.ts'
import { envoy, output, program, programs, rustlsProxy } from './components.ts'

const real =
  'etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok, istiod (pilot-discovery), pilot-agent, \
Envoy, kustomize-controller, Argo CD (repo-server, application-controller, redis), sealed-secrets controller, trust-manager, helm, kustomize, Gitea; with --all Cassandra, and rustls under the stand-in of Linkerd’s proxy'

const standIns = `kubelet (real processes in network namespaces, its own projection of Secrets, ConfigMaps and tokens), \
kube-proxy (TCP to the ready endpoints of istiod), Flux source-controller and helm-controller, Sail operator (the real chart by the real helm), \
the Cassandra operator, Kyma’s connector and runtime agent, the part of istiod that pushes a credential to Kyma’s gateway, \
Linkerd’s identity, injector and proxies`

/** Before the first suite: says what runs, builds what the cache lacks, and the command line as users run it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  process.stderr.write(`real: ${real}\nstand-ins: ${standIns}\n`)
  const data = process.env.REANCHOR_DATA ?? '../shared/data'
  if (!existsSync(`${data}/crds`)) {
    throw new Error(`no CRDs at ${data}/crds: set REANCHOR_DATA to the folder that holds crds/`)
  }
  if (process.getuid?.() !== 0)
    throw new Error('test:real makes network namespaces, and for that it has to run as root')
  // One after the other: the compiler uses every core by itself.
  for (const name of programs) await program(name)
  await envoy()
  if (process.env.REANCHOR_REAL === 'all') await rustlsProxy()
  await output('npx', ['tsc', '-p', 'tsconfig.build.json'])
  const { end } = await provideGitea(project)
  return end
}
