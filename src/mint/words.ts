import { code, visible } from '../report/escape.ts'
import type { Declaration } from '../rotation.ts'
import { certManagerOf, type Mint, mintsOf } from './certificate.ts'

export function mintTitle(declaration: Pick<Declaration, 'name'>): string {
  return `${visible(declaration.name)}: mint the new CA`
}

/** The text of the `mint` pull request: what comes, why it changes nothing, and where the key will be. */
export function mintBody(declaration: Declaration, mints: readonly Mint[]): string {
  const source = certManagerOf(declaration)
  const { issuing } = source ?? {}
  const issuer = source === null ? '' : `${source.issuer.kind} ${source.issuer.name}`
  const rows = mints.map(
    ({ site, namespace, name, serves, file }) =>
      `| ${code(site.name)} | ${code(`${namespace}/${name}`)} | ${serves.map(code).join(', ')} | ${code(file)} |`,
  )
  return [
    `cert-manager is asked for the new CA of rotation ${code(declaration.name)}. **No change of trust**: nothing that exists reads the new Secrets.`,
    '',
    '| cluster | Certificate, and its Secret | the CA of | file |',
    '|---|---|---|---|',
    ...rows,
    '',
    `Signed by ${code(issuer)}, ${code(issuing?.algorithm ?? '')}, for ${issuing?.validityDays ?? 0} days. It is renewed as late as can be, with its key, and neither Flux nor Argo CD prunes it.`,
    '',
    '### After the merge',
    '',
    'Run `reanchor plan` again. Its gate looks at what was issued, without reading a key, and pins its SHA-256. Only then `plan` reads the Secrets, takes that certificate and no other, and seals its key. What happens to the Certificates later changes nothing of the rotation.',
    '',
    '### To know',
    '',
    '- The key is in two places from then on: in the minted Secret, where whoever may read Secrets of that namespace can read it, and sealed in Git. cert-manager is where it comes from, not where it is kept. Once the plan is merged nothing needs the minted Secret any more; the closing pull request says how to remove it.',
    `- To go back: close this pull request, or revert it and delete what it brought: ${removal(mints).map(code).join(', ')}.`,
    '',
  ].join('\n')
}

/** What takes the minted objects away; the Certificate first, or it would bring the Secret back. */
function removal(mints: readonly Mint[]): readonly string[] {
  return mints.map(
    ({ site, namespace, name }) =>
      `kubectl --context ${contextOf(site)} delete --namespace ${namespace} certificate/${name} secret/${name}`,
  )
}

function contextOf({ name, cluster }: Mint['site']): string {
  return cluster.kind === 'context' ? cluster.context : name
}

/** What is left once a rotation is closed; empty where the new CA came from elsewhere. */
export function mintCleanUp(declaration: Declaration): readonly string[] {
  const mints = mintsOf(declaration)
  if (mints.length === 0) return []
  return [
    `the minted Secrets hold the new CA’s key in the clear: remove ${mints.map(mint => code(mint.file)).join(', ')} from Git (and from the resources of a kustomization.yaml beside), then: ${removal(mints).map(code).join(', ')}`,
  ]
}
