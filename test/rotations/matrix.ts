/**
 * True with `REANCHOR_ROTATIONS=all`: the whole matrix, which takes longer than every change can wait for. Without it a suite takes one of
 * several alike; docs/testing.md has the figures of all.
 */
export const wholeMatrix = process.env.REANCHOR_ROTATIONS === 'all'
