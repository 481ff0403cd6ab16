import { merge, nextWhenReady, placeOf, planAndMerge, recordMerge, type World } from '../../src/commands/demo.ts'
import { runFault } from '../../src/commands/demo-faults.ts'
import { judgeWritten } from '../../src/commands/judge-written.ts'
import { type NextOutcome, next } from '../../src/commands/next.ts'
import { loadRotation, positionsAt } from '../../src/commands/rotation.ts'
import { runRounds } from '../../src/commands/run.ts'
import { lookAtSites } from '../../src/commands/verify.ts'
import { ReanchorError } from '../../src/errors.ts'
import { scriptCa } from '../../src/rehearsal/cassandra/certificates.ts'
import { demoCluster } from '../../src/rehearsal/cassandra/fleet.ts'
import { cassandraRegionOf } from '../../src/rehearsal/cassandra/region.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { Evidence, Plan } from '../../src/rotation.ts'
import { expectedOf } from '../../src/systems/cassandra/expected.ts'
import { observationDigest } from '../../src/verify/observation.ts'
import { plannedAt } from '../../src/verify/planned.ts'
import { instantOf } from '../../src/verify/values.ts'
import { closeRequest, mergeVariant, openStep } from '../../test/rotations/drive.ts'
import type { TestWorld, TestWorldOptions } from '../../test/rotations/world.ts'
import { newKey, signerLine, signerOf } from '../../test/signature/keys.ts'
import { quickKeys } from '../../test/systems/kyma/material.ts'
import { type Ending, endingOf, failuresOf, mergeAll, shutBy } from './drive.ts'
import { folderOf, holdsText, leadTo, openSteps, push, pushTo } from './people.ts'
import type { Scenario } from './scenario.ts'
import { hour, struck } from './strike.ts'

/** What every system shares is shown with Cassandra, whose rotations are the shortest. */
const one: TestWorldOptions = { system: 'cassandra', keys: quickKeys }
const two: TestWorldOptions = { ...one, sites: ['eu-1', 'us-1'] }
const minute = 60_000

/** The same, with what a command answered at the end. */
async function ended(world: World, at: string, run: () => Promise<NextOutcome | readonly string[]>): Promise<Ending> {
  try {
    const outcome = await run()
    if ('kind' in outcome)
      return await endingOf(world, {
        ended: outcome.kind === 'done' ? 'closed' : 'waits',
        at,
        by: outcome.kind === 'waiting' ? shutBy(outcome.gates) : [],
      })
    return await endingOf(world, { ended: 'waits', at, by: [], wrong: outcome })
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    return await endingOf(world, { ended: 'refused', at, by: [`${error.what}: ${error.found ?? ''}`] })
  }
}

const ask = async (world: World): Promise<NextOutcome> =>
  (await next(world.context, { rotation: world.rotation, base: null, variant: 'step' })).outcome

/** A person's pull request whose check is asked first, and which is merged where that says safe. */
function checked(name: string, fault: string, kind: 'out-of-order' | 'revert-trust-both', branch: string): Scenario {
  return {
    name,
    fault,
    world: one,
    async run({ world }) {
      const { refusedAt, culprit } = await runFault(world, kind)
      if (refusedAt !== null)
        return await endingOf(world, { ended: 'refused', at: refusedAt.phase, by: [culprit ?? ''] })
      const request = await world.forge.find(branch)
      if (request === null) throw new Error(`no pull request of branch ${branch}`)
      await merge(world, request)
      await world.rehearsal.run(hour)
      return await endingOf(world, { ended: 'waits', at: branch, by: [] })
    },
  }
}

/** Files of the user's own new CA. */
async function ownCa(
  change: (pair: { certificate: string; key: string }) => Promise<{ certificate: string; key: string }>,
) {
  const day = 86_400_000
  const made = await scriptCa('example-first', {
    notBefore: new Date(Date.now() - 2 * day),
    notAfter: new Date(Date.now() + 900 * day),
  })
  const { certificate, key } = await change(made)
  return {
    files: new Map([
      ['/vault/ca.crt', certificate],
      ['/vault/ca.key', key],
    ]),
  }
}

