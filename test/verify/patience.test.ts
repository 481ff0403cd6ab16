import { describe, expect, it } from 'vitest'
import { ClusterError } from '../../src/cluster/cluster.ts'
import { judge } from '../../src/verify/judge.ts'
import { patienceOf } from '../../src/verify/patience.ts'
import { inPool, inWaitingPool } from '../../src/verify/pool.ts'
import { look, meshAt, planOf, podObject } from './mesh.ts'

const settings = { first: 2, least: 2000, all: 3000, open: 2 }

describe('the patience of a look', () => {
  it('gives the first silent ones all their time, and later ones little', () => {
    const patience = patienceOf(settings)
    expect(patience.next()).toBeNull()
    patience.failed(15_000, true)
    expect(patience.next()).toBeNull()
    patience.failed(15_000, true)
    expect(patience.next()).toBe(2000)
  })

  it('gives more where those that do answer are slow', () => {
    const patience = patienceOf({ ...settings, first: 0 })
    patience.answered(900)
    expect(patience.next()).toBe(4000)
  })

  it('ends when the time for silence is used up, which answers and quick refusals do not use', () => {
    const patience = patienceOf({ ...settings, first: 0 })
    for (let count = 0; count < 1000; count += 1) {
      patience.answered(10)
      patience.failed(40, false)
    }
    for (let count = 0; count < 3; count += 1) {
      expect(patience.next()).toBe(2000)
      patience.failed(2000, true)
    }
    expect(patience.next()).toBe(0)
    expect(patience.silent).toBe(3)
  })
})

describe('a pool', () => {
  it('runs everything once, never more than its width at a time', async () => {
    let open = 0
    let most = 0
    const done: number[] = []
    const items = Array.from({ length: 50 }, (_, index) => index)
    await inPool(items, 4, async item => {
      open += 1
      most = Math.max(most, open)
      await new Promise(resolve => setImmediate(resolve))
      open -= 1
      done.push(item)
    })
    expect(most).toBe(4)
    expect(done.sort((one, other) => one - other)).toEqual(items)
    await inPool([], 4, () => Promise.reject(new Error('never')))
  })

  it('lets others pass those that only wait, up to its bound', async () => {
    const released: (() => void)[] = []
    let open = 0
    let most = 0
    const over = inWaitingPool([1, 2, 3, 4, 5, 6], { busy: 1, open: 3, brisk: 1 }, async () => {
      open += 1
      most = Math.max(most, open)
      await new Promise<void>(resolve => {
        released.push(resolve)
        if (released.length === 3) for (const release of released.splice(0)) release()
      })
      open -= 1
    })
    await over
    expect(most).toBe(3)
  })

  it('ends with the first throw', async () => {
    await expect(inPool([1, 2], 1, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  })
})

describe('many silent proxies', () => {
  it('are unknown by name, those too that were not asked any more, and never a pass', async () => {
    const plan = await planOf()
    const mesh = await meshAt(plan, 2, 2)
    const silence = new ClusterError('timeout', 'GET', 'no answer within 15 s')
    const names = Array.from({ length: 60 }, (_, index) => `quiet-${String(index).padStart(2, '0')}`)
    for (const name of names) {
      const object = podObject(name, { env: { PROXY_CONFIG_XDS_AGENT: 'true' } })
      mesh.pods.set(`shop/${name}`, { object, http: { '15000/config_dump': silence }, chain: [] })
    }
    // The time is used up by the first silent ones after the first.
    const patience = { first: 3, least: 0, all: 0, open: 4 }
    const evidence = await look(plan, mesh, { phase: 2, step: 2, patience })
    const silent = evidence.exceptions.filter(({ name, reason }) => name.includes('quiet') && reason === 'unreadable')
    expect(silent.map(({ name }) => name)).toEqual(names.map(name => `shop/${name}`))
    expect(silent.some(({ detail }) => detail.includes('not asked'))).toBe(true)
    const gate = judge(plan, [evidence], mesh.now).gates.find(({ id }) => id === 'istio/roots-trusted')
    expect(gate?.verdict).toBe('unknown')
    expect(gate?.counted?.of).toBe((gate?.counted?.conform ?? 0) + names.length)
  })
})
