/**
 * One Cassandra ring over two regions, each a cluster of its own, through a real Gitea with no hand in between: the operator's runbook for several regions, its
 * steps 2 to 13. And what comes of a CA with the Subject of the one in use.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocument } from 'yaml'
import { cassandraFleet, cassandraNames } from './rig/cassandra-fleet.ts'
import { cassandraRotation, rotateRing } from './rig/cassandra-rotation.ts'
import {
  aliasesOf,
  type CassandraRing,
  certificateUnder,
  type FluxCassandraRegion,
  secretOf,
  startCassandraRing,
} from './rig/cassandra-world.ts'
import { output } from './rig/components.ts'
import { fingerprintOf } from './rig/fingerprint.ts'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { mustSay, reanchor, told } from './rig/reanchor.ts'
import { report } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { gatesMerged } from './rig/unattended.ts'
import { failuresText, recordOf } from './rig/watch.ts'

const names = ['eu-1', 'us-1']
/** Of four copies a query at QUORUM needs three, and so always one of the other region, by its mutual TLS. */
const replicas = 2
const { namespace, serverCa } = cassandraNames

describe('Cassandra in two regions through a real Gitea', () => {
  let network: Network
  let fleet: ForgeFleet
  let ring: CassandraRing<FluxCassandraRegion>

  beforeAll(async () => {
    network = await createNetwork()
    fleet = await makeForgeFleet((_url, recipient) => cassandraFleet(recipient, names, replicas))
    ring = await startCassandraRing({ network, repository: fleet, regions: names, replicas })
    await ring.whole()
  }, 1_200_000)

  afterAll(async () => {
    await ring?.stop()
    await fleet?.close()
    await network?.close()
  })

  it('adds everywhere, swaps everywhere, drops everywhere, one region at a time; no node is lost and no query fails', async () => {
    const { record, traffic, trusted, presented } = await rotateRing(ring, fleet, 'first')
    await report({
      ...recordOf('Cassandra through a real Gitea, unattended: two regions of two nodes', record, traffic),
      ...{ refused: record.refused, trusted, presented },
    })
    // Each is an edit of the runbook and the wait after it.
    const edits = ['0-adopt-1-adopt', '1-add-1-data', '2-swap-1-data', '3-drop-1-data'].flatMap(step =>
      names.map(region => `${step}-${region}`),
    )
    expect(record.steps.map(step => step.step)).toEqual(['plan', ...edits, '4-close'])
    expect(record.merges).toHaveLength(record.steps.length)
    expect(gatesMerged(record)).toEqual(['success'])
    expect(record.refused).toBeGreaterThan(0)
    const both = 'o=ca,o=example-first'
    expect(trusted).toEqual([
      'eu-1: o=ca | us-1: o=ca',
      `eu-1: ${both} | us-1: o=ca`,
      `eu-1: ${both} | us-1: ${both}`,
      `eu-1: o=example-first | us-1: ${both}`,
      'eu-1: o=example-first | us-1: o=example-first',
    ])
    expect(presented.at(0)).toBe('eu-1: ca | us-1: ca')
    expect(presented.at(-1)).toBe('eu-1: example-first | us-1: example-first')
    for (const step of record.steps.slice(1, -1)) expect(step.consumers.node, step.step).toBeGreaterThan(0)
    expect(failuresText(traffic)).toEqual([])
    expect(traffic.slice(0, -1).every(step => step.sent > 0)).toBe(true)
    for (const region of ring.regions)
      expect(region.nodes().map(pod => pod.restarts('cassandra'))).toEqual(Array.from({ length: replicas }, () => 0))
    expect(await refusals()).toBe(0)
    await ring.whole()
  }, 3_600_000)

  /** How often a node wrote that it refuses another one's certificate, in the words of the operator's runbook; over all that ran under their names. */
  async function refusals(): Promise<number> {
    const pods = ring.regions.flatMap(region => region.nodes())
    const logs = await Promise.all(pods.map(pod => readFile(pod.log('cassandra'), 'utf8')))
    return logs.reduce((sum, log) => sum + log.split('Certificate signature validation failed').length - 1, 0)
  }

  it('refuses a new CA of the Subject in use at plan; put there by hand past it, such a CA costs the ring a node', async () => {
    const [region] = ring.regions
    if (region === undefined) throw new Error('no region')
    const { plane } = region
    const { folder } = ring.authorities
    const { 'ca.crt': oldCertificate = Buffer.of() } = await secretOf(plane, serverCa)
    const [alias = ''] = await aliasesOf(plane, folder)
    const subject = alias.replace(/^o=/, 'O=')

    const name = 'twin'
    const { init } = cassandraRotation(ring, fleet, name)
    await fleet.pull()
    await mustSay(['init', 'cassandra', '--yes', '--name', name, '--forge', fleet.forgeFlag, ...init], {
      cwd: fleet.clone,
    })
    const file = `rotations/${name}/rotation.yaml`
    const declared = await readFile(join(fleet.clone, file), 'utf8')
    for (const twin of [subject, subject.toUpperCase()]) {
      const document = parseDocument(declared)
      document.setIn(['spec', 'next'], { generate: { subject: twin } })
      await fleet.commit({ [file]: document.toString() }, `Declare rotation ${name} with ${twin}`)
      const desk = await fleet.runner(ring.regions.map(each => each.plane.kubeconfig))
      const said = await reanchor(
        ['plan', '--rotation', name, '--root-key-out', join(fleet.outside, `${name}.key.age`)],
        { ...desk, env: { ...desk.env, SOPS_AGE_KEY: fleet.identity } },
      )
      expect(said.exit, told(said)).toBe(5)
      expect(said.stderr).toContain('the new CA has the Subject of one that is in the Secret already')
    }
    expect(await fleet.api(`GET`, `/repos/${fleet.name}/pulls?state=open`)).toEqual([])

    // What the runbook warns of: a second CA whose alias in the truststore is the first one's.
    const openssl = (...args: string[]): Promise<string> => output('openssl', args, { cwd: folder })
    await openssl('genrsa', '-traditional', '-out', 'twin.key', '4096')
    const asked = ['-new', '-nodes', '-sha256', '-days', '3650', '-subj', `/${subject}`, '-key', 'twin.key']
    await openssl('req', '-x509', ...asked, '-out', 'twin.crt')
    const twin = await readFile(join(folder, 'twin.crt'))
    const { 'ca.key': oldKey = Buffer.of() } = await secretOf(plane, serverCa)
    const kept: string[] = []

    /** By hand; returns once the region's nodes have their new stores. */
    async function put(data: Readonly<Record<string, Buffer>>): Promise<void> {
      const nodeSecret = `${cassandraNames.cluster}-cluster-tls-node`
      const { 'tls.crt': before = Buffer.of() } = await secretOf(plane, nodeSecret)
      const encoded = Object.fromEntries(Object.entries(data).map(([key, value]) => [key, value.toString('base64')]))
      await plane.objects.merge({ apiVersion: 'v1', kind: 'Secret', namespace, name: serverCa }, { data: encoded })
      await until(
        'the operator has signed anew',
        async () => !(await secretOf(plane, nodeSecret))['tls.crt']?.equals(before),
        60_000,
      )
      // Two CAs went in, and Java finds one.
      expect(await aliasesOf(plane, folder)).toEqual([alias])
      kept.push((await certificateUnder(plane, folder, alias)) === fingerprintOf(twin.toString()) ? 'new' : 'old')
    }

    // Whoever edits by hand has Flux out of the way.
    await region.flux.kill()
    const began = Date.now()
    await put({ 'ca.crt': oldCertificate, 'ca.key': oldKey, 'ca2.crt': twin })
    // Chance kept the old one: nothing is lost before the swap.
    if (kept.at(-1) === 'old') {
      await until('all nodes of the region have restarted', () => restarted(began), 400_000, 2000)
      await ring.whole()
      await put({ 'ca.crt': twin, 'ca.key': await readFile(join(folder, 'twin.key')), 'ca2.crt': oldCertificate })
    }
    await until('a node refuses another', async () => (await refusals()) > 0, 400_000, 2000)
    // And that is no moment of a roll-out.
    await sleep(60_000)
    const lost = await ring.whole().then(
      () => null,
      (cause: unknown) => String(cause),
    )
    const queries = await Promise.all(ring.regions.map(({ traffic }) => traffic.read(began)))
    const sent = queries.reduce((sum, each) => sum + each.sent, 0)
    const failed = queries.reduce((sum, each) => sum + each.failed, 0)
    const starts = region.nodes().map(pod => pod.restarts('cassandra'))
    await report({ what: 'control: two CAs of one Subject on real nodes', kept, lost, starts, sent, failed })
    expect(lost).toMatch(/consistency level ALL|unable to|no connections|no host/i)
    // One node comes up no more, and the roll-out stops there.
    expect(starts.filter(count => count > 0)).toHaveLength(1)

    async function restarted(since: number): Promise<boolean> {
      const pods = await plane.objects.list('v1', 'Pod', { namespace })
      return pods.every(pod => {
        const status = pod.status as {
          readonly startTime?: string
          readonly conditions?: readonly { readonly type: string; readonly status: string }[]
        }
        const ready = status.conditions?.some(({ type, status: holds }) => type === 'Ready' && holds === 'True')
        return ready === true && Date.parse(status.startTime ?? '') > since
      })
    }
  }, 1_800_000)
})
