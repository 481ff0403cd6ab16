import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Packed, packCheckout } from '../cli/package.ts'

let packed: Packed
let project: string

beforeAll(() => {
  packed = packCheckout()
  project = mkdtempSync(join(tmpdir(), 'reanchor-install-'))
  writeFileSync(join(project, 'package.json'), '{"name": "someone", "private": true, "type": "module"}\n')
  execFileSync('npm', ['install', '--omit=dev', '--no-audit', '--no-fund', packed.tarball], {
    cwd: project,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
}, 600_000)

afterAll(() => {
  packed?.remove()
  rmSync(project, { recursive: true, force: true })
})

test('the tarball installs in an empty project, and its bin runs', () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
  expect(execFileSync(join(project, 'node_modules', '.bin', 'reanchor'), ['--version'], { encoding: 'utf8' })).toBe(
    `${version}\n`,
  )
})

test('everything that a command loads is a dependency, none a development one', () => {
  const bin = join(project, 'node_modules', '.bin', 'reanchor')
  const printed = execFileSync(bin, ['demo', 'istio', '--dir', join(project, 'demo'), '--output', 'json'], {
    encoding: 'utf8',
  })
  const result = JSON.parse(printed) as { handshakes: { attempted: number; failed: number }; phases: unknown[] }
  expect(result.handshakes.failed).toBe(0)
  expect(result.handshakes.attempted).toBeGreaterThan(1000)
  expect(result.phases.length).toBeGreaterThan(8)
}, 600_000)

test('the library and the charts can be imported by name', () => {
  const code = `
    const { provePlan, validatePath } = await import('reanchor')
    const { TrustBoth } = await import('reanchor/phases/istio')
    console.log(typeof provePlan, typeof validatePath, typeof TrustBoth)`
  const printed = execFileSync(process.execPath, ['--input-type=module', '--eval', code], {
    cwd: project,
    encoding: 'utf8',
  })
  expect(printed.trim()).toBe('function function function')
})
