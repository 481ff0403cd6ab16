/** The runner as a process of its own: signals, locks, what it prints. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { next } from '../../src/commands/next.ts'
import { lockRef } from '../../src/runner/lock.ts'
import { temporaryFolder, userGit } from '../repository/temporary.ts'
import { asked, author, placeStep, plannedWorld, refsOf, rotation, start } from '../scenarios/world.ts'

const program = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

interface Running {
  readonly child: ChildProcess
  readonly out: () => string
  readonly err: () => string
  /** Until standard error says it. */
  says(text: RegExp): Promise<void>
  ended(): Promise<number | null>
}

const running: ChildProcess[] = []
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL')
})

function started(words: readonly string[], env: Record<string, string> = {}): Running {
  if (!existsSync(program)) throw new Error('the program is not built: npm run build')
  const child = spawn(process.execPath, [program, ...words], {
    env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.push(child)
  let [out, err] = ['', '']
  const listeners = new Set<() => void>()
  child.stdout.on('data', (part: Buffer) => {
    out += part.toString()
  })
  child.stderr.on('data', (part: Buffer) => {
    err += part.toString()
    for (const listener of listeners) listener()
  })
  const closed = new Promise<number | null>(resolve => child.once('close', resolve))
  return {
    child,
    out: () => out,
    err: () => err,
    async says(text) {
      const said = new Promise<void>(resolve => {
        const look = () => {
          if (text.test(err)) resolve()
        }
        listeners.add(look)
        look()
      })
      const end = closed.then(code => {
        if (!text.test(err)) throw new Error(`it ended with ${code} and never said ${text}:\n${out}${err}`)
      })
      await Promise.race([said, end])
    },
    ended: () => closed,
  }
}

/** An API server that takes every request and answers none, so that a round lasts for as long as the test wants. */
async function silentCluster(): Promise<{ readonly kubeconfig: string; readonly asked: Promise<void> }> {
  let ask = (): void => {}
  const asked = new Promise<void>(resolve => {
    ask = resolve
  })
  const server = createServer(socket => {
    socket.on('error', () => null)
    socket.on('data', () => ask())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : 0
  const kubeconfig = join(temporaryFolder(), 'kubeconfig')
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'u', user: { token: 'cluster-token-0123456789' } }],
      contexts: [{ name: 'eu-1', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'eu-1',
    }),
  )
  return { kubeconfig, asked }
}

const lines = (text: string) =>
  text
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as Record<string, unknown>)

describe('SIGTERM', () => {
  test('between two rounds ends it with 3: its lock is given back, and the log is JSON to the last line', async () => {
    const world = await plannedWorld()
    const metrics = join(temporaryFolder(), 'reanchor.prom')
    const run = started(['run', '--repo', world.bare, '--interval', '1h', '--log', 'json', '--metrics-file', metrics])
    await run.says(/"event":"round"/)
    expect(refsOf(world.bare)[lockRef(rotation)]).toMatch(/^[0-9a-f]{40}$/)
    run.child.kill('SIGTERM')
    expect(await run.ended()).toBe(3)
    expect(refsOf(world.bare)[lockRef(rotation)]).toBeUndefined()
    expect(lines(run.err()).map(({ event }) => event)).toEqual(['round', 'stopped'])
    expect(lines(run.err())[0]).toMatchObject({
      level: 'info',
      rotation,
      outcome: 'opened',
      pullRequest: { number: 2 },
    })
    expect(run.out()).toMatch(/^stopped: /)
    expect(readFileSync(metrics, 'utf8')).toMatch(/reanchor_rounds_total\{rotation="mesh-2026",outcome="opened"\} 1/)
  })

  test('in the middle of a round ends it with 3, takes back what was green while it was observed, and gives the lock back', async () => {
    const world = await plannedWorld()
    await next(world.context(), { ...asked, variant: 'step' })
    await world.forge.merge(2, { method: 'merge', by: author, at: start })
    const branch = `reanchor/${rotation}/1-enable-multiroot-1-data`
    await placeStep(world, 'enable-multiroot', 1, { branch })
    const opened = await world.forge.open({ title: 'next', body: '', branch, base: 'main' })
    const gate = async () => await world.forge.status(opened.head, 'reanchor/gate')
    const observed =
      'safe, all gates hold, seen at 2026-11-22T06:00:00Z, good until 2036-11-22T07:00:00Z, while it is observed'
    await world.forge.setStatus(opened.head, { context: 'reanchor/gate', state: 'success', description: observed })
    const cluster = await silentCluster()
    const run = started(['run', '--repo', world.bare, '--output', 'json'], { KUBECONFIG: cluster.kubeconfig })
    await Promise.race([cluster.asked, run.ended().then(code => expect.fail(`ended with ${code}: ${run.err()}`))])
    expect(await gate()).toMatchObject({ state: 'success' })
    expect(refsOf(world.bare)[lockRef(rotation)]).toMatch(/^[0-9a-f]{40}$/)
    run.child.kill('SIGTERM')
    expect(await run.ended()).toBe(3)
    expect(await gate()).toMatchObject({
      state: 'pending',
      description: expect.stringContaining('nobody observes it any more'),
    })
    expect(refsOf(world.bare)[lockRef(rotation)]).toBeUndefined()
    expect(JSON.parse(run.out())).toEqual({ command: 'run', rotation, exit: 3, result: { kind: 'stopped' } })
  })

  test('of one that stands by leaves the other’s lock alone', async () => {
    const world = await plannedWorld()
    const first = started(['run', '--repo', world.bare, '--interval', '1h', '--log', 'json'])
    await first.says(/"event":"round"/)
    const lock = refsOf(world.bare)[lockRef(rotation)]
    const second = started(['run', '--repo', world.bare, '--interval', '1h', '--log', 'json'])
    await second.says(/"event":"later"/)
    expect(lines(second.err())[0]).toMatchObject({ error: { what: 'another runner works at this rotation' } })
    second.child.kill('SIGTERM')
    expect(await second.ended()).toBe(3)
    expect(refsOf(world.bare)[lockRef(rotation)]).toBe(lock)
    first.child.kill('SIGINT')
    expect(await first.ended()).toBe(3)
    expect(refsOf(world.bare)[lockRef(rotation)]).toBeUndefined()
  })
})

