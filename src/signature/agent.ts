import { createConnection } from 'node:net'
import { ReanchorError } from '../errors.ts'
import { keyFingerprint, type SshPublicKey } from './public-key.ts'
import type { Signer } from './sshsig.ts'
import { string, uint32, WireError, wireReader } from './wire.ts'

// draft-ietf-sshm-ssh-agent sections 5 and 6.
const signRequest = 13
const signResponse = 14
/** An RSA key signs with SHA-512; others pass over the flag. */
const rsaSha512 = 4
/** A person may have to touch a token or confirm. */
const patience = 60_000
/** A signature takes up to some hundred bytes. */
const longestAnswer = 64 * 1024

/** Signs with a key that an agent keeps; `socket` is what SSH_AUTH_SOCK names. Nothing is asked of the agent before the first signature. */
export function agentSigner(socket: string, publicKey: SshPublicKey): Signer {
  return {
    publicKey,
    async sign(data) {
      const request = Buffer.concat([
        Buffer.from([signRequest]),
        string(publicKey.blob),
        string(data),
        uint32(publicKey.type === 'ssh-rsa' ? rsaSha512 : 0),
      ])
      const answer = await asked(socket, request)
      if (answer[0] !== signResponse) {
        throw refused(`it does not sign with ${keyFingerprint(publicKey.blob)}`, 'add the key: ssh-add FILE')
      }
      try {
        const reader = wireReader(answer.subarray(1))
        const signature = reader.string()
        reader.end()
        return signature
      } catch (error) {
        if (error instanceof WireError) throw refused('an answer of unknown form', 'see that SSH_AUTH_SOCK is an agent')
        throw error
      }
    },
  }
}

function asked(socket: string, request: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(socket)
    let received = Buffer.alloc(0)
    const fail = (found: string): void => {
      connection.destroy()
      reject(refused(found, 'start one and add the key (ssh-agent, ssh-add), or name a private key file'))
    }
    connection.setTimeout(patience, () => fail(`no answer within ${patience / 1000} s`))
    connection.on('error', error => fail((error as NodeJS.ErrnoException).code ?? 'an error'))
    connection.on('end', () => fail('it hung up'))
    connection.on('data', chunk => {
      received = Buffer.concat([received, chunk])
      if (received.length < 4) return
      const length = received.readUInt32BE()
      if (length > longestAnswer) return fail('an answer of unknown form')
      if (received.length < 4 + length) return
      connection.destroy()
      resolve(received.subarray(4, 4 + length))
    })
    connection.write(string(request))
  })
}

function refused(found: string, todo: string): ReanchorError {
  return new ReanchorError({
    what: 'the SSH agent gives no signature',
    where: { object: 'SSH_AUTH_SOCK' },
    expected: 'an agent that holds the key of --signing-key',
    found,
    todo,
  })
}
