import type { KubernetesObject, ResourceType } from '../../cluster/cluster.ts'
import type { Instant } from '../../rotation.ts'
import { at, instant, instantOf, text } from '../../verify/values.ts'

/** `central`: a CentralConnection (connectivity-certs-controller). `compass`: the CompassConnection of the runtime agent. */
export type ConnectionKind = 'central' | 'compass'

/** Both are cluster-scoped. A CentralConnection has no status subresource. */
export const connectionResources = {
  central: {
    group: 'applicationconnector.kyma-project.io',
    version: 'v1alpha1',
    plural: 'centralconnections',
    namespaced: false,
  },
  compass: { group: 'compass.kyma-project.io', version: 'v1alpha1', plural: 'compassconnections', namespaced: false },
} as const satisfies Readonly<Record<ConnectionKind, ResourceType>>

export const connectionKinds = { central: 'CentralConnection', compass: 'CompassConnection' } as const

/** The one name that a CompassConnection has. */
export const compassName = 'compass-connection'

/** The Secret with a runtime's own client certificate, and where it lies by kind (kyma 1.x; Compass; 2.x). */
export const clientSecret = {
  name: 'cluster-client-certificates',
  namespaces: { central: ['kyma-integration'], compass: ['compass-system', 'kyma-system'] },
} as const

/** What a runtime's connection says of its client certificate. Dates only: of the issuer it says nothing. */
export interface ConnectionFacts {
  readonly notBefore: Instant | null
  readonly notAfter: Instant | null
  readonly lastSuccess: Instant | null
  /** The controller's own words; null: none. */
  readonly error: string | null
  /** `Synchronized`, `ConnectionMaintenanceFailed`, …; null for a CentralConnection, which has none. */
  readonly state: string | null
  /** Somebody asked for a renewal. That it is false proves none: it is reset on failure too. */
  readonly asked: boolean
}

export function readConnection(kind: ConnectionKind, object: KubernetesObject): ConnectionFacts {
  const status = object.status
  if (kind === 'central') {
    const certificate = at(status, 'certificateStatus')
    return {
      notBefore: instant(at(certificate, 'notBefore')),
      notAfter: instant(at(certificate, 'notAfter')),
      lastSuccess: instant(at(status, 'synchronizationStatus', 'lastSuccess')),
      error: written(at(status, 'error', 'message')),
      state: null,
      asked: at(object.spec, 'renewNow') === true,
    }
  }
  const connection = at(status, 'connectionStatus')
  return {
    notBefore: instant(at(connection, 'certificateStatus', 'notBefore')),
    notAfter: instant(at(connection, 'certificateStatus', 'notAfter')),
    lastSuccess: instant(at(connection, 'lastSuccess')),
    error: written(at(connection, 'error')) ?? written(at(status, 'synchronizationStatus', 'error')),
    state: text(at(status, 'connectionState')),
    asked: at(object.spec, 'refreshCredentialsNow') === true,
  }
}

/** An empty text is how Go says that there is none. */
function written(value: unknown): string | null {
  const found = text(value)
  return found === null || found === '' ? null : found
}

/** States of a CompassConnection in which it works with the certificate that it has. */
const working: ReadonlySet<string> = new Set(['Connected', 'Synchronized'])

/** Why a runtime cannot be counted as renewed since `since`, when the connector's Secret was seen to hold what it now holds; null: it has renewed. */
export function notRenewed(facts: ConnectionFacts, since: Instant): string | null {
  if (facts.error !== null) return `says: ${facts.error}`
  if (facts.state !== null && !working.has(facts.state)) return `is ${facts.state}`
  if (facts.notBefore === null) return 'tells no dates of its certificate'
  if (Date.parse(facts.notBefore) < Date.parse(since))
    return `holds a certificate of ${facts.notBefore}, and the connector has its present CA since ${since}`
  if (facts.lastSuccess === null || Date.parse(facts.lastSuccess) < Date.parse(since))
    return `has not reached the gateway since ${since}`
  return null
}

/**
 * By how much the clock that dates a certificate may be ahead of the one that dates the Secret: a certificate that seems to have begun this soon after the
 * change may still be of the old CA.
 */
