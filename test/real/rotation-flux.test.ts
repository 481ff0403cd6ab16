import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { itInAll } from './rig/in-all.ts'
import { issuerDeclared, issuingUnder } from './rig/issuing.ts'
import { istioResource, rolledOut } from './rig/istio.ts'
import { edgeName, gatewayName, meshManifests } from './rig/mesh.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { mustSay, reanchor, told } from './rig/reanchor.ts'
import { type FleetRepository, fluxApps, fluxFleet, makeRepository } from './rig/repository.ts'
import { merge, nextOf, type RotationOptions, report, rotate, shortGates } from './rig/rotation.ts'
import { shopSteps } from './rig/shop.ts'
import { byStep, failuresText, flowing, held, plannedTrust, ready, recordOf, restart } from './rig/watch.ts'
import { type FluxCluster, startFluxCluster } from './rig/world.ts'

const namespace = 'shop'
/** In the repository. `ledger` is kept from pushed trust by an annotation of its own. */
const owned = ['frontend', 'cart', 'orders', 'stock', 'ledger']
/** Applied by hand, by a team that keeps its manifests elsewhere. */
const foreign = ['legacy']
const pairs = (owned.length + foreign.length) * (owned.length + foreign.length - 1) + 1

describe('rotations through Flux', () => {
  let network: Network
  let repository: FleetRepository
  let cluster: FluxCluster

  const manifests = (ledgerTakesPushes: boolean): readonly string[] =>
    meshManifests({
      namespace,
      interval: 1000,
      gateway: { clusterIP: network.clusterIP(0, 33) },
      workloads: [...owned, ...foreign].map(name => ({
        name,
        replicas: name === 'cart' ? 2 : 1,
        ...(name === 'ledger' && !ledgerTakesPushes ? { xdsAgent: false } : {}),
      })),
    }).split(/^---\n/m)
  const isForeign = (text: string): boolean => foreign.some(name => new RegExp(`^ {2}name: ${name}$`, 'm').test(text))
  const ownedYaml = (ledgerTakesPushes: boolean): string =>
    manifests(ledgerTakesPushes)
      .filter(text => !isForeign(text))
      .join('---\n')

  beforeAll(async () => {
    network = await createNetwork()
    repository = await makeRepository((_url, recipient) =>
      fluxFleet({
        recipient,
        sites: [{ name: 'eu-1', istio: istioResource({ cluster: 'eu-1' }) }],
      }),
    )
    cluster = await startFluxCluster({
      name: 'eu-1',
      network,
      repository,
      services: [{ namespace, name: gatewayName }],
    })
    await rolledOut(cluster.plane, 'istio-system', 'istiod')
    await repository.commit(fluxApps('eu-1', { 'shop.yaml': ownedYaml(false) }), 'The shop')
    await ready(cluster, namespace, [...owned, gatewayName, edgeName])
    await cluster.plane.objects.applyYaml(manifests(false).filter(isForeign).join('---\n'), 'kubectl-client-side-apply')
    await ready(cluster, namespace, foreign)
    await flowing([cluster], pairs)
  }, 900_000)

  afterAll(async () => {
    await cluster?.stop()
    await repository?.close()
    await network?.close()
  })

  function options(name: string): RotationOptions {
    return {
      name,
      repository,
      administrator: [cluster.plane.kubeconfig],
      verifier: [cluster.verifier],
      init: ['--site', 'eu-1=trust/eu-1', '--context', 'eu-1'],
      edit: shortGates,
    }
  }

  it('goes from the CA that istiod made itself to a new root, and no request fails', async () => {
    const since = Date.now()
    const acted: string[] = []
    const once = async (what: string, act: () => Promise<void>): Promise<void> => {
      if (acted.includes(what)) return
      acted.push(what)
      await act()
    }
    const record = await rotate({
      ...options('first'),
      async onWaiting(step, gates) {
        if (step !== '1-enable-multiroot/2-restart') return
        const said = gates.flatMap(gate => gate.because).join('\n')
        // The teams act on what they are told, and on nothing else.
        if (said.includes('legacy')) await once('legacy restarted', () => restart(cluster, namespace, 'legacy'))
        else if (said.includes('ledger')) {
          await once('ledger opted in', async () => {
            await repository.commit({ 'apps/eu-1/shop.yaml': ownedYaml(true) }, 'Let the ledger take pushed trust')
          })
        }
      },
    })
    const traffic = await byStep([cluster], record, since)
    await report(recordOf('Flux, Sail, SOPS: graceful, from the CA of istiod', record, traffic))
    expect(record.stoppedAt).toBeNull()
    // Whoever the gate named first.
    expect(acted.sort()).toEqual(['ledger opted in', 'legacy restarted'])
    expect(record.steps.map(step => step.step)).toEqual(shopSteps)
    // Every proxy was seen each time: those of the repository, the foreign one, and the gateway.
    for (const step of record.steps.slice(1, -1)) {
      expect(step.consumers, step.step).toMatchObject({ istiod: 2, sidecar: 7, gateway: 1 })
    }
    expect(failuresText(traffic)).toEqual([])
    expect(traffic.every(step => step.sent > 0)).toBe(true)
    expect(await held(cluster, namespace)).toEqual(await ended('first'))
    const status = await reanchor(['status', '--rotation', 'first'], { cwd: repository.clone })
    expect(status.stdout).toContain('The rotation is closed.')
    const checked = await reanchor(['verify', '--rotation', 'first'], {
      cwd: repository.clone,
      kubeconfig: [cluster.verifier],
    })
    expect(checked.exit, told(checked)).toBe(0)
  }, 1_800_000)

  itInAll(
    'rotates once more, from the CA that the first one plugged in, and starts at trust-both',
    async () => {
      const since = Date.now()
      const record = await rotate(options('second'))
      const traffic = await byStep([cluster], record, since)
      await report(recordOf('Flux, Sail, SOPS: graceful, once more', record, traffic))
      // Where the first one ended is where this one begins: there is nothing to adopt.
      expect(record.steps.map(step => step.step)).toEqual([
        'plan',
        '1-trust-both/1-data',
        '1-trust-both/2-restart',
        '2-issue-new/1-data',
        '2-issue-new/2-restart',
        '3-trust-new/1-data',
        '3-trust-new/2-restart',
        '4-close',
      ])
      expect(failuresText(traffic)).toEqual([])
      expect(await held(cluster, namespace)).toEqual(await ended('second'))
    },
    1_800_000,
  )

  itInAll(
    'replaces the issuing CA alone, and a nudge spares the wait for half a leaf’s life',
    async () => {
      const since = Date.now()
      const files = await issuingUnder(repository, 'second', { subject: '/O=cluster.local/CN=third issuing' })
      let waited = 0
      let nudge: number | null = null
      const record = await rotate({
        ...options('third'),
        edit: issuerDeclared(files),
        async onWaiting(step, gates) {
          const old = gates.some(({ id }) => id === 'istio/leaves-issued')
          if (step !== '1-issue-new/2-restart' || !old || nudge !== null || ++waited < 5) return
          const said = await mustSay(['next', '--nudge', '--rotation', 'third', '--output', 'json'], {
            cwd: repository.clone,
            kubeconfig: [cluster.verifier],
          })
          nudge = nextOf(said).pullRequest?.number ?? 0
          await merge({ repository }, nudge)
        },
      })
      const traffic = await byStep([cluster], record, since)
      const entry = recordOf('Flux, Sail, SOPS: issuer, with a nudge', record, traffic)
      await report({ ...entry, pullRequests: record.pullRequests + 1, nudge })
      expect(record.steps.map(step => step.step)).toEqual([
        'plan',
        '1-issue-new/1-data',
        '1-issue-new/2-restart',
        '2-close',
      ])
      // Subscribed proxies kept their leaves until the bundle's bytes changed.
      expect(nudge).not.toBeNull()
      expect(failuresText(traffic)).toEqual([])
      expect(await held(cluster, namespace)).toEqual(await ended('third'))
    },
    1_800_000,
  )

  /** What every proxy must hold in the end. */
  async function ended(rotation: string) {
    return { proxies: owned.length + foreign.length + 2, ...(await plannedTrust(repository, rotation)) }
  }
})