function fromFiles(test: TestWorld, files: ReadonlyMap<string, string>): TestWorld {
  const context = { ...test.world.context, readFile: (path: string) => files.get(path) ?? '' }
  return { ...test, world: { ...test.world, context } }
}

const takesFiles: TestWorldOptions = {
  ...one,
  change: declared => ({
    ...declared,
    next: {
      from: 'files',
      root: '/vault/ca.crt',
      issuing: { '*': { certificate: '/vault/ca.crt', key: '/vault/ca.key', chain: null } },
    },
  }),
}

export const sharedScenarios: readonly Scenario[] = [
  {
    name: 'edited-request',
    fault: 'somebody puts the files of the last step into the open pull request of the first, to be done sooner',
    world: one,
    async run({ world }) {
      await planAndMerge(world)
      const request = await openStep(world, 'add/data')
      const changes = new Map<string, string | null>()
      for (const path of (await folderOf(world, 'trust/eu-1')).keys()) changes.set(`trust/eu-1/${path}`, null)
      for (const [path, text] of await folderOf(world, `rotations/${world.rotation}/phases/3-drop/1-data/eu-1`))
        changes.set(`trust/eu-1/${path}`, text)
      await pushTo(world, request.branch, 'Be done sooner', changes)
      return await ended(world, 'adopt/adopt', async () => {
        const outcome = await ask(world)
        if (outcome.kind !== 'open') return outcome
        await recordMerge(world, request)
        await world.rehearsal.run(hour)
        return []
      })
    },
  },
  checked('hurried-step', 'somebody opens the swap before anyone trusts the new CA', 'out-of-order', 'hurry'),
  checked(
    'reverted-step',
    'somebody reverts the pull request that made everyone trust the new CA, after the swap',
    'revert-trust-both',
    'revert-trust-both',
  ),
  {
    name: 'asked-twice',
    fault: 'next is asked again while its pull request is open',
    world: one,
    async run(test) {
      const { world } = test
      await planAndMerge(world)
      await openStep(world, 'add/data')
      return await ended(world, 'adopt/adopt', async () => {
        await ask(world)
        const open = await openSteps(world)
        return open === 1 ? [] : [`${open} pull requests of one step are open`]
      })
    },
  },
  {
    name: 'overtaken',
    fault:
      'just before a runner publishes its branch, another one opens that step, and it is squashed and merged, its branch removed',
    world: one,
    async run({ world }) {
      await planAndMerge(world)
      await closeRequest(world, await openStep(world, 'adopt'))
      await world.rehearsal.run(hour)
      return await ended(world, 'adopt/adopt', async () => {
        const merged = await overtaken(world)
        const again = (await world.forge.listOpen('main')).find(({ branch }) => branch === merged)
        return again === undefined ? [] : [`a pull request is open again of a step that is merged: ${again.title}`]
      })
    },
  },
  {
    name: 'edited-rendering',
    fault: 'somebody copies the files of the last step over those of the first under rotations/',
    world: one,
    async run(test) {
      const { world } = test
      await planAndMerge(world)
      const name = (phase: string) => `rotations/${world.rotation}/phases/${phase}/1-data/eu-1`
      const changes = new Map<string, string | null>()
      for (const path of (await folderOf(world, name('1-add'))).keys()) changes.set(`${name('1-add')}/${path}`, null)
      for (const [path, text] of await folderOf(world, name('3-drop'))) changes.set(`${name('1-add')}/${path}`, text)
      await push(world, 'Tidy up', changes)
      return await mergeOn(test)
    },
  },
  {
    name: 'edited-folder',
    fault: 'somebody edits a file of the site’s folder on the base branch',
    world: one,
    async run({ world }) {
      await planAndMerge(world)
      const adopt = await nextWhenReady(world)
      if (adopt.kind !== 'opened' || adopt.pullRequest === null) throw new Error('adopt did not open')
      await recordMerge(world, adopt.pullRequest)
      const text = (await folderOf(world, 'trust/eu-1')).get('kustomization.yaml') ?? ''
      await push(
        world,
        'Say who owns this',
        new Map([['trust/eu-1/kustomization.yaml', `# Owned by storage.\n${text}`]]),
      )
      await world.rehearsal.run(20 * minute)
      return await ended(world, 'adopt/adopt', async () => {
        const outcome = await nextWhenReady(world, hour, hour / 3)
        return outcome.kind === 'opened'
          ? ['a step opened over an edit of the folder, which it takes away unseen']
          : outcome
      })
    },
  },
  {
    name: 'paused',
    fault: 'the owner has paused the rotation',
    world: one,
    async run({ world }) {
      await planAndMerge(world)
      const path = `rotations/${world.rotation}/rotation.yaml`
      const text = (await world.repository.snapshot(await world.repository.head('main')).read(path)) ?? ''
      await push(
        world,
        'Wait for the freeze to end',
        new Map([[path, text.replace(/^spec:\n/m, 'spec:\n  paused: true\n')]]),
      )
      return await ended(world, 'plan', async () => {
        const outcome = await ask(world)
        return outcome.kind === 'opened' ? ['a step opened while the rotation is paused'] : outcome
      })
    },
  },
  struck(
    'other-cluster',
    'the second region’s context leads to the first region’s cluster, and its operator hangs',
    two,
    {
      before: 'add/data',
      site: 'us-1',
      act: ({ test, world }) => {
        cassandraRegionOf(test.site('us-1').store).operator.paused = true
        leadTo(world, 'us-1', 'eu-1')
      },
    },
  ),
  struck('unseen-cluster', 'the cluster does not answer any more, and its operator hangs', one, {
    before: 'add/data',
    act: ({ test }) => {
      cassandraRegionOf(test.site('eu-1').store).operator.paused = true
      test.site('eu-1').faults.api.push({ asked: /./, failure: 'unreachable' })
    },
    until: 'swap/data',
    heal: ({ test }) => {
      cassandraRegionOf(test.site('eu-1').store).operator.paused = false
    },
  }),
  {
    name: 'falls-behind',
    fault: 'while the last pull request is open, a node restarts with an old keystore; next is asked before the merge',
    world: one,
    run: async test => await fallenBehind(test, async ({ world }) => await ask(world)),
  },
  {
    name: 'stale-green',
    fault:
      'while the last pull request is open, a node restarts with an old keystore; a runner looks, and a person merges what is green',
    world: { ...one, requiredStatuses: ['reanchor/gate'] },
    run: async test =>
      await fallenBehind(test, async ({ world }) => {
        await next(world.context, { rotation: world.rotation, base: null, variant: 'step', runner: true })
        return 'merges'
      }),
  },
  {
    name: 'unsettled',
    fault:
      'a second after a look that finds all well, a node restarts with an old keystore; the pull request is merged at once',
    world: one,
    async run(test) {
      const { world } = test
      await planAndMerge(world)
      await openStep(world, 'swap/data')
      const strike = strikeNode(test)
      await mergeOpen(world)
      // Between the two looks that must agree; with one look alone, as soon as the request is there.
      let struck = false
      const once = (): void => {
        if (!struck) strike()
        struck = true
      }
      const { sleep } = world.context
      Object.assign(world.context, {
        sleep: async (milliseconds: number) => {
          once()
          await sleep(milliseconds)
        },
      })
      return await ended(world, 'swap/data', async () => {
        const outcome = await nextWhenReady(world, 3 * hour, 10 * minute)
        if (outcome.kind !== 'opened' || outcome.pullRequest === null) return outcome
        once()
        await merge(world, outcome.pullRequest)
        await world.rehearsal.run(hour)
        return []
      })
    },
  },
  byWrittenWord(
    'edited-evidence',
    'the file of evidence that a person goes by was edited to look right',
    one,
    each => each,
  ),
  byWrittenWord(
    'unsigned-evidence',
    'the file of evidence that a person goes by was made up whole, and signers are declared',
    {
      ...one,
      change: declared => ({
        ...declared,
        evidence: {
          ...declared.evidence,
          signers: [signerLine('ops@example.com', runnerKey, 'namespaces="reanchor-evidence"')],
        },
      }),
    },
    each => ({ ...each, observation: observationDigest(each) }),
  ),
  {
    name: 'two-runners',
    fault:
      'two runners have a round at the same time, on a forge that takes two requests for one branch, as Gitea does',
    world: one,
    async run(test) {
      const { world } = test
      await planAndMerge(world)
      return await ended(world, 'plan', async () => {
        const requests = await openedByTwo(world)
        return requests === 1 ? [] : [`${requests} pull requests of one step are open`]
      })
    },
  },
  {
    name: 'undone-twice',
    fault: 'the swap is undone, and at once the step before it, while nodes still present the new CA',
    world: one,
    async run({ world }) {
      await planAndMerge(world)
      await closeRequest(world, await openStep(world, 'drop'))
      await mergeVariant(world, 'undo')
      return await ended(world, 'swap/data undo', async () => {
        const { outcome } = await next(world.context, { rotation: world.rotation, base: null, variant: 'undo' })
        if (outcome.kind !== 'opened' || outcome.pullRequest === null) return outcome
        await merge(world, outcome.pullRequest)
        await world.rehearsal.run(hour)
        return []
      })
    },
  },
  {
    name: 'wrong-key',
    fault: 'the key that is given with the new CA belongs to another certificate',
    world: takesFiles,
    async run(test) {
      const day = 86_400_000
      const { files } = await ownCa(async pair => ({
        ...pair,
        key: (await scriptCa('other', { notBefore: new Date(Date.now() - day), notAfter: new Date(Date.now() + day) }))
          .key,
      }))
      return await mergeAll(fromFiles(test, files), {
        patience: 2 * hour,
        opened: () => 'a step opened of a plan that holds a key which is not the one of its certificate',
      })
    },
  },
  {
    name: 'equal-subject',
    fault: 'the Subject of the new CA is that of the old one',
    world: {
      ...one,
      change: declared => ({ ...declared, next: { ...declared.next, subject: 'O=ca' } as typeof declared.next }),
    },
    run: async test =>
      await mergeAll(test, {
        patience: 2 * hour,
        opened: ({ step }) => (step === 'add/data' ? 'a CA is to be added whose alias another has' : undefined),
      }),
  },
  {
    name: 'unsealed-key',
    fault: 'sealing leaves the new CA’s key as it is',
    world: one,
    async run(test) {
      const wrong = async ({ world }: TestWorld) => [await leaked(world)].flatMap(clause => clause ?? [])
      try {
        return await mergeAll(test, { patience: 2 * hour, opened: async ({ world }) => await leaked(world), wrong })
      } catch (error) {
        // The last look of custody is held to be unreachable, so it throws what no command expects.
        const by = error instanceof Error ? error.message : String(error)
        return await endingOf(test.world, { ended: 'refused', at: 'the start', by: [by], wrong: await wrong(test) })
      }
    },
  },
  {
    name: 'cassandra-plain',
    fault: 'nothing',
    world: one,
    run: async test => await mergeAll(test, { patience: 2 * hour }),
  },
  struck('skewed-clock', 'the operator takes up the new CA late, and the API server’s clock is an hour ahead', one, {
    before: 'add/data',
    act: ({ test }) => {
      test.site('eu-1').faults.clockSkew = hour
    },
    held: ({ test, step }) =>
      step === 'swap/data' && test.site('eu-1').faults.clockSkew > 0
        ? 'the hold was judged by a clock that is an hour ahead'
        : undefined,
  }),
]

