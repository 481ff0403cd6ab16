import type { Custody } from '../custody/custody.ts'
import { assertNoPrivateKey } from '../custody/leak.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import { createRequest, privateKeyPem, readRequest } from '../pki/authority.ts'
import { readBundle } from '../pki/bundle.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { CurrentCa, NewCa, NextCa } from '../plan/ca.ts'
import { planBranch, rotationFolder } from '../plan/steps.ts'
import type { Snapshot } from '../repository/repository.ts'
import type { Declaration, Site } from '../rotation.ts'
import type { RequestScene, RequestSecret } from '../systems/system.ts'
import { systemOf } from '../systems/systems.ts'
import type { Context } from './context.ts'
import { custodiesFor, type SealedCopy, sealedValue } from './custodies.ts'
import type { Declared } from './declared.ts'
import { filesWhenAsked } from './files.ts'
import { refuseInside } from './outside.ts'
import { somebodyElse } from './requests.ts'
import { needsKeysOut, writeStoredValues } from './stored-values.ts'

/** Requests that wait for an offline root's signature, with their private keys as custody sealed them. */
export interface OpenRequests {
  /** By site: SHA-256 of the public key, and the sealed private key. */
  readonly sites: Readonly<Record<string, { readonly spki: string; readonly key: string }>>
  readonly copies: readonly SealedCopy[]
}

function requestFile(rotation: string, site: string): string {
  return `${rotationFolder(rotation)}/certificates/${site}.csr`
}

function keyFile(rotation: string, site: string): string {
  return `${rotationFolder(rotation)}/certificates/${site}.key.yaml`
}

/**
 * First half of a plan with an offline root: an issuing key and a request for each site, on the plan's branch, keys sealed. The pull
 * request opens with the second half, `plan --chain`. Never throws them away: requests that are there already stay.
 */
export async function writeRequests(scene: {
  readonly context: Context
  readonly declared: Declared
  readonly base: string
  readonly snapshot: Parameters<typeof custodiesFor>[2]
  readonly current: Readonly<Record<string, CurrentCa>>
  readonly options: { readonly keysOut?: string | null }
}): Promise<never> {
  const { context, declared, base, snapshot, current } = scene
  const { keysOut = null } = scene.options
  const { declaration } = declared
  if (declaration.next.from !== 'csr') throw new Error('only an offline root is asked by request')
  const { repository } = context
  const branch = planBranch(declaration.name)
  const published = await repository.branch(branch)
  const there =
    published === null
      ? null
      : await repository.snapshot(published).read(requestFile(declaration.name, declaration.sites[0]?.name ?? ''))
  if (there === null && !context.dryRun) {
    const changes = new Map<string, string | null>([[declared.file, declared.text]])
    const custodies = await custodiesFor(context, declaration, snapshot)
    const files = filesWhenAsked(snapshot)
    for (const site of declaration.sites) {
      const secret = await requestSecret(declaration, site, current, files)
      const key = await context.keys.generate(declaration.next.issuing.algorithm)
      const request = await createRequest({
        subject: declaration.next.issuing.subject.replaceAll('{site}', site.name),
        key,
        ...(secret.dns === undefined ? {} : { dns: secret.dns }),
      })
      changes.set(requestFile(declaration.name, site.name), request.pem)
      changes.set(
        keyFile(declaration.name, site.name),
        await sealKey(custodies.of(site), secret, site, (secret.keyPem ?? privateKeyPem)(key)),
      )
    }
    for (const [path, text] of changes) if (text !== null) assertNoPrivateKey(text, path)
    const values = custodies.values()
    if (values.length > 0) {
      if (keysOut === null) throw needsKeysOut()
      refuseInside(keysOut, repository, 'private keys', '--keys-out')
      await writeStoredValues(keysOut, values, repository.onWrite)
    }
    const commit = await repository.commit({
      parent: base,
      changes,
      message: `request issuing CAs for ${declaration.name}\n\nThe offline root signs them; \`reanchor plan --chain\` takes the result back.`,
      trailers: { 'Reanchor-Rotation': declaration.name, 'Reanchor-Phase': 'plan' },
      author: context.author,
      at: context.now(),
    })
    const result = await repository.publish([{ ref: `refs/heads/${branch}`, from: published, to: commit }])
    if (!result.ok) throw somebodyElse(result.ref)
  }
  const files = declaration.sites.map(site => requestFile(declaration.name, site.name))
  throw new ReanchorError({
    what: 'the offline root has to sign first',
    where: { object: `branch ${branch}` },
    expected: `a signed chain for each of ${files.join(', ')}`,
    found: there === null ? 'requests, just written' : 'requests, written before',
    todo: 'take the requests from that branch, have them signed, then run `reanchor plan --chain FILE`, one file per site: issuing CA first, root last',
    example: `git show ${branch}:${files[0]} > ${declaration.sites[0]?.name}.csr`,
    exit: exitCodes.waiting,
  })
}

