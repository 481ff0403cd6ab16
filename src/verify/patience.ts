/** How long a look waits for consumers that give no answer. A single one of them keeps a step shut, so waiting for more of them is for naming them only. */
export interface PatienceSettings {
  /** So many silent ones get all the time that the cluster's own time-out gives, and those that are asked meanwhile. @default 32 */
  readonly first: number
  /** Milliseconds that every later one gets at least. It gets more where those that do answer are slow. @default 2000 */
  readonly least: number
  /** Milliseconds that the later ones may take in all, at `open` of them at a time; then the rest is not asked. @default 360000 */
  readonly all: number
  /** How many are waited for at a time. @default 64 */
  readonly open: number
}

export const defaultPatience: PatienceSettings = { first: 32, least: 2000, all: 360_000, open: 64 }

export interface Patience {
  /** Milliseconds for the next one; null: as long as the cluster's own time-out; 0: it is not to be asked any more. */
  next(): number | null
  answered(milliseconds: number): void
  /** One that failed, after so many milliseconds: in silence, or by a refusal, which costs nothing unless it is slow. */
  failed(milliseconds: number, inSilence: boolean): void
  readonly silent: number
}

/** Milliseconds after which a refusal is as bad as silence. */
const slowRefusal = 5000

/** Answers that take so many times as long as the others did are not waited for any more. */
const slower = 4

export function patienceOf(settings: PatienceSettings): Patience {
  let silent = 0
  let answers = 0
  let answering = 0
  let spent = 0
  return {
    next() {
      if (silent < settings.first) return null
      if (spent >= settings.all * settings.open) return 0
      // In whole half seconds: the time stands in what is said of each, and alike is said once.
      return Math.ceil(Math.max(settings.least, (slower * answering) / Math.max(1, answers)) / 500) * 500
    },
    answered(milliseconds) {
      answers += 1
      answering += milliseconds
    },
    failed(milliseconds, inSilence) {
      if (!inSilence && milliseconds < slowRefusal) return
      if (silent >= settings.first) spent += milliseconds
      silent += 1
    },
    get silent() {
      return silent
    },
  }
}