async function leaked(world: World): Promise<string | undefined> {
  const plain = await holdsText(world, 'PRIVATE KEY-----')
  const [found] =
    plain.length > 0
      ? plain
      : await holdsText(world, Buffer.from('-----BEGIN RSA PRIVATE').toString('base64').slice(0, 20))
  return found === undefined ? undefined : `a private key lies in Git in the clear: ${found}`
}

/** Goes on from a merged plan. */
async function mergeOn(test: TestWorld): Promise<Ending> {
  const { world } = test
  return await ended(world, 'plan', async () => {
    for (;;) {
      const outcome = await nextWhenReady(world, 2 * hour, hour)
      if (failuresOf(world).length > 0) return []
      if (outcome.kind === 'done' || outcome.kind === 'waiting') return outcome
      if (outcome.pullRequest === null) throw new Error('there is no pull request to merge')
      await placeOf(world, outcome.pullRequest)
      await recordMerge(world, outcome.pullRequest)
    }
  })
}

/** `next`, with another runner’s work done in the moment before its first branch is published: the name of that branch. */
async function overtaken(world: World): Promise<string> {
  const { context, rotation, forge } = world
  const options = { rotation, base: null, variant: 'step' } as const
  let branch = ''
  const repository = await openRepository(world.repository.gitDir, {
    async onWrite(what, when) {
      if (branch !== '' || when !== 'before' || !what.startsWith('refs refs/heads/reanchor/')) return
      // At the very same second both would write the same commit.
      const later = { ...context, now: () => new Date(context.now().getTime() + 1000) }
      const { outcome } = await next(later, options)
      if (outcome.kind !== 'opened' || outcome.pullRequest === null) throw new Error('the other runner opened nothing')
      branch = outcome.pullRequest.branch
      const by = { by: context.author, at: context.now(), required: [] }
      await forge.merge(outcome.pullRequest.number, { method: 'squash', ...by })
      const from = await world.repository.branch(branch)
      await world.repository.publish([{ ref: `refs/heads/${branch}`, from, to: null }])
    },
  })
  try {
    await next({ ...context, repository, openForge: async () => forge }, options)
  } catch (error) {
    // That somebody else was first is what it is to find.
    if (!(error instanceof ReanchorError) || branch === '') throw error
  } finally {
    repository.close()
  }
  if (branch === '') throw new Error('nothing was published')
  return branch
}

