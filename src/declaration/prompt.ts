import { ReanchorError } from '../errors.ts'
import type { InitQuestion } from './init.ts'

/**
 * Asks on the terminal. Only for use where both ends are a terminal; the library for it is loaded by the first question.
 * Throws ReanchorError (exit 2) where the person breaks off: nothing was written.
 */
export async function askOnTerminal(question: InitQuestion): Promise<string> {
  const { isCancel, log, select, text } = await import('@clack/prompts')
  log.info(question.why)
  const answer =
    question.choices.length > 1 && question.proposal !== null && !question.proposal.includes(' ')
      ? await select({ message: question.question, options: question.choices.map(value => ({ value, label: value })) })
      : await text({
          message: question.question,
          placeholder: question.flag,
          ...(question.proposal === null ? {} : { initialValue: question.proposal }),
          validate: value => (value === undefined || value.trim() === '' ? 'an answer is needed here' : undefined),
        })
  if (!isCancel(answer)) return answer
  throw new ReanchorError({
    what: 'broken off: nothing was written',
    todo: `run init again, or give ${question.flag}`,
  })
}
