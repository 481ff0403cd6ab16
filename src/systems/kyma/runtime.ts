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
    return `holds a certificate of ${facts.notBefore}, and the connector issues from the new CA since ${since}`
  if (facts.lastSuccess === null || Date.parse(facts.lastSuccess) < Date.parse(since))
    return `has not reached the gateway since ${since}`
  return null
}

/** Of the runtime's controller (connectivity-certs-controller, centralconnection). */
const syncPeriod = 300_000

/**
 * When a runtime renews by itself: with less than 30 % of the validity left, or less than two periods of synchronisation (300 s each). With leaves of
 * 92 days that is after 64.4 days. Null: the dates are not told.
 */
export function renewsAt(facts: Pick<ConnectionFacts, 'notBefore' | 'notAfter'>): Instant | null {
  if (facts.notBefore === null || facts.notAfter === null) return null
  const begin = Date.parse(facts.notBefore)
  const end = Date.parse(facts.notAfter)
  return instantOf(new Date(Math.min(begin + (end - begin) * 0.7, end - 2 * syncPeriod)))
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