/** Whose key the runner has: the evidence that a person was given is not by it. */
const runnerKey = newKey('ed25519')

/** The operator hangs when the new CA is to be trusted. Somebody makes the evidence look right, and a person merges the swap by hand where `verify --evidence` lets it pass. */
function byWrittenWord(
  name: string,
  fault: string,
  world: TestWorldOptions,
  finish: (evidence: Evidence) => Evidence,
): Scenario {
  return {
    name,
    fault,
    world,
    async run(test) {
      const world = { ...test.world, context: { ...test.world.context, signer: signerOf(runnerKey) } }
      const { operator } = cassandraRegionOf(test.store('eu-1'))
      await planAndMerge(world)
      const request = await openStep(world, 'add/data')
      operator.paused = true
      await recordMerge(world, request)
      await world.rehearsal.run(hour)
      return await ended(world, 'add/data', async () => {
        const rotation = await loadRotation(world.repository, { rotation: world.rotation, base: null })
        const positions = await positionsAt(rotation.snapshot, rotation.plan)
        const looks = await lookAtSites(world.context, rotation, positions)
        const written = looks.map(({ evidence }) => ({
          evidence: asIfAgreed(finish(madeRight(evidence, rotation.plan)), rotation.plan),
          signature: null,
        }))
        const { gates } = await judgeWritten(world.context, rotation, written, null)
        const open = gates.filter(({ verdict }) => verdict !== 'holds')
        if (open.length > 0) return { kind: 'waiting', verdict: 'unknown', gates: open, looks }
        const changes = new Map<string, string | null>()
        for (const [path, text] of await folderOf(world, `rotations/${world.rotation}/phases/2-swap/1-data/eu-1`))
          changes.set(`trust/eu-1/${path}`, text)
        await push(world, 'All trust it: go on', changes)
        operator.paused = false
        await world.rehearsal.run(hour)
        return []
      })
    },
  }
}

