/** The folder of the Job that a delivery waits for, as kustomize builds it. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { runnerOutput } from '../../phases/fixtures/runner.ts'

interface Built {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace: string }
  readonly data?: Readonly<Record<string, string>>
  readonly spec?: {
    readonly template: {
      readonly spec: {
        readonly volumes: readonly { readonly name: string; readonly configMap?: { readonly name: string } }[]
      }
    }
  }
}

/** As Flux builds it: files from above the folder are allowed to it. `trust`: the first line of trust.txt. */
function built(trust: string): readonly Built[] {
  const root = mkdtempSync(join(tmpdir(), 'reanchor-gates-'))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  const output = runnerOutput()
  const files = {
    'gates/eu-1/job.yaml': output.get('runner/gate-flux/job.yaml') ?? '',
    'gates/eu-1/kustomization.yaml': output.get('runner/gate-flux/kustomization.yaml') ?? '',
    'trust/eu-1/trust.txt': trust,
  }
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  const asFlux = '--load-restrictor=LoadRestrictionsNone'
  const text = execFileSync('kubectl', ['kustomize', asFlux, join(root, 'gates/eu-1')], { encoding: 'utf8' })
  return parseAllDocuments(text).map(document => document.toJS() as Built)
}

test('Flux: each step makes another Job, by the name of the ConfigMap that it mounts', () => {
  const [one, two] = ['mesh-2026 2-trust-both/1-data\n', 'mesh-2026 2-trust-both/2-restart\n'].map(trust => {
    const objects = built(trust)
    const config = objects.find(({ kind }) => kind === 'ConfigMap')
    const job = objects.find(({ kind }) => kind === 'Job')
    expect(config?.data?.['trust.txt']).toBe(trust)
    expect(config?.metadata.namespace).toBe(job?.metadata.namespace)
    const mounted = job?.spec?.template.spec.volumes.find(({ name }) => name === 'step')?.configMap?.name
    expect(mounted).toBe(config?.metadata.name)
    return mounted
  })
  expect(one).toMatch(/^reanchor-gate-eu-1-[a-z0-9]+$/)
  expect(two).not.toBe(one)
})
