import { readFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { KubeConfig, PortForward } from '@kubernetes/client-node'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { output } from './rig/components.ts'
import { type ControlPlane, startControlPlane } from './rig/control-plane.ts'
import { type Kubelet, type RunningPod, startKubelet } from './rig/kubelet.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Manifest } from './rig/objects.ts'
import { freePort, until } from './rig/server.ts'
import { startServiceProxy } from './rig/service-proxy.ts'

let network: Network
let plane: ControlPlane
let kubelet: Kubelet

beforeAll(async () => {
  network = await createNetwork()
  plane = await startControlPlane({ name: 'kubelet', network })
  kubelet = await startKubelet(plane, { syncPeriod: 100 })
})

afterAll(async () => {
  await kubelet?.stop()
  await plane?.stop()
  await network?.close()
})

interface Shape {
  readonly namespace: string
  readonly name: string
  readonly replicas?: number
  readonly env?: Readonly<Record<string, string>>
  readonly container?: Readonly<Record<string, unknown>>
  readonly pod?: Readonly<Record<string, unknown>>
}

const port = 7000

/** A Deployment of echo servers that listen on their pods' addresses. */
function echoes({ namespace, name, replicas = 1, env = {}, container = {}, pod = {} }: Shape): Manifest {
  const labels = { app: name }
  const values = { NAME: name, ADDRESS: '0.0.0.0', PORT: String(port), LINGER: '0', ...env }
  const main = {
    name: 'app',
    image: 'rig/workload',
    env: Object.entries(values).map(([key, value]) => ({ name: key, value })),
    ports: [{ containerPort: port, name: 'echo' }],
    readinessProbe: { tcpSocket: { port: 'echo' } },
    ...container,
  }
  const template = { metadata: { labels }, spec: { containers: [main], ...pod } }
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace, labels },
    spec: { replicas, selector: { matchLabels: labels }, template },
  }
}

async function makeNamespace(name: string): Promise<string> {
  await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', namespace: name, name: 'default' }
  await until(`the ServiceAccount of ${name}`, () => plane.objects.get(account))
  return name
}

interface Deployment extends Manifest {
  readonly spec: { readonly replicas: number }
  readonly status?: {
    readonly observedGeneration?: number
    readonly replicas?: number
    readonly updatedReplicas?: number
    readonly readyReplicas?: number
  }
}

/** Waits until every pod of a Deployment is a ready one of its newest template, and returns them. */
async function rolledOut(namespace: string, name: string): Promise<readonly RunningPod[]> {
  const place = { apiVersion: 'apps/v1', kind: 'Deployment', namespace, name }
  return await until(`the rollout of ${namespace}/${name}`, async () => {
    const { metadata, spec, status = {} } = (await plane.objects.get(place)) as Deployment
    const { replicas = 0, updatedReplicas = 0, readyReplicas = 0 } = status
    const done = [replicas, updatedReplicas, readyReplicas].every(count => count === spec.replicas)
    const pods = kubelet.find(namespace, `${name}-`)
    return status.observedGeneration === metadata.generation && done && pods.length === spec.replicas && pods
  })
}

async function only(namespace: string, name: string): Promise<RunningPod> {
  const [pod] = await rolledOut(namespace, name)
  if (pod === undefined) throw new Error(`no pod of ${namespace}/${name}`)
  return pod
}

/** Sends a line and returns what came back before the server closed, or the first line. */
function askAt(host: string, at: number, patience = 5000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: at, timeout: patience })
    let said = ''
    socket.on('data', chunk => {
      said += chunk.toString('utf8')
      if (said.includes('\n')) socket.destroy()
    })
    socket.on('timeout', () => socket.destroy(new Error('no answer')))
    socket.on('error', reject)
    socket.on('close', () => resolve(said))
    socket.write('from test\n')
  })
}

async function namespacesOfNetwork(): Promise<string> {
  return await output('ip', ['netns', 'list'])
}

async function processesOf(netns: string): Promise<readonly string[]> {
  return (await output('ip', ['netns', 'pids', netns]))
    .trim()
    .split('\n')
    .filter(line => line !== '')
}