/** Sealed as the CA's Secret will be, so that the plan can take the value over without opening it. */
async function sealKey(custody: Custody, wanted: RequestSecret, site: Site, pem: string): Promise<string> {
  const { name, namespace, file, key } = wanted
  const secret = {
    name,
    namespace,
    type: 'Opaque',
    labels: {},
    annotations: {},
    data: { [key]: pem },
    privateKeys: [key],
  }
  return await custody.seal(secret, `${site.path}/${file}`)
}

async function requestSecret(
  declaration: Declaration,
  site: Site,
  currents: Readonly<Record<string, CurrentCa>>,
  files: RequestScene['files'],
): Promise<RequestSecret> {
  const { requestSecret: secretOf, title } = systemOf(declaration.system)
  const current = currents[site.name]
  if (current === undefined) throw new Error(`no present CA of ${site.name}`)
  const secret = await secretOf(declaration, { site, current, files })
  if (secret !== null) return secret
  throw new ReanchorError({
    what: `a CA of ${title} is not made by request`,
    where: { field: 'spec.next.csr' },
    expected: 'next.generate or next.files',
    found: 'next.csr',
    todo: 'give the CA as files, or let `plan` make it',
    exit: exitCodes.refused,
  })
}

/** The requests on the plan's branch. Exit 3 where there are none yet. */
export async function openRequests(
  context: Context,
  declaration: Declaration,
  current: Readonly<Record<string, CurrentCa>>,
  base: Snapshot,
): Promise<OpenRequests> {
  const branch = planBranch(declaration.name)
  const published = await context.repository.branch(branch)
  const snapshot = published === null ? null : context.repository.snapshot(published)
  const sites: Record<string, { spki: string; key: string }> = {}
  const files = filesWhenAsked(base)
  const copies: SealedCopy[] = []
  for (const site of declaration.sites) {
    const secret = await requestSecret(declaration, site, current, files)
    const file = requestFile(declaration.name, site.name)
    const request = await snapshot?.read(file)
    const yaml = await snapshot?.read(keyFile(declaration.name, site.name))
    const key = yaml == null ? null : await sealedValue((site.custody ?? declaration.custody).kind, yaml, secret.key)
    if (request == null || yaml == null || key === null) {
      throw new ReanchorError({
        what: 'there is no request that this chain could answer',
        where: { file, object: `branch ${branch}` },
        expected: 'the request that `reanchor plan` wrote',
        found: 'none',
        todo: 'run `reanchor plan` without --chain first',
        exit: exitCodes.waiting,
      })
    }
    sites[site.name] = { spki: (await readRequest(request, { file })).spki, key }
    copies.push({ destination: `${site.path}/${secret.file}`, yaml })
  }
  return { sites, copies }
}

/** Matches each chain to its site by the public key; the last certificate of a chain, or next.csr.root, is the root. */
export async function signedCa(
  context: Context,
  declaration: Declaration,
  requests: OpenRequests,
  files: readonly string[],
): Promise<NewCa> {
  if (declaration.next.from !== 'csr') throw new Error('only an offline root is asked by request')
  const given =
    declaration.next.root === null
      ? null
      : readBundle(context.readFile(declaration.next.root), { file: declaration.next.root, allowRepeats: false })
          .certificates[0]
  const sites: Record<string, NextCa> = {}
  let root: Certificate | null = given ?? null
  for (const file of files) {
    const chain = readBundle(context.readFile(file), { file, allowRepeats: false }).certificates
    const issuer = chain[0]
    const site = Object.entries(requests.sites).find(([, request]) => request.spki === issuer?.spki)
    const last = chain.at(-1)
    const end: Certificate | undefined = given ?? last
    if (issuer === undefined || site === undefined || end === undefined) {
      throw new ReanchorError({
        what: 'the chain does not begin with a certificate for one of the requests',
        where: { file },
        expected: `the public key of ${Object.keys(requests.sites)
          .map(name => requestFile(declaration.name, name))
          .join(' or ')}`,
        found: issuer?.subject ?? 'no certificate',
        todo: 'give the issuing CA first, then what lies between, the root last',
      })
    }
    if (root !== null && root.sha256 !== end.sha256) {
      throw new ReanchorError({
        what: 'the chains end in different roots',
        where: { file },
        expected: root.sha256,
        found: end.sha256,
        todo: 'one rotation has one new root: have all requests signed under it',
      })
    }
    root = end
    const between = chain.slice(1).filter(each => each.sha256 !== end.sha256)
    sites[site[0]] = { root: end, issuer, chain: [issuer, ...between, end], key: site[1].key }
  }
  const missing = declaration.sites.filter(site => sites[site.name] === undefined)
  if (missing.length > 0 || root === null) {
    throw new ReanchorError({
      what: 'not every site has its chain',
      expected: `a chain for ${missing.map(site => site.name).join(', ')}`,
      found: files.join(', '),
      todo: 'give --chain once for each site',
      exit: exitCodes.waiting,
    })
  }
  return { sites, rootKey: null, root }
}
