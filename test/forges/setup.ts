import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { startGitea } from './gitea.ts'

declare module 'vitest' {
  interface ProvidedContext {
    readonly gitea: { readonly url: string; readonly adminToken: string; readonly folder: string; readonly ca: string }
  }
}

/** One Gitea for all files; each makes repositories of its own. Workers start afterwards, and so trust its CA as a user's machine would be told to. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'reanchor-gitea-'))
  const gitea = await startGitea(folder)
  process.env.NODE_EXTRA_CA_CERTS = gitea.ca
  process.env.GIT_SSL_CAINFO = gitea.ca
  const { url, adminToken, ca } = gitea
  project.provide('gitea', { url, adminToken, folder, ca })
  return async () => {
    await gitea.close()
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}