test('a Deployment runs as processes that answer at the addresses of its pods', async () => {
  const namespace = await makeNamespace('runs')
  await plane.objects.apply(echoes({ namespace, name: 'echo', replicas: 2 }))
  const pods = await rolledOut(namespace, 'echo')
  const answers = await Promise.all(pods.map(pod => askAt(pod.address, port)))
  expect(answers).toEqual(pods.map(pod => `echo ${pod.name} from test\n`))
  const listed = await plane.objects.list('v1', 'Pod', { namespace })
  const addresses = listed.map(pod => (pod.status as { readonly podIP: string }).podIP)
  expect(addresses.toSorted()).toEqual(pods.map(({ address }) => address).toSorted())
})

test('an annotation of the pod template replaces the processes, and the old ones end with their network namespaces', async () => {
  const namespace = await makeNamespace('rolls')
  await plane.objects.apply(echoes({ namespace, name: 'echo', replicas: 2 }))
  const before = await rolledOut(namespace, 'echo')
  const annotations = { 'reanchor.dev/trust': 'token' }
  const deployment = { apiVersion: 'apps/v1', kind: 'Deployment', namespace, name: 'echo' }
  await plane.objects.merge(deployment, { spec: { template: { metadata: { annotations } } } })
  await until('pods of the new template', async () => {
    const listed = await plane.objects.list('v1', 'Pod', { namespace })
    const current = listed.filter(pod => pod.metadata.deletionTimestamp === undefined)
    return current.every(
      pod => (pod.metadata.annotations as Record<string, string> | undefined)?.['reanchor.dev/trust'] === 'token',
    )
  })
  const after = await rolledOut(namespace, 'echo')
  expect(after.filter(pod => before.some(({ uid }) => uid === pod.uid))).toEqual([])
  await until('the old network namespaces are gone', async () => {
    const left = await namespacesOfNetwork()
    return before.every(({ netns }) => !left.includes(`${netns} `))
  })
  expect(await Promise.all(after.map(pod => askAt(pod.address, port)))).toEqual(
    after.map(pod => `echo ${pod.name} from test\n`),
  )
})

test('volumes show Secrets, ConfigMaps, tokens and the pod itself, and a change arrives by a swap of ..data', async () => {
  const namespace = await makeNamespace('volumes')
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'roots', namespace } }
  await plane.objects.apply({ ...secret, stringData: { 'root.pem': 'one', extra: 'x' } })
  const sources = [
    { serviceAccountToken: { audience: 'istio-ca', path: 'token' } },
    { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca/root.crt' }] } },
    { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
  ]
  const pod = {
    volumes: [
      { name: 'roots', secret: { secretName: 'roots' } },
      { name: 'mixed', projected: { sources } },
      { name: 'missing', secret: { secretName: 'missing', optional: true } },
      { name: 'scratch', emptyDir: {} },
    ],
  }
  const container = {
    volumeMounts: [
      { name: 'roots', mountPath: '/etc/roots', readOnly: true },
      { name: 'mixed', mountPath: '/var/run/mixed' },
      { name: 'missing', mountPath: '/etc/missing' },
      { name: 'scratch', mountPath: '/scratch' },
    ],
  }
  await plane.objects.apply(echoes({ namespace, name: 'echo', pod, container }))
  const running = await only(namespace, 'echo')
  const inside = (text: string): Promise<string> => running.execIn('app', ['/bin/sh', '-c', text])
  expect(await inside('cat /etc/roots/root.pem; ls /etc/roots /etc/missing')).toBe(
    'one/etc/missing:\n\n/etc/roots:\nextra\nroot.pem\n',
  )
  expect(await inside('cat /var/run/mixed/labels')).toContain('app="echo"')
  expect(await inside('cat /var/run/mixed/ca/root.crt')).toBe(await readFile(plane.certificateAuthority, 'utf8'))
  const claims = Buffer.from((await inside('cat /var/run/mixed/token')).split('.')[1] ?? '', 'base64url').toString()
  expect(JSON.parse(claims)).toMatchObject({ aud: ['istio-ca'], 'kubernetes.io': { pod: { name: running.name } } })
  expect(await inside('touch /scratch/ours && echo yes')).toBe('yes\n')
  await expect(inside('touch /etc/roots/mine')).rejects.toThrow(/Read-only|Permission/)
  const version = await inside('readlink /etc/roots/..data')

  kubelet.holdProjection(({ uid }) => uid === running.uid)
  await plane.objects.apply({ ...secret, stringData: { 'root.pem': 'two' } })
  await plane.objects.apply({
    ...secret,
    metadata: { ...secret.metadata, name: 'missing' },
    stringData: { late: 'here' },
  })
  const other = { ...echoes({ namespace, name: 'other', pod, container }) }
  await plane.objects.apply(other)
  const fresh = await only(namespace, 'other')
  expect(await fresh.execIn('app', ['cat', '/etc/roots/root.pem'])).toBe('two')
  expect(await inside('cat /etc/roots/root.pem')).toBe('one')
  expect(await inside('readlink /etc/roots/..data')).toBe(version)

  kubelet.holdProjection(null)
  await until('the projection of the second version', async () => (await inside('cat /etc/roots/root.pem')) === 'two')
  expect(await inside('readlink /etc/roots/..data')).not.toBe(version)
  await until('the projection of the late Secret', async () => (await inside('ls /etc/missing')) === 'late\n')
  expect(running.restarts('app')).toBe(0)
})

