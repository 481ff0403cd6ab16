import { ReanchorError } from '../../errors.ts'
import type { System } from '../../systems/system.ts'
import { isSystemName, systemNames, systemOf } from '../../systems/systems.ts'

/** The system that a user names. */
export function knownSystem(name: string, command: string): System {
  if (isSystemName(name)) return systemOf(name)
  throw new ReanchorError({
    what: 'this version does not know the system',
    expected: systemNames.join(', '),
    found: name,
    todo: systemNames.length === 1 ? `run \`reanchor ${command} istio\`` : 'name one of them',
  })
}
