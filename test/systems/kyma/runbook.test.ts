import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { fixtureSite } from '../../../phases/fixtures/istio.ts'
import { kymaFixtures } from '../../../phases/fixtures/kyma.ts'
import type { Custody } from '../../../src/custody/custody.ts'
import { readDeclaration } from '../../../src/declaration/read.ts'
import type { TrustState } from '../../../src/rotation.ts'
import { planKymaSite } from '../../../src/systems/kyma/plan-site.ts'

/** Seals nothing: what a cluster has once it has unsealed is what is looked at here. */
const open: Custody = {
  kind: 'sops',
  async seal({ name, namespace, type, labels, annotations, data }) {
    const encoded = Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
    )
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name, namespace, labels, annotations },
      type,
      data: encoded,
    })
  },
}

interface Rendered {
  readonly step: string
  /** Key by key, decoded; certificates by the name that the runbook has for them. */
  readonly signer: Readonly<Record<string, string>>
  readonly gateway: Readonly<Record<string, string>>
  readonly restarts: boolean
  readonly files: ReadonlyMap<string, string>
}

async function rendered(name: string): Promise<readonly Rendered[]> {
  const fixture = kymaFixtures().find(each => each.name === name)
  if (fixture === undefined) throw new Error(`no fixture ${name}`)
  const declaration = await readDeclaration(fixture.declaration, 'rotation.yaml')
  const [site] = declaration.sites
  if (site === undefined) throw new Error('no site')
  const { current, next } = fixture
  const plan = planKymaSite({ declaration, site, files: fixture.files, current, next, merged: null })
  const certificate = (sha256: string) => {
    const found = [current.issuer, next.issuer].find(each => each.sha256 === sha256)
    if (found === undefined) throw new Error('not of this material')
    return found
  }
  const words = (text: string): string =>
    text
      .replaceAll(current.issuer.pem, 'old-ca.crt ')
      .replaceAll(next.issuer.pem, 'new-ca.crt ')
      .replace('fixture: no key of new-ca\n', 'new-ca.key')
      .replace('fixture: no key\n', 'ca.key')
      .trim()
  const steps: Rendered[] = []
  let before: TrustState | null = null
  for (const [number, phase] of plan.phases.entries())
    for (const [index, step] of phase.steps.entries()) {
      const files = await plan.render({
        header: {
          rotation: declaration.name,
          phase: number,
          phaseName: phase.name,
          step: index + 1,
          stepName: step.name,
          variant: 'step',
          site: fixtureSite,
        },
        state: step.state,
        custody: open,
        canary: 'canary',
        certificate,
      })
      const data = (file: string): Readonly<Record<string, string>> => {
        const held = (parse(files.get(file) ?? '') as { data: Record<string, string> }).data
        return Object.fromEntries(
          Object.entries(held).map(([key, value]) => [key, words(Buffer.from(value, 'base64').toString())]),
        )
      }
      const token = step.state.restarts.gateway
      steps.push({
        step: `${phase.name}/${step.name}`,
        signer: data('connector-ca.yaml'),
        gateway: data('gateway-ca.yaml'),
        restarts: token !== undefined && token !== before?.restarts.gateway,
        files,
      })
      before = step.state
    }
  return steps
}

const shown = (steps: readonly Rendered[]) =>
  steps.map(({ step, signer, gateway, restarts }) => ({ step, signer, gateway, restarts }))

const oldSigner = { 'ca.crt': 'old-ca.crt', 'ca.key': 'ca.key' }
const renewedSigner = { 'ca.crt': 'new-ca.crt', 'ca.key': 'ca.key' }
const newSigner = { 'ca.crt': 'new-ca.crt', 'ca.key': 'new-ca.key' }