test('a pod waits for a Secret that is not optional', async () => {
  const namespace = await makeNamespace('waits')
  const env = [{ name: 'NAME', valueFrom: { secretKeyRef: { name: 'later', key: 'name' } } }]
  const pod = { volumes: [{ name: 'later', secret: { secretName: 'later' } }] }
  const container = { env, readinessProbe: undefined, volumeMounts: [{ name: 'later', mountPath: '/later' }] }
  await plane.objects.apply(JSON.parse(JSON.stringify(echoes({ namespace, name: 'echo', pod, container }))) as Manifest)
  await until('the reason why it waits', async () => {
    const [listed] = await plane.objects.list('v1', 'Pod', { namespace })
    return JSON.stringify(listed?.status ?? {}).includes('secret \\"later\\" not found')
  })
  const later = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'later', namespace } }
  await plane.objects.apply({ ...later, stringData: { name: 'echo' } })
  const running = await only(namespace, 'echo')
  expect(await running.execIn('app', ['/bin/sh', '-c', 'cat /later/name; echo $NAME'])).toBe('echoecho\n')
})

test('a port-forward reaches a port on the loopback of the pod', async () => {
  const namespace = await makeNamespace('forwards')
  const env = { ADDRESS: '127.0.0.1' }
  const container = { readinessProbe: { exec: { command: ['/bin/true'] } } }
  await plane.objects.apply(echoes({ namespace, name: 'echo', env, container }))
  const running = await only(namespace, 'echo')
  await expect(askAt(running.address, port)).rejects.toThrow('ECONNREFUSED')
  const config = new KubeConfig()
  config.loadFromFile(plane.kubeconfig)
  const forward = new PortForward(config)
  const local = await freePort()
  const server = createServer(socket => {
    forward
      .portForward(namespace, running.name, [port], socket, null, socket)
      .catch(cause => socket.destroy(cause as Error))
  })
  await new Promise<void>(resolve => server.listen(local, '127.0.0.1', resolve))
  // kwok hears of a new pod's ports a moment after the pod is ready.
  const answer = await until('an answer through the port-forward', () => askAt('127.0.0.1', local))
  expect(answer).toBe(`echo ${running.name} from test\n`)
  server.close()
})

test('a killed container starts again in the same pod', async () => {
  const namespace = await makeNamespace('restarts')
  await plane.objects.apply(echoes({ namespace, name: 'echo' }))
  const running = await only(namespace, 'echo')
  await kubelet.kill(running, 'app')
  await until('the restart in the status of the pod', async () => {
    const [listed] = await plane.objects.list('v1', 'Pod', { namespace })
    const status = listed?.status as { readonly containerStatuses: readonly { restartCount: number; ready: boolean }[] }
    return status.containerStatuses[0]?.restartCount === 1 && status.containerStatuses[0].ready
  })
  expect(await askAt(running.address, port)).toBe(`echo ${running.name} from test\n`)
  expect(kubelet.find(namespace, 'echo-')).toEqual([running])
})

