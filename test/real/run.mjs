// `npm run test:real [-- --all] [FILE…]`: the suites on real components. Without --all each long suite takes one rotation.
// The last line says how many tests passed, failed and were skipped.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const args = process.argv.slice(2)
const files = args.filter(arg => arg !== '--all')
const folder = mkdtempSync(join(tmpdir(), 'reanchor-real-'))
const report = join(folder, 'report.json')
const env = { ...process.env, REANCHOR_REAL: args.includes('--all') ? 'all' : 'one' }
const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.real.config.ts', ...files]
const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
const { status } = spawnSync(process.execPath, [...vitest, ...reporters], { env, stdio: 'inherit' })

let counted = null
try {
  counted = JSON.parse(readFileSync(report, 'utf8'))
} catch {
  console.log('FAILED: the suites wrote no report')
}
rmSync(folder, { recursive: true, force: true })
const { passed, failed, skipped } = counts(counted)
console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exit(failed > 0 || passed === 0 || status !== 0 ? 1 : 0)

function counts(result) {
  if (result === null) return { passed: 0, failed: 1, skipped: 0 }
  // A file that fails before its first test has no failed test of its own.
  const broken = result.testResults.filter(
    file => file.status === 'failed' && file.assertionResults.every(test => test.status !== 'failed'),
  ).length
  const skipped = result.numPendingTests + (result.numTodoTests ?? 0)
  return { passed: result.numPassedTests, failed: result.numFailedTests + broken, skipped }
}
