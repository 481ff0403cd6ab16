import { rotationFolder } from '../plan/steps.ts'
import type { Plan } from '../rotation.ts'

/** What a rotation rests on: its own folder, the sites' and the users' files that are wired. */
export function concernOf(plan: Plan): (path: string) => boolean {
  const folders = [rotationFolder(plan.metadata.name), ...plan.sites.map(site => site.path)]
  const files = new Set(plan.wiring.map(point => point.file))
  return path => files.has(path) || folders.some(folder => path.startsWith(`${folder}/`))
}
