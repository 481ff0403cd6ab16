import { consumerRows } from './consumer-counts.ts'
import { listed, plural, visible } from './escape.ts'
import { columns } from './paint.ts'
import type { CertificateName, ReportStep, ReportView } from './report-view.ts'
import { statusText, type TextOptions } from './status.ts'
import { trustCourse } from './trust-matrix.ts'

const mostNames = 20

/** The report for a terminal: what `status` shows, then the course of trust, the looks and who is behind. */
export function reportText(view: ReportView, options: TextOptions = {}): string {
  const strong = options.paint?.strong ?? (text => text)
  const lines = [statusText(view.status, options).trimEnd()]
  const heading = (text: string): void => void lines.push('', strong(text))

  heading('who presents and who trusts what, once a step has reached everyone')
  for (const line of columns(view.steps.flatMap(courseRows))) lines.push(`  ${line}`)

  heading('consumers over time')
  if (view.consumers.length === 0) lines.push('  no evidence is committed yet')
  const looks = consumerRows(view.consumers).map(
    ({ label, site, at, live, consumers, presents, trusts, exceptions }) => [
      label,
      `${visible(site)}${live ? ', just now' : ''}`,
      at.slice(0, 16),
      plural(consumers, 'consumer'),
      `present old ${presents.old}, new ${presents.new}`,
      `trust old ${trusts.old}, both ${trusts.both}, new ${trusts.new}`,
      exceptions === 0 ? '' : plural(exceptions, 'exception'),
    ],
  )
  for (const line of columns(looks)) lines.push(`  ${line}`)

  heading('who is behind')
  if (view.behind.length === 0) lines.push('  nobody who was seen')
  for (const { site, consumer, name, why, verdict } of view.behind.slice(0, mostNames))
    lines.push(`  ${visible(site)}: ${consumer} ${visible(name)}: ${visible(why)} (${verdict})`)
  if (view.behind.length > mostNames) lines.push(`  and ${view.behind.length - mostNames} more`)
  return `${lines.join('\n')}\n`
}

function courseRows({ label, mark, matrix }: ReportStep): readonly (readonly string[])[] {
  return trustCourse(matrix).flatMap(({ sites, presents, trusts }): readonly (readonly string[])[] => {
    if (presents === null || trusts === null) return []
    return [
      [
        label,
        mark,
        `present ${issuersText(presents)}`,
        `trust ${listed(trusts.map(certificateText))}`,
        listed(sites.map(visible)),
      ],
    ]
  })
}

function issuersText(issuers: readonly CertificateName[]): string {
  const [first] = issuers
  if (first === undefined || issuers.some(each => each.name !== first.name)) return listed(issuers.map(certificateText))
  return issuers.length === 1 ? certificateText(first) : `${first.name}, ${issuers.length} of them`
}

function certificateText({ name, sha256 }: CertificateName): string {
  return `${name} ${sha256.slice(0, 8)}`
}
