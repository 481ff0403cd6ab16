import type { World } from '../../src/commands/demo.ts'
import type { Declaration, FileTree } from '../../src/rotation.ts'

/** The demo's fleet with emojivoto alone: what a rotation must show is shown by few workloads too, in half the time. */
export function smallFleet(fleet: FileTree): FileTree {
  return new Map(
    [...fleet].flatMap(([path, text]): readonly (readonly [string, string])[] => {
      if (/^apps\/[^/]+\/(shop|edge)\.yaml$/.test(path)) return []
      if (/^apps\/[^/]+\/kustomization\.yaml$/.test(path))
        return [[path, text.replace(/ {2}- (shop|edge)\.yaml\n/g, '')]]
      return [[path, text]]
    }),
  )
}

/**
 * One replica of each component, and two workloads: `web` in `apps`, and `cart` in a folder and a Flux Kustomization of its own, so that it can
 * be restarted in a batch of its own. Between clusters everyone meets everyone: what few pods show need not be shown by many.
 */
export function twoBatches(fleet: FileTree): FileTree {
  const files = new Map<string, string>()
  for (const [path, text] of smallFleet(fleet))
    files.set(path, firstWorkload(path, text.replace(/^ {2}replicas: 2$/gm, '  replicas: 1')))
  for (const [path, text] of fleet) {
    const [, site] = /^apps\/([^/]+)\/shop\.yaml$/.exec(path) ?? []
    if (site === undefined) continue
    files.set(`shop/${site}/shop.yaml`, firstWorkload(path, text))
    files.set(
      `shop/${site}/kustomization.yaml`,
      'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - shop.yaml\n',
    )
    const apps = fleet.get(`clusters/${site}/apps.yaml`) ?? ''
    files.set(`clusters/${site}/shop.yaml`, apps.replace('name: apps', 'name: shop').replace('./apps/', './shop/'))
  }
  return files
}

/** Of a file of workloads the first alone, with its account. */
function firstWorkload(path: string, text: string): string {
  return /^apps\/[^/]+\/(emojivoto|shop)\.yaml$/.test(path) ? text.split('---\n').slice(0, 2).join('---\n') : text
}

/** The workloads of `apps` first, then those of `shop`. */
export function inBatches(declared: Declaration): Declaration {
  const { kinds } = declared.reload[0] ?? { kinds: ['Deployment'] as const }
  const reload = declared.sites.flatMap(({ name: site }) => [
    { site, path: `apps/${site}`, kinds, batch: 1 },
    { site, path: `shop/${site}`, kinds, batch: 2 },
  ])
  return { ...declared, reload }
}

/** How many roots proxies trust now. */
export function trusting({ rehearsal }: World): ReadonlySet<number> {
  return new Set(rehearsal.handshakes.parties.map(({ endpoint }) => endpoint.material.trusts.length))
}
