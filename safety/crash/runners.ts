import { openLocalForge } from '../../src/forge/local.ts'
import { openRepository } from '../../src/repository/repository.ts'
import { type Act, author, perform } from './acts.ts'
import type { Chance } from './chance.ts'
import { endOf, type Stage } from './stage.ts'
import { type CrashPoint, holdAt, onStage, type Undisturbed } from './sweep.ts'

/** What the other runner does while the first one is held. */
export type Meanwhile = 'opens' | 'opens, and somebody merges' | 'opens, and somebody merges and removes the branch'

/** Exit codes of the one who comes second: waiting; `plan` also finds the root key file taken. */
const lostTo = (act: Act): RegExp => (act.command.kind === 'plan' ? /^exit [235]: / : /^exit 3: /)

/**
 * Holds a command before one of its writes, lets another process run the same command whole a second later, and lets the first go on. Says what is
 * wrong then: two requests for one step, one that is lost, a loser that says nothing of use; empty where nothing is.
 */
export async function twoRunners(
  wanted: Undisturbed,
  chance: Chance,
  write: number,
  meanwhile: Meanwhile,
): Promise<readonly string[]> {
  const { act, place } = wanted
  return await onStage(act, place, async stage => {
    const at: CrashPoint = { write, when: 'before' }
    let second = 'did not run'
    const first = await perform(act, stage, chance, {
      onWrite: holdAt(at, async () => {
        second = await perform(act, stage, chance, { later: 1_000 })
        if (meanwhile !== 'opens') await mergeOpened(act, stage, meanwhile !== 'opens, and somebody merges')
      }),
    })
    const wrong: string[] = []
    const told = wanted.told.startsWith('exit ') ? wanted.told : null
    if (second.startsWith('exit ') && second !== told) wrong.push(`the second ended with ${second}`)
    if (first.startsWith('exit ') && first !== told && !lostTo(act).test(first))
      wrong.push(`the first ended with ${first}`)
    if (meanwhile !== 'opens') return [...wrong, ...(await expectNoneOpen(act, stage, meanwhile))]
    if (first.startsWith('exit ')) {
      // The loser runs again, as a loop does, and finds all done.
      const again = await perform(act, stage, chance, { later: 2_000 })
      if (again.startsWith('exit ') && again !== told) wrong.push(`run again, the first ended with ${again}`)
    }
    return [...wrong, ...(await expectOne(wanted, stage))]
  })
}

/** The same branches, each with the same tree, and on the local forge the same requests in the same states. */
async function expectOne(wanted: Undisturbed, stage: Stage): Promise<readonly string[]> {
  const found = endOf(stage)
  const names = (refs: object) => Object.keys(refs).join(' ')
  if (names(found.refs) !== names(wanted.end.refs))
    return [`expected the refs ${names(wanted.end.refs)}, found ${names(found.refs)}`, ...found.leftovers]
  const repository = await openRepository(stage.bare)
  const wrong: string[] = [...found.leftovers]
  try {
    if (stage.kind === 'local') {
      const requests = await (await openLocalForge(repository, { now: () => new Date(0) })).list('all')
      const open = requests.filter(request => request.state === 'open').map(request => request.branch)
      if (new Set(open).size !== open.length) wrong.push(`two requests are open for one branch: ${open.join(' ')}`)
      for (const request of requests)
        if (request.state === 'open' && (await repository.branch(request.branch)) !== request.head)
          wrong.push(`request ${request.number} has lost its head`)
    }
  } finally {
    repository.close()
  }
  return wrong
}

/** After a merge the step is done: a second request for it would bring it to the base branch twice. */
async function expectNoneOpen(act: Act, stage: Stage, meanwhile: Meanwhile): Promise<readonly string[]> {
  const wrong: string[] = []
  if (meanwhile === 'opens, and somebody merges and removes the branch') {
    for (const ref of Object.keys(endOf(stage).refs))
      if (ref.startsWith('refs/heads/') && act.before[ref] === undefined)
        wrong.push(`${ref} was brought back for a step that is merged`)
  }
  if (stage.kind !== 'local') return wrong
  const repository = await openRepository(stage.bare)
  const open = await (await openLocalForge(repository, { now: () => new Date(0) })).list('open')
  repository.close()
  const known = await openBefore(act, stage)
  for (const { number } of open)
    if (!known.includes(number)) wrong.push(`request ${number} is open for a step that is merged`)
  return wrong
}

async function openBefore(act: Act, stage: Stage): Promise<readonly number[]> {
  const commit = act.before['refs/reanchor/forge']
  if (commit === undefined) return []
  const repository = await openRepository(stage.bare)
  try {
    const texts = await repository.snapshot(commit).readFolder('pulls')
    const all = [...texts.values()].map(text => JSON.parse(text) as { readonly number: number; readonly state: string })
    return all.filter(one => one.state === 'open').map(one => one.number)
  } finally {
    repository.close()
  }
}

/** As a person does, by squashing; some forges remove the branch then. */
async function mergeOpened(act: Act, stage: Stage, remove: boolean): Promise<void> {
  const repository = await openRepository(stage.bare)
  try {
    // One that stood before may have moved: the branch with the requests for an offline root is that of the plan.
    const moved = [...(await repository.branches(`reanchor/${act.rotation}/`))].filter(
      ([name, head]) => act.before[`refs/heads/${name}`] !== head,
    )
    for (const [branch, head] of moved) {
      const onto = await repository.head('main')
      const merged = await repository.mergeTrees(onto, head)
      if (!merged.ok) throw new Error(`${branch} does not merge`)
      if (stage.kind === 'local') {
        const forge = await openLocalForge(repository, { now: () => new Date(act.now + 1_000) })
        const request = await forge.find(branch)
        if (request !== null)
          await forge.merge(request.number, { method: 'squash', by: author, at: new Date(act.now + 1_000) })
      } else {
        const person = { ...author, at: new Date(act.now + 1_000) }
        const to = await repository.commitTree({
          tree: merged.tree,
          parents: [onto],
          message: `Merge ${branch}`,
          author: person,
          committer: person,
        })
        await repository.publish([{ ref: 'refs/heads/main', from: onto, to }])
      }
      if (remove) await repository.publish([{ ref: `refs/heads/${branch}`, from: head, to: null }])
    }
  } finally {
    repository.close()
  }
}
