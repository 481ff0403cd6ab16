import type { Cluster } from '../cluster/cluster.ts'
import { ClusterError } from '../cluster/cluster.ts'
import { resources } from '../cluster/resources.ts'
import { assertNoPrivateKey } from '../custody/leak.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import { kustomizationFile } from '../gitops/kustomize-load.ts'
import { baseName, folderOf } from '../gitops/paths.ts'
import { reach, reachOf } from '../gitops/reach.ts'
import { applyWiring } from '../gitops/yaml-edit.ts'
import { certManagerOf, holdsManifest, type Mint, mintsOf, refuseKeptKey } from '../mint/certificate.ts'
import { idOf, judgeKept, judgeMint, type MintVerdict } from '../mint/gate.ts'
import { asFiles, isOlder, type MintedCa, mintedCa } from '../mint/material.ts'
import { observeMint } from '../mint/observe.ts'
import { type MintPin, readPins, writePins } from '../mint/pin.ts'
import { mintBody, mintTitle } from '../mint/words.ts'
import { readBundle } from '../pki/bundle.ts'
import type { CurrentCa, NewCa } from '../plan/ca.ts'
import { mintBranch, rotationFolder } from '../plan/steps.ts'
import { wholeTime } from '../plan/time-left.ts'
import { yamlText } from '../render/yaml.ts'
import type { Snapshot } from '../repository/repository.ts'
import type { Declaration, FileTree, GateResult } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import { worst } from '../verify/verdict.ts'
import type { Context } from './context.ts'
import type { Declared } from './declared.ts'
import { filesForWiring } from './files.ts'
import { gateContext } from './gate-status.ts'
import { declaredCourse } from './inspect.ts'
import { publishNew } from './requests.ts'
import type { OpenRotation } from './rotation.ts'
import { unreadable } from './unreadable.ts'

export interface MintScene {
  readonly context: Context
  readonly declared: Declared
  /** Commit of the base branch. */
  readonly base: string
  readonly snapshot: Snapshot
  readonly current: Readonly<Record<string, CurrentCa>>
}

/** The new CA, and the record of what was pinned, by the path in the repository that the plan carries it under. */
export interface Minted {
  readonly next: NewCa
  readonly record: { readonly file: string; readonly text: string }
}

/** Where the pins lie, so that a look in another clone holds to them: a ref on the remote with one commit. */
function pinRef(rotation: string): string {
  return `refs/reanchor/minted/${rotation}`
}

const pinFile = 'minted.yaml'

/**
 * The new CA as cert-manager minted it. Three ends: the `mint` pull request is opened, or not merged yet (3); its gate does not hold (3, or 4); or the gate has
 * seen the certificate, the Secret holds that one, and it is taken over.
 */
export async function takeMinted(scene: MintScene): Promise<Minted> {
  const { context, declared } = scene
  const { declaration } = declared
  refuseKeptKey(declaration)
  refuseReports(declaration)
  const mints = mintsOf(declaration)
  const missing = await notMerged(scene, mints)
  if (missing.length > 0) return await openMint(scene, mints, missing)
  context.progress('looking at what cert-manager minted')
  const clusters = new Map<string, Cluster>()
  try {
    for (const mint of mints) clusters.set(mint.site.name, await context.openCluster(mint.site))
    const { commit, pins: pinned } = await pinnedNow(context, declaration.name)
    const pins = await seenPins(scene, mints, clusters, pinned)
    if (pinned.length < pins.length) {
      await keepPins(context, declaration.name, commit, pins)
      // What was seen first must still be so a while later: the Secret is read then, and the gate asked once more.
      await context.sleep(declaration.gates.settle)
    }
    const minted: MintedCa[] = []
    for (const mint of mints) minted.push(await read(scene, mint, clusters.get(mint.site.name) as Cluster, pins))
    await seenPins(scene, mints, clusters, pins)
    const { source, read: readMinted } = asFiles(minted)
    oneRoot(minted)
    const next = await systemOf(declaration.system).newCa(declaration, source, {
      now: context.now(),
      random: context.random,
      keys: context.keys,
      read: readMinted,
      current: scene.current,
    })
    const file = `${rotationFolder(declaration.name)}/${pinFile}`
    return { next, record: { file, text: writePins(declaration.name, pins) } }
  } catch (error) {
    throw unreadable(error, null)
  } finally {
    await Promise.all([...clusters.values()].map(cluster => cluster.close()))
  }
}

