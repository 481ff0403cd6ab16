import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Packed, packCheckout } from './package.ts'

const { version, engines } = JSON.parse(readFileSync('package.json', 'utf8')) as {
  version: string
  engines: { node: string }
}

let packed: Packed

beforeAll(() => {
  packed = packCheckout()
}, 120_000)

afterAll(() => packed?.remove())

/** Runs a module in the project that has the package; gives what it printed. */
function run(code: string): string {
  return execFileSync(process.execPath, ['--input-type=module', '--eval', code], {
    cwd: packed.project,
    encoding: 'utf8',
  })
}

/** Packages that a module of ours, by its specifier, loads with it. */
function packagesLoadedBy(specifier: string): readonly string[] {
  const printed = run(`
    import { register } from 'node:module'
    register('data:text/javascript,' + encodeURIComponent(
      'import { writeSync } from "node:fs"\\n' +
      'export async function load(url, context, next) { writeSync(1, url + "\\\\n"); return next(url, context) }'))
    await import('${specifier}')`)
  const found = printed.split('\n').flatMap(url => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1] ?? [])
  return [...new Set(found)].filter(name => name !== 'reanchor').sort()
}

describe('the package', () => {
  test('answers --version by its bin', () => {
    const bin = join(packed.project, 'node_modules', 'reanchor', 'dist', 'src', 'cli', 'main.js')
    expect(execFileSync(process.execPath, [bin, '--version'], { encoding: 'utf8' })).toBe(`${version}\n`)
  })

  test('explains every command', () => {
    const bin = join(packed.project, 'node_modules', 'reanchor', 'dist', 'src', 'cli', 'main.js')
    const help = execFileSync(process.execPath, [bin, '--help'], { encoding: 'utf8' })
    for (const command of [
      'init',
      'inspect',
      'plan',
      'prove',
      'next',
      'verify',
      'status',
      'check',
      'undo',
      'run',
      'diff',
      'pr',
      'demo',
    ]) {
      expect(help).toMatch(new RegExp(`^ {2}${command}\\b`, 'm'))
    }
  })

  test('exits with 2 on a command that it does not know', () => {
    const bin = join(packed.project, 'node_modules', 'reanchor', 'dist', 'src', 'cli', 'main.js')
    expect(spawnSync(process.execPath, [bin, 'rotate'], { encoding: 'utf8' }).status).toBe(2)
  })

  test('asks for Node 20.19 or newer, which this one is', () => {
    expect(engines.node).toBe('>=20.19')
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
    expect(major > 20 || (major === 20 && minor >= 19)).toBe(true)
  })

  test('holds the program, the library, the charts, the schemas and the Roles, and nothing that is for a checkout alone', () => {
    for (const path of [
      'LICENSE',
      'dist/src/cli/main.js',
      'dist/src/index.js',
      'dist/src/index.d.ts',
      'dist/phases/istio/index.js',
      'schemas/rotation.schema.json',
    ]) {
      expect(packed.files).toContain(path)
    }
    expect(packed.files.some(path => path.startsWith('roles/'))).toBe(true)
    expect(
      packed.files.filter(path =>
        /^(src|test|output|bench|phases)\/|^dist\/(test|bench)\/|fixtures\/|\.tsbuildinfo$|\.pem$/.test(path),
      ),
    ).toEqual([])
  })
})

describe('the library', () => {
  test('is the pure core, JSON in and JSON out', () => {
    expect(run(`console.log(Object.keys(await import('reanchor')).sort().join())`).trim()).toBe(
      'ReanchorError,checkChange,describeChange,exitCodes,judgeGate,pathReasons,provePlan,validatePath',
    )
  })

  test('loads neither cdk8s nor zod, a Kubernetes client, Git or a certificate writer', () => {
    expect(packagesLoadedBy('reanchor').filter(name => name !== 'yaml')).toEqual([])
  })

  test('hands out the charts in a module of their own', () => {
    expect(packagesLoadedBy('reanchor/phases/istio')).toContain('cdk8s')
    const objects = run(`
      import { App } from 'cdk8s'
      import { Adopt } from 'reanchor/phases/istio'
      const props = {
        rotation: 'mesh-2026', certificate: () => '', issuerKey: null, canary: 'c', namespace: 'istio-system', delivery: 'flux',
        controlPlane: { kind: 'sail', name: 'default' },
        state: { bundle: [], issuer: '', chain: [], source: 'own', settings: {}, restarts: {} },
      }
      console.log(JSON.stringify(new Adopt(new App(), 'eu-1', props).toJson().map(object => object.kind)))`)
    expect(JSON.parse(objects)).toEqual(['Secret', 'Istio'])
  })
})