test('sidecars start before the containers and end after them', async () => {
  const namespace = await makeNamespace('sidecars')
  const probe = { tcpSocket: { port: 7100 }, periodSeconds: 1 }
  const values = { NAME: 'side', ADDRESS: '0.0.0.0', PORT: '7100', LINGER: '0' }
  const side = {
    name: 'side',
    image: 'rig/workload',
    restartPolicy: 'Always',
    env: Object.entries(values).map(([key, value]) => ({ name: key, value })),
    startupProbe: probe,
  }
  const pod = { initContainers: [{ name: 'prepare', image: 'busybox' }, side] }
  const env = { PEERS: 'side=127.0.0.1:7100', INTERVAL: '20', WARMUP: '0', LINGER: '1000' }
  await plane.objects.apply(echoes({ namespace, name: 'echo', env, pod }))
  const running = await only(namespace, 'echo')
  const log = running.log('app')
  await until('answers of the sidecar', async () => (await readFile(log, 'utf8')).includes('"by":["echo-'))
  // Not even the first request came before the sidecar was ready.
  expect((await readFile(log, 'utf8')).split('\n').filter(line => line.includes('"ok":false'))).toEqual([])
  const place = { apiVersion: 'v1', kind: 'Pod', namespace, name: running.name }
  const { status } = (await plane.objects.get(place)) as {
    readonly status?: { readonly initContainerStatuses: readonly object[] }
  }
  expect(status?.initContainerStatuses).toMatchObject([
    { name: 'prepare', state: { terminated: { exitCode: 0 } } },
    { name: 'side', started: true, ready: true, state: { running: {} } },
  ])
  await plane.objects.delete({ apiVersion: 'apps/v1', kind: 'Deployment', namespace, name: 'echo' })
  // Nobody may come to ask: the container goes on for as long as someone does.
  const listening = (): Promise<string> => output('ip', ['netns', 'exec', running.netns, 'ss', '-Hltn']).catch(() => '')
  const seen: string[] = []
  await until('the end of the pod', async () => {
    const object = await plane.objects.get(place)
    if (object?.metadata.deletionTimestamp === undefined) return object === null
    const sockets = await listening()
    const [side, app] = [7100, port].map(at => sockets.includes(`:${at} `))
    seen.push(`${side ? 'sidecar' : 'no sidecar'}, ${app ? 'container' : 'no container'}`)
    return false
  })
  expect(seen).toContain('sidecar, container')
  expect(seen).not.toContain('no sidecar, container')
})

test('deletion ends the processes and the network namespace', async () => {
  const namespace = await makeNamespace('deletes')
  await plane.objects.apply(echoes({ namespace, name: 'echo' }))
  const running = await only(namespace, 'echo')
  expect(await processesOf(running.netns)).not.toEqual([])
  await plane.objects.delete({ apiVersion: 'apps/v1', kind: 'Deployment', namespace, name: 'echo' })
  const pod = { apiVersion: 'v1', kind: 'Pod', namespace, name: running.name }
  await until('the pod is gone', async () => (await plane.objects.get(pod)) === null)
  expect(await namespacesOfNetwork()).not.toContain(`${running.netns} `)
  expect(await output('ps', ['-eo', 'args'])).not.toContain(running.uid)
  expect(await plane.objects.list('kwok.x-k8s.io/v1alpha1', 'PortForward', { namespace })).toEqual([])
  expect(kubelet.everyPod()).toContain(running)
})

test('a pod that is deleted without grace ends, and its successor has its name and its own ports', async () => {
  const namespace = await makeNamespace('successor')
  const { metadata, spec } = echoes({ namespace, name: 'echo', env: { LINGER: '600000' } })
  const set = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata,
    spec: { ...(spec as object), serviceName: 'echo' },
  }
  await plane.objects.apply(set)
  const ready = async (): Promise<readonly Manifest[]> => {
    const listed = await plane.objects.list('v1', 'Pod', { namespace })
    return listed.filter(({ status }) => JSON.stringify(status).includes('"ready":true'))
  }
  const [before] = await until(
    'the first pod',
    async () => (await ready()).length === 1 && kubelet.find(namespace, 'echo-0'),
  )
  await plane.objects.delete({ apiVersion: 'v1', kind: 'Pod', namespace, name: 'echo-0' }, 0)
  const after = await until('the second pod', async () => {
    const [listed] = await ready()
    return kubelet.find(namespace, 'echo-0').find(({ uid }) => uid !== before?.uid && uid === listed?.metadata.uid)
  })
  await until('the network namespace of the first is gone', async () => {
    return !(await namespacesOfNetwork()).includes(`${before?.netns} `)
  })
  expect(await askAt(after.address, port)).toBe('echo echo-0 from test\n')
  const place = { apiVersion: 'kwok.x-k8s.io/v1alpha1', kind: 'PortForward', namespace, name: 'echo-0' }
  expect(JSON.stringify((await plane.objects.get(place))?.spec)).toContain(`"${after.netns}"`)
})

