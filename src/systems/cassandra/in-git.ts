import { exitCodes, ReanchorError } from '../../errors.ts'
import { parsedFile } from '../../gitops/manifests.ts'
import type { FileTree } from '../../rotation.ts'
import { at, text } from '../../verify/values.ts'
import { type CaSecret, idOf } from './ca-secret.ts'

/**
 * Refuses a repository that delivers the CA Secret by another way already. Two deliverers would write it in turns, and the moment the other one
 * lets go of it, pruned, the operator signs all nodes with a CA that it makes up.
 */
export function refuseSecretInGit(
  files: FileTree,
  secret: Pick<CaSecret, 'namespace' | 'name'>,
  sites: readonly { readonly path: string }[],
): void {
  for (const [file, content] of files) {
    if (!/\.ya?ml$/.test(file) || !content.includes(secret.name) || file.startsWith('rotations/')) continue
    if (sites.some(({ path }) => file.startsWith(`${path}/`))) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      const kind = text(at(value, 'kind'))
      if (kind !== 'Secret' && kind !== 'SealedSecret' && kind !== 'ExternalSecret') continue
      if (text(at(value, 'metadata', 'name')) !== secret.name) continue
      const namespace = text(at(value, 'metadata', 'namespace'))
      // A kustomization may set the namespace of a manifest that names none.
      if (namespace !== null && namespace !== secret.namespace) continue
      throw new ReanchorError({
        what: 'the CA Secret is delivered from another file of this repository',
        where: { file, object: idOf(secret) },
        expected: "the site's folder as the only place that delivers it",
        found: `${kind} ${secret.name}`,
        todo: 'first merge the annotation kustomize.toolkit.fluxcd.io/prune: disabled (Argo CD: argocd.argoproj.io/sync-options: Prune=false,Delete=false) on it, see it live, then take the file out and plan again: the Secret must not be gone for a moment',
        exit: exitCodes.refused,
      })
    }
  }
}