test('a runner that is killed leaves a lock, which the next finds held', async () => {
  const world = await plannedWorld()
  const first = started(['run', '--repo', world.bare, '--interval', '1h', '--log', 'json'])
  await first.says(/"event":"round"/)
  first.child.kill('SIGKILL')
  await first.ended()
  const second = started(['run', '--once', '--repo', world.bare, '--log', 'json'])
  expect(await second.ended()).toBe(3)
  expect(second.err()).toContain('another runner works at this rotation')
  // As the message says.
  userGit(world.bare, 'update-ref', '-d', lockRef(rotation))
  const third = started(['run', '--once', '--repo', world.bare])
  expect(await third.ended()).toBe(3)
  expect(third.out()).toContain('pull request #2 is open')
})

describe('secrets in the environment', () => {
  const planted = {
    GITHUB_TOKEN: 'ghp_plantedTOKEN0123456789',
    CI_JOB_TOKEN: 'glcbt-planted/JOB+token==',
    SOPS_AGE_KEY: 'AGE-SECRET-KEY-1PLANTEDPLANTEDPLANTEDPLANTED',
    AWS_SECRET_ACCESS_KEY: 'planted/aws+secret/0123456789',
    REPOSITORY: 'https://bot:plantedPASSWORD123@127.0.0.1:9/fleet.git',
  }
  const values = [...Object.values(planted), 'plantedPASSWORD123', 'PLANTEDPLANTED'].flatMap(value => [
    value,
    encodeURIComponent(value),
    Buffer.from(value).toString('base64'),
  ])

  test.each([
    ['text', 'info'],
    ['text', 'debug'],
    ['json', 'debug'],
    ['json', 'error'],
  ])('are in nothing that is printed, log %s at level %s, where all goes well', async (log, level) => {
    const world = await plannedWorld()
    const run = started(['run', '--once', '--repo', world.bare, '--log', log, '--log-level', level], planted)
    expect(await run.ended()).toBe(0)
    expect(run.out()).toContain('opened pull request #2')
    for (const value of values) expect(run.out() + run.err()).not.toContain(value)
  })

  test.each(['text', 'json'])(
    'nor where the remote fails whose address holds one, or a key is none, log %s',
    async log => {
      const world = await plannedWorld()
      const clone = join(temporaryFolder(), 'clone')
      userGit(world.folder, 'clone', '-q', world.bare, clone)
      userGit(clone, 'remote', 'set-url', 'origin', planted.REPOSITORY)
      const words = ['run', '--once', '--repo', clone, '--log', log, '--log-level', 'debug']
      const failed = started(words, planted)
      expect(await failed.ended()).toBe(3)
      expect(failed.err()).toContain('the remote cannot be fetched')
      const wrongKey = started(words, { ...planted, REANCHOR_SIGNING_KEY: planted.GITHUB_TOKEN })
      expect(await wrongKey.ended()).toBe(2)
      for (const run of [failed, wrongKey])
        for (const value of values) expect(run.out() + run.err()).not.toContain(value)
    },
  )
})
