import { describe, expect, it } from 'vitest'
import { kymaProfiles } from '../../../src/systems/kyma/profile.ts'
import { refuseTraps, trapsIn } from '../../../src/systems/kyma/traps.ts'

const profile = kymaProfiles['1.11']

function traps(files: Readonly<Record<string, string>>) {
  return trapsIn(new Map(Object.entries(files)), profile, ['trust/central'])
}

const emptySecret = `apiVersion: v1
kind: Secret
metadata:
  name: kyma-gateway-certs-cacert
  namespace: istio-system
data:
  cacert: ""
`

describe('what would undo a rotation', () => {
  it('is an override for the setup job, which writes both Secrets anew at the next upgrade of Kyma', () => {
    const found = traps({
      'kyma/overrides.yaml': `apiVersion: v1
kind: ConfigMap
metadata: {name: application-connector-overrides, namespace: kyma-installer, labels: {installer: overrides}}
data:
  global.applicationConnectorCa: LS0tLS1CRUdJTg==
`,
    })
    expect(found).toMatchObject([{ file: 'kyma/overrides.yaml', line: 1, kind: 'override' }])
    expect(() => refuseTraps(found)).toThrow(/setup job writes it into both Secrets/)
  })

  it('is the same value nested in a HelmRelease', () => {
    const found = traps({
      'kyma/release.yaml': `apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: core, namespace: kyma-system}
spec:
  values:
    global:
      applicationConnectorCaKey: LS0t
`,
    })
    expect(found.map(({ kind }) => kind)).toEqual(['override'])
  })

  it('is no override that is empty: then the job makes nothing while both Secrets are complete', () => {
    expect(traps({ 'kyma/values.yaml': 'global:\n  applicationConnectorCa: ""\n' })).toEqual([])
  })

  it('is a manifest with an empty cacert, as the chart of Kyma 1.12 renders it (local-kyma#35)', () => {
    const found = traps({ 'kyma/certs.yaml': `---\n${emptySecret}` })
    expect(found).toMatchObject([{ kind: 'empty', line: 2 }])
    expect(() => refuseTraps(found)).toThrow('IfNotPresent')
  })

  it('is another manifest of either Secret with a key of the rotation', () => {
    const found = traps({
      'apps/ca.yaml': `apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: connector-service-app-ca, namespace: kyma-integration}
spec: {encryptedData: {ca.key: AgB=, ca.crt: AgC=}}
`,
    })
    expect(found.map(({ kind }) => kind)).toEqual(['other-writer'])
  })

  it('is not a manifest that Flux writes only where none is there', () => {
    const pinned = emptySecret.replace(
      'metadata:\n',
      'metadata:\n  annotations: {kustomize.toolkit.fluxcd.io/ssa: IfNotPresent}\n',
    )
    expect(traps({ 'kyma/certs.yaml': pinned })).toEqual([])
  })

  it('is not a manifest whose data Argo CD is told to leave alone, but for one that has no data at all (argo-cd#9678)', () => {
    const application = `apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: kyma, namespace: argocd}
spec:
  ignoreDifferences:
    - {kind: Secret, name: kyma-gateway-certs-cacert, jsonPointers: [/data]}
  syncPolicy: {syncOptions: [RespectIgnoreDifferences=true]}
`
    expect(traps({ 'kyma/certs.yaml': emptySecret, 'argocd/kyma.yaml': application })).toEqual([])
    const ignoring = application.replace('RespectIgnoreDifferences=true', 'CreateNamespace=true')
    expect(traps({ 'kyma/certs.yaml': emptySecret, 'argocd/kyma.yaml': ignoring }).length).toBe(1)
    const without = emptySecret.replace('\ndata:', '\nstringData:')
    expect(traps({ 'kyma/certs.yaml': without, 'argocd/kyma.yaml': application }).length).toBe(1)
  })

  it('is neither a Secret of that name elsewhere, nor a manifest without the rotation’s key, nor the site’s own folder', () => {
    expect(traps({ 'a.yaml': emptySecret.replace('istio-system', 'elsewhere') })).toEqual([])
    expect(traps({ 'a.yaml': emptySecret.replace('cacert: ""', 'tls.crt: ""') })).toEqual([])
    expect(traps({ 'trust/central/gateway-ca.yaml': emptySecret, 'rotations/x/phases/a.yaml': emptySecret })).toEqual(
      [],
    )
  })
})
