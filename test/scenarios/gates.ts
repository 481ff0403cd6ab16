import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ClusterError } from '../../src/cluster/cluster.ts'
import { check } from '../../src/commands/check.ts'
import { judgeWritten } from '../../src/commands/judge-written.ts'
import { stopObserving } from '../../src/commands/next.ts'
import { loadRotation } from '../../src/commands/rotation.ts'
import { statusView } from '../../src/commands/status.ts'
import { ReanchorError } from '../../src/errors.ts'
import { type LocalForge, openLocalForge } from '../../src/forge/local.ts'
import { openRepository, type Repository } from '../../src/repository/repository.ts'
import type { Signer } from '../../src/signature/sshsig.ts'
import { readWrittenEvidence } from '../../src/verify/evidence-file.ts'
import { fingerprintOf, newKey, signerLine, signerOf } from '../signature/keys.ts'
import { type Act, type Recording, rerun, stageOf } from './record.ts'
import { asked, commit, contextOf, forkAt, rotation, selfSignedCluster, temporary } from './world.ts'

interface Stage {
  readonly folder: string
  readonly repository: Repository
  readonly forge: LocalForge
  /** What `reanchor/gate` says of the pull request of a branch; null: nothing. */
  gate(branch: string): Promise<string | null>
}

async function withStage(bare: string, go: (stage: Stage) => Promise<void>): Promise<void> {
  const repository = await openRepository(bare)
  const forge = await openLocalForge(repository, { now: () => new Date(0) })
  const gate = async (branch: string): Promise<string | null> => {
    const request = await forge.find(branch)
    const status = request === null ? null : await forge.status(request.head, 'reanchor/gate')
    return status === null ? null : `${status.state}: ${status.description}`
  }
  try {
    await go({ folder: join(bare, '..'), repository, forge, gate })
  } finally {
    repository.close()
  }
}

const refusing = () => ({
  ...selfSignedCluster(),
  identity: async () => {
    throw new ClusterError('unreachable', 'identity', 'connection refused')
  },
})

