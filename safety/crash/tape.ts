/** Answers of a cluster, written down once and played back as often as the same command is run again. Plain data, so that another process can play it. */
import { type Cluster, ClusterError, type KubernetesObject, type ServedTls } from '../../src/cluster/cluster.ts'

type Answer =
  | { readonly value: unknown }
  | { readonly pages: readonly (readonly KubernetesObject[])[] }
  | { readonly error: Pick<ClusterError, 'failure' | 'asked'> & { readonly detail: string } }

/** By question; a question that was asked twice has two answers, in their order. */
export type Tape = Map<string, Answer[]>

export function recording(cluster: Cluster, tape: Tape): Cluster {
  const note = (question: string, answer: Answer): void => {
    tape.set(question, [...(tape.get(question) ?? []), answer])
  }
  async function asked<T>(question: string, ask: () => Promise<T>): Promise<T> {
    try {
      const value = await ask()
      note(question, { value })
      return value
    } catch (error) {
      if (error instanceof ClusterError) note(question, { error: plain(error) })
      throw error
    }
  }
  return {
    identity: () => asked('identity', () => cluster.identity()),
    get: (...given) => asked(key('get', given), () => cluster.get(...given)),
    metadata: (...given) => asked(key('metadata', given), () => cluster.metadata(...given)),
    async *list(...given) {
      const pages: (readonly KubernetesObject[])[] = []
      try {
        for await (const page of cluster.list(...given)) {
          pages.push(page)
          yield page
        }
      } catch (error) {
        if (error instanceof ClusterError) note(key('list', given), { error: plain(error) })
        throw error
      }
      note(key('list', given), { pages })
    },
    httpGet: (...given) => asked(key('http', given), () => cluster.httpGet(...given)),
    servedTls: (...given) => asked(key('tls', given), () => cluster.servedTls(...given)),
    close: async () => {},
  }
}

/** Plays a tape from its start. A question that was not asked then, or not as often, is an error of the test. */
export function playing(tape: Tape): Cluster {
  const taken = new Map<string, number>()
  function next(question: string): Answer {
    const count = taken.get(question) ?? 0
    taken.set(question, count + 1)
    const answer = tape.get(question)?.[count]
    if (answer === undefined) throw new Error(`the tape has no answer number ${count + 1} to ${question}`)
    if ('error' in answer) throw new ClusterError(answer.error.failure, answer.error.asked, answer.error.detail)
    return answer
  }
  async function value<T>(question: string): Promise<T> {
    const answer = next(question)
    return ('value' in answer ? structuredClone(answer.value) : null) as T
  }
  return {
    identity: () => value('identity'),
    get: (...given) => value(key('get', given)),
    metadata: (...given) => value(key('metadata', given)),
    async *list(...given) {
      const answer = next(key('list', given))
      for (const page of 'pages' in answer ? answer.pages : []) yield structuredClone(page)
    },
    httpGet: (...given) => value(key('http', given)),
    async servedTls(...given) {
      const { chain, authorities } = await value<ServedTls>(key('tls', given))
      const buffers = (all: readonly Uint8Array[]): readonly Buffer[] => all.map(each => Buffer.from(each))
      return { chain: buffers(chain), authorities: authorities === null ? null : buffers(authorities) }
    },
    close: async () => {},
  }
}

function key(method: string, given: readonly unknown[]): string {
  return `${method} ${JSON.stringify(given)}`
}

function plain({ failure, asked, message }: ClusterError) {
  return { failure, asked, detail: message.slice(`${asked}: `.length) }
}
