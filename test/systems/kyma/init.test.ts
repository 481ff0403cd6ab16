import { describe, expect, it } from 'vitest'
import { runInit } from '../../../src/declaration/init.ts'
import { readDeclaration } from '../../../src/declaration/read.ts'
import { kymaFleet } from '../../../src/rehearsal/kyma/fleet.ts'
import type { FileTree } from '../../../src/rotation.ts'
import { kymaProfiles, type ProfileName } from '../../../src/systems/kyma/profile.ts'
import { kymaOf } from '../../../src/systems/kyma/settings.ts'

const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
const fleet = kymaFleet({ sites: ['central'], ageRecipient: recipient, variant: 'graceful' })
const gatewayFile = 'kyma/central/gateway.yaml'

/** The fleet, with other lines in place of the Gateway's credential. */
function withTls(...lines: readonly string[]): FileTree {
  const text = fleet.get(gatewayFile) ?? ''
  const tls = lines.map(line => `        ${line}`).join('\n')
  return new Map([...fleet, [gatewayFile, text.replace('        credentialName: app-connector-certs', tls)]])
}

async function init(files: FileTree) {
  const written = await runInit({
    system: 'kyma',
    files,
    flags: {},
    existing: () => null,
    now: new Date('2026-11-22'),
    ask: null,
  })
  return { ...written, kyma: kymaOf(await readDeclaration(written.text, written.path)) }
}

describe('init kyma', () => {
  it.each<[ProfileName, readonly string[]]>([
    ['1.18', ['credentialName: app-connector-certs']],
    ['1.11', ['credentialName: kyma-gateway-certs']],
    ['1.4', ['credentialName: application-connector-certs']],
    ['1.2', ['caCertificates: /etc/istio/application-connector-ca-certs/ca.crt']],
    ['runbook', ['caCertificates: /etc/istio/kyma-gateway-ca-certs/ca.crt']],
  ])('tells the release by its Gateway, with no flag at all: %s', async (profile, lines) => {
    const { kyma, text, path } = await init(withTls(...lines))
    expect(path).toBe('rotations/kyma-2026/rotation.yaml')
    expect(kyma.profile).toBe(profile)
    expect(kyma.gateway).toEqual(kymaProfiles[profile].gateway)
    expect(text).toContain(`# From ${gatewayFile}.`)
  })

  it('writes down a credential and a file of no release, so that Istio finds the Secret', async () => {
    const own = await init(withTls('credentialName: own'))
    expect(own.kyma.gateway).toMatchObject({ form: 'sds', credential: 'own', secret: 'own-cacert', key: 'cacert' })
    const file = await init(withTls('caCertificates: /etc/istio/own-ca/root.pem'))
    expect(file.kyma.gateway).toMatchObject({ form: 'mount', credential: null, secret: 'own-ca', key: 'root.pem' })
  })

  it('takes the Gateway of the application connector where others ask for certificates too', async () => {
    const other = (fleet.get(gatewayFile) ?? '')
      .replace('kyma-gateway-application-connector', 'a-first-one')
      .replace('app-connector-certs', 'kyma-gateway-certs')
    expect((await init(new Map([['a.yaml', other], ...fleet]))).kyma.profile).toBe('1.18')
  })

  it('says where no Gateway was found that the names are the runbook’s, which no release has', async () => {
    const files = new Map(
      [...fleet].filter(([path]) => path !== gatewayFile && path !== 'kyma/central/kustomization.yaml'),
    )
    const { kyma, text } = await init(files)
    expect(kyma.profile).toBe('runbook')
    expect(text).toContain('No Gateway with mutual TLS was found: these are the names of the runbook.')
  })

  it('asks for what no repository of the central cluster tells: runtimes, and a word for the applications', async () => {
    const { remarks } = await init(fleet)
    expect(remarks.join('\n')).toMatch(/list every runtime under spec\.kyma\.runtimes[\s\S]*gates\.attest/)
  })

  it('names file and line of what would undo the rotation', async () => {
    const override = `apiVersion: v1
kind: ConfigMap
metadata: {name: x, namespace: kyma-installer, labels: {installer: overrides}}
data: {global.applicationConnectorCa: LS0t}
`
    const { remarks } = await init(new Map([...fleet, ['kyma/overrides.yaml', override]]))
    expect(remarks.find(remark => remark.startsWith('kyma/overrides.yaml:1: '))).toContain('the rotation is undone')
  })
})