/** The status that branch protection asks for, through a recorded rotation. */
export function gateSuite(recordedOf: () => Recording): void {
  const actOf = (part: string): Act => {
    const found = recordedOf().acts.find(act => act.name.includes(part))
    if (found === undefined) throw new Error(`no act ${part}`)
    return found
  }
  const stageBefore = (part: string) => stageOf(recordedOf(), actOf(part), temporary())
  const stageAfter = (part: string) => forkAt(temporary(), actOf(part).after, recordedOf().world.bare)

  describe('reanchor/gate', () => {
    test('is posted on every pull request that a rotation opened, and green on those that take no trust away', () => {
      return withStage(recordedOf().world.bare, async ({ gate }) => {
        const said = await Promise.all(
          recordedOf()
            .acts.filter(act => act.command === 'next')
            .map(async act => `${act.name.replace(`reanchor/${rotation}/`, '')} ${await gate(act.name)}`),
        )
        expect(said[0]).toBe('0-adopt-1-adopt success: nothing precedes this step')
        for (const line of said.slice(1, -3)) {
          expect(line).toMatch(/ success: safe, all gates hold, seen at \S+Z, good until \S+Z$/)
        }
        expect(said.at(-3)).toMatch(
          /4-trust-new-1-data pending: all gates hold, .* green while `reanchor run` observes$/,
        )
        expect(said.at(-1)).toMatch(/5-close success: safe, all gates hold, seen at/)
      })
    })

    test('of a pull request that narrows is green only while a runner observes', async () => {
      const act = actOf('4-trust-new-1')
      await withStage(stageBefore('4-trust-new-1'), async ({ folder, repository, gate, forge }) => {
        await rerun(act, { folder, runner: true })
        const green = /^success: safe, all gates hold, seen at \S+Z, good until \S+Z, while it is observed$/
        expect(await gate(act.name)).toMatch(green)
        // Somebody's `next` beside it does not take the runner's word back.
        await rerun(act, { folder })
        expect(await gate(act.name)).toMatch(green)
        const [request] = await forge.listOpen('main')
        expect((await forge.comments(request?.number ?? 0)).map(({ marker }) => marker)).toEqual([
          'reanchor/observation',
        ])
        await stopObserving(contextOf(repository), asked)
        expect(await gate(act.name)).toMatch(/^pending: nobody observes it any more/)
      })
    })

    test.each([
      [
        'its cluster does not answer',
        0,
        refusing,
        /^pending: eu-1: there is evidence of the site: .*connection refused/,
      ],
      [
        'what was seen is older than gates.fresh',
        2 * 3_600_000,
        null,
        /^pending: eu-1: the evidence is fresh: the API server said/,
      ],
    ] as const)('turns from green once %s (F27)', async (_what, passed, clusters, expected) => {
      const act = actOf('3-issue-new-1')
      await withStage(stageAfter('3-issue-new-1'), async ({ folder, gate }) => {
        expect(await gate(act.name)).toMatch(/^success/)
        const now = new Date(act.now.getTime() + passed)
        await rerun(act, { folder, now, runner: true, ...(clusters === null ? {} : { clusters }) })
        expect(await gate(act.name)).toMatch(expected)
      })
    })

    test('turns from green where the round itself ends: paused', async () => {
      const act = actOf('3-issue-new-1')
      await withStage(stageAfter('3-issue-new-1'), async ({ folder, repository, gate }) => {
        await declare(repository, text => text.replace(/^spec:$/m, 'spec:\n  paused: true'))
        await expect(rerun(act, { folder, runner: true })).rejects.toThrow(/paused/)
        expect(await gate(act.name)).toBe('pending: not observed: the rotation is paused')
      })
    })

    test('of others’ pull requests is the verdict of check, posted by a runner alone', async () => {
      const act = actOf('3-issue-new-1')
      await withStage(stageBefore('3-issue-new-1'), async ({ folder, repository, forge, gate }) => {
        const head = await repository.head('main')
        const open = async (branch: string, changes: Record<string, string | null>): Promise<void> => {
          await commit(repository, head, new Map(Object.entries(changes)), branch, branch)
          await forge.open({ title: branch, body: '', branch, base: 'main' })
        }
        const old = (await repository.snapshot(head).read('trust/eu-1/root-cert.pem')) ?? ''
        await open('docs', { 'README.md': 'new\n' })
        await open('cut', { 'trust/eu-1/cacerts.yaml': null })
        await open('edit', { 'trust/eu-1/root-cert.pem': old.slice(0, old.indexOf('-----END') + 25) })
        await rerun(act, { folder })
        expect([await gate('docs'), await gate('cut')]).toEqual([null, null])
        await rerun(act, { folder, runner: true })
        expect(await gate('docs')).toBe('success: no change of trust')
        expect(await gate('cut')).toMatch(/^failure: /)
        expect(await gate('edit')).toMatch(/^failure: /)
        expect(await gate(act.name)).toMatch(/^success: safe, all gates hold/)
        const [listed] = (await statusView(contextOf(repository), await loadRotation(repository, asked), null))
          .pullRequests
        expect(listed?.gate).toMatch(/^success, safe, all gates hold/)
      })
    })
  })

  describe('signed evidence', () => {
    const key = newKey('ed25519')
    const signed = signerOf(key)
    const act = () => actOf('2-trust-both-1')
    const file = `rotations/${rotation}/evidence/1-enable-multiroot-2-restart.yaml`

    async function signing(go: (stage: Stage) => Promise<void>, signer: Signer | null = signed): Promise<void> {
      await withStage(stageBefore('2-trust-both-1'), async stage => {
        const line = signerLine('runner', key)
        await declare(stage.repository, text => text.replace(/^spec:$/m, `spec:\n  evidence: {signers: ["${line}"]}`))
        if (signer !== null) await rerun(act(), { folder: stage.folder, signer })
        await go(stage)
      })
    }

    async function judged(repository: Repository, text: string, now = act().now) {
      const context = contextOf(repository, { now })
      const loaded = await loadRotation(repository, asked)
      return await judgeWritten(context, loaded, readWrittenEvidence(text, file), null)
    }

    const open = ({ gates }: { gates: readonly { id: string; verdict: string }[] }) =>
      gates.filter(({ verdict }) => verdict !== 'holds').map(({ id, verdict }) => `${id} ${verdict}`)

    test('is what `next` commits and says, and what holds offline', async () => {
      await signing(async ({ repository, forge }) => {
        const request = await forge.find(act().name)
        const text = (await repository.snapshot(request?.head ?? '').read(file)) ?? ''
        expect(request?.body).toContain(`signed by runner (${fingerprintOf(key)})`)
        const outcome = await judged(repository, text)
        expect(open(outcome)).toEqual([])
        expect(outcome.gates.map(({ id }) => id)).toContain('evidence/signed')
        expect(outcome.authorship).toMatchObject([
          { site: 'eu-1', kind: 'signed', by: 'runner', key: fingerprintOf(key) },
        ])
        const context = contextOf(repository, { now: act().now })
        const seen = (await check(context, { ...asked, range: `main..${request?.head}` })).evidence
        expect(seen).toMatchObject([{ site: 'eu-1', file, refused: null, authorship: { kind: 'signed' } }])
      })
    })

    test('by nobody, by another key, of another rotation or edited is unknown, and says why', async () => {
      await signing(async ({ repository, forge }) => {
        const request = await forge.find(act().name)
        const text = (await repository.snapshot(request?.head ?? '').read(file)) ?? ''
        const [written] = readWrittenEvidence(text, file)
        if (written === undefined) throw new Error('no evidence')
        const { writeSignedEvidence } = await import('../../src/verify/evidence-file.ts')
        const stranger = await writeSignedEvidence([written.evidence], signerOf(newKey('P-256')))
        const foreign = await writeSignedEvidence([{ ...written.evidence, rotation: 'mesh-2025' }], signed)
        const later = await writeSignedEvidence([{ ...written.evidence, to: '2026-03-02T23:00:00Z' }], signed)
        const signature = text.slice(text.indexOf('signature: '))
        const taken = (await writeSignedEvidence([{ ...written.evidence, lastChange: null }], null)) + signature
        for (const [changed, gates, why] of [
          [text.slice(0, text.indexOf('signature: ')), ['evidence/signed unknown'], 'unsigned'],
          [stranger, ['evidence/signed unknown'], 'none of evidence.signers'],
          [taken, ['evidence/signed unknown', 'evidence/hold unknown'], 'not one of this evidence'],
          [later, ['evidence/fresh unknown'], 'and now is'],
          [text.replace('complete: true', 'complete: false'), ['evidence/intact unknown'], 'digest'],
        ] as const) {
          const outcome = await judged(repository, changed)
          expect(open(outcome), why).toEqual(gates)
          expect(outcome.gates.flatMap(({ because }) => because).join()).toContain(why)
        }
        expect(open(await judged(repository, foreign))).toContain('evidence/step unknown')
      })
    })

    test('is asked for before any cluster is: without a key, or with another, nothing is opened', async () => {
      await signing(async ({ folder, forge }) => {
        for (const [signer, expected] of [
          [null, /no key was given[\s\S]*--signing-key/],
          [signerOf(newKey('ed25519')), /none of those that may sign/],
        ] as const) {
          const again = rerun(act(), { folder, clusters: refusing, ...(signer === null ? {} : { signer }) })
          await expect(again).rejects.toThrow(expected)
          await expect(again).rejects.toThrow(ReanchorError)
        }
        expect(await forge.find(act().name)).toBeNull()
      }, null)
    })

    test('in a pull request whose author wrote it is not counted by check, and neither are signers that it brings', async () => {
      await signing(async ({ repository, forge }) => {
        const request = await forge.find(act().name)
        const head = request?.head ?? ''
        const [written] = readWrittenEvidence((await repository.snapshot(head).read(file)) ?? '', file)
        if (written === undefined) throw new Error('no evidence')
        const { writeSignedEvidence } = await import('../../src/verify/evidence-file.ts')
        const own = newKey('ed25519')
        const path = `rotations/${rotation}/rotation.yaml`
        const declared = (await repository.snapshot(head).read(path)) ?? ''
        const line = signerLine('me', own)
        const changes = new Map([
          [file, await writeSignedEvidence([written.evidence], signerOf(own))],
          [path, declared.replace(/signers: \[.*\]/, `signers: ["${line}"]`)],
        ])
        const forged = await commit(repository, head, changes, 'forged', 'forged')
        const context = contextOf(repository, { now: act().now })
        const { evidence } = await check(context, { ...asked, range: `main..${forged}` })
        expect(evidence).toMatchObject([{ refused: expect.stringContaining('none of evidence.signers') }])
      })
    })
  })

  test('a change that drops wiring, or leaves a Component nothing to patch, is refused by check, point by point (F23)', async () => {
    await withStage(stageBefore('3-issue-new-1'), async ({ repository }) => {
      const { plan, snapshot, commit: head } = await loadRotation(repository, asked)
      const context = contextOf(repository, { now: actOf('3-issue-new-1').now })
      const judge = async (changes: ReadonlyMap<string, string | null>, branch: string) => {
        const changed = await commit(repository, head, changes, branch, branch)
        return (await check(context, { ...asked, range: `${head}..${changed}` })).verdict
      }
      const files = [...new Set(plan.wiring.map(({ file }) => file))]
      expect(files.length).toBeGreaterThan(1)
      for (const [index, file] of files.entries()) {
        const verdict = await judge(new Map([[file, null]]), `dropped-${index}`)
        expect(verdict, file).toMatchObject({ safe: false, reason: 'removes' })
        expect(verdict.sentence).toContain(`eu-1: wiring missing: ${file}`)
      }
      const built = plan.wiring.filter(({ edit }) => edit.kind === 'listItem' && edit.document === 'single')
      expect(built.length).toBeGreaterThan(0)
      for (const [index, { file }] of built.entries()) {
        const text = (await snapshot.read(file)) ?? ''
        const emptied = text.replace(/^resources:\n(?:\s*- .*\n)+/m, 'resources: []\n')
        expect(emptied).not.toBe(text)
        const verdict = await judge(new Map([[file, emptied]]), `emptied-${index}`)
        expect(verdict.sentence).toMatch(/wiring missing: .* \(.*none of the 0 objects that are built carries it\)/)
      }
      expect(await judge(new Map([['README.yaml', 'a: b\n']]), 'harmless')).toMatchObject({ safe: true })
    })
  })

  test('every piece of evidence that a rotation committed is judged offline as it was live', async () => {
    await withStage(recordedOf().world.bare, async ({ repository }) => {
      const loaded = await loadRotation(repository, asked)
      const context = contextOf(repository, { now: actOf('5-close').now })
      const folder = `rotations/${rotation}/evidence`
      const paths = [...(await loaded.snapshot.list(folder)).keys()]
      expect(paths).toHaveLength(9)
      for (const path of paths) {
        const written = readWrittenEvidence((await loaded.snapshot.read(path)) ?? '', path)
        const { gates, authorship } = await judgeWritten(context, loaded, written, null)
        expect(
          gates.filter(({ verdict }) => verdict !== 'holds'),
          path,
        ).toEqual([])
        expect(authorship.map(({ kind }) => kind)).toEqual(['unsigned'])
        if (path !== paths.at(-1)) continue
        const stale = await judgeWritten(context, loaded, written, new Date(actOf('5-close').now.getTime() + 7_200_000))
        expect(stale.gates.map(({ id, verdict }) => `${id} ${verdict}`)).toContain('evidence/fresh unknown')
      }
    })
  })
}

async function declare(repository: Repository, change: (text: string) => string): Promise<void> {
  const head = await repository.head('main')
  const path = `rotations/${rotation}/rotation.yaml`
  const text = (await repository.snapshot(head).read(path)) ?? ''
  expect(change(text)).not.toBe(text)
  await commit(repository, head, new Map([[path, change(text)]]), 'Change the declaration')
}
