import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Evidence } from '../../src/rotation.ts'
import { checkChange, type LiveSite, type LiveTrust, liveSite } from '../../src/safety/check.ts'
import { cacerts, type Files, type Rendered, rendered } from './folders.ts'
import { gracefulPlan, type Material, material, now } from './material.ts'

let made: Material
let one: Rendered
let two: Rendered
beforeAll(async () => {
  made = await material()
  one = rendered(gracefulPlan(made))
  two = rendered(gracefulPlan(made, ['eu-1', 'us-1']))
})

function live(plan: Rendered, sites: LiveTrust['sites'] = {}): LiveTrust {
  return { at: now, plan: plan.plan, sites, certificates: [] }
}

/** Every consumer has taken up the step. */
function seenAt(place: string): Record<string, LiveSite> {
  const [number = '0', rest = ''] = [place.slice(0, 1), place]
  const state = one.plan.phases[Number(number)]?.steps.find(step => rest.endsWith(`/${step.number}-${step.name}`))
    ?.sites['eu-1']?.state
  if (state === undefined) throw new Error(`no step ${place}`)
  return { 'eu-1': { presents: [[state.issuer, ...state.chain]], trusts: [state.bundle] } }
}

function move(from: string, to: string): ReturnType<typeof checkChange> {
  return checkChange(one.files('eu-1', from), one.files('eu-1', to), live(one))
}

const steps = [
  '0-adopt/1-adopt',
  '1-enable-multiroot/1-data',
  '1-enable-multiroot/2-restart',
  '2-trust-both/1-data',
  '2-trust-both/2-restart',
  '3-issue-new/1-data',
  '3-issue-new/2-restart',
  '4-trust-new/1-data',
  '4-trust-new/2-restart',
] as const

describe('planned moves', () => {
  it('lets every next step pass', () => {
    for (let at = 1; at < steps.length; at++) {
      const [from, to] = [steps[at - 1] ?? '', steps[at] ?? '']
      expect(checkChange(one.files('eu-1', from), one.files('eu-1', to), live(one, seenAt(from)))).toMatchObject({
        safe: true,
        reason: 'next-step',
      })
    }
  })

  it('does not let a phase begin where nobody saw the one before complete (F27)', () => {
    const verdict = move('2-trust-both/2-restart', '3-issue-new/1-data')
    expect(verdict).toMatchObject({ safe: false, reason: 'unknown' })
    expect(verdict.sentence).toContain('safe only once every consumer has taken up 2-trust-both/2-restart')
    const partial = { 'eu-1': { ...(seenAt('2-trust-both/2-restart')['eu-1'] as LiveSite), complete: false } }
    expect(
      checkChange(
        one.files('eu-1', '2-trust-both/2-restart'),
        one.files('eu-1', '3-issue-new/1-data'),
        live(one, partial),
      ).safe,
    ).toBe(false)
  })

  it('lets a second undo go back over the phase before, once no leaf of the new CA is seen any more (F26)', () => {
    const from = one.files('eu-1', '3-issue-new/2-restart undo')
    const both = seenAt('2-trust-both/2-restart')
    const back = (to: string, seen: Record<string, LiveSite>) =>
      checkChange(from, one.files('eu-1', to), live(one, seen))
    expect(back('2-trust-both/2-restart undo', both)).toMatchObject({ safe: true, reason: 'every-mix-holds' })
    expect(back('2-trust-both/1-data undo', both)).toMatchObject({ safe: false, reason: 'out-of-order' })
    expect(back('2-trust-both/2-restart undo', seenAt('3-issue-new/2-restart')).reason).toBe('breaks')
  })

  it('lets every undo and every nudge of the present step pass', () => {
    for (const step of steps.slice(3)) {
      expect(move(step, `${step} undo`).safe).toBe(true)
      if (step.startsWith('3')) expect(move(step, `${step} nudge`).safe).toBe(true)
    }
  })

  it('refuses every step that skips another, and names what is skipped (F25)', () => {
    for (let from = 0; from < steps.length; from++)
      for (let to = from + 2; to < steps.length; to++) expect(move(steps[from] ?? '', steps[to] ?? '').safe).toBe(false)
    const jump = checkChange(
      one.files('eu-1', '2-trust-both/1-data'),
      one.files('eu-1', '3-issue-new/1-data'),
      live(one, seenAt('2-trust-both/1-data')),
    )
    expect(jump).toMatchObject({ safe: false, reason: 'skips' })
    expect(jump.sentence).toContain('skips 2-trust-both/2-restart')
  })

  it('names the handshake that a skipped phase breaks', () => {
    const verdict = move('1-enable-multiroot/2-restart', '3-issue-new/1-data')
    expect(verdict.reason).toBe('breaks')
    expect(verdict.sites[0]?.counterexample?.holder.presents).toBe(made.issuing.facts.sha256)
  })

  it('lets adopt pass, which brings the folder', () => {
    expect(checkChange({}, one.files('eu-1', '0-adopt/1-adopt'), live(one))).toMatchObject({ safe: true })
    expect(checkChange({}, one.files('eu-1', '2-trust-both/1-data'), live(one))).toMatchObject({
      safe: false,
      reason: 'skips',
    })
  })

  it('says until when a change stays safe', () => {
    expect(move('2-trust-both/1-data', '2-trust-both/2-restart').goodUntil).toBe('2036-01-01T00:00:00Z')
  })

  it('counts copies under rotations/ and files without certificates as no change of trust', () => {
    const copies = Object.fromEntries(
      Object.entries(one.files('eu-1', '4-trust-new/1-data')).map(([path, text]) => [
        path.replace('trust/eu-1', 'rotations/mesh-2026/phases/4-trust-new/1-data/eu-1'),
        text,
      ]),
    )
    expect(checkChange({}, { ...copies, 'README.md': 'hello' }, live(one))).toMatchObject({
      safe: true,
      reason: 'no-change',
    })
  })
})

