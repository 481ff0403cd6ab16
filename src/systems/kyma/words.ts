import type { Plan } from '../../rotation.ts'
import type { SystemWords } from '../system.ts'
import { carried } from './material.ts'
import { type KymaPlaces, kymaSetting, placesOf } from './phases.ts'
import { gatewayId, signerId } from './profile.ts'
import { kymaOf } from './settings.ts'

/** What to watch while a phase rolls out. Commands only read. */
function watch(phase: string, plan: Plan): readonly string[] {
  const { gateway } = placesIn(plan)
  const sameKey = keepsOneKey(plan)
  const refusals = `\`kubectl --namespace ${gateway.namespace} logs deployment/${gateway.deployment}\` shows a refusal as a TLS error`
  const rolling =
    gateway.form === 'mount'
      ? [
          `Only the restart step rolls the gateway: \`kubectl --namespace ${gateway.namespace} rollout status deployment/${gateway.deployment}\``,
        ]
      : []
  switch (phase) {
    case 'adopt':
      return ['Nothing restarts, and no client notices: both Secrets keep the values that they had.']
    case 'trust-both':
      return [`Clients keep working throughout: ${refusals}`, ...rolling]
    case 'issue-new':
      return [
        'Runtimes renew by themselves with less than 30 % of the validity of their certificate left (with 92 days, after 64), or when told. The gate names each that has not, with the date and the command to run in its cluster; nothing of it belongs into Git.',
        'A runtime that renews writes the CA that the connector now answers with over what its own cluster trusts, and nothing beside it' +
          (sameKey
            ? ': with key and subject kept, applications that call it go on being accepted.'
            : ': applications that call it with an old certificate are refused from then on, so have their owners renew first.'),
      ]
    case 'trust-new':
      return sameKey
        ? [
            `Nobody is refused: key and subject stay, so that a certificate of the old CA verifies with the new one. ${refusals}, and there should be none more than before`,
            ...rolling,
          ]
        : [
            `From here on the old CA is not trusted: a client that was forgotten is refused, and comes back only with a new token. ${refusals}`,
            ...rolling,
          ]
    case 'replace':
      return sameKey
        ? [`Nobody is refused: key and subject stay. ${refusals}`]
        : [
            `Every client is refused from the moment at which a gateway pod has the new CA, until it was given a new token: the gate names each runtime, and what to run in its cluster. ${refusals}`,
          ]
    default:
      return []
  }
}

/** Where the plan's material lies: the same in all its steps. */
function placesIn({ phases }: Plan): KymaPlaces {
  const state = phases.flatMap(({ steps }) => steps.flatMap(step => Object.values(step.sites)))[0]?.state
  return placesOf(state ?? { settings: {} })
}

function keepsOneKey({ certificates }: Plan): boolean {
  return new Set(certificates.map(({ spki }) => spki)).size === 1
}

export const kymaWords: SystemWords = {
  watch,
  alarm:
    'Alarm: TLS errors in the log of the gateway that come from runtimes or applications that reached it before, for more than the 15 minutes in which each of them reports.',
  emergency:
    'The gateway stops trusting the old CA at once. With a new key every runtime and application is refused until it was given a new token; with a new certificate for the same key nobody is.',
  acceptOutage:
    'run `reanchor plan --accept-outage`: with a new key every runtime and application is refused until it was given a new token, which renews nothing by itself',
  nudge: 'gateway pods that were made while their node still had the old file start once more',
  cleanUp: declaration => {
    const settings = kymaOf(declaration)
    return [
      'in runtime clusters the agent keeps its own copy of the CA: see that no one there still lists the old one',
      ...(settings.applications
        ? ['applications that were vouched for: delete what remains of their old certificates']
        : []),
    ]
  },
  places(declared) {
    const settings = kymaOf(declared)
    return {
      anchors: `${gatewayId(settings)}: ${settings.gateway.key}`,
      issuer: `${signerId(settings)}: ${settings.signer.certificateKey}`,
    }
  },
  fitting(currents, now) {
    const expired = currents.map(({ issuer }) => issuer).find(({ notAfter }) => Date.parse(notAfter) <= now.getTime())
    const overrides = currents.flatMap(({ settings }) => settings[carried.overrides] || [])
    const first =
      overrides.length === 0
        ? ''
        : `; not before this is taken out, which the next upgrade of Kyma writes back: ${overrides.join('; ')}`
    if (expired !== undefined) {
      const ended = `the CA ${expired.subject} ended ${expired.notAfter}: every client is refused, and cannot renew through the gateway`
      const way =
        'the CA has ended: with `compromised: certificate` key and subject stay, and clients whose own certificate has not ended work again at once'
      return [
        { strategy: 'renew', fits: false, why: ended },
        { strategy: 'graceful', fits: false, why: ended },
        { strategy: 'emergency', fits: true, why: `${way}${first}` },
      ]
    }
    return [
      {
        strategy: 'renew',
        fits: true,
        why: `before the CA ends: the same key, subject and key identifier, so that no client notices${first}`,
      },
      {
        strategy: 'graceful',
        fits: true,
        why: `a new key, and no outage: every client renews while both CAs are trusted${first}`,
      },
      {
        strategy: 'emergency',
        fits: true,
        why: `only where certificate or key is in foreign hands: with a new key every client is refused until it has a new token${first}`,
      },
    ]
  },
  takeOvers(_declaration, _site, { settings }) {
    return [
      {
        namespace: settings[kymaSetting.signerNamespace] ?? '',
        name: settings[kymaSetting.signer] ?? '',
        file: 'connector-ca.yaml',
      },
    ]
  },
}