/** A Job that reports what it sees cannot hand a key out, and shall not. */
function refuseReports(declaration: Declaration): void {
  const site = mintsOf(declaration).find(mint => mint.site.cluster.kind === 'reports')?.site
  if (site === undefined) return
  throw new ReanchorError({
    what: 'a CA that is minted in a cluster that cannot be read from here',
    where: { field: 'spec.next.certManager', object: `site ${site.name}` },
    expected: 'a cluster whose Secret `plan` can read: a report never holds a key',
    found: 'cluster: {reports: …}',
    todo: 'mint in another site’s cluster (spec.next.certManager.site), or run `plan` where this cluster can be read',
    exit: exitCodes.refused,
  })
}

// ----------------------------------------------------------------------------------------------------- the request

/** Certificates that the base branch does not hold. Throws for one that was changed there. */
async function notMerged({ snapshot }: MintScene, mints: readonly Mint[]): Promise<readonly Mint[]> {
  const missing: Mint[] = []
  for (const mint of mints) {
    const text = await snapshot.read(mint.file)
    if (text === null) missing.push(mint)
    else if (!holdsManifest(text, mint))
      throw new ReanchorError({
        what: 'the Certificate of the new CA is not what the declaration says',
        where: { file: mint.file },
        expected: 'the file as the mint pull request brought it',
        found: 'other fields: it was edited, or spec.next.certManager was',
        todo: 'put back whichever was changed; for another CA abandon this rotation and declare one under another name',
        exit: exitCodes.refused,
      })
  }
  return missing
}

/** Opens the `mint` pull request, or finds it; ends in either case, as there is nothing to plan from yet. */
async function openMint(scene: MintScene, mints: readonly Mint[], missing: readonly Mint[]): Promise<never> {
  const { context, declared, base, snapshot } = scene
  const { declaration } = declared
  const { repository } = context
  const branch = mintBranch(declaration.name)
  const files = await filesForWiring(snapshot)
  const changes = mintChanges(declared, files, missing)
  refuseUnapplied(files, changes, missing)
  refuseNamed(files, missing)
  const published = await repository.branch(branch)
  const there = published !== null && (await brings(repository.snapshot(published), missing))
  if (!there) await refuseTaken(context, missing)
  const waiting = (found: string): ReanchorError =>
    new ReanchorError({
      what: 'cert-manager has to mint the new CA first',
      where: { object: `branch ${branch}` },
      expected: 'the mint pull request, merged, and its Certificates issued',
      found,
      todo: 'merge it, then run `reanchor plan` again: it looks at what was issued, and takes it over',
      exit: exitCodes.waiting,
    })
  if (context.dryRun) throw waiting(`nothing yet; it would bring ${missing.map(mint => mint.file).join(', ')}`)
  let head = published
  if (head === null || !there) {
    for (const [path, text] of changes) if (text !== null) assertNoPrivateKey(text, path)
    const made = await repository.commit({
      parent: base,
      changes,
      message: `mint the new CA of ${declaration.name}\n\nA Certificate of cert-manager whose Secret nobody reads; \`reanchor plan\` takes over what it holds.`,
      trailers: { 'Reanchor-Rotation': declaration.name, 'Reanchor-Phase': 'mint' },
      author: context.author,
      at: context.now(),
    })
    await publishNew(repository, {
      branch,
      from: head,
      to: made,
      base: declaration.base,
      read: base,
      concerns: path => changes.has(path),
    })
    head = made
  }
  const forge = await context.openForge(declaration)
  const body = mintBody(declaration, mints)
  assertNoPrivateKey(body, 'the pull request')
  const opened = await forge.open({ title: mintTitle(declaration), body, branch, base: declaration.base })
  if (opened.state === 'open' && opened.head === head)
    await forge.setStatus(head, {
      context: gateContext,
      state: 'success',
      description: 'no change of trust: nothing reads what is minted',
    })
  throw waiting(`pull request #${opened.number}, ${opened.state}`)
}

