import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { output } from '../real/rig/components.ts'
import { startGitea } from './gitea.ts'

/** PEM files of a certificate for 127.0.0.1 that signs itself, and that no machine trusts by itself. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

declare module 'vitest' {
  interface ProvidedContext {
    readonly certificate: Certificate
    readonly gitea: { readonly url: string; readonly adminToken: string }
  }
}

/**
 * One Gitea for all files; each makes repositories of its own. Workers start afterwards, and so trust the certificate as a user's machine would be told to.
 * REANCHOR_FORGES=described leaves Gitea out: for work on the others, without Go.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const close = await provideGitea(project)
  // The command line as users run it.
  if (close.started) await output('npx', ['tsc', '-p', 'tsconfig.build.json'])
  return close.end
}

/** The certificate for every suite of a run, and the Gitea that has it. */
export async function provideGitea(
  project: TestProject,
): Promise<{ readonly started: boolean; readonly end: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'reanchor-forges-'))
  const certificate = await makeCertificate(folder)
  process.env.NODE_EXTRA_CA_CERTS = certificate.cert
  process.env.GIT_SSL_CAINFO = certificate.cert
  project.provide('certificate', certificate)
  const gitea = process.env.REANCHOR_FORGES === 'described' ? null : await startGitea(folder, certificate)
  project.provide('gitea', { url: gitea?.url ?? '', adminToken: gitea?.adminToken ?? '' })
  return {
    started: gitea !== null,
    async end() {
      await gitea?.close()
      await rm(folder, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

async function makeCertificate(folder: string): Promise<Certificate> {
  const certificate = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') }
  await output('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'],
    ...['-subj', '/CN=forges of the tests', '-addext', 'subjectAltName=IP:127.0.0.1'],
    ...['-keyout', certificate.key, '-out', certificate.cert],
  ])
  return certificate
}
