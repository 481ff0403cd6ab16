import { ReanchorError } from '../errors.ts'
import { rotationFolder } from '../plan/steps.ts'
import type { Context } from './context.ts'
import type { OpenRotation } from './rotation.ts'

/**
 * Evidence that is asked to be signed is not written without; found out before any cluster is looked at. `only`: the one signer whose word counts.
 * `example`: the command with a key.
 */
export async function refuseUnsigned(
  { signer }: Pick<Context, 'signer'>,
  rotation: Pick<OpenRotation, 'name' | 'declaration'>,
  example: string,
  only: string | null = null,
): Promise<void> {
  const { signers } = rotation.declaration.evidence
  if (signers.length === 0) return
  const where = { file: `${rotationFolder(rotation.name)}/rotation.yaml`, field: 'spec.evidence.signers' }
  const { readAllowedSigner } = await import('../signature/allowed-signers.ts')
  const { keyFingerprint } = await import('../signature/public-key.ts')
  const known = signers
    .map(readAllowedSigner)
    .filter(each => 'publicKey' in each)
    .filter(each => only === null || each.name === only)
  const named = known.map(each => `${each.name} (${keyFingerprint(each.publicKey.blob)})`).join(', ')
  if (signer === undefined)
    throw new ReanchorError({
      what: 'the evidence of this rotation is to be signed, and no key was given',
      where,
      expected: `the key of ${named}`,
      found: 'no signing key',
      todo: 'give it: --signing-key FILE, or REANCHOR_SIGNING_KEY_FILE; FILE.pub where an SSH agent holds it',
      example,
    })
  if (known.some(each => each.publicKey.blob.equals(signer.publicKey.blob))) return
  throw new ReanchorError({
    what: 'the signing key is none of those that may sign evidence',
    where,
    expected: `the key of ${named}`,
    found: keyFingerprint(signer.publicKey.blob),
    todo: 'give the right key, or let somebody who may add this one to rotation.yaml on the base branch',
  })
}