describe('reverts', () => {
  it('refuses to take the widening back once leaves come from the new CA (F26)', () => {
    const after = one.files('eu-1', '2-trust-both/1-data undo')
    const verdict = checkChange(one.files('eu-1', '3-issue-new/2-restart'), after, live(one))
    expect(verdict).toMatchObject({ safe: false, reason: 'breaks' })
    expect(verdict.sentence).toContain('breaks sidecar to sidecar')
  })

  it('lets the narrowing be taken back', () => {
    expect(move('4-trust-new/1-data', '3-issue-new/2-restart').safe).toBe(true)
  })

  it('refuses a revert that removes cacerts, and the removal of the folder', () => {
    expect(move('2-trust-both/1-data', '1-enable-multiroot/2-restart')).toMatchObject({
      safe: false,
      reason: 'removes',
    })
    expect(checkChange(one.files('eu-1', '3-issue-new/1-data'), {}, live(one))).toMatchObject({
      safe: false,
      reason: 'removes',
    })
  })
})

describe('what was seen', () => {
  it('refuses to narrow while one group still presents a leaf of the old CA (F1)', () => {
    const [o, n, i] = [made.oldRoot.facts.sha256, made.newRoot.facts.sha256, made.issuing.facts.sha256]
    const seen = { presents: [[i, n], [o]], trusts: [[o, n]] }
    const verdict = checkChange(
      one.files('eu-1', '3-issue-new/2-restart'),
      one.files('eu-1', '4-trust-new/1-data'),
      live(one, { 'eu-1': seen }),
    )
    expect(verdict.safe).toBe(false)
    expect(verdict.sentence).toContain('what was seen')
  })

  it('reads it from evidence, each distinct observation once', () => {
    const group = {
      consumer: 'sidecar',
      owner: 'a',
      count: 1,
      members: '',
      bundleDigest: null,
      facts: {},
      leavesExpire: null,
    } as const
    const groups = [
      { ...group, presents: ['x'], trusts: ['a', 'b'] },
      { ...group, presents: ['x'], trusts: ['a'] },
      { ...group, presents: null, trusts: null },
    ]
    expect(liveSite({ system: 'istio' }, { groups, complete: true, exceptions: [] } as unknown as Evidence)).toEqual({
      presents: [['x']],
      trusts: [['a', 'b'], ['a']],
      complete: true,
    })
  })

  it('takes no word from consumers whose PKI is another: Linkerd’s webhooks have a CA of their own', () => {
    const common = { owner: 'a', count: 1, members: '', bundleDigest: null, facts: {}, leavesExpire: null } as const
    const groups = [
      { ...common, consumer: 'proxy', presents: ['x'], trusts: ['a'] },
      { ...common, consumer: 'webhook', presents: ['own'], trusts: ['own'] },
    ]
    const evidence = { groups, complete: true, exceptions: [] } as unknown as Evidence
    expect(liveSite({ system: 'linkerd' }, evidence)).toMatchObject({ presents: [['x']], trusts: [['a']] })
    // Of Istio the webhook's caBundle is the rotated root.
    expect(liveSite({ system: 'istio' }, evidence).trusts).toEqual([['a'], ['own']])
  })

  it('refuses a site that goes ahead while another does not trust the new root yet', () => {
    const o = made.oldRoot.facts.sha256
    const verdict = checkChange(
      two.files('eu-1', '2-trust-both/2-restart'),
      two.files('eu-1', '3-issue-new/1-data'),
      live(two, { ...seenAt('2-trust-both/2-restart'), 'us-1': { presents: [[o]], trusts: [[o]] } }),
    )
    expect(verdict).toMatchObject({ safe: false, reason: 'breaks' })
    expect(verdict.sites.at(-1)?.counterexample?.verifier.party).toBe('sidecar at us-1')
  })

  it('refuses a site that enters a step before another has reached the one before (F25)', () => {
    const verdict = checkChange(
      two.files('eu-1', '2-trust-both/1-data'),
      two.files('eu-1', '2-trust-both/2-restart'),
      live(two, { 'us-1': { at: '1-enable-multiroot/2-restart', presents: [], trusts: [] } }),
    )
    expect(verdict).toMatchObject({ safe: false, reason: 'out-of-order' })
    expect(verdict.sentence).toContain('while us-1 has not finished')
  })
})

