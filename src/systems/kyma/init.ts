import { at, isManifest, isYamlPath, listAt, parsedFile, textAt } from '../../gitops/manifests.ts'
import type { FileTree } from '../../rotation.ts'
import type { InitPart, InitScene } from '../init.ts'
import { type KymaProfile, kymaProfiles, type ProfileName, profileNames, secretsOfCredential } from './profile.ts'
import { applicationsAttested, type KymaSettings } from './settings.ts'
import { trapsIn } from './traps.ts'

interface FoundGateway {
  readonly file: string
  readonly credential: string | null
  /** Path of the CA file, with form mount. */
  readonly caFile: string | null
}

/** Which release's Secrets the Gateway of the repository names, and what would undo a rotation. Runtimes no repository of the central cluster tells. */
export function initKyma({ answers, files }: InitScene): InitPart {
  return {
    sites: answers.sites.map(() => ({ value: null, note: null })),
    sealedFile: 'connector-ca.yaml',
    // The gateway is rolled by the site's folder itself, and nothing else restarts.
    restartsWorkloads: false,
    finish() {
      const gateway = gatewayIn(files)
      const { profile, gateway: place } = placeOf(gateway)
      const remarks = [
        'list every runtime under spec.kyma.runtimes, with the context of its cluster: the old CA goes only after all of them have renewed',
        `say under gates.attest who vouches for applications (name: ${applicationsAttested}), or set spec.kyma.applications: none`,
        ...trapsIn(
          files,
          { ...kymaProfiles[profile], gateway: place },
          answers.sites.map(({ path }) => path),
        ).map(({ file, line, what, todo }) => `${file}:${line}: ${what}; ${todo}`),
      ]
      const kyma: KymaSettings = {
        ...kymaProfiles[profile],
        profile,
        gateway: place,
        runtimes: [],
        applications: true,
        compromised: null,
        leafDays: 92,
      }
      const notes: (readonly [string, string])[] =
        gateway === null
          ? [['spec.kyma.profile', 'No Gateway with mutual TLS was found: these are the names of the runbook.']]
          : [['spec.kyma.profile', `From ${gateway.file}.`]]
      return { part: { system: 'kyma', kyma }, notes, remarks, wired: {} }
    },
  }
}

/** The Gateway that asks its clients for certificates: Kyma's own by its name, else the first. */
function gatewayIn(files: FileTree): FoundGateway | null {
  const found: (FoundGateway & { readonly name: string })[] = []
  for (const file of files.keys()) {
    if (!isYamlPath(file) || files.get(file)?.includes('kind: Gateway') !== true) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      if (!isManifest(value) || value.kind !== 'Gateway') continue
      for (const server of listAt(value, 'spec', 'servers')) {
        if (textAt(server, 'tls', 'mode') !== 'MUTUAL') continue
        const tls = at(server, 'tls')
        found.push({
          file,
          name: value.metadata.name,
          credential: textAt(tls, 'credentialName'),
          caFile: textAt(tls, 'caCertificates'),
        })
      }
    }
  }
  return found.find(({ name }) => name === 'kyma-gateway-application-connector') ?? found[0] ?? null
}

function placeOf(found: FoundGateway | null): {
  readonly profile: ProfileName
  readonly gateway: KymaProfile['gateway']
} {
  const profiles: readonly (readonly [ProfileName, KymaProfile])[] = profileNames.map(name => [
    name,
    kymaProfiles[name],
  ])
  const runbook = { profile: 'runbook' as ProfileName, gateway: kymaProfiles.runbook.gateway }
  if (found === null) return runbook
  const { credential, caFile } = found
  if (credential !== null) {
    const known = profiles.find(([, { gateway }]) => gateway.credential === credential)
    if (known !== undefined) return { profile: known[0], gateway: known[1].gateway }
    const [secret] = secretsOfCredential(credential)
    const base = kymaProfiles['1.11'].gateway
    return { profile: '1.11', gateway: { ...base, credential, secret } }
  }
  // /etc/istio/SECRET/KEY: the volume is mounted under the Secret's name.
  const [secret, key] = (caFile ?? '').split('/').slice(-2)
  if (secret === undefined || key === undefined || secret === '') return runbook
  const known = profiles.find(([, { gateway }]) => gateway.form === 'mount' && gateway.secret === secret)
  if (known !== undefined) return { profile: known[0], gateway: { ...known[1].gateway, key } }
  return { profile: 'runbook', gateway: { ...kymaProfiles.runbook.gateway, secret, key } }
}
