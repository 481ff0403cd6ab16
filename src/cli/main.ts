#!/usr/bin/env node
import { packageVersion } from './version.ts'

// `--version` answers before anything else is loaded: scripts ask for it often.
const words = process.argv.slice(2)
if (words.length === 1 && (words[0] === '--version' || words[0] === '-V')) {
  process.stdout.write(`${packageVersion()}\n`)
} else {
  const { run } = await import('./program.ts')
  process.exitCode = await run(words)
}
