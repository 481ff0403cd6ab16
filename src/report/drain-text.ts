import type { CertificateFacts } from '../rotation.ts'
import type { Drain } from '../verify/drain.ts'
import { listed, plural, visible } from './escape.ts'

const mostNames = 6

/** How far leaves have left the roots that go: one line and, indented, who is behind. Of a site whose new CA does not issue yet only that. */
export function drainLines(
  drain: Drain,
  certificates: readonly Pick<CertificateFacts, 'sha256' | 'subject'>[],
): readonly string[] {
  const { leaves, left, unseen, begun, clearedBy } = drain
  const roots = listed(drain.roots.map(root => nameOf(root, certificates)))
  const also = unseen === 0 ? '' : `; ${unseen} not seen, and none of those counts`
  if (!begun)
    return [
      `${left} of ${plural(leaves, 'leaf', 'leaves')} chain to ${roots} alone; the new CA does not issue yet${also}`,
    ]
  if (left === 0)
    return [`none of ${plural(leaves, 'leaf', 'leaves')} needs ${roots}, which ${drain.before} takes away${also}`]
  const by =
    clearedBy === null
      ? 'one of them shows no end, so that no date can be given'
      : `their lifetime alone clears them by ${clearedBy}`
  const names =
    drain.named.length > 0
      ? drain.named.map(({ consumer, name, ends }) => `${consumer} ${visible(name)}: its leaf ends ${ends}`)
      : drain.stragglers.map(
          ({ consumer, owner, count, ends }) =>
            `${plural(count, consumer)} of ${visible(owner)}${ends === null ? '' : `: the last leaf ends ${ends.last}`}`,
        )
  return [
    `${left} of ${plural(leaves, 'leaf', 'leaves')} still chain to ${roots} alone, which ${drain.before} takes away; ${by}${also}`,
    ...names.slice(0, mostNames).map(name => `  ${name}`),
    ...(names.length > mostNames ? [`  and ${names.length - mostNames} more`] : []),
  ]
}

function nameOf(sha256: string, certificates: readonly Pick<CertificateFacts, 'sha256' | 'subject'>[]): string {
  const found = certificates.find(certificate => certificate.sha256 === sha256)
  return found === undefined ? sha256.slice(0, 12) : `${JSON.stringify(visible(found.subject))} ${sha256.slice(0, 12)}`
}
