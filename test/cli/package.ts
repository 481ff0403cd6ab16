import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

/** The package as it would be published. */
export interface Packed {
  readonly tarball: string
  /** Paths in it, without `package/`. */
  readonly files: readonly string[]
  /** A project that has it, and its dependencies, under node_modules. */
  readonly project: string
  readonly remove: () => void
}

/**
 * Builds and packs a copy of the checkout, so that no test that runs beside this one sees a half-written dist/, and unpacks the
 * result beside this checkout's own dependencies: no registry is asked.
 */
export function packCheckout(): Packed {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-pack-'))
  const copy = join(folder, 'copy')
  mkdirSync(copy)
  for (const name of [
    'package.json',
    'schemas',
    'roles',
    'docs',
    'README.md',
    'CHANGELOG.md',
    'GLOSSARY.md',
    'LICENSE',
  ]) {
    if (existsSync(name)) cpSync(name, join(copy, name), { recursive: true })
  }
  const compiler = resolve('node_modules/typescript/bin/tsc')
  // Types are the business of `npm run types`; here only what runs matters.
  const options = ['--noCheck', '--incremental', 'false', '--tsBuildInfoFile', 'null', '--outDir', join(copy, 'dist')]
  execFileSync(process.execPath, [compiler, '-p', 'tsconfig.build.json', ...options])
  const said = execFileSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], {
    cwd: copy,
    encoding: 'utf8',
  })
  const [packed] = JSON.parse(said) as [{ filename: string; files: { path: string }[] }]
  const tarball = join(folder, packed.filename)
  const project = join(folder, 'project')
  const place = join(project, 'node_modules', 'reanchor')
  mkdirSync(place, { recursive: true })
  execFileSync('tar', ['-xzf', tarball, '-C', place, '--strip-components=1'])
  symlinkSync(resolve('node_modules'), join(place, 'node_modules'))
  for (const name of ['cdk8s', 'constructs'])
    symlinkSync(resolve('node_modules', name), join(project, 'node_modules', name))
  return {
    tarball,
    files: packed.files.map(file => file.path),
    project,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}
