import type { UndoWindow } from '../safety/until-when.ts'

/** `Undo is safe until …, because …`: the same sentence for a terminal and for a pull request. Names in it are in backticks. */
export function undoSentence(window: UndoWindow): string {
  const { verdict, until, from, before, because } = window
  const step = window.step === null ? '' : ` of \`${window.step}\``
  if (verdict === 'holds') {
    const merge = before === 'close' ? 'the closing pull request' : `\`${before}\``
    const then =
      before === 'close' ? 'which takes the copies of all steps away' : 'which then has to be taken back first'
    if (until === null) return `Undo${step} is safe until ${merge} is merged, ${then}.`
    return `Undo${step} is safe until ${merge} is merged, ${then}, and at the latest until ${until}: ${because}.`
  }
  if (verdict === 'pending')
    return `Undo${step} is not safe before ${from ?? 'these have new leaves'}, because ${because}.`
  if (verdict === 'unknown') return `Whether undo${step} is safe is not known: ${because}.`
  return before === null ? `There is no way back: ${because}.` : `Undo${step} is not safe: ${because}.`
}
