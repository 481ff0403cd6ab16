import { mkdir, rm, writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { output } from './components.ts'

/**
 * One flat network for all clusters of a test file: a bridge on this machine, and a network namespace for every pod. Pods of two clusters
 * reach each other directly, which Istio calls one network.
 */
export interface Network {
  /** Address of this machine on the bridge: API servers listen here, and it is every pod's gateway. */
  readonly address: string
  readonly bridge: string
  /** Range for the ClusterIPs of cluster `number` (0 to 3), beyond the pods' addresses: no two rigs, and no two clusters, share one. */
  services(number: number): { readonly range: string; readonly first: string }
  /** A ClusterIP that a manifest may name: number `last` (2 to 250) of that range. */
  clusterIP(number: number, last: number): string
  /** A namespace with an address of its own. `hosts` maps names to addresses, as /etc/hosts of what runs in it. */
  addNamespace(hosts?: Readonly<Record<string, string>>, kept?: string): Promise<NetworkNamespace>
  /** The address that every namespace gets which is asked for under this name, one after the other. */
  keep(name: string): string
  /** Gives this machine one more address, such as the ClusterIP of a Service. */
  addAddress(address: string): Promise<void>
  close(): Promise<void>
}

export interface NetworkNamespace {
  readonly name: string
  readonly address: string
  close(): Promise<void>
}

/** Makes the network. Needs the right to make network namespaces (root). */
export async function createNetwork(): Promise<Network> {
  const net = await claimNet()
  const bridge = bridgeOf(net)
  const prefix = `10.${net}`
  const address = `${prefix}.0.1`
  await ip('addr', 'add', `${address}/16`, 'dev', bridge)
  await ip('link', 'set', bridge, 'up')
  const namespaces = new Map<string, NetworkNamespace>()
  let next = 0

  const addressOf = (number: number): string => `${prefix}.${1 + Math.floor(number / 250)}.${1 + (number % 250)}`
  const keptNames = new Map<string, number>()

  function keep(asked: string): string {
    const number = keptNames.get(asked) ?? next++
    keptNames.set(asked, number)
    return addressOf(number)
  }

  async function addNamespace(hosts: Readonly<Record<string, string>> = {}, kept?: string): Promise<NetworkNamespace> {
    const number = next++
    const name = `${bridge}-${number.toString(36)}`
    const pod = kept === undefined ? addressOf(number) : keep(kept)
    const near = `v${net}-${number.toString(36)}`
    await mkdir(`/etc/netns/${name}`, { recursive: true })
    const lines = Object.entries({ localhost: '127.0.0.1', ...hosts }).map(([host, at]) => `${at} ${host}\n`)
    await writeFile(`/etc/netns/${name}/hosts`, lines.join(''))
    await ip('netns', 'add', name)
    await ip('link', 'add', near, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    await ip('link', 'set', near, 'master', bridge, 'up')
    await ip('-n', name, 'link', 'set', 'lo', 'up')
    // Neighbours remember who had an address.
    if (kept !== undefined) await ip('-n', name, 'link', 'set', 'eth0', 'address', macOf(pod))
    await ip('-n', name, 'addr', 'add', `${pod}/16`, 'dev', 'eth0')
    await ip('-n', name, 'link', 'set', 'eth0', 'up')
    await ip('-n', name, 'route', 'add', 'default', 'via', address)
    const namespace: NetworkNamespace = {
      name,
      address: pod,
      async close() {
        if (!namespaces.delete(name)) return
        await ip('link', 'del', near).catch(() => {})
        await ip('netns', 'del', name).catch(() => {})
        await rm(`/etc/netns/${name}`, { recursive: true, force: true })
      },
    }
    namespaces.set(name, namespace)
    return namespace
  }

  return {
    address,
    bridge,
    services: number => ({ range: `${prefix}.${192 + number * 16}.0/20`, first: `${prefix}.${192 + number * 16}.1` }),
    clusterIP: (number, last) => `${prefix}.${192 + number * 16}.${last}`,
    addNamespace,
    keep,
    addAddress: extra => ip('addr', 'replace', `${extra}/32`, 'dev', bridge),
    async close() {
      for (const namespace of [...namespaces.values()]) await namespace.close()
      await ip('link', 'del', bridge).catch(() => {})
    },
  }
}

/**
 * Takes a 10.x.0.0/16 that no interface here uses, by making its bridge, and returns x. Several suites begin at once, and only the kernel
 * can tell which of them had a name first.
 */
async function claimNet(): Promise<number> {
  const used = new Set<number>()
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { address } of addresses ?? []) {
      const [first, second] = address.split('.')
      if (first === '10') used.add(Number(second))
    }
  }
  for (let net = 120; net < 220; net += 1) {
    if (used.has(net)) continue
    try {
      // A bridge without an address of its own takes the lowest of its ports', so it changes as pods come and go, and pods that know the
      // old one reach this machine only when their neighbour entry has run out, most of a minute later.
      await ip('link', 'add', bridgeOf(net), 'address', `02:00:00:00:00:${net.toString(16)}`, 'type', 'bridge')
      return net
    } catch (cause) {
      if (!String(cause).includes('File exists')) throw cause
    }
  }
  throw new Error('no free 10.x.0.0/16 for the network of the clusters')
}

function macOf(address: string): string {
  const octets = address.split('.').map(octet => Number(octet).toString(16).padStart(2, '0'))
  return ['02', '01', ...octets].join(':')
}

function bridgeOf(net: number): string {
  return `ra${net}`
}

async function ip(...args: string[]): Promise<void> {
  await output('ip', args)
}
