import { exitCodes, ReanchorError } from '../../errors.ts'

/** Which of Linkerd's ways a rotation goes. */
export const linkerdFlows = ['trust-roots', 'upgrade', 'config-map'] as const
export type LinkerdFlow = (typeof linkerdFlows)[number]

/** A version by its numbers: `stable-2.7.1`, `2.14` or `edge-22.8.2`. An edge release is told by its year, month and number. */
export interface LinkerdVersion {
  readonly text: string
  readonly channel: 'stable' | 'edge'
  readonly numbers: readonly [number, number, number]
}

export function linkerdVersion(text: string, field = 'spec.linkerd.version'): LinkerdVersion {
  const found = /^(?:(stable|edge)-|v)?(\d+)\.(\d+)(?:\.(\d+))?$/.exec(text)
  if (found !== null) {
    const channel = found[1] === 'edge' || Number(found[2]) > 9 ? 'edge' : 'stable'
    return { text, channel, numbers: [Number(found[2]), Number(found[3]), Number(found[4] ?? '0')] }
  }
  throw new ReanchorError({
    what: 'a version of Linkerd that cannot be read',
    where: { field },
    expected: 'stable-2.<minor>[.<patch>] or edge-<year>.<month>.<number>',
    found: JSON.stringify(text),
    example: 'stable-2.14.10',
  })
}

/** Whether a version is at least the given stable one; an edge release at least the given edge one. */
function atLeast(
  version: LinkerdVersion,
  stable: readonly [number, number, number],
  edge: readonly [number, number, number],
): boolean {
  const least = version.channel === 'stable' ? stable : edge
  for (const [index, number] of version.numbers.entries()) {
    if (number !== least[index]) return number > (least[index] ?? 0)
  }
  return true
}

/** 2.7 brought identity's reload of the issuer Secret. */
const reloading = [
  [2, 7, 0],
  [20, 1, 3],
] as const
/** 2.8 renamed `trust roots` of the checks to `trust anchors` (linkerd2 3538944d0). */
const renamed = [
  [2, 8, 0],
  [20, 5, 1],
] as const
/** 2.9 moved the anchors from `.data.global` to `.data.values`, and reads PKCS#8 keys. */
const valued = [
  [2, 9, 0],
  [20, 9, 1],
] as const
/** 2.10 took `global` out of the chart's values, and stopped verifying the issuer's name. */
const flattened = [
  [2, 10, 0],
  [21, 3, 1],
] as const
/** 2.11 brought the ConfigMap linkerd-identity-trust-roots (linkerd2#6455). */
const separate = [
  [2, 11, 0],
  [21, 8, 2],
] as const
/** 2.12 accepts RSA roots (linkerd2#7771) and hashes the anchors into an annotation of every control-plane pod (linkerd2#9118). */
const hashing = [
  [2, 12, 0],
  [22, 8, 2],
] as const

/** What depends on the version, as the facts list it. */
export interface VersionRules {
  /** Words of the identity checks. */
  readonly words: 'roots' | 'anchors'
  readonly rsaRoots: boolean
  /** Identity crashes on a PKCS#8 key: `unsupported block type: 'PRIVATE KEY'`. */
  readonly pkcs8Keys: boolean
  /** Identity verifies the issuer for the DNS name `identity.<namespace>.<trust domain>`, up to 2.9. */
  readonly issuerName: boolean
  /** Control-plane pods are in the data-plane check; from 2.11 on they read the ConfigMap, and are left out. */
  readonly controlPlaneInCheck: boolean
  /** The control plane's proxies have the anchors as a literal in their Deployments, up to 2.10. */
  readonly literalAnchors: boolean
  /** Helm restarts the control plane by itself when the value changes. */
  readonly rootHash: boolean
  /** Chart value of the anchors: below `global` up to 2.9 (charts/linkerd2/values.yaml). */
  readonly anchorsValue: readonly string[]
  /** Chart value whose entries stand on every pod of the control plane; null: 2.7 and 2.8 have none. */
  readonly podAnnotationsValue: readonly string[] | null
  /** The chart fails without `identity.issuer.crtExpiry`, up to 2.10 (charts/linkerd2/templates/identity.yaml). */
  readonly issuerExpiry: boolean
}

/**
 * Whether a chart restarts the control plane in the very apply that brings new anchors: they are a literal in its pods up to 2.10, and from 2.12
 * on their hash is an annotation, which is constant under `identity.externalCA`. 2.11 has neither (linkerd2#9022).
 */
export function chartRestarts(rules: VersionRules, externalCa: boolean): boolean {
  return rules.literalAnchors || (rules.rootHash && !externalCa)
}

export function rulesOf(version: LinkerdVersion): VersionRules {
  const trustRoots = atLeast(version, ...separate)
  const flat = atLeast(version, ...flattened)
  const annotated = atLeast(version, ...valued)
  const global = flat ? [] : ['global']
  return {
    words: atLeast(version, ...renamed) ? 'anchors' : 'roots',
    rsaRoots: atLeast(version, ...hashing),
    pkcs8Keys: atLeast(version, ...valued),
    issuerName: !flat,
    controlPlaneInCheck: !trustRoots,
    literalAnchors: !trustRoots,
    rootHash: atLeast(version, ...hashing),
    anchorsValue: [...global, 'identityTrustAnchorsPEM'],
    podAnnotationsValue: annotated ? [...global, 'podAnnotations'] : null,
    issuerExpiry: !trustRoots,
  }
}

/**
 * Refuses a flow that the version has no place for, and names the one that it has. 2.9 and 2.10 keep the anchors in an argument or a variable of
 * identity besides, which only their chart sets: `upgrade` takes them where that chart is what is installed.
 */
export function refuseFlow(flow: LinkerdFlow, version: LinkerdVersion, chart: boolean): void {
  const wrong = (why: string, todo: string): ReanchorError =>
    new ReanchorError({
      what: `flow ${flow} does not fit ${version.text}: ${why}`,
      where: { field: 'spec.linkerd.flow' },
      expected: flow === 'trust-roots' ? '2.11 or later' : '2.7 or 2.8, or the chart of 2.9 or 2.10',
      found: version.text,
      todo,
      exit: exitCodes.refused,
    })
  if (!atLeast(version, ...reloading))
    throw wrong('identity reads its issuer only at its start', 'upgrade Linkerd to 2.7 or later first')
  if (flow === 'trust-roots') {
    if (atLeast(version, ...separate)) return
    throw wrong(
      'there is no ConfigMap linkerd-identity-trust-roots',
      atLeast(version, ...valued)
        ? 'upgrade Linkerd to 2.11 or later first, or choose upgrade where its chart installs it'
        : 'choose upgrade or config-map',
    )
  }
  if (!atLeast(version, ...valued)) return
  if (flow === 'upgrade' && chart && !atLeast(version, ...separate)) return
  throw wrong(
    'anchors have left .data.global',
    'choose trust-roots, from 2.11 on; upgrade Linkerd first if it is older',
  )
}
