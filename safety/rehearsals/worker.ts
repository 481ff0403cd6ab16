import { faultyRun, type RunOptions } from './run.ts'

/** A process that does one run after the other, as it is asked to by the process that forked it. */
process.on('message', (options: RunOptions) => {
  // What throws ends the process, which says why on stderr; whoever waits hears of the exit.
  void faultyRun(options).then(result => process.send?.(result))
})
process.on('disconnect', () => process.exit(0))
