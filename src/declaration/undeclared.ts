import { exitCodes, ReanchorError } from '../errors.ts'
import type { SystemPart } from '../rotation.ts'
import type { System } from '../systems/system.ts'

/**
 * What `spec.<system>` says of a cluster for which no rotation.yaml is written yet: its defaults, and the fields that the user gives by name.
 * Where each control plane is declared is not asked: nothing is going to be wired. Throws ReanchorError (2) for fields that
 * are unknown, missing or of wrong form.
 */
export async function undeclaredPart(system: System, said: Readonly<Record<string, string>>): Promise<SystemPart> {
  const { declarationSchema } = await import('./schema.ts')
  const fields = declarationSchema.shape.spec.shape
  const schema = fields[system.name].unwrap()
  const parsed = schema.safeParse({ ...('controlPlane' in schema.shape ? { controlPlane: {} } : {}), ...said })
  if (parsed.success)
    return system.settings.fill({ reload: fields.reload.parse(undefined), [system.name]: parsed.data })
  const [issue] = parsed.error.issues
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
  const name = unknown ?? String(issue?.path[0] ?? '')
  const field = unknown === undefined ? Object.entries(schema.shape).find(([key]) => key === name)?.[1] : undefined
  const { title, description, examples } = field?.meta() ?? {}
  const example = Array.isArray(examples) ? examples[0] : undefined
  throw new ReanchorError({
    what:
      unknown !== undefined
        ? `${system.title} has no field ${unknown}`
        : said[name] === undefined
          ? `${system.title} cannot be looked at without ${name}`
          : `${name} is not what it should be`,
    where: { field: `spec.${system.name}.${name}` },
    expected:
      unknown === undefined ? [title, description].filter(Boolean).join(': ') : Object.keys(schema.shape).join(', '),
    found: said[name] ?? 'nothing',
    ...(typeof example === 'string' ? { example: `--setting ${name}=${example}` } : {}),
    todo: `say it with --setting, or write rotation.yaml with \`reanchor init ${system.name}\` and run inspect without --context`,
    exit: exitCodes.usage,
  })
}
