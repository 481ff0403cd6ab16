import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ReanchorError, type Where } from '../errors.ts'
import { findPrivateKeys } from './leak.ts'
import type { SopsRule } from './sops-rules.ts'

/** Seals what only the sops program can: its keys lie in a KMS, in Vault or in GnuPG's keyring, or in shares of several groups. */
export interface SopsProgram {
  /**
   * The document as the keys of the rule seal it: the values of the fields that `encryptedRegex` matches, with a MAC over those alone.
   * Throws where the program is not there, is too old, or cannot reach a key; never with a value of the document.
   */
  encrypt(document: string, rule: SopsRule, encryptedRegex: string): Promise<string>
}

/** The first version whose `encrypt` reads standard input. */
const leastVersion = [3, 10] as const

/** A key of a KMS may be far away, or ask its owner; nothing takes longer than that. */
const patience = 120_000

/**
 * The program `sops` of this machine, which finds its keys and credentials as it does for its user. The document goes to its standard input
 * and nowhere else; what lies on disk for a moment is the rule, which is public.
 */
export function systemSops(environment: Readonly<Record<string, string | undefined>>): SopsProgram {
  let version: Promise<void> | null = null
  return {
    async encrypt(document, rule, encryptedRegex) {
      version ??= checkVersion(environment, rule.where)
      await version
      const folder = mkdtempSync(join(tmpdir(), 'reanchor-sops-'))
      try {
        const config = join(folder, 'sops.yaml')
        writeFileSync(config, ruleFile(rule, encryptedRegex))
        const types = ['--input-type', 'yaml', '--output-type', 'yaml', '--filename-override', 'secret.yaml']
        const result = await run(['--config', config, 'encrypt', ...types], environment, document)
        if (result.code !== 0) throw failed(rule.where, shown(result.stderr, document, environment))
        return result.stdout
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    },
  }
}

/** A configuration with this rule's keys alone: what to seal is reanchor's to say. */
function ruleFile(rule: SopsRule, encryptedRegex: string): string {
  const own = { ...rule.keys, encrypted_regex: encryptedRegex, mac_only_encrypted: true }
  return `${JSON.stringify({ creation_rules: [own] })}\n`
}

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function run(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  input: string,
): Promise<Ended> {
  return await new Promise((resolve, reject) => {
    const env = { ...environment, SOPS_DISABLE_VERSION_CHECK: 'true' }
    const child = spawn('sops', args, { env, stdio: ['pipe', 'pipe', 'pipe'], timeout: patience })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', text => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      stderr += text
    })
    child.on('error', reject)
    child.on('close', code => resolve({ code, stdout, stderr }))
    // A program that ends without reading is told by its exit code.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })
}

async function checkVersion(environment: Readonly<Record<string, string | undefined>>, where: Where): Promise<void> {
  let said: string
  try {
    said = (await run(['--version'], environment, '')).stdout
  } catch (cause) {
    throw missing(where, (cause as NodeJS.ErrnoException).code ?? 'it does not start', cause)
  }
  const [, major = '0', minor = '0'] = /(\d+)\.(\d+)\.\d+/.exec(said) ?? []
  const [leastMajor, leastMinor] = leastVersion
  const old = Number(major) < leastMajor || (Number(major) === leastMajor && Number(minor) < leastMinor)
  if (old) throw missing(where, said.split('\n')[0] ?? '', undefined)
}

function missing(where: Where, found: string, cause: unknown): ReanchorError {
  return new ReanchorError({
    what: 'the rule names keys that only the sops program can seal to, and there is none that can be used',
    where,
    expected: `sops ${leastVersion.join('.')} or newer in the PATH`,
    found: found === 'ENOENT' ? 'no program of that name' : found,
    todo: 'install sops (github.com/getsops/sops, releases), with the keys or credentials that its rule needs, where `plan` runs; or name age recipients in rotation.yaml, which need no program',
    example: 'custody: {sops: {age: [age1…]}}',
    ...(cause === undefined ? {} : { cause }),
  })
}

function failed(where: Where, found: string): ReanchorError {
  return new ReanchorError({
    what: 'the sops program cannot seal with the keys of the rule',
    where,
    expected: 'exit code 0',
    found,
    todo: 'try it yourself: `echo "a: b" | sops encrypt --filename-override <a file of the site> --input-type yaml` must work with the same credentials or keyring',
  })
}

/** What the program said, unless a value of the document, a credential of the environment or any private key stands in it. */
function shown(stderr: string, document: string, environment: Readonly<Record<string, string | undefined>>): string {
  const values = [...document.matchAll(/[A-Za-z0-9+/=_-]{12,}/g)].map(([value]) => value)
  const credentials = Object.entries(environment).flatMap(([name, value = '']) =>
    /SECRET|TOKEN|PASS|CREDENTIAL|KEY/i.test(name) && value.length >= 8 ? [value] : [],
  )
  if ([...values, ...credentials].some(value => stderr.includes(value)) || findPrivateKeys(stderr).length > 0)
    return 'an error that quotes what is secret (not shown)'
  const lines = stderr.split('\n').filter(line => line.trim() !== '')
  return lines.length === 0 ? 'no message' : lines.slice(0, 12).join('\n')
}
