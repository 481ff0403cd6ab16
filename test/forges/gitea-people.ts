import type { People } from '../forge/contract.ts'

type Json = Readonly<Record<string, unknown>>

/** The API of a Gitea as people use it through its pages, with a token of theirs. */
export function giteaApi(url: string, token: string) {
  return async function call<T = Json>(method: string, path: string, body?: Json): Promise<T> {
    const ask = (): Promise<Response> =>
      fetch(`${url}/api/v1${path}`, {
        method,
        headers: { authorization: `token ${token}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
    // A connection that was idle while the rehearsal kept this process busy may have been closed meanwhile.
    const response = await ask().catch(ask)
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 300)}`)
    return (text === '' ? {} : text.trimStart().startsWith('<') ? { text } : JSON.parse(text)) as T
  }
}

export type GiteaApi = ReturnType<typeof giteaApi>

interface Pull {
  readonly title: string
  readonly draft: boolean
  readonly labels: readonly { readonly name: string }[]
  readonly requested_reviewers: readonly { readonly login: string }[] | null
}

/** Merging asks Gitea to look first whether it can: until it has, it answers 405. */
export async function mergePull(api: GiteaApi, repository: string, number: number, method: string): Promise<void> {
  const end = Date.now() + 30_000
  for (;;) {
    try {
      await api('POST', `/repos/${repository}/pulls/${number}/merge`, { Do: method })
      return
    } catch (error) {
      const later = error instanceof Error && /: 405 .*(try again|is not mergeable|Please try)/i.test(error.message)
      if (!later || Date.now() > end) throw error
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}

export function giteaPeople(api: GiteaApi, repository: string): People {
  const at = `/repos/${repository}`
  return {
    merge: (number, method) => mergePull(api, repository, number, method),
    async comments(number) {
      const found = await api<readonly { readonly body: string }[]>('GET', `${at}/issues/${number}/comments`)
      return found.map(({ body }) => body)
    },
    comment: async (number, body) => void (await api('POST', `${at}/issues/${number}/comments`, { body })),
    async look(number) {
      const { labels, requested_reviewers: reviewers, draft } = await api<Pull>('GET', `${at}/pulls/${number}`)
      return {
        labels: labels.map(({ name }) => name),
        reviewers: (reviewers ?? []).map(({ login }) => login),
        draft,
      }
    },
    async markReady(number) {
      const { title } = await api<Pull>('GET', `${at}/pulls/${number}`)
      await api('PATCH', `${at}/pulls/${number}`, { title: title.replace(/^WIP: /, '') })
    },
    openIssues: () => api('GET', `${at}/issues?state=open&type=issues&limit=50`),
  }
}