/** What a person would write who wants the step to be complete. */
function madeRight(evidence: Evidence, plan: Plan): Evidence {
  const place = plannedAt(plan, evidence.site, evidence.phase, evidence.step, 'step')
  if (place === null) throw new Error('the step is not planned')
  const { roots, checksum } = expectedOf(plan, place)
  return {
    ...evidence,
    exceptions: [],
    groups: evidence.groups.map(group =>
      group.consumer === 'node' ? { ...group, trusts: roots, facts: { ...group.facts, started: 'after' } } : group,
    ),
    objects: evidence.objects.map(object =>
      object.facts.checksum === undefined ? object : { ...object, facts: { ...object.facts, checksum } },
    ),
  }
}

/** With an earlier look that saw the same. */
function asIfAgreed(evidence: Evidence, { gates }: Plan): Evidence {
  const at = new Date(Date.parse(evidence.from) - gates.settle)
  return { ...evidence, agreesWith: { observation: evidence.observation, at: instantOf(at) } }
}

/** Requests that two rounds at a time open. The forge takes one for each time that it is asked, and the first is held there until the second round is over. */
async function openedByTwo(world: World): Promise<number> {
  const { context, forge, rotation } = world
  let asked = 0
  let second: Promise<unknown> | null = null
  const round = async (holder: string): Promise<void> => {
    const heldForge: typeof forge = {
      ...forge,
      async open(draft) {
        asked += 1
        if (second === null) {
          second = round('the second')
          await second
        }
        return await forge.open(draft)
      },
    }
    const own = { ...context, openForge: async () => heldForge }
    const lock = { holder, lasts: 10 * minute }
    await runRounds(own, { rotation, base: null, once: true, interval: minute, lock }, async () => {}).catch(error => {
      if (!(error instanceof ReanchorError)) throw error
    })
  }
  await round('the first')
  return asked
}

