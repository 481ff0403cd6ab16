import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { recordings } from '../../safety/mutants/recordings.ts'
import type { Evidence } from '../../src/rotation.ts'
import { readEvidence, readWrittenEvidence, writeSignedEvidence } from '../../src/verify/evidence-file.ts'
import { judge } from '../../src/verify/judge.ts'
import { observationDigest } from '../../src/verify/observation.ts'
import { newKey, signerLine, signerOf } from '../signature/keys.ts'

/** Gate that looks at the delivered Secret, and the Secret's name begins with. */
const secretGates = {
  istio: 'istio/secret',
  linkerd: 'linkerd/issuer-secret',
  kyma: 'kyma/secrets',
  cassandra: 'cassandra/secret',
} as const

const key = newKey('ed25519')
const signers = [signerLine('runner', key)]

/** As a verifier that saw so twice would have written it. */
function seenAs(evidence: Evidence, change: Partial<Evidence>): Evidence {
  const changed = { ...evidence, ...change }
  const observation = observationDigest(changed)
  return {
    ...changed,
    observation,
    agreesWith: changed.agreesWith === null ? null : { ...changed.agreesWith, observation },
  }
}

function shifted(instant: string, milliseconds: number): Date {
  return new Date(Date.parse(instant) + milliseconds)
}

describe.each(recordings().map(recording => ({ name: recording.system, recording })))(
  'evidence of $name',
  ({ name, recording }) => {
    const { plan, looks, attestations } = recording
    const clusters = Object.fromEntries(
      looks.flatMap(({ evidence }) => evidence.map(one => [one.site, one.cluster.uid])),
    )

    function judged(evidence: readonly Evidence[], more: Parameters<typeof judge>[3] = {}, at?: Date) {
      const [{ phase, step, to }] = evidence as [Evidence, ...Evidence[]]
      const last =
        evidence
          .map(one => one.to)
          .sort()
          .at(-1) ?? to
      const sites = evidence.map(({ site }) => site)
      const result = judge(plan, evidence, at ?? new Date(last), {
        phase,
        step,
        sites,
        clusters,
        attestations,
        ...more,
      })
      return result.gates.filter(({ verdict }) => verdict !== 'holds').map(({ id, verdict }) => `${id} ${verdict}`)
    }

    it('comes to the verdict of the look that it was committed for: every gate holds', () => {
      expect(looks.length).toBeGreaterThan(3)
      for (const { file, evidence } of looks) expect(judged(evidence), file).toEqual([])
    })

    it('is unknown where it is stale, from a time to come, partial, from another cluster, or in another order, and says why (F23, F27)', () => {
      for (const { evidence } of looks) {
        const [one] = evidence
        const stale = judged([one], {}, shifted(one.from, plan.gates.fresh + 1_000))
        expect(stale).toContain('evidence/fresh unknown')
        expect(judged([one], {}, shifted(one.to, -120_000))).toContain('evidence/fresh unknown')
        expect(judged([seenAs(one, { complete: false })])).toContain('evidence/complete unknown')
        expect(judged([seenAs(one, { cluster: { uid: 'another' } })])).toContain('evidence/cluster unknown')
        const later = one.agreesWith === null ? null : { ...one.agreesWith, at: one.to.replace(/^\d{4}/, '2099') }
        expect(judged([{ ...one, agreesWith: later }])).toContain('evidence/settled unknown')
      }
    })

    it('is unknown where it was signed by nobody, or by another, and holds where it was by a signer', async () => {
      const last = looks.at(-1)
      if (last === undefined) throw new Error('nothing was recorded')
      const evidence = readEvidence(readFileSync(last.file, 'utf8'), last.file)
      const signaturesBy = async (signer: Parameters<typeof writeSignedEvidence>[1]) => {
        const written = readWrittenEvidence(await writeSignedEvidence(evidence, signer), last.file)
        return Object.fromEntries(
          written.flatMap(one => (one.signature === null ? [] : [[one.evidence.site, one.signature]])),
        )
      }
      const unknown = evidence.map(() => 'evidence/signed unknown')
      expect(judged(evidence, { signers, signatures: await signaturesBy(signerOf(key)) })).toEqual([])
      expect(judged(evidence, { signers })).toEqual(unknown)
      expect(judged(evidence, { signers, signatures: await signaturesBy(signerOf(newKey('ed25519'))) })).toEqual(
        unknown,
      )
      const first = looks.find(look => look !== last && look.evidence[0].site === last.evidence[0].site)
      if (first === undefined) throw new Error('one step was recorded')
      // What was signed of one step is no word about another.
      const signatures = await signaturesBy(signerOf(key))
      expect(judged(first.evidence, { signers, signatures })).toEqual(
        first.evidence.map(() => 'evidence/signed unknown'),
      )
    })

    it('does not hold where another field manager owns a key of the Secret, and names it', () => {
      const refused = looks.flatMap(({ evidence: [one] }) =>
        one.objects.flatMap((object, index) => {
          if (!object.id.startsWith('Secret/') || object.keys === null) return []
          return object.keys.flatMap(own => {
            const managers = { ...object.managers, [own]: ['stranger'] }
            const objects = one.objects.map((each, at) => (at === index ? { ...each, managers } : each))
            const { phase, step, site, to } = one
            const options = { phase, step, sites: [site], clusters, attestations }
            return judge(plan, [seenAs(one, { objects })], new Date(to), options).gates.filter(
              ({ id, because }) => id === secretGates[name] && because.join().includes('stranger'),
            )
          })
        }),
      )
      expect(refused.length).toBeGreaterThan(0)
      for (const { verdict, hint } of refused) expect([verdict === 'holds', hint === null]).toEqual([false, false])
    })
  },
)