describe('edits by hand', () => {
  const edited = (place: string, change: (files: Files) => Files): ReturnType<typeof checkChange> =>
    checkChange(one.files('eu-1', place), change({ ...one.files('eu-1', place) }), live(one))
  const secret = (bundle: readonly string[]): string =>
    cacerts(
      {
        'ca-cert.pem': made.oldRoot.facts.pem,
        'cert-chain.pem': made.oldRoot.facts.pem,
        'root-cert.pem': bundle.join(''),
      },
      'ENC[x]',
    )

  it('judges an edited bundle by what it holds', () => {
    const without = edited('2-trust-both/2-restart', files => {
      files['trust/eu-1/cacerts.yaml'] = secret([made.newRoot.facts.pem])
      delete files['trust/eu-1/trust.txt']
      files['trust/eu-1/root-cert.pem'] = made.newRoot.facts.pem
      return files
    })
    expect(without).toMatchObject({ safe: false, reason: 'breaks' })
    expect(without.sites[0]).toMatchObject({ from: '2-trust-both/2-restart', to: null })
  })

  it('lets an edit pass that keeps every handshake', () => {
    const reordered = edited('2-trust-both/2-restart', files => {
      files['trust/eu-1/README'] = 'by hand'
      return files
    })
    expect(reordered).toMatchObject({ safe: true, reason: 'every-mix-holds' })
  })

  it('refuses PEM files or a trust.txt that say something else than the Secret', () => {
    const both = [made.oldRoot.facts.pem, made.newRoot.facts.pem]
    const pem = edited('2-trust-both/2-restart', files => ({
      ...files,
      'trust/eu-1/root-cert.pem': made.oldRoot.facts.pem,
    }))
    expect(pem).toMatchObject({ safe: false, reason: 'contradiction' })
    const text = edited('2-trust-both/2-restart', files => ({
      ...files,
      'trust/eu-1/trust.txt': (files['trust/eu-1/trust.txt'] ?? '').replaceAll(
        made.newRoot.facts.sha256,
        'a'.repeat(64),
      ),
    }))
    expect(text).toMatchObject({ safe: false, reason: 'contradiction' })
    expect(secret(both)).toContain('kind: Secret')
  })

  it('refuses an empty bundle and a Secret that cannot be read', () => {
    const empty = edited('2-trust-both/2-restart', files => ({
      'trust/eu-1/cacerts.yaml': `${(files['trust/eu-1/cacerts.yaml'] ?? '').replace(/root-cert.pem: .*/, 'root-cert.pem: ""')}`,
    }))
    expect(empty.safe).toBe(false)
    const garbled = edited('2-trust-both/2-restart', () => ({ 'trust/eu-1/cacerts.yaml': 'kind: [' }))
    expect(garbled).toMatchObject({ safe: false, reason: 'unreadable' })
  })

  it('lets comments and format pass where no cacerts stands in the folder yet, and a bundle that changes not', () => {
    const place = '1-enable-multiroot/1-data'
    const patch = 'trust/eu-1/components/istiod/patch.yaml'
    const commented = edited(place, files => ({ ...files, [patch]: `# see the runbook\n${files[patch]}` }))
    expect(commented).toMatchObject({ safe: true, reason: 'every-mix-holds' })
    const other = edited(place, files => ({ ...files, 'trust/eu-1/root-cert.pem': made.newRoot.facts.pem }))
    expect(other).toMatchObject({ safe: false, reason: 'unreadable' })
  })

  describe('of kustomization.yaml', () => {
    const list = 'trust/eu-1/kustomization.yaml'
    const text = 'kind: Kustomization\nresources:\n  - ./cacerts.yaml\n  - canary.yaml\n'
    const built = (before: string, after: string): ReturnType<typeof checkChange> => {
      const files = one.files('eu-1', '3-issue-new/2-restart')
      return checkChange(
        { ...files, [list]: before },
        { ...files, [list]: after },
        live(one, seenAt('3-issue-new/2-restart')),
      )
    }

    it('refuses one that no longer lists the CA, though its file stays (F18)', () => {
      const verdict = built(text, text.replace('  - ./cacerts.yaml\n', ''))
      expect(verdict).toMatchObject({ safe: false, reason: 'removes' })
      expect(verdict.sentence).toContain('does not list cacerts.yaml any more')
    })

    it.each(['namespace: elsewhere\n', 'patches:\n  - path: patch.yaml\n', 'secretGenerator: [{name: a}]\n'])(
      'refuses one that makes other objects of the same files: %j',
      addition => expect(built(text, text + addition)).toMatchObject({ safe: false, reason: 'unreadable' }),
    )

    it('takes one in another order', () => {
      const turned = 'kind: Kustomization\n# sorted\nresources: [canary.yaml, cacerts.yaml]\n'
      expect(built(text, turned)).toMatchObject({ safe: true })
    })
  })

  it('refuses a private key in the clear before anything else', () => {
    const key = '-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n'
    const verdict = edited('2-trust-both/2-restart', files => ({
      ...files,
      'trust/eu-1/cacerts.yaml': cacerts(
        { 'root-cert.pem': made.oldRoot.facts.pem },
        Buffer.from(key).toString('base64'),
      ),
    }))
    expect(verdict).toMatchObject({ safe: false, reason: 'key-in-the-clear' })
    expect(JSON.stringify(verdict)).not.toContain('AAAA')
  })
})

