import type { ChangeReason, ChangeVerdict, SiteChange } from '../safety/check.ts'

/** One reason why a change must not be merged, where a code host can show it. */
export interface Finding {
  readonly reason: ChangeReason
  readonly sentence: string
  /** Path of the first changed file that it is about; null: none of the changed files can be told to be it. */
  readonly file: string | null
}

/** What stands behind each reason, for those who read a finding without our documents at hand. */
const meanings: Readonly<
  Record<Exclude<ChangeReason, 'no-change' | 'next-step' | 'every-mix-holds' | 'only-widens'>, string>
> = {
  breaks: 'A TLS handshake would fail while this change rolls out.',
  unknown: 'Nobody has seen what this change relies on.',
  skips: 'A step of the rotation would be left out.',
  'out-of-order': 'Another site has not come that far.',
  removes: 'An object that consumers read would be removed.',
  contradiction: 'Files beside the Secret say something else than the Secret.',
  'key-in-the-clear': 'A private key stands in the change unsealed.',
  unreadable: 'The folder matches no step of the rotation and cannot be read.',
}

/**
 * What is not safe, gravest first. Empty: the change is safe. `folders`: path of each site's folder, by the site's name.
 */
export function findingsOf(verdict: ChangeVerdict, folders: Readonly<Record<string, string>>): readonly Finding[] {
  if (verdict.safe) return []
  const unsafe = verdict.sites.filter(({ safe }) => !safe)
  const findings = unsafe.map(site => ({
    reason: site.reason,
    sentence: named(site),
    file: fileOf(site, verdict, folders),
  }))
  if (findings.length > 0) return findings
  return [{ reason: verdict.reason, sentence: verdict.sentence, file: verdict.change.places[0]?.file ?? null }]
}

/** Most sentences begin with their sites' names. */
export function named({ sites, sentence }: SiteChange): string {
  return sites[0] === undefined || sentence.startsWith(sites[0]) ? sentence : `${sites.join(', ')}: ${sentence}`
}

function fileOf(
  { sites }: SiteChange,
  { change }: ChangeVerdict,
  folders: Readonly<Record<string, string>>,
): string | null {
  const own = sites.flatMap(site => folders[site] ?? [])
  const changed = change.places.map(({ file }) => file)
  const inside = changed.find(file => own.some(folder => file.startsWith(`${folder}/`)))
  // A hand-made object belongs to no site; what has a site but no place of trust is about the folder itself.
  return inside ?? (own.length === 0 ? changed[0] : undefined) ?? own[0] ?? null
}

/**
 * SARIF 2.1.0 (OASIS, sections 3.13 to 3.28), as code scanning of GitHub, GitLab and Azure DevOps takes it. Without findings there is one
 * run with no results, which closes what an earlier run had found.
 */
export function sarifOf(findings: readonly Finding[], version: string): unknown {
  const reasons = [...new Set(findings.map(({ reason }) => reason))]
  return {
    $schema: 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'reanchor check',
            semanticVersion: version,
            rules: reasons.map(reason => ({ id: reason, shortDescription: { text: meaningOf(reason) } })),
          },
        },
        results: findings.map(({ reason, sentence, file }) => ({
          ruleId: reason,
          ruleIndex: reasons.indexOf(reason),
          level: 'error',
          message: { text: sentence },
          ...(file === null ? {} : { locations: [{ physicalLocation: { artifactLocation: { uri: uriOf(file) } } }] }),
        })),
      },
    ],
  }
}

/** Workflow commands of GitHub Actions, which Gitea's and Forgejo's runners take too: one line per finding; one notice where it is safe. */
export function annotationsOf(findings: readonly Finding[], verdict: ChangeVerdict): string {
  if (findings.length === 0) return `::notice title=reanchor check::${escaped(verdict.sentence)}\n`
  const line = ({ reason, sentence, file }: Finding): string => {
    const place = file === null ? '' : `file=${escapedProperty(file)},`
    return `::error ${place}title=${escapedProperty(`reanchor check: ${reason}`)}::${escaped(sentence)}\n`
  }
  return findings.map(line).join('')
}

function meaningOf(reason: ChangeReason): string {
  return reason in meanings ? meanings[reason as keyof typeof meanings] : reason
}

/** A relative reference (RFC 3986 4.2): every segment is escaped, and a colon in the first would read as a scheme. */
function uriOf(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}

// As actions/toolkit packages/core/src/command.ts escapes them: else a line of a sentence could be a command of its own.
function escaped(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A')
}

function escapedProperty(text: string): string {
  return escaped(text).replaceAll(':', '%3A').replaceAll(',', '%2C')
}
