import { App } from 'cdk8s'
import { kymaCharts } from '../../../phases/kyma/charts.ts'
import { gatewayFile } from '../../../phases/kyma/gateway.ts'
import { signerFile } from '../../../phases/kyma/signer.ts'
import { placedObjects } from '../../../phases/site-file.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { type Certificate, certificateFacts } from '../../pki/certificate.ts'
import { type Manifest, renderFolder } from '../../render/folder.ts'
import { deliveryPoints, destinationBeside } from '../../render/wiring.ts'
import type { TrustState } from '../../rotation.ts'
import type { SitePlan, SitePlanInputs } from '../system.ts'
import { bundleText, carried } from './material.ts'
import { kymaPhases } from './phases.ts'
import { signerId } from './profile.ts'
import { kymaOf } from './settings.ts'
import { refuseTraps, trapsIn } from './traps.ts'

/** Everything that is planned for one site: the states of its two Secrets, its folder at each of them, and what delivers it. */
export function planKymaSite(inputs: SitePlanInputs): SitePlan {
  const { declaration, site, files, current, next } = inputs
  const profile = kymaOf(declaration)
  refuseTraps(
    trapsIn(
      files,
      profile,
      declaration.sites.map(({ path }) => path),
    ),
  )
  refuseLostKeys(inputs)
  const phases = kymaPhases(declaration.strategy, {
    profile,
    current: {
      issuer: current.issuer.sha256,
      bundle: current.roots.map(({ sha256 }) => sha256),
      restarts: current.restarts,
    },
    next: next.issuer.sha256,
  })
  return {
    phases,
    async render({ header, state, custody, canary, certificate }) {
      const Chart = kymaCharts[header.phaseName]
      if (Chart === undefined) throw new Error(`no chart for phase ${header.phaseName}`)
      const bundle = state.bundle.map(certificate)
      const signer = certificate(state.issuer)
      const chart = new Chart(new App(), header.site, {
        rotation: declaration.name,
        state,
        signer: {
          namespace: profile.signer.namespace,
          name: profile.signer.secret,
          type: current.settings[carried.signerType] ?? 'Opaque',
          certificate: { key: profile.signer.certificateKey, text: signerText(inputs, state, signer) },
          privateKey: { key: profile.signer.privateKey, text: signingKey(inputs, state) },
        },
        gateway: {
          namespace: profile.gateway.namespace,
          name: profile.gateway.secret,
          type: current.settings[carried.gatewayType] ?? 'Opaque',
          bundle: { key: profile.gateway.key, text: gatewayText(inputs, state, bundle) },
        },
        ...(profile.gateway.form === 'mount'
          ? { deployment: { namespace: profile.gateway.namespace, name: profile.gateway.deployment } }
          : {}),
        canary,
        delivery: site.delivery.kind,
      })
      return await renderFolder({
        header,
        objects: placedObjects(chart).map(({ object, file }) => ({ manifest: object.toJson() as Manifest, file })),
        others: new Map([
          ['gateway-ca.pem', bundleText(bundle)],
          ['connector-ca.pem', bundleText([signer])],
        ]),
        places: [
          {
            place: `${gatewayFile}:${profile.gateway.key}`,
            role: 'trusted',
            certificates: bundle.map(certificateFacts),
          },
          {
            place: `${signerFile}:${profile.signer.certificateKey}`,
            role: 'issuer',
            certificates: [certificateFacts(signer)],
          },
        ],
        custody,
        path: site.path,
        delivery: site.delivery.kind,
      })
    },
    wiring: () =>
      deliveryPoints(declaration, site, files, {
        namespace: profile.gateway.namespace,
        destination: () => destinationBeside(files, null, []),
      }),
  }
}

/** While the connector signs with the old CA its text stays as it is: a byte more or less is no reason for a diff. */
function signerText({ current }: SitePlanInputs, state: TrustState, signer: Certificate): string {
  const live = current.extra?.[carried.signerText]
  return live !== undefined && state.issuer === current.issuer.sha256 ? live : bundleText([signer])
}

/** The same of the gateway's bundle; a repeat in it, or a text that something appended would be glued to, is put right with the first change. */
function gatewayText({ current }: SitePlanInputs, state: TrustState, bundle: readonly Certificate[]): string {
  const live = current.extra?.[carried.gatewayText]
  const unchanged = current.roots.map(({ sha256 }) => sha256).filter((each, at, all) => all.indexOf(each) === at)
  return live !== undefined && unchanged.join() === state.bundle.join() ? live : bundleText(bundle)
}

function signingKey({ current, next, site }: SitePlanInputs, state: TrustState): string {
  if (state.issuer === next.issuer.sha256) return next.key
  if (state.issuer === current.issuer.sha256 && current.key !== null) return current.key
  throw new ReanchorError({
    what: 'the private key of the CA in use is not at hand',
    where: { object: `site ${site.name}` },
    expected: `the key of ${current.issuer.subject}: the connector signs with it until everybody trusts the new CA`,
    found: 'only its certificate',
    todo: 'read it from the cluster with spec.current: {from: cluster}, or give spec.current.files.key',
  })
}

/** The Sealed Secrets controller writes the whole Secret: a key that is not in Git would be gone with the first unsealing. */
function refuseLostKeys({ declaration, site, current }: SitePlanInputs): void {
  const others = current.settings[carried.otherSignerKeys] ?? ''
  if ((site.custody ?? declaration.custody).kind !== 'sealedSecrets' || others === '') return
  throw new ReanchorError({
    what: "the connector's Secret has keys that the Sealed Secrets controller would take away",
    where: { object: signerId(kymaOf(declaration)) },
    expected: 'the certificate and its key alone',
    found: others,
    todo: 'seal with SOPS, which leaves other keys alone, or move them into a Secret of their own',
    exit: exitCodes.refused,
  })
}