/**
 * The swap is complete and `drop` is open; then a node is started anew on a node whose kubelet has the keystore of before the swap. `before`: what is done
 * before the merge, and what comes of it; `merges`: the person does not care.
 */
async function fallenBehind(
  test: TestWorld,
  before: (test: TestWorld) => Promise<NextOutcome | 'merges'>,
): Promise<Ending> {
  const { world } = test
  await planAndMerge(world)
  await openStep(world, 'swap/data')
  const strike = strikeNode(test)
  await mergeOpen(world)
  const request = await openStep(world, 'drop')
  strike()
  await world.rehearsal.run(20 * minute)
  return await ended(world, 'swap/data', async () => {
    const outcome = await before(test)
    if (outcome !== 'merges' && outcome.kind !== 'open' && outcome.kind !== 'opened') return outcome
    await merge(world, request, world.requiredStatuses)
    await world.rehearsal.run(hour)
    return []
  })
}

async function mergeOpen(world: World): Promise<void> {
  for (const request of await world.forge.listOpen('main')) await recordMerge(world, request)
}

/** Remembers the keystore of now, and starts a node anew with it when it is called. */
function strikeNode(test: TestWorld): () => void {
  const { namespace, name } = demoCluster
  const site = test.site('eu-1')
  const secret = `${name}-cluster-tls-node`
  const old = structuredClone(site.store.get('', 'Secret', namespace, secret))
  return () => {
    const struck = `${name}-cassandra-eu-1-1`
    const pod = site.store.list('', 'Pod', namespace).find(({ metadata }) => metadata.name === struck)
    const node = (pod?.spec as { nodeName?: string } | undefined)?.nodeName ?? ''
    site.faults.staleNodes.set(node, new Map([[`Secret/${namespace}/${secret}`, old]]))
    site.kubectlDelete('', 'Pod', namespace, struck)
  }
}
