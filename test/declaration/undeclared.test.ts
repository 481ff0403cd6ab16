import { describe, expect, test } from 'vitest'
import { undeclaredPart } from '../../src/declaration/undeclared.ts'
import { systemNames, systemOf } from '../../src/systems/systems.ts'

const needed: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  istio: {},
  linkerd: { flow: 'trust-roots', version: 'stable-2.14.10' },
  kyma: {},
  cassandra: { cluster: 'example', namespace: 'cassandra' },
}

async function refusal(name: keyof typeof needed, said: Readonly<Record<string, string>>): Promise<string> {
  return await undeclaredPart(systemOf(name as 'istio'), said).then(
    () => 'taken',
    (error: Error) => error.message,
  )
}

describe('a cluster that no rotation.yaml speaks of', () => {
  test.each(systemNames)('%s: what must be said is enough, and the rest is as in a declaration', async name => {
    expect(await undeclaredPart(systemOf(name), needed[name] ?? {})).toMatchObject({
      system: name,
      [name]: expect.anything(),
    })
  })

  test('what is said counts', async () => {
    expect(await undeclaredPart(systemOf('istio'), { namespace: 'mesh' })).toMatchObject({
      istio: { namespace: 'mesh' },
    })
    expect(await undeclaredPart(systemOf('kyma'), { profile: '1.11' })).toMatchObject({ kyma: { profile: '1.11' } })
  })

  test('what is missing is named, with an example', async () => {
    const message = await refusal('cassandra', {})
    expect(message).toMatch(/Cassandra cannot be looked at without cluster/)
    expect(message).toMatch(/--setting cluster=example/)
  })

  test('an unknown field is named, with those that there are', async () => {
    expect(await refusal('istio', { spacename: 'x' })).toMatch(/Istio has no field spacename[\s\S]*namespace/)
  })

  test('a value of wrong form is refused with what is expected', async () => {
    expect(await refusal('linkerd', { ...needed.linkerd, flow: 'sideways' })).toMatch(
      /flow[\s\S]*trust-roots, upgrade or config-map[\s\S]*sideways/,
    )
  })
})