describe('the runbook beside ours', () => {
  /*
   * Rotating a soon-to-expire CA certificate      ours
   *  1 fetch ca.key                               plan reads it from the cluster; it is sealed and never written in the clear
   *  2 openssl req -new -key ca.key -x509         plan: Subject and SKI copied byte for byte (the command asks for a Subject, or takes a default)
   *  3 base64                                     data of the manifest, in one line
   *  4 signer: ca.crt = new-ca.crt                issue-new. DEPARTURE: after the gateway trusts it, not before: whoever renews in between would be refused
   *  5 fetch old-ca.crt from the gateway's Secret plan
   *  6 cat old-ca.crt new-ca.crt                  trust-both: old, then new, one newline between
   *  7 base64                                     as 3
   *  8 gateway: ca.crt = merged-ca.crt            trust-both
   *  9 if there are issues: delete all gateways   trust-both/restart. DEPARTURE: a roll-out that brings pods up first, and always where it reads files: it never sees them change
   * 10 CertificateRequest, or wait for the expiry gate of issue-new. DEPARTURE: all runtimes and applications, never from Git; a renewal, as an expired one cannot renew
   * 11 base64                                     as 3
   * 12 gateway: ca.crt = new-ca.crt               trust-new
   * 13 you may need to delete all gateways        trust-new/restart, as 9
   */
  it('renews a soon-to-expire certificate: trust before issue, each end state key by key', async () => {
    expect(shown(await rendered('kyma-renew'))).toEqual([
      { step: 'adopt/adopt', signer: oldSigner, gateway: { 'ca.crt': 'old-ca.crt' }, restarts: false },
      { step: 'trust-both/data', signer: oldSigner, gateway: { 'ca.crt': 'old-ca.crt new-ca.crt' }, restarts: false },
      { step: 'trust-both/restart', signer: oldSigner, gateway: { 'ca.crt': 'old-ca.crt new-ca.crt' }, restarts: true },
      {
        step: 'issue-new/data',
        signer: renewedSigner,
        gateway: { 'ca.crt': 'old-ca.crt new-ca.crt' },
        restarts: false,
      },
      { step: 'trust-new/data', signer: renewedSigner, gateway: { 'ca.crt': 'new-ca.crt' }, restarts: false },
      { step: 'trust-new/restart', signer: renewedSigner, gateway: { 'ca.crt': 'new-ca.crt' }, restarts: true },
    ])
  })

  /*
   * Rotating a compromised Root CA certificate: 1 to 3 as above, 4 signer, 5 gateway, 6 delete all gateways "if", 7 CertificateRequest.
   * Ours: 4, 5 and 6 in one pull request; 7 is its gate. With Subject and SKI kept nobody is refused.
   */
  it('replaces a compromised certificate in one step, under the key in use', async () => {
    expect(shown(await rendered('kyma-emergency-certificate'))).toEqual([
      { step: 'adopt/adopt', signer: oldSigner, gateway: { 'ca.crt': 'old-ca.crt' }, restarts: false },
      { step: 'replace/data', signer: renewedSigner, gateway: { 'ca.crt': 'new-ca.crt' }, restarts: true },
    ])
  })

  /*
   * Rotating a compromised root CA key: 1 genrsa 4096, 2 req -x509, 3 base64, 4 signer: ca.crt and ca.key, 5 gateway, 6 restart "if", 7 CertificateRequest.
   * Ours: 4, 5 and 6 in one pull request, certificate and key in one change; 7 is its gate, and its price is foretold.
   */
  it('replaces a compromised key in one step, certificate and key in one change', async () => {
    expect(shown(await rendered('kyma-emergency-key'))).toEqual([
      { step: 'adopt/adopt', signer: oldSigner, gateway: { 'ca.crt': 'old-ca.crt' }, restarts: false },
      { step: 'replace/data', signer: newSigner, gateway: { 'ca.crt': 'new-ca.crt' }, restarts: true },
    ])
  })

  it('has, beyond the runbook, a new key without an outage; with a credential name nothing restarts', async () => {
    expect(shown(await rendered('kyma-graceful'))).toEqual([
      { step: 'adopt/adopt', signer: oldSigner, gateway: { cacert: 'old-ca.crt' }, restarts: false },
      { step: 'trust-both/data', signer: oldSigner, gateway: { cacert: 'old-ca.crt new-ca.crt' }, restarts: false },
      { step: 'issue-new/data', signer: newSigner, gateway: { cacert: 'old-ca.crt new-ca.crt' }, restarts: false },
      { step: 'trust-new/data', signer: newSigner, gateway: { cacert: 'new-ca.crt' }, restarts: false },
    ])
  })
})

describe('the folder', () => {
  it('names one key of the gateway’s Secret and nothing else of it, and merges', async () => {
    for (const { files } of await rendered('kyma-graceful')) {
      const text = files.get('gateway-ca.yaml') ?? ''
      expect(text).not.toContain('tls.')
      expect(text).toContain('kustomize.toolkit.fluxcd.io/ssa: Merge')
      expect(text).toContain('kustomize.toolkit.fluxcd.io/prune: disabled')
    }
  })

  it('names of the gateway’s Deployment one annotation of its template and nothing else: no replicas, no deletion of pods', async () => {
    const restart = (await rendered('kyma-renew')).find(({ step }) => step === 'trust-both/restart')
    const { spec, metadata } = parse(restart?.files.get('gateway-restart.yaml') ?? '') as {
      spec: unknown
      metadata: { annotations: Record<string, string> }
    }
    expect(spec).toEqual({
      template: { metadata: { annotations: { 'reanchor.dev/trust': expect.stringMatching(/^[0-9a-f]{16}$/) } } },
    })
    expect(metadata.annotations['kustomize.toolkit.fluxcd.io/prune']).toBe('disabled')
  })

  it('holds no CertificateRequest, and nothing that asks a runtime to renew, in any step', async () => {
    for (const name of ['kyma-renew', 'kyma-graceful', 'kyma-emergency-certificate', 'kyma-emergency-key'])
      for (const { files } of await rendered(name))
        for (const text of files.values()) expect(text).not.toMatch(/CertificateRequest|CentralConnection|renewNow/)
  })

  it('writes base64 in one line, whatever the length', async () => {
    for (const { files } of await rendered('kyma-renew'))
      expect(files.get('gateway-ca.yaml')).toMatch(/ca\.crt: [A-Za-z0-9+/=]+\n/)
  })
})