export const issuingDoubt = 30_000

/** The runtime's cluster and the connector's, by the time of their API servers. */
export interface Clocks {
  readonly runtime: Instant
  readonly central: Instant
}

/** What two clocks of well-kept clusters differ by at most, with what passes between two answers. */
const clockLeeway = 60_000

/** Why what a runtime says cannot be held against the connector's times; null: nothing speaks against it (F27). */
export function doubtOf(facts: ConnectionFacts, { runtime, central }: Clocks): string | null {
  if (Math.abs(Date.parse(runtime) - Date.parse(central)) > clockLeeway)
    return `its cluster's clock says ${runtime} where the connector's says ${central}: their times cannot be compared`
  const ahead = (time: Instant | null): boolean => time !== null && Date.parse(time) > Date.parse(runtime) + clockLeeway
  if (ahead(facts.notBefore)) return `says that its certificate begins at ${facts.notBefore}, which lies ahead`
  if (ahead(facts.lastSuccess)) return `says that it reached the gateway at ${facts.lastSuccess}, which lies ahead`
  return null
}

/** Why a runtime does not show that it reaches the gateway as that is now; null: it does. What it says is old where its controller stands still (F23). */
export function notReached(facts: ConnectionFacts, since: Instant | null, now: Instant): string | null {
  if (facts.error !== null) return `says: ${facts.error}`
  if (facts.state !== null && !working.has(facts.state)) return `is ${facts.state}`
  if (facts.lastSuccess === null) return 'does not say that it has ever reached the gateway'
  const last = Date.parse(facts.lastSuccess)
  if (since !== null && last < Date.parse(since))
    return `has not reached the gateway since that changed at ${since}: it synchronises every 5 minutes`
  if (Date.parse(now) - last > 3 * syncPeriod)
    return `reached the gateway at ${facts.lastSuccess} and not since: its controller, which synchronises every 5 minutes, stands still`
  return null
}

/** Of the runtime's controller (connectivity-certs-controller, centralconnection). */
const syncPeriod = 300_000

/** Share of its certificate's life after which a runtime renews by itself. */
export const renewedAfter = 0.7

/**
 * When a runtime renews by itself: with less than 30 % of the validity left, or less than two periods of synchronisation (300 s each). With leaves of
 * 92 days that is after 64.4 days. Null: the dates are not told.
 */
export function renewsAt(facts: Pick<ConnectionFacts, 'notBefore' | 'notAfter'>): Instant | null {
  if (facts.notBefore === null || facts.notAfter === null) return null
  const begin = Date.parse(facts.notBefore)
  const end = Date.parse(facts.notAfter)
  return instantOf(new Date(Math.min(begin + (end - begin) * renewedAfter, end - 2 * syncPeriod)))
}

/**
 * What a person runs to renew a runtime at once. Nothing of it may lie in Git: the token in a CertificateRequest's URL works once and for ten minutes, and
 * its controller deletes the resource, so that a deliverer would make it again at each sync; and `renewNow: true` under a deliverer that overrides would
 * renew at every reconcile.
 */
export function renewalCommands(runtime: string, kind: ConnectionKind, name: string): string {
  const where = `in the cluster of runtime ${runtime}`
  if (kind === 'compass')
    return `${where}: kubectl patch compassconnection ${name} --type=merge --patch '{"spec":{"refreshCredentialsNow":true}}'`
  return `${where}: kubectl patch centralconnection ${name} --type=merge --patch '{"spec":{"renewNow":true}}'`
}

/** The same where the runtime's certificate is refused already: only a new token helps, and the resource must not come from Git. */
export function onboardingCommands(runtime: string, kind: ConnectionKind, name: string): string {
  if (kind === 'compass')
    return `in the cluster of runtime ${runtime}: give the agent a new token of Compass (Secret compass-agent-configuration) and delete compassconnection ${name}`
  return `in the cluster of runtime ${runtime}, with a URL that the connector gave less than 10 minutes ago: kubectl create --filename - <<< '{"apiVersion":"applicationconnector.kyma-project.io/v1alpha1","kind":"CertificateRequest","metadata":{"name":"${name}"},"spec":{"csrInfoUrl":"URL"}}'`
}
