import { exitCodes, ReanchorError } from '../../errors.ts'
import type { CoursePhase } from '../../plan/time-left.ts'
import type { Fingerprint, Strategy, TrustState } from '../../rotation.ts'
import { futureCa } from '../system.ts'
import { type CaSecret, dataOf, entryName, type NewCa, trustedEntries } from './ca-secret.ts'
import { keysInGoOrder, operatorChecksum } from './checksum.ts'

/**
 * The phases of Cassandra's rotation, as states of trust: what the CA Secret of a region holds (old, new: the CAs).
 *
 * | phase | `ca.crt`, `ca.key` | `ca2.crt` | nodes trust        | nodes present       | out                                    |
 * |-------|--------------------|-----------|--------------------|---------------------|----------------------------------------|
 * | adopt | old                | –         | old                | leaves of old       | forward; abandon leaves all as it was  |
 * | add   | old                | new       | old, then both     | leaves of old       | forward; back to adopt                 |
 * | swap  | new                | old       | both               | of old, then of new | forward; back to add                   |
 * | drop  | new                | –         | both, then new     | leaves of new       | close; back to swap, which adds old    |
 *
 * Each phase is one step: the operator itself follows a changed Secret with new node certificates and a rolling restart of every
 * StatefulSet (mr-cassop controllers/cassandra_tls.go, cassandra_container.go). The new CA's private key comes with `swap`, and the
 * old one leaves with it. With several regions each step is a pull request for each region, one after the other.
 */

export interface CassandraStepDraft {
  readonly name: string
  readonly what: string
  readonly state: TrustState
  readonly undo: TrustState | null
  readonly nudge: TrustState | null
}

export interface CassandraPhaseDraft {
  readonly name: string
  readonly title: string
  readonly steps: readonly CassandraStepDraft[]
}

/** Prefix of the settings that name the certificate under each key of the Secret: `entry/ca2.crt`. */
export const entrySetting = 'entry/'
/** The annotation value by which the operator says that it has taken up exactly this step's data. */
export const checksumSetting = 'checksum'

export interface CassandraMaterial {
  readonly secret: CaSecret
  readonly next: NewCa
  /** Tokens of an earlier rotation, which stay. */
  readonly restarts: Readonly<Record<string, string>>
  /**
   * Checksum of a state where keys are sealed already and cannot be hashed again; null where it is not known.
   * @default it is computed
   */
  readonly checksumOf?: (entries: Readonly<Record<string, Fingerprint>>, issuer: Fingerprint) => string | null
  /** What else every state says, as `currentCa` has it. @default {} */
  readonly settings?: Readonly<Record<string, string>>
}

/** The phases of one region, from `adopt` on. The closing phase changes no folder and is the plan's to add. */
export function cassandraPhases(strategy: Strategy, material: CassandraMaterial): readonly CassandraPhaseDraft[] {
  refuseStrategy(strategy)
  const { secret, next } = material
  const main = secret.certificateKey
  const present = Object.fromEntries([...trustedEntries(secret)].map(([key, { sha256 }]) => [key, sha256]))
  const old = present[main] as Fingerprint
  const second = entryName(secret)
  const fresh = next.certificate.sha256
  // What was trusted beside the old CA stays trusted; copies of the old CA under other names go with it.
  const others = Object.fromEntries(Object.entries(present).filter(([key, sha256]) => key !== main && sha256 !== old))
  const state = (entries: Readonly<Record<string, Fingerprint>>, issuer: Fingerprint): TrustState =>
    stateOf(material, entries, issuer)

  const adopted = state(present, old)
  const adopt = phase(
    'adopt',
    'adopt',
    "Takes today's CA Secret over as it is, byte for byte. The operator sees no change, so no node restarts.",
    adopted,
    null,
  )
  if (strategy === 'emergency') {
    const replaced = state({ ...others, [main]: fresh }, fresh)
    const what =
      'Replaces the CA at once. The operator signs every node anew and restarts it; until all have restarted, those that have and those that have not refuse one another.'
    return [adopt, phase('replace', 'replace the compromised CA', what, replaced, null)]
  }
  const both = state({ ...present, [second]: fresh }, old)
  const swapped = state({ ...present, [main]: fresh, [second]: old }, fresh)
  const dropped = state({ ...others, [main]: fresh }, fresh)
  return [
    adopt,
    phase(
      'add',
      'add the new CA',
      `Adds the new CA as \`${second}\`, without its key. The operator signs every node anew with the old CA and restarts it, so that it trusts both.`,
      both,
      adopted,
    ),
    phase(
      'swap',
      'sign with the new CA',
      `Makes the new CA the one that signs, and keeps the old one as \`${second}\`. The operator signs every node anew with the new CA and restarts it.`,
      swapped,
      both,
    ),
    phase(
      'drop',
      'drop the old CA',
      `Takes \`${second}\` out. The operator signs every node anew and restarts it, so that it trusts the new CA only.`,
      dropped,
      swapped,
    ),
  ]
}

