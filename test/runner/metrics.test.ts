import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type RoundFacts, runnerMetrics } from '../../src/runner/metrics.ts'
import { serveMetrics, writeMetrics } from '../../src/runner/metrics-output.ts'
import { runbookPlan } from '../report/runbook.ts'
import { temporaryFolder } from '../repository/temporary.ts'

const at = Date.parse('2026-11-29T12:00:00Z') / 1000
const plan = runbookPlan(['eu-1', 'us-1'])

function facts(part: Partial<RoundFacts> = {}): RoundFacts {
  return {
    rotation: 'mesh-2026',
    outcome: 'waiting',
    at,
    took: 4.5,
    seen: {
      plan,
      paused: false,
      positions: {
        'eu-1': { kind: 'at', phase: 2, step: 1, variant: 'step' },
        'us-1': { kind: 'unknown', changed: [] },
      },
      gates: [
        {
          id: 'istio/roots-trusted',
          site: 'eu-1',
          claim: '',
          verdict: 'pending',
          because: ['x'],
          hint: null,
          retryAt: null,
          counted: null,
        },
      ],
      behind: { 'eu-1': 2 },
      pullRequests: [{ number: 7, since: at - 3600 }],
    },
    ...part,
  }
}

describe('metrics', () => {
  test('tell phase, gates, who is behind, ends, pull requests, rounds and errors', async () => {
    const metrics = runnerMetrics('1.2.3')
    metrics.round(facts())
    const text = await metrics.text()
    const [root] = plan.certificates
    for (const line of [
      'reanchor_site_phase{rotation="mesh-2026",site="eu-1"} 2',
      'reanchor_site_phase{rotation="mesh-2026",site="us-1"} -1',
      'reanchor_site_off_plan{rotation="mesh-2026",site="us-1"} 1',
      'reanchor_gate_verdict{rotation="mesh-2026",site="eu-1",gate="istio/roots-trusted",verdict="pending"} 1',
      'reanchor_consumers_behind{rotation="mesh-2026",site="eu-1"} 2',
      'reanchor_pull_request_age_seconds{rotation="mesh-2026",number="7"} 3600',
      `reanchor_last_round_timestamp_seconds{rotation="mesh-2026"} ${at}`,
      'reanchor_last_round_duration_seconds{rotation="mesh-2026"} 4.5',
      'reanchor_rounds_total{rotation="mesh-2026",outcome="waiting"} 1',
      'reanchor_errors_total{rotation="mesh-2026"} 0',
      'reanchor_build_info{version="1.2.3"} 1',
      `reanchor_certificate_days_left{rotation="mesh-2026",role="old-root",sha256="${root?.sha256.slice(0, 16)}"} ${Math.floor((Date.parse(root?.notAfter ?? '') / 1000 - at) / 86_400)}`,
    ])
      expect(text.split('\n')).toContain(line)
  })

  test('of a failed round keep what was seen, count the error, and do not say that the round was good', async () => {
    const metrics = runnerMetrics('1')
    metrics.round(facts())
    metrics.round(facts({ outcome: 'failed', at: at + 60, seen: null }))
    const lines = (await metrics.text()).split('\n')
    expect(lines).toContain('reanchor_errors_total{rotation="mesh-2026"} 1')
    expect(lines).toContain('reanchor_consumers_behind{rotation="mesh-2026",site="eu-1"} 2')
    expect(lines).toContain(`reanchor_last_good_round_timestamp_seconds{rotation="mesh-2026"} ${at}`)
    expect(lines).toContain(`reanchor_last_round_timestamp_seconds{rotation="mesh-2026"} ${at + 60}`)
  })

  test('forget a pull request that was merged and a gate that holds no more, and keep other rotations', async () => {
    const metrics = runnerMetrics('1')
    metrics.round(facts())
    metrics.round(facts({ rotation: 'other' }))
    const { seen } = facts()
    metrics.round(facts({ seen: seen === null ? null : { ...seen, gates: [], pullRequests: [] } }))
    const text = await metrics.text()
    expect(text).not.toMatch(/(gate_verdict|pull_request_age_seconds)\{rotation="mesh-2026"/)
    expect(text).toMatch(/gate_verdict\{rotation="other"/)
  })

  test('stand in a file that is never half written', async () => {
    const folder = temporaryFolder()
    const file = join(folder, 'reanchor.prom')
    const metrics = runnerMetrics('1')
    metrics.round(facts())
    await writeMetrics(file, metrics)
    expect(readFileSync(file, 'utf8')).toBe(await metrics.text())
    expect(readdirSync(folder)).toEqual(['reanchor.prom'])
    await expect(writeMetrics(join(folder, 'none', 'x.prom'), metrics)).rejects.toThrow(/metrics cannot be written/)
    expect(existsSync(join(folder, 'none'))).toBe(false)
  })

  test('are served, with a health that ends where no round does, and nothing else is', async () => {
    const metrics = runnerMetrics('1')
    let time = at * 1000
    const server = await serveMetrics(metrics, {
      host: '127.0.0.1',
      port: 0,
      staleAfter: 60_000,
      now: () => new Date(time),
    })
    onTestFinished(() => server.close())
    const ask = (path: string, method = 'GET') => fetch(`http://127.0.0.1:${server.port}${path}`, { method })
    expect((await ask('/healthz')).status).toBe(200)
    time += 61_000
    expect((await ask('/healthz')).status).toBe(503)
    metrics.round(facts({ at: time / 1000 }))
    expect((await ask('/healthz')).status).toBe(200)
    const answer = await ask('/metrics')
    expect(answer.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
    expect(await answer.text()).toContain('reanchor_site_phase')
    expect((await ask('/')).status).toBe(404)
    expect((await ask('/metrics', 'POST')).status).toBe(405)
    await expect(
      serveMetrics(metrics, { host: '127.0.0.1', port: server.port, staleAfter: 1, now: () => new Date() }),
    ).rejects.toThrow(/EADDRINUSE/)
  })
})
