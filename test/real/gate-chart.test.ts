/** The folder of the gate for Argo CD, as helm renders it; gate-jobs.test.ts has the whole of it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { output, program } from './rig/components.ts'

const chart = 'output/runner/gate-argocd'

it('takes trust.txt as it is into a ConfigMap beside the hook, and renders nothing without it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'gate-chart-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const file = join(folder, 'trust.txt')
  const text = 'reanchor mesh-2026 2-trust-both/1-data eu-1\ncacerts.yaml:root-cert.pem  trusted "CN=a, O=b"  {{ 1 }}\n'
  await writeFile(file, text)
  const helm = await program('helm')
  const rendered = await output(helm, ['template', 'trust', chart, '--set-file', `trust=${file}`])
  const objects = parseAllDocuments(rendered).map(document => document.toJS() as { kind: string; data?: object })
  expect(objects.map(({ kind }) => kind).sort()).toEqual(['ConfigMap', 'Job'])
  expect(objects.find(({ kind }) => kind === 'ConfigMap')?.data).toEqual({ 'trust.txt': text })
  await expect(output(helm, ['template', 'trust', chart])).rejects.toThrow('name trust.txt as the file parameter')
})
