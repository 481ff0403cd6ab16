/** Names that reach git's arguments or a tree: branches, remotes, URLs, paths. Each is checked before it is used. */
import { ReanchorError } from '../errors.ts'

const zeroWidth = /[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]/g

/**
 * A path inside the repository, as a tree holds it. Throws ReanchorError for one that leaves the repository or that some
 * file system would take for Git's own folder (fsck's rules: git/path.c is_ntfs_dotgit, git/utf8.c is_hfs_dotgit).
 */
export function checkPath(path: string): string {
  const why = pathProblem(path)
  if (why === null) return path
  throw new ReanchorError({
    what: 'this path cannot be written',
    where: { file: JSON.stringify(path) },
    expected: 'a path inside the repository, from its root, with forward slashes',
    found: why,
    todo: 'correct the path in rotation.yaml',
    example: 'trust/eu-1/cacerts.yaml',
  })
}

function pathProblem(path: string): string | null {
  if (path === '') return 'an empty path'
  if (path.startsWith('/') || /^[A-Za-z]:/.test(path)) return 'an absolute path'
  if (path.includes('\\')) return 'a backslash'
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(path)) return 'a control character'
  if (Buffer.from(path, 'utf8').toString('utf8') !== path) return 'text that is not Unicode'
  for (const segment of path.split('/')) {
    if (segment === '') return 'an empty folder name'
    if (segment === '.' || segment === '..') return `the segment ${segment}`
    if (isGitFolder(segment)) return `Git's own folder (${JSON.stringify(segment)})`
  }
  return null
}

function isGitFolder(segment: string): boolean {
  const plain = (segment.replace(zeroWidth, '').split(':')[0] ?? '').replace(/[. ]+$/, '').toLowerCase()
  return plain === '.git' || plain === 'git~1'
}

/** A folder inside the repository; '' is its root, a final slash is taken off. */
export function checkFolder(path: string): string {
  const folder = path.replace(/\/+$/, '')
  return folder === '' || folder === '.' ? '' : checkPath(folder)
}

/**
 * git-check-ref-format(1), the rules for a full name, and one of our own: no part begins with a dash, since such a name
 * is taken for an option by whoever types it after `git`.
 */
function refProblem(ref: string): string | null {
  if (ref === '') return 'an empty name'
  if (Buffer.byteLength(ref) > 240) return 'a name of more than 240 bytes'
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  const bad = /[\u0000-\u0020\u007f~^:?*[\\]/.exec(ref)
  if (bad !== null) return `the character ${JSON.stringify(bad[0])}`
  if (ref.includes('..') || ref.includes('@{') || ref === '@') return 'a part that Git reads as a revision'
  if (ref.startsWith('/') || ref.endsWith('/') || ref.includes('//')) return 'an empty part between slashes'
  if (ref.endsWith('.')) return 'a dot at the end'
  for (const part of ref.split('/')) {
    if (part.startsWith('-')) return 'a leading dash'
    if (part.startsWith('.')) return 'a part that begins with a dot'
    if (part.endsWith('.lock')) return 'a part that ends with .lock'
  }
  return null
}

/** A branch's short name, such as `main`; throws ReanchorError for what Git or a shell would misread. */
export function checkBranch(branch: string): string {
  const why = branch === 'HEAD' || branch.startsWith('refs/') ? 'a name that Git keeps for itself' : refProblem(branch)
  if (why === null) return branch
  throw new ReanchorError({
    what: 'this is not a usable branch name',
    where: { object: `branch ${JSON.stringify(branch)}` },
    expected: 'a name that `git check-ref-format --branch` accepts, without a leading dash',
    found: why,
    todo: 'choose another name',
    example: 'reanchor/mesh-2026/1-enable-multiroot-1-data',
  })
}

/** A full ref name under refs/. */
export function checkRef(ref: string): string {
  const why = ref.startsWith('refs/') && ref.split('/').length > 2 ? refProblem(ref) : 'no full name under refs/'
  if (why === null) return ref
  throw new ReanchorError({
    what: 'this is not a usable ref name',
    where: { object: `ref ${JSON.stringify(ref)}` },
    expected: 'a full name that `git check-ref-format` accepts',
    found: why,
    example: 'refs/heads/main',
  })
}

export function checkRemote(remote: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(remote) && !remote.includes('..')) return remote
  throw new ReanchorError({
    what: 'this is not a usable name of a remote',
    where: { object: `remote ${JSON.stringify(remote)}` },
    expected: 'letters, digits, dots, dashes and underscores',
    found: 'something else',
    example: 'origin',
  })
}

/**
 * A URL that may be fetched from and pushed to: https, ssh, `user@host:path`, file, or a path on this machine.
 * Others run programs (`ext::`, `fd::`) or carry credentials in the clear (http, git).
 */
export function checkRemoteUrl(url: string): string {
  const why = urlProblem(url)
  if (why === null) return url
  throw new ReanchorError({
    what: 'reanchor does not use this remote',
    where: { object: `URL ${JSON.stringify(url.replace(/\/\/[^/@]*@/, '//***@'))}` },
    expected: 'https://…, ssh://…, user@host:path, file://… or a path',
    found: why,
    todo: 'set another URL for the remote',
    example: 'git remote set-url origin https://git.example.com/acme/fleet.git',
  })
}

function urlProblem(url: string): string | null {
  if (url === '') return 'nothing'
  if (url.startsWith('-')) return 'a leading dash'
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(url)) return 'a control character'
  if (/^[A-Za-z0-9+.-]*::/.test(url)) return 'a remote helper, which runs a program'
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(url)?.[1]?.toLowerCase()
  if (scheme !== undefined && !['https', 'ssh', 'file'].includes(scheme)) return `the scheme ${scheme}`
  // ssh(1) reads a host that begins with a dash as an option (CVE-2017-1000117).
  const authority = scheme === 'ssh' ? url.slice(6).split('/')[0] : scheme === undefined ? scpHost(url) : undefined
  if (authority?.split('@').some(part => part.startsWith('-'))) return 'a host with a leading dash'
  return null
}

function scpHost(url: string): string | undefined {
  const host = /^([^/:]+):/.exec(url)?.[1]
  return host !== undefined && host.length > 1 ? host : undefined
}

/** The path of a remote on this machine, or null where it is elsewhere. */
export function localPathOf(url: string): string | null {
  if (/^file:\/\//i.test(url)) return decodeURIComponent(new URL(url).pathname)
  if (/^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(url) || url.includes('::') || scpHost(url) !== undefined) return null
  return url
}
