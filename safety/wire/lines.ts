import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Certificate } from '../../src/pki/certificate.ts'
import { pemKey } from './families.ts'
import type { Side } from './mixes.ts'
import type { Shaken, Stack } from './stack.ts'

/** A program that reads one mix a line and answers each with a line: `ok`, or what was refused. */
export function lineStack(command: string, args: readonly string[], cwd: string): Stack {
  const child = spawn(command, args, { cwd, stdio: ['pipe', 'pipe', 'pipe'] })
  const waiting: { readonly resolve: (shaken: Shaken) => void; readonly reject: (error: Error) => void }[] = []
  let complaint = ''
  let gone: Error | null = null
  child.stderr.on('data', chunk => {
    complaint = `${complaint}${chunk}`.slice(-2000)
  })
  createInterface({ input: child.stdout }).on('line', said => {
    // A harness that breaks down must not look like a certificate that was refused.
    const asked = waiting.shift()
    if (said.startsWith('broken ')) asked?.reject(new Error(`${command}: ${said}`))
    else asked?.resolve({ ok: said === 'ok', said })
  })
  const fail = (error: Error) => {
    gone = error
    for (const { reject } of waiting.splice(0)) reject(error)
  }
  child.on('error', fail)
  child.stdin.on('error', fail)
  child.on('close', code => fail(new Error(`${command} ended with ${code}: ${complaint}`)))
  return {
    shake(mix) {
      if (gone !== null) return Promise.reject(gone)
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject })
        child.stdin.write(`${mix.verifier}\t${mix.direction}\t${sideText(mix.server)}\t${sideText(mix.client)}\n`)
      })
    },
    close() {
      return new Promise(resolve => {
        if (gone !== null) return resolve()
        child.once('close', () => resolve())
        child.stdin.end()
      })
    },
  }
}

/** Certificates as DER in base64, a comma between them. */
function sideText({ leaf, chain, trusts }: Side): string {
  const list = (certificates: readonly Certificate[]) =>
    certificates.map(({ der }) => Buffer.from(der).toString('base64')).join(',')
  const key = pemKey(leaf).replace(/-----[^-]+-----|\s/g, '')
  return [list([leaf.certificate, ...chain]), key, list(trusts)].join('\t')
}
