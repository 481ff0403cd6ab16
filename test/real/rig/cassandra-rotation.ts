import { aliasesOf, type CassandraRing, issuerServed } from './cassandra-world.ts'
import type { ForgeFleet } from './forge-fleet.ts'
import { shortGates } from './rotation.ts'
import { type UnattendedOptions, type UnattendedRecord, unattended } from './unattended.ts'
import { byStep, type StepTraffic } from './watch.ts'

export interface CassandraRotation {
  readonly record: UnattendedRecord
  readonly traffic: readonly StepTraffic[]
  /** Every change of what the truststores hold by Java's word, oldest first: `eu-1: o=ca | us-1: o=ca`. */
  readonly trusted: readonly string[]
  /** Every change of who signed what the nodes of each region present, likewise; a node that is starting says nothing. */
  readonly presented: readonly string[]
}

/** What everybody writes who rotates a ring, over a site for each region. */
export function cassandraRotation(
  ring: CassandraRing,
  fleet: ForgeFleet,
  name: string,
): Omit<UnattendedOptions, 'onRound'> {
  return {
    system: 'cassandra',
    name,
    fleet,
    administrator: ring.regions.map(({ plane }) => plane.kubeconfig),
    verifier: ring.regions.map(({ verifier }) => verifier),
    init: ring.regions.flatMap(region => [
      ...['--site', `${region.name}=trust/${region.name}`],
      ...['--context', `${region.name}=${region.name}`],
    ]),
    edit: shortGates,
    patience: 1_200_000,
  }
}

export interface RingRotationOptions {
  /** More flags of `init`. */
  readonly flags?: readonly string[]
  readonly onRound?: UnattendedOptions['onRound']
}

/** A whole rotation through the forge with nobody who looks, while truststores and nodes are looked at past the product. */
export async function rotateRing(
  ring: CassandraRing,
  fleet: ForgeFleet,
  name: string,
  { flags = [], onRound }: RingRotationOptions = {},
): Promise<CassandraRotation> {
  const { regions, authorities } = ring
  const since = Date.now()
  const trusted: string[] = []
  const presented: string[] = []
  const note = (into: string[], now: readonly string[]): void => {
    const line = regions.map((region, index) => `${region.name}: ${now[index]}`).join(' | ')
    if (into.at(-1) !== line) into.push(line)
  }
  const rotation = cassandraRotation(ring, fleet, name)
  const record = await unattended({
    ...rotation,
    init: [...rotation.init, ...flags],
    async onRound(round) {
      note(trusted, await Promise.all(regions.map(({ plane }) => aliasesOf(plane, authorities.folder))).then(texts))
      note(presented, await Promise.all(regions.map(region => issuersOf(region.nodes()))).then(texts))
      await onRound?.(round)
    },
  })
  return { record, traffic: await byStep(regions, record, since), trusted, presented }
}

async function issuersOf(nodes: readonly { readonly address: string }[]): Promise<readonly string[]> {
  const said = await Promise.all(nodes.map(({ address }) => issuerServed(address)))
  return [...new Set(said.filter(text => text.startsWith('O = ')).map(text => text.slice(4)))].sort()
}

function texts(lists: readonly (readonly string[])[]): readonly string[] {
  return lists.map(list => list.join())
}
