import { deliverersAt, mentions, question, type SiteAnswer } from '../../declaration/init.ts'
import { at, listAt, parsedFile, textAt } from '../../gitops/manifests.ts'
import { folderOf } from '../../gitops/paths.ts'
import type { InitPart, InitScene, Outcome } from '../init.ts'
import type { LinkerdFlow } from './version.ts'

interface FoundLinkerd {
  readonly file: string
  /** Folder of the file: what its kustomization builds. */
  readonly path: string
  readonly namespace: string
  readonly flow: LinkerdFlow
  readonly version: string | null
  readonly trustDomain: string | null
}

/** Where each site declares its control plane, as the repository tells it. */
export function initLinkerd(scene: InitScene): InitPart {
  const { answers } = scene
  const found = linkerdsIn(scene)
  const sites = answers.sites.map(site => linkerdOf(scene, site, found))
  return {
    sites,
    sealedFile: 'issuer.yaml',
    restartsWorkloads: true,
    finish() {
      const planes = answers.sites.map(({ name }, index) => {
        const outcome = sites[index]
        if (outcome === undefined || 'ask' in outcome) throw new Error(`the control plane of ${name} is still open`)
        return { site: name, plane: outcome.value }
      })
      const [first] = planes
      if (first === undefined) throw new Error('init asked for no site')
      const { flow, version, namespace, trustDomain } = first.plane
      const remarks = planes
        .filter(({ plane }) => plane.flow !== flow)
        .map(({ site }) => `${site} has another version of Linkerd than ${first.site}: rotate it by itself`)
      if (version === null) remarks.push('spec.linkerd.version could not be found: write the installed one')
      return {
        part: {
          system: 'linkerd',
          linkerd: {
            flow,
            version: version ?? (flow === 'trust-roots' ? 'stable-2.14.10' : 'stable-2.8.1'),
            namespace,
            trustDomain: trustDomain ?? 'cluster.local',
            install: 'manifests',
            controlPlane: Object.fromEntries(
              planes.map(({ site, plane }) => [site, { path: plane.path, file: null, name: null }]),
            ),
            issuerScheme: null,
            leafHours: 24,
            leaves: 'renewal',
          },
        },
        notes: [['spec.linkerd.flow', `Found in ${first.plane.file}.`]],
        remarks,
        wired: Object.fromEntries(planes.map(({ site, plane }) => [site, plane.file])),
      }
    },
  }
}

/** What holds Deployment linkerd-identity; the flow follows from where its anchors come from. */
function linkerdsIn({ files }: InitScene): readonly FoundLinkerd[] {
  const found: FoundLinkerd[] = []
  for (const [file, content] of files) {
    if (!/\.ya?ml$/.test(file) || !content.includes('linkerd-identity')) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      if (at(value, 'kind') !== 'Deployment' || at(value, 'metadata', 'name') !== 'linkerd-identity') continue
      const volumes = listAt(value, 'spec', 'template', 'spec', 'volumes')
      const maps = volumes.map(volume => textAt(volume, 'configMap', 'name'))
      const image = listAt(value, 'spec', 'template', 'spec', 'containers')
        .map(container => textAt(container, 'image') ?? '')
        .find(text => text.includes('/controller:'))
      found.push({
        file,
        path: folderOf(file),
        namespace: textAt(value, 'metadata', 'namespace') ?? 'linkerd',
        flow: maps.includes('linkerd-config') ? 'upgrade' : 'trust-roots',
        version: image?.slice(image.lastIndexOf(':') + 1) ?? null,
        trustDomain: null,
      })
    }
  }
  return found
}

function linkerdOf(scene: InitScene, site: SiteAnswer, found: readonly FoundLinkerd[]): Outcome<FoundLinkerd> {
  const { answers, findings } = scene
  const said = site.controlPlane
  const deliverers = [
    ...deliverersAt(findings.kustomizations, site, answers.sites),
    ...deliverersAt(findings.applications, site, answers.sites),
  ]
  const candidates = found.filter(each => {
    if (said !== null) return each.file === said.file
    if (answers.sites.length === 1) return true
    return mentions(each.file, site.name) || deliverers.some(deliverer => deliverer.files.has(each.file))
  })
  const own = candidates.filter(each => mentions(each.file, site.name))
  const chosen = candidates.length === 1 ? candidates[0] : own.length === 1 ? own[0] : undefined
  if (chosen !== undefined) return { value: chosen, note: null }
  return question(
    `--control-plane ${site.name}=FILE`,
    `Which file declares the Linkerd of ${site.name}?`,
    candidates.length === 0
      ? `no Deployment linkerd-identity was found for ${site.name}`
      : `more than one Linkerd was found for ${site.name}`,
    candidates.map(each => each.file),
    'controlPlane',
    site.name,
  )
}
