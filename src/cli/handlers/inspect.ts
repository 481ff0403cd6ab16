import { readFileSync } from 'node:fs'
import type { Context } from '../../commands/context.ts'
import { findDeclaration } from '../../commands/declared.ts'
import {
  type DeclaredCourse,
  declaredCourse,
  type InspectOptions,
  inspectFiles,
  inspectSites,
} from '../../commands/inspect.ts'
import { loadRotation } from '../../commands/rotation.ts'
import { undeclaredPart } from '../../declaration/undeclared.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { dueText, type InspectView, inspectText } from '../../report/inspect-text.ts'
import type { ClusterChoice, Declaration, SystemPart } from '../../rotation.ts'
import { type CommonOptions, duration } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor, paintFor, widthOf } from './common.ts'
import { knownSystem } from './system.ts'

interface InspectFlags extends CommonOptions {
  readonly within?: string
  readonly startWithin?: string
  readonly quiet: boolean
  readonly file?: readonly string[]
  readonly context?: string
  readonly system: string
  readonly namespace?: string
  readonly setting: readonly string[]
}

export async function inspectHandler(options: InspectFlags, terminal: Terminal): Promise<CommandResult> {
  const now = new Date()
  const within = options.within === undefined ? null : duration(options.within, '--within')
  const startWithin = options.startWithin === undefined ? null : duration(options.startWithin, '--start-within')
  const when = { now, within, startWithin }
  const view =
    options.file === undefined
      ? await inspectLive(options, terminal, when)
      : await inspectFiles(
          options.file.map(readText),
          await undeclaredPart(knownSystem(options.system, 'inspect'), settingsOf(options)),
          when,
        )
  return {
    rotation: options.rotation ?? null,
    exit: view.due.length > 0 ? exitCodes.violated : exitCodes.done,
    result: view,
    text: options.quiet ? dueText(view) : inspectText(view, { paint: await paintFor(terminal), width: widthOf() }),
  }
}

/** The sites of the rotation on the base branch, or the cluster that kubectl would speak to. */
async function inspectLive(options: InspectFlags, terminal: Terminal, when: InspectOptions): Promise<InspectView> {
  const { openKubernetesCluster } = await import('../../cluster/kubernetes.ts')
  const sites: { name: string; choice: ClusterChoice; declared: SystemPart; course?: DeclaredCourse }[] = []
  if (options.context !== undefined) {
    sites.push({
      name: options.context,
      choice: { kind: 'context', context: options.context },
      declared: await undeclaredPart(knownSystem(options.system, 'inspect'), settingsOf(options)),
    })
  } else {
    const context = await contextFor(options, terminal, true)
    const declaration = await declarationOf(context, options)
    const course = declaredCourse(declaration)
    for (const site of declaration.sites)
      sites.push({ name: site.name, choice: site.cluster, declared: declaration, course })
  }
  const opened = []
  try {
    for (const { name, choice, declared, course } of sites)
      opened.push({
        name,
        declared,
        ...(course === undefined ? {} : { course }),
        cluster: await openKubernetesCluster(choice),
        openCluster: async (_name: string, other: ClusterChoice) => await openKubernetesCluster(other),
      })
    return await inspectSites(opened, when)
  } finally {
    for (const site of opened) await site.cluster.close()
  }
}

/** Before its plan is merged a rotation is its declaration alone, and what it would start from is worth a look then most of all. */
async function declarationOf(context: Context, options: InspectFlags): Promise<Declaration> {
  try {
    return (await loadRotation(context.repository, chosen(options))).declaration
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    return (await findDeclaration(context, chosen(options))).declaration
  }
}

function settingsOf({ namespace, setting }: InspectFlags): Readonly<Record<string, string>> {
  const said = setting.map(text => {
    const [, name, value] = /^([A-Za-z]+)=(.+)$/.exec(text) ?? []
    if (name !== undefined && value !== undefined) return [name, value] as const
    throw new ReanchorError({
      what: '--setting is not a name and a value',
      expected: 'a field of spec.<system>, `=`, and its value',
      found: text,
      example: '--setting version=stable-2.14.10',
      todo: 'correct the option',
    })
  })
  return { ...(namespace === undefined ? {} : { namespace }), ...Object.fromEntries(said) }
}

function readText(file: string): { readonly file: string; readonly text: string } {
  try {
    return { file, text: readFileSync(file, 'utf8') }
  } catch (cause) {
    throw new ReanchorError({
      what: 'the file cannot be read',
      where: { file },
      expected: 'a PEM file',
      found: (cause as NodeJS.ErrnoException).code ?? 'an error',
      todo: 'correct the path',
      cause,
    })
  }
}