function mintChanges(declared: Declared, files: FileTree, mints: readonly Mint[]): ReadonlyMap<string, string | null> {
  const changes = new Map<string, string | null>([[declared.file, declared.text]])
  for (const mint of mints) {
    const comment = ` The new CA of rotation ${declared.declaration.name}. Nothing reads its Secret but \`reanchor plan\`, once.`
    changes.set(mint.file, yamlText(mint.manifest, { comment }))
    const list = kustomizationFile(files, folderOf(mint.file))
    if (list === null) continue
    const edit = {
      kind: 'listItem',
      document: 'single',
      at: ['resources'],
      value: baseName(mint.file),
    } as const
    changes.set(list, applyWiring(changes.get(list) ?? files.get(list) ?? null, edit, list).text)
  }
  return changes
}

async function brings(snapshot: Snapshot, mints: readonly Mint[]): Promise<boolean> {
  for (const mint of mints) {
    const text = await snapshot.read(mint.file)
    if (text === null || !holdsManifest(text, mint)) return false
  }
  return true
}

/** A file that nobody applies would be waited for without end; one that several apply would be written in turns. */
function refuseUnapplied(files: FileTree, changes: ReadonlyMap<string, string | null>, mints: readonly Mint[]): void {
  const tree = new Map(files)
  for (const [path, text] of changes) if (text !== null) tree.set(path, text)
  const found = reach(tree)
  for (const mint of mints) {
    const readers = reachOf(found, mint.file).filter(({ how }) => how !== 'component')
    if (readers.length === 1) continue
    throw new ReanchorError({
      what: readers.length === 0 ? 'nothing applies the folder for the new Certificate' : 'several apply it',
      where: { file: folderOf(mint.file), field: 'spec.next.certManager.path' },
      expected: `a folder that one Kustomization or Application applies in the cluster of ${mint.site.name} already`,
      found: readers.length === 0 ? 'none' : readers.map(({ reader }) => `${reader.kind} ${reader.name}`).join(', '),
      todo: 'name a folder that is applied already, such as that of your other Certificates',
    })
  }
}

/** Inert: whatever names the Secret might read it. */
function refuseNamed(files: FileTree, mints: readonly Mint[]): void {
  for (const mint of mints)
    for (const [path, text] of files) {
      if (!text.includes(mint.name)) continue
      throw new ReanchorError({
        what: 'the name of the new Certificate and its Secret is in use already',
        where: { file: path },
        expected: `no other file that names ${mint.name}: nobody may read the minted Secret`,
        found: mint.name,
        todo: 'take the name out there, or declare the rotation under another name',
        exit: exitCodes.refused,
      })
    }
}

/** With rotationPolicy Never cert-manager would take over the key that lies in a Secret of that name (F16). */
async function refuseTaken(context: Context, mints: readonly Mint[]): Promise<void> {
  for (const mint of mints) {
    const cluster = await context.openCluster(mint.site)
    try {
      for (const type of [resources.secrets, resources.certificates]) {
        if ((await cluster.metadata(type, mint.namespace, mint.name)) === null) continue
        throw new ReanchorError({
          what: 'what the new CA would be called exists already, and its key might be one that somebody has',
          where: { object: `site ${mint.site.name}, ${type.plural} ${mint.namespace}/${mint.name}` },
          expected: 'neither a Certificate nor a Secret of that name',
          found: 'one that is there',
          todo: 'delete it, if it is left from an earlier try, or declare the rotation under another name',
          exit: exitCodes.refused,
        })
      }
    } catch (error) {
      throw unreadable(error, mint.site.name)
    } finally {
      await cluster.close()
    }
  }
}

