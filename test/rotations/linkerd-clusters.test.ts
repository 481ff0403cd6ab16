import { expect, it, onTestFinished } from 'vitest'
import { attest } from '../../src/commands/attest.ts'
import { merge, nextWhenReady, planAndMerge, recordMerge, type World } from '../../src/commands/demo.ts'
import type { Declaration, FileTree } from '../../src/rotation.ts'
import { goOn, openStep } from './drive.ts'
import { inBatches, trusting, twoBatches } from './linkerd-fleet.ts'
import { testWorld } from './world.ts'

const minutes = 60_000
const machine = 'shop/till'

/** In us-1, a gateway and viz in the place of `cart`: their namespaces are not injected, and their pods are. */
function withExtensions(fleet: FileTree): FileTree {
  return new Map(twoBatches(fleet)).set(
    'shop/us-1/shop.yaml',
    [extension('linkerd-multicluster', 'linkerd-gateway', 'multicluster'), extension('linkerd-viz', 'tap', 'viz')].join(
      '---\n',
    ),
  )
}

function extension(namespace: string, name: string, of: string): string {
  return `apiVersion: v1
kind: Namespace
metadata:
  name: ${namespace}
  labels: {linkerd.io/extension: ${of}}
  annotations: {linkerd.io/inject: disabled}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  replicas: 1
  selector:
    matchLabels: {app: ${name}}
  template:
    metadata:
      labels: {app: ${name}, linkerd.io/extension: ${of}}
      annotations: {linkerd.io/inject: enabled}
    spec:
      containers:
        - name: ${name}
          image: registry.example.com/${name}:1.0.0
`
}

function declared(declaration: Declaration): Declaration {
  const word = { name: machine, why: 'a machine in a shop, which no API shows' }
  return { ...inBatches(declaration), gates: { ...declaration.gates, attest: [word] } }
}

/** What the gates of the present step still wait for, by their names. */
async function waitingFor(world: World, patience: number): Promise<Readonly<Record<string, string>>> {
  const outcome = await nextWhenReady(world, patience)
  if (outcome.kind !== 'waiting') throw new Error(`it does not wait: ${outcome.kind}`)
  const open = outcome.gates.filter(({ verdict }) => verdict !== 'holds')
  return Object.fromEntries(open.map(({ id, site, because }) => [`${site} ${id}`, because.join('\n')]))
}

async function giveWord(world: World, phase: number): Promise<void> {
  const asked = { rotation: world.rotation, base: null, name: machine, phase, by: 'someone' }
  const { pullRequest } = await attest(world.context, asked)
  if (pullRequest !== null) await merge(world, pullRequest)
}

it('two clusters that share a root, with workloads in two batches, widen and narrow together: none drops the old root while a proxy of the other presents an old leaf (F1, F19, F20)', async () => {
  const sites = ['eu-1', 'us-1']
  const test = await testWorld({ system: 'linkerd', sites, fleet: withExtensions, change: declared, roundLimit: 20 })
  onTestFinished(() => test.close())
  const { world } = test
  const external = { apiVersion: 'workload.linkerd.io/v1beta1', kind: 'ExternalWorkload' }
  test.store('eu-1').put({ ...external, metadata: { name: 'till', namespace: 'shop' } }, 'kubectl-create')
  await planAndMerge(world)

  await recordMerge(world, await openStep(world, 'trust-both/data-plane-2'))
  // A machine of eu-1 holds both clusters.
  expect(Object.keys(await waitingFor(world, 0))).toContain('eu-1 linkerd/attested')
  await giveWord(world, 1)

  const frozen = 'emojivoto/Deployment/web'
  const issueNew = await openStep(world, 'issue-new')
  test.site('us-1').faults.frozen.add(frozen)
  await recordMerge(world, issueNew)
  // Long after every other leaf has been renewed.
  const waiting = await waitingFor(world, 45 * minutes)
  expect(Object.keys(waiting).filter(id => id.endsWith('/leaves-issued'))).toEqual(['us-1 linkerd/leaves-issued'])
  expect(waiting['us-1 linkerd/leaves-issued']).toMatch(/^proxy emojivoto\/web-/)
  expect(trusting(world)).toEqual(new Set([2]))

  // The proxy no longer hangs, and renews by itself.
  test.site('us-1').faults.frozen.delete(frozen)
  await recordMerge(world, await openStep(world, 'trust-new/data-plane-2'))
  await giveWord(world, 3)
  expect(await goOn(world)).toEqual(['close/close'])
  expect(trusting(world)).toEqual(new Set([1]))
  expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  const ofBatch2 = world.rehearsal.restarts().filter(({ consumer }) => /linkerd-gateway|tap|cart/.test(consumer))
  expect(ofBatch2.map(({ count }) => count)).toEqual([2, 2, 2])
}, 900_000)