test('a container that does not end is killed after the grace of its pod', async () => {
  const namespace = await makeNamespace('grace')
  const env = { LINGER: '600000' }
  await plane.objects.apply(echoes({ namespace, name: 'echo', env, pod: { terminationGracePeriodSeconds: 1 } }))
  const running = await only(namespace, 'echo')
  const [first] = await processesOf(running.netns)
  await plane.objects.delete({ apiVersion: 'apps/v1', kind: 'Deployment', namespace, name: 'echo' })
  const pod = { apiVersion: 'v1', kind: 'Pod', namespace, name: running.name }
  await until('the pod is gone', async () => (await plane.objects.get(pod)) === null)
  expect(await output('ps', ['-eo', 'pid'])).not.toMatch(new RegExp(`^ *${first}$`, 'm'))
})

test('the service proxy goes through the ready endpoints in turn', async () => {
  const namespace = await makeNamespace('services')
  await plane.objects.apply(echoes({ namespace, name: 'echo', replicas: 2 }))
  const spec = { selector: { app: 'echo' }, ports: [{ name: 'tcp', port: 80, targetPort: 'echo' }] }
  await plane.objects.apply({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'echo', namespace }, spec })
  const pods = await rolledOut(namespace, 'echo')
  const proxy = await startServiceProxy(plane, [{ namespace, name: 'echo' }])
  try {
    const service = { apiVersion: 'v1', kind: 'Service', namespace, name: 'echo' }
    const found = (await plane.objects.get(service)) as { readonly spec?: { readonly clusterIP: string } }
    const address = found.spec?.clusterIP ?? ''
    const answerers = async (): Promise<ReadonlySet<string>> => {
      const said: string[] = []
      for (let turn = 0; turn < 4; turn += 1) said.push((await askAt(address, 80)).split(' ')[1] ?? '')
      return new Set(said)
    }
    await until('both endpoints', async () => (await answerers()).size === 2)
    expect(await answerers()).toEqual(new Set(pods.map(({ name }) => name)))
    // By name, from another pod, as the cluster's DNS would have it.
    const env = { PEERS: `echo=echo.${namespace}.svc:80`, INTERVAL: '50' }
    await plane.objects.apply(echoes({ namespace, name: 'asker', env }))
    const asker = await only(namespace, 'asker')
    await until('answers by the name of the Service', async () => {
      const lines = (await readFile(asker.log('app'), 'utf8')).split('\n')
      return pods.every(({ name }) => lines.some(line => line.includes(`"${name}"`)))
    })
    await plane.objects.merge(
      { apiVersion: 'apps/v1', kind: 'Deployment', namespace, name: 'echo' },
      { spec: { replicas: 1 } },
    )
    const left = await only(namespace, 'echo')
    await until('one endpoint', async () => (await answerers()).size === 1)
    expect(await answerers()).toEqual(new Set([left.name]))
  } finally {
    await proxy.stop()
  }
})

test('pods live through a stop of the API server, and changes arrive after it', async () => {
  const namespace = await makeNamespace('outage')
  await plane.objects.apply(echoes({ namespace, name: 'echo' }))
  const running = await only(namespace, 'echo')
  await plane.stopApiServer()
  await kubelet.kill(running, 'app')
  await until('the restarted container', () => askAt(running.address, port).then(said => said !== ''))
  await plane.startApiServer()
  await until('the restart in the status of the pod', async () => {
    const [listed] = await plane.objects.list('v1', 'Pod', { namespace })
    const status = listed?.status as { readonly containerStatuses: readonly { restartCount: number }[] }
    return status.containerStatuses[0]?.restartCount === 1
  })
  await plane.objects.merge(
    { apiVersion: 'apps/v1', kind: 'Deployment', namespace, name: 'echo' },
    { spec: { replicas: 2 } },
  )
  expect(await rolledOut(namespace, 'echo')).toHaveLength(2)
})