// -------------------------------------------------------------------------------------------------------- the gate

/** What each gate has seen. Throws where one does not hold: pending waits (3), anything else is evidence that is missing or wrong (4). */
async function seenPins(
  scene: MintScene,
  mints: readonly Mint[],
  clusters: ReadonlyMap<string, Cluster>,
  pinned: readonly MintPin[],
): Promise<readonly MintPin[]> {
  const verdicts: MintVerdict[] = []
  for (const mint of mints) {
    const lasts = rotationTime(scene.declared.declaration, scene.current)
    const wanted = { lasts, pinned: pinned.find(pin => pin.site === mint.site.name) ?? null }
    verdicts.push(await look(clusters.get(mint.site.name) as Cluster, mint, wanted))
  }
  const open = verdicts.filter(({ gate }) => gate.verdict !== 'holds')
  const verdict = worst(open.map(({ gate }) => gate.verdict))
  if (verdict === 'holds') return verdicts.flatMap(({ pin }) => pin ?? []).map(pin => firstSeen(pin, pinned))
  const [first] = open
  throw new ReanchorError({
    what:
      verdict === 'pending' ? 'cert-manager has not minted the new CA yet' : 'the gate of the minted CA does not hold',
    where: { object: open.map(({ gate }) => `site ${gate.site}`).join(', ') },
    expected: first?.gate.claim ?? '',
    found: open.map(({ gate }) => `${gate.verdict}: ${gate.because.join('; ')}`).join('; '),
    todo: first?.gate.hint ?? 'run this again',
    exit: verdict === 'pending' ? exitCodes.waiting : exitCodes.violated,
  })
}

async function look(cluster: Cluster, mint: Mint, wanted: Parameters<typeof judgeMint>[2]): Promise<MintVerdict> {
  try {
    return judgeMint(mint, await observeMint(cluster, mint), wanted)
  } catch (error) {
    if (error instanceof ClusterError) return judgeMint(mint, null, wanted, error.message)
    throw error
  }
}

/** The record keeps what was seen first, with its time. */
function firstSeen(pin: MintPin, pinned: readonly MintPin[]): MintPin {
  return pinned.find(each => each.site === pin.site) ?? pin
}

/** Milliseconds that the whole rotation may take, and a leaf lives after it. */
function rotationTime(declaration: Declaration, current: MintScene['current']): number {
  const system = systemOf(declaration.system)
  const { gates, batches, workloadBatches } = declaredCourse(declaration)
  const leafHours = system.leafHours(declaration)
  const renewalHours = system.renewalHours?.(declaration) ?? leafHours
  const times = Object.values(current).map(({ issuer, roots, source, settings }) => {
    const scene = { issuer: issuer.sha256, roots: roots.map(({ sha256 }) => sha256), source, settings }
    const phases = system.course(declaration.strategy, declaration, { current: scene, workloadBatches })
    return wholeTime({ strategy: declaration.strategy, phases, batches, gates, leafHours, renewalHours })
  })
  return Math.max(...times) + Math.max(leafHours, renewalHours) * 3_600_000
}

/** What `status --live` says of the minted CAs of a rotation that is planned; empty where they came from elsewhere. */
export async function keptGates(
  context: Context,
  { name, declaration, snapshot }: Pick<OpenRotation, 'name' | 'declaration' | 'snapshot'>,
): Promise<readonly GateResult[]> {
  const file = `${rotationFolder(name)}/${pinFile}`
  const text = certManagerOf(declaration) === null ? null : await snapshot.read(file)
  if (text === null) return []
  const pins = readPins(text, name, file)
  const gates: GateResult[] = []
  for (const mint of mintsOf(declaration)) {
    const pin = pins.find(each => each.site === mint.site.name)
    if (pin === undefined || mint.site.cluster.kind === 'reports') continue
    const cluster = await context.openCluster(mint.site)
    try {
      gates.push(judgeKept(mint, await observeMint(cluster, mint), pin))
    } catch (error) {
      if (!(error instanceof ClusterError)) throw error
      gates.push(judgeKept(mint, null, pin, error.message))
    } finally {
      await cluster.close()
    }
  }
  return gates
}

