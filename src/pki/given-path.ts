import { type Certificate, isSelfIssued, isSignedBy } from './certificate.ts'
import { withinConstraints } from './constraints.ts'
import { certificateProblem } from './profile.ts'

/** Names times constraints that one path may ask to compare. */
const maxComparisons = 10_000

/** What the anchor of a path counts for: a CA with dates, path length and constraints, or a name and a key alone (RFC 5280 §6.1.1 (d)). */
type AnchorCounts = 'certificate' | 'key'

/** Whether one given path, leaf first, is valid (RFC 5280 §6.1). Nothing is searched: repeats stay, and nothing is passed over. */
export function isWhole(path: readonly Certificate[], at: Date, anchor: AnchorCounts): boolean {
  let counted = 0
  for (const [index, one] of path.entries()) {
    const last = index === path.length - 1
    if (index === 0 && certificateProblem(one, 'leaf', at, 'deployed') !== null) return false
    if (index === 0) continue
    if (!isChild(path[index - 1]!, one)) return false
    if (last && anchor === 'key') return true
    if (certificateProblem(one, last ? 'anchor' : 'intermediate', at, 'deployed') !== null) return false
    if (one.pathLength !== null && counted > one.pathLength) return false
    const outside = path
      .slice(0, index)
      .some((below, depth) => withinConstraints(one, below, depth === 0, { left: maxComparisons }) !== 'inside')
    if (outside) return false
    if (!isSelfIssued(one)) counted += 1
  }
  return path.length > 1
}

function isChild(child: Certificate, parent: Certificate): boolean {
  return child.parts.issuer.der.equals(parent.parts.subject.der) && isSignedBy(child, parent)
}
