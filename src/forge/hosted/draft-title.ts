/** Drafts of GitLab and Gitea are drafts by their title. */
export interface DraftPrefix {
  add(title: string): string
  /** Without any of the prefixes that the forge knows. */
  strip(title: string): string
  has(title: string): boolean
}

export function draftPrefix(prefix: string, known: RegExp): DraftPrefix {
  return {
    add: title => `${prefix}${title}`,
    strip: title => title.replace(known, ''),
    has: title => known.test(title),
  }
}
