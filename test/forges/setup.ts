import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { output } from '../real/rig/components.ts'
import { type CertificateFiles, selfSigned } from '../real/rig/self-signed.ts'
import { startGitea } from './gitea.ts'

declare module 'vitest' {
  interface ProvidedContext {
    readonly certificate: CertificateFiles
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
  const certificate = await selfSigned(folder, '127.0.0.1')
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
