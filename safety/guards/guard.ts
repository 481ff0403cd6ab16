/** One text of one built file, replaced: what a test build has in place of what the product has. */
export interface Replacement {
  /** Below `dist`. */
  readonly file: string
  /** Stands in the file exactly once; else the list of guards is stale. */
  readonly find: string
  readonly replace: string
}

/** One check of the product that keeps a step shut or refuses a change. */
export interface Guard {
  /** `next/paused`; of a gate, its id: `cassandra/taken-up`. */
  readonly name: string
  /** One clause: what happens where it is not there. */
  readonly prevents: string
  /** Failures of the catalogue that it is there for. */
  readonly failures: readonly `F${number}`[]
  /** Name of the scenario that ends safely with it, and does not without. */
  readonly caughtBy: string
  /** Of a check that is no gate: how it is taken out. */
  readonly removals?: readonly Replacement[]
  /**
   * Of a gate: ids of the gates that keep the step shut in this scenario, itself among them. All are taken out, since each alone keeps it
   * shut; that the run names every one of them as shut shows that none is idle.
   */
  readonly gates?: readonly string[]
  /** What is broken or taken out in both builds, so that this guard is the one that it comes to. */
  readonly beside?: { readonly what: string; readonly replacements: readonly Replacement[] }
}

/** What a test build without this guard has replaced. */
export function withoutGuard({ removals = [], gates = [] }: Guard): readonly Replacement[] {
  return gates.length === 0 ? removals : [...removals, withoutGates(gates)]
}

/** Gates go out by their names, where the gates of a step are made. */
export function withoutGates(ids: readonly string[]): Replacement {
  const evidence = ids.filter(id => id.startsWith('evidence/'))
  if (evidence.length > 0) throw new Error(`${evidence.join(', ')} is no gate of a system`)
  const list = ids.map(id => `'${id}'`).join(', ')
  return {
    file: 'src/verify/gate.js',
    find: '.map(rule => gateOf(rule, phase, step));',
    replace: `.filter(rule => ![${list}].includes(rule.id))\n        .map(rule => gateOf(rule, phase, step));`,
  }
}