// -------------------------------------------------------------------------------------------------------- the pins

async function pinnedNow(
  { repository }: Context,
  rotation: string,
): Promise<{ readonly commit: string | null; readonly pins: readonly MintPin[] }> {
  const ref = pinRef(rotation)
  const commit = await repository.refNow(ref)
  const text = commit === null ? null : await repository.snapshot(commit).read(pinFile)
  return { commit, pins: commit === null ? [] : readPins(text ?? '', rotation, `${ref}:${pinFile}`) }
}

/** A site's pin is written once: whoever looked at the same time has seen the same, or is refused. */
async function keepPins(
  context: Context,
  rotation: string,
  from: string | null,
  pins: readonly MintPin[],
): Promise<void> {
  if (context.dryRun) return
  const { repository } = context
  const ref = pinRef(rotation)
  const to = await repository.commit({
    parent: null,
    changes: new Map([[pinFile, writePins(rotation, pins)]]),
    message: `what cert-manager minted for ${rotation}`,
    trailers: { 'Reanchor-Rotation': rotation },
    author: context.author,
    at: context.now(),
  })
  const result = await repository.publish([{ ref, from, to }])
  if (result.ok) return
  const { pins: there } = await pinnedNow(context, rotation)
  const same = pins.every(pin => there.some(each => each.site === pin.site && each.sha256 === pin.sha256))
  if (same) return
  throw new ReanchorError({
    what: 'another look has pinned another CA meanwhile (F16)',
    where: { object: ref },
    expected: pins.map(pin => pin.sha256).join(', '),
    found: there.map(pin => pin.sha256).join(', '),
    todo: 'find out who had the Certificate issued anew; abandon this rotation and declare another',
    exit: exitCodes.violated,
  })
}

// ----------------------------------------------------------------------------------------------------- the material

async function read(scene: MintScene, mint: Mint, cluster: Cluster, pins: readonly MintPin[]): Promise<MintedCa> {
  const { context, declared } = scene
  const pin = pins.find(each => each.site === mint.site.name)
  if (pin === undefined) throw new Error(`nothing is pinned for ${mint.site.name}`)
  const secret = await cluster.get(resources.secrets, mint.namespace, mint.name)
  const certificate = await cluster.metadata(resources.certificates, mint.namespace, mint.name)
  if (secret !== null && isOlder(secret, certificate?.metadata.creationTimestamp ?? null))
    throw new ReanchorError({
      what: 'the Secret of the minted CA is older than its Certificate, so its key is one that somebody had before (F16)',
      where: { object: `site ${mint.site.name}, Secret ${mint.namespace}/${mint.name}` },
      expected: `a Secret that cert-manager made for ${idOf(mint)}`,
      found: `made ${secret.metadata.creationTimestamp}, the Certificate ${certificate?.metadata.creationTimestamp}`,
      todo: 'abandon this rotation and declare another, which mints a CA of its own',
      exit: exitCodes.refused,
    })
  const root = certManagerOf(declared.declaration)?.root ?? null
  const given =
    root === null
      ? null
      : (readBundle(context.readFile(root), { file: root, allowRepeats: false }).certificates[0] ?? null)
  return mintedCa(mint, secret, pin, given)
}

function oneRoot(minted: readonly MintedCa[]): void {
  const [first] = minted
  const other = minted.find(each => each.root.sha256 !== first?.root.sha256)
  if (first === undefined || other === undefined) return
  throw new ReanchorError({
    what: 'the minted CAs end in different roots',
    where: { object: `site ${other.mint.site.name}, ${idOf(other.mint)}` },
    expected: `${first.root.sha256}, as at ${first.mint.site.name}`,
    found: other.root.sha256,
    todo: 'one rotation has one new root: give every cluster an issuer of that root, or let one cluster mint for all (spec.next.certManager.site)',
    exit: exitCodes.refused,
  })
}
