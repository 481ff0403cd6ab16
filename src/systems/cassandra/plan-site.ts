import { App } from 'cdk8s'
import { caSecretFile } from '../../../phases/cassandra/ca-secret.ts'
import { cassandraCharts } from '../../../phases/cassandra/charts.ts'
import { placedObjects } from '../../../phases/site-file.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { certificateFacts } from '../../pki/certificate.ts'
import type { CurrentCa, NextCa } from '../../plan/ca.ts'
import { type Manifest, renderFolder } from '../../render/folder.ts'
import { deliveryPoints, destinationBeside } from '../../render/wiring.ts'
import type { Fingerprint, Plan, Strategy, TrustState } from '../../rotation.ts'
import type { SitePlan, SitePlanInputs } from '../system.ts'
import { type CaSecret, dataOf, isTrustedKey, type NewCa, privateKeysOf } from './ca-secret.ts'
import { keysInGoOrder } from './checksum.ts'
import { refuseSecretInGit } from './in-git.ts'
import { secretOf } from './material.ts'
import { cassandraPhases, checksumSetting, entriesOf, entrySetting } from './phases.ts'

/** Everything that is planned for one region: the states of its CA Secret, its folder at each of them, and what delivers it. */
export function planCassandraSite(inputs: SitePlanInputs): SitePlan {
  const { declaration, site, files, current, merged } = inputs
  const next = nextOf(inputs.next)
  const again = adoptedIn(merged, site.name, current)
  const secret = again === null ? secretOf(current) : secretFromPlan(again.adopted, site.name, current)
  refuseSecretInGit(files, secret, declaration.sites)
  return {
    phases: cassandraPhases(declaration.strategy as Strategy, {
      secret,
      next,
      restarts: current.restarts,
      ...(again === null ? {} : { checksumOf: checksumsOf(again.merged, site.name) }),
      settings: withoutEntries(current.settings),
    }),
    async render({ header, state, custody, canary, certificate }) {
      const Chart = cassandraCharts[header.phaseName]
      if (Chart === undefined) throw new Error(`no chart for phase ${header.phaseName}`)
      const entries = entriesOf(state)
      const data = dataOf({ entries, issuer: state.issuer }, secret, next)
      const { namespace, name, type } = secret
      const chart = new Chart(new App(), header.site, {
        rotation: declaration.name,
        state,
        secret: { namespace, name, type },
        data,
        privateKeys: privateKeysOf(data),
        canary,
        delivery: site.delivery.kind,
      })
      const readable = Object.fromEntries(
        keysInGoOrder(entries).map(key => [`${key}.pem`, certificate(entries[key] as Fingerprint).pem]),
      )
      return await renderFolder({
        header,
        objects: placedObjects(chart).map(({ object, file }) => ({ manifest: object.toJson() as Manifest, file })),
        others: new Map(Object.entries(readable)),
        places: keysInGoOrder(entries).map(key => ({
          place: `${caSecretFile}:${key}`,
          role: key === secret.certificateKey ? 'issuer' : 'trusted',
          certificates: [certificateFacts(certificate(entries[key] as Fingerprint))],
        })),
        custody,
        path: site.path,
        delivery: site.delivery.kind,
      })
    },
    wiring: () =>
      deliveryPoints(declaration, site, files, {
        namespace: secret.namespace,
        destination: () => destinationBeside(files, null, []),
      }),
  }
}

function nextOf(next: NextCa): NewCa {
  return { certificate: next.issuer, key: next.key }
}

function withoutEntries(settings: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(settings).filter(([name]) => !name.startsWith(entrySetting)))
}

/** The merged plan's first state of the site, where the plan is made again from the very Secret that it adopted; the live one has moved on since. */
function adoptedIn(
  merged: Plan | null,
  site: string,
  current: CurrentCa,
): { readonly merged: Plan; readonly adopted: TrustState } | null {
  const adopted = merged?.phases[0]?.steps[0]?.sites[site]?.state
  if (merged === null || adopted === undefined) return null
  return adopted.settings[checksumSetting] === current.settings[checksumSetting] ? { merged, adopted } : null
}

/**
 * The Secret as it was adopted, where only the merged plan still tells. Its public part is in the plan; what is neither a CA nor the signing
 * key is not, and neither are bytes around a certificate.
 */
function secretFromPlan(adopted: TrustState, site: string, current: CurrentCa): CaSecret {
  const { settings } = adopted
  const keys = (settings.keys ?? '').split(' ')
  const strange = keys.filter(key => !isTrustedKey(key) && key !== settings.privateKey)
  if (strange.length > 0 || settings.plain !== 'true')
    throw new ReanchorError({
      what: 'the CA Secret held more than CAs and their key when it was adopted, which a plan made again could not carry on',
      where: { object: `site ${site}` },
      expected: 'CERTIFICATE blocks and one private key alone',
      found: strange.length > 0 ? strange.join(', ') : 'text around a certificate',
      todo: 'go on with the plan as it is, or abandon the rotation and begin another',
      exit: exitCodes.refused,
    })
  const certificates = [current.issuer, ...current.roots, ...current.chain]
  const data: Record<string, string> = { [settings.privateKey ?? 'ca.key']: current.key ?? '' }
  for (const [key, sha256] of Object.entries(entriesOf(adopted)))
    data[key] = certificates.find(certificate => certificate.sha256 === sha256)?.pem ?? ''
  return {
    namespace: settings.namespace ?? '',
    name: settings.secret ?? '',
    type: settings.type ?? 'Opaque',
    certificateKey: settings.certificateKey ?? 'ca.crt',
    privateKey: settings.privateKey ?? 'ca.key',
    data,
  }
}

/** Checksums cover private keys, which are sealed by now: the merged plan has them for every state that it passes. */
function checksumsOf(merged: Plan, site: string) {
  return (entries: Readonly<Record<string, Fingerprint>>, issuer: Fingerprint): string | null => {
    const wanted = entriesText(entries)
    for (const { steps } of merged.phases)
      for (const step of steps) {
        const state: TrustState | undefined = step.sites[site]?.state
        if (state !== undefined && state.issuer === issuer && entriesText(entriesOf(state)) === wanted)
          return state.settings[checksumSetting] ?? null
      }
    return null
  }
}

function entriesText(entries: Readonly<Record<string, Fingerprint>>): string {
  return keysInGoOrder(entries)
    .map(key => `${key}=${entries[key]}`)
    .join(' ')
}
