import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { renderOutput } from './fixtures/render.ts'

// The app of `cdk8s synth`, which empties the folder that it names before it starts this.
const folder = process.env.CDK8S_OUTDIR ?? 'output'
for (const [path, text] of await renderOutput()) {
  const file = join(folder, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}
