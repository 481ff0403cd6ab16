/** The same function, whose next call begins once the one before has ended, however it did. */
export function oneAtATime<Given extends readonly unknown[], Made>(
  run: (...given: Given) => Promise<Made>,
): (...given: Given) => Promise<Made> {
  let previous: Promise<unknown> = Promise.resolve()
  return (...given) => {
    const result = previous.then(() => run(...given))
    previous = result.catch(() => undefined)
    return result
  }
}