describe('trust that no rotation owns', () => {
  const configMap = (...pems: readonly string[]): Files => ({
    'apps/ca.yaml': `kind: ConfigMap\nmetadata: {name: ca, namespace: shop}\ndata:\n  ca.crt: ${JSON.stringify(pems.join(''))}\n`,
  })
  const nothing: LiveTrust = { at: now, plan: null, sites: {}, certificates: [] }

  it('lets a bundle grow', () => {
    const verdict = checkChange(
      configMap(made.oldRoot.facts.pem),
      configMap(made.oldRoot.facts.pem, made.newRoot.facts.pem),
      nothing,
    )
    expect(verdict).toMatchObject({ safe: true, reason: 'only-widens' })
  })

  it('does not let it shrink where nobody looked', () => {
    const verdict = checkChange(
      configMap(made.oldRoot.facts.pem, made.newRoot.facts.pem),
      configMap(made.newRoot.facts.pem),
      nothing,
    )
    expect(verdict).toMatchObject({ safe: false, reason: 'unknown' })
  })

  it('lets it shrink where no leaf that was seen needs what goes, and refuses where one does', () => {
    const shrink = (presents: string): ReturnType<typeof checkChange> =>
      checkChange(configMap(made.oldRoot.facts.pem, made.newRoot.facts.pem), configMap(made.newRoot.facts.pem), {
        ...nothing,
        sites: { 'eu-1': { presents: [[presents]], trusts: [] } },
        certificates: [made.issuing.facts],
      })
    expect(shrink(made.issuing.facts.sha256)).toMatchObject({ safe: true })
    expect(shrink(made.oldRoot.facts.sha256)).toMatchObject({ safe: false, reason: 'breaks' })
  })
})

describe('sealed values that no rotation owns', () => {
  const secret = (name: string, data: Readonly<Record<string, string>>) => ({
    'apps/secret.json': JSON.stringify({ kind: 'Secret', metadata: { name, namespace: 'shop' }, data }),
  })
  const change = (name: string, key: string, beside: Readonly<Record<string, string>> = {}) =>
    checkChange(
      secret(name, { [key]: 'ENC[AES256_GCM,data:old]', ...beside }),
      secret(name, { [key]: 'ENC[AES256_GCM,data:new]', ...beside }),
      live(one),
    )

  it.each([
    ['database', 'password', {}],
    ['web-tls', 'tls.key', {}],
    ['web-tls', 'tls.crt', {}],
  ])('do not hold up %s: %s, which is no trust', (name, key, beside) => {
    expect(change(name, key, beside).safe).toBe(true)
  })

  it.each([
    ['cacerts', 'ca-key.pem', {}],
    ['shop', 'ca.crt', {}],
    ['linkerd-identity-issuer', 'tls.key', {}],
    ['shop', 'signing', { 'tls.crt': Buffer.from(rootPem()).toString('base64') }],
  ])('hold up %s: %s, which may be a CA', (name, key, beside) => {
    expect(change(name, key, beside)).toMatchObject({ safe: false, reason: 'unknown' })
  })
})

function rootPem(): string {
  return readFileSync('output/istio-graceful-sail/4-trust-new/1-data/eu-1/root-cert.pem', 'utf8')
}