/**
 * The phases above as far as time is concerned. They cannot be asked for them: a state needs the Secret's bytes, for the checksum that the operator will
 * write.
 */
export function cassandraCourse(
  strategy: Strategy,
  { issuer, roots }: { readonly issuer: Fingerprint; readonly roots: readonly Fingerprint[] },
): readonly CoursePhase[] {
  if (missingStrategies[strategy] !== null) return []
  const others = roots.filter(root => root !== issuer)
  const one = (name: string, bundle: readonly Fingerprint[], signs: Fingerprint): CoursePhase => ({
    name,
    steps: [{ bundle, issuer: signs }],
  })
  const adopt = one('adopt', [issuer, ...others], issuer)
  const only = [...others, futureCa]
  if (strategy === 'emergency') return [adopt, one('replace', only, futureCa)]
  const both = [issuer, ...others, futureCa]
  return [adopt, one('add', both, issuer), one('swap', both, futureCa), one('drop', only, futureCa)]
}

function phase(
  name: string,
  title: string,
  what: string,
  state: TrustState,
  undo: TrustState | null,
): CassandraPhaseDraft {
  return { name, title, steps: [{ name: name === 'adopt' ? 'adopt' : 'data', what, state, undo, nudge: null }] }
}

function stateOf(
  material: CassandraMaterial,
  entries: Readonly<Record<string, Fingerprint>>,
  issuer: Fingerprint,
): TrustState {
  const { secret, next } = material
  const data = dataOf({ entries, issuer }, secret, next)
  const checksum = material.checksumOf === undefined ? operatorChecksum(data) : material.checksumOf(entries, issuer)
  if (checksum === null) throw new Error('the checksum of a state with sealed keys is not known')
  const keys = Object.keys(data).filter(key => entries[key] !== undefined)
  return {
    bundle: [...new Set(keys.map(key => entries[key] as Fingerprint))],
    issuer,
    chain: [],
    source: 'plugged',
    settings: { ...material.settings, ...secretSettings(secret, data, entries, checksum) },
    restarts: { ...material.restarts },
  }
}

/** What a state says of the Secret. An entry that an earlier state had and this one has not is absent. */
export function secretSettings(
  secret: CaSecret,
  data: Readonly<Record<string, string>>,
  entries: Readonly<Record<string, Fingerprint>>,
  checksum: string,
): Readonly<Record<string, string>> {
  const plain = [...trustedEntries(secret)].every(([key, certificate]) => secret.data[key] === certificate.pem)
  return {
    namespace: secret.namespace,
    secret: secret.name,
    type: secret.type,
    certificateKey: secret.certificateKey,
    privateKey: secret.privateKey,
    keys: keysInGoOrder(data).join(' '),
    plain: String(plain),
    ...Object.fromEntries(
      keysInGoOrder(entries).map(key => [`${entrySetting}${key}`, entries[key] as Fingerprint] as const),
    ),
    [checksumSetting]: checksum,
  }
}

/** The certificate under each key of the Secret, as a state declares it. */
export function entriesOf(state: Pick<TrustState, 'settings'>): Readonly<Record<string, Fingerprint>> {
  return Object.fromEntries(
    Object.entries(state.settings)
      .filter(([name]) => name.startsWith(entrySetting))
      .map(([name, sha256]) => [name.slice(entrySetting.length), sha256]),
  )
}

const useGraceful = {
  expected: 'graceful, or emergency for a key that is in foreign hands',
  todo: 'choose graceful: it makes a new CA under a Subject of its own, without downtime and with the same number of restarts',
}

/** Strategies that have no meaning for Cassandra, with the reason and what to use. */
export const missingStrategies: Readonly<
  Record<Strategy, null | { readonly what: string; readonly expected: string; readonly todo: string }>
> = {
  graceful: null,
  emergency: null,
  renew: {
    what: 'strategy renew does not exist for Cassandra: a truststore of the operator names its entries by Subject, so an old and a new certificate of one Subject cannot stand side by side in it',
    ...useGraceful,
  },
  issuer: {
    what: 'strategy issuer does not exist for Cassandra: the CA that signs nodes is what nodes trust, and there is no root above it whose trust could stay while the issuing CA changes',
    ...useGraceful,
  },
}

export function refuseStrategy(strategy: Strategy): void {
  const missing = missingStrategies[strategy]
  if (missing === null) return
  throw new ReanchorError({
    ...missing,
    where: { field: 'spec.strategy' },
    found: strategy,
    exit: exitCodes.refused,
  })
}
