import { ReanchorError } from '../errors.ts'
import { agentSigner } from './agent.ts'
import { readSigningKey } from './private-key.ts'
import { isKeyType, publicKeyOf, readPublicKey } from './public-key.ts'
import { keySigner, type Signer } from './sshsig.ts'
import { WireError } from './wire.ts'

/** A key as it was given: its text, and what to call it in errors. */
export interface GivenKey {
  readonly text: string
  /** A file's path, or the name of an environment variable. */
  readonly from: string
}

/**
 * The signer of `--signing-key`, as git's user.signingKey has it: a private key signs by itself; a public one names a key of the agent behind
 * `socket`. Throws ReanchorError for what is neither, or needs a passphrase.
 */
export function openSigner({ text, from }: GivenKey, socket: string | null): Signer {
  const publicLine = publicLineOf(text)
  if (publicLine === null) {
    const key = readSigningKey(text, { file: from })
    return keySigner(key, publicKeyOf(key))
  }
  if (socket === null) {
    throw new ReanchorError({
      what: 'a public key signs nothing by itself',
      where: { file: from },
      expected: 'a private key without a passphrase, or an SSH agent that holds the other half',
      found: 'a public key, and no SSH_AUTH_SOCK',
      todo: 'start an agent and add the key (ssh-agent, ssh-add), or name the private key',
    })
  }
  try {
    return agentSigner(socket, readPublicKey(Buffer.from(publicLine, 'base64')))
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    throw new ReanchorError({
      what: 'the public key cannot be read',
      where: { file: from },
      expected: 'a line as ssh-keygen writes it into FILE.pub',
      found: error.message,
      todo: 'name the right file',
    })
  }
}

/** The base64 of a line such as `ssh-ed25519 AAAA… comment`, or null. */
function publicLineOf(text: string): string | null {
  const [type, base64] = text.trim().split(/\s+/)
  return type !== undefined && base64 !== undefined && isKeyType(type) ? base64 : null
}
