import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { injectorWebhook, otherWebhooks } from '../../../src/systems/linkerd/webhooks.ts'

interface Rule {
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
  readonly verbs: readonly string[]
}

function rulesIn(file: string): readonly Rule[] {
  const text = readFileSync(new URL(`../../../roles/${file}`, import.meta.url), 'utf8')
  return parseAllDocuments(text).flatMap(document => (document.toJS() as { rules?: Rule[] }).rules ?? [])
}

describe('roles/linkerd.yaml', () => {
  const rules = rulesIn('linkerd.yaml')

  it('names the webhooks that are looked at, and no other', () => {
    const granted = rules.flatMap(({ resources, resourceNames }) =>
      resources
        .filter(each => each.endsWith('webhookconfigurations'))
        .flatMap(each => (resourceNames ?? ['*']).map(name => `${each} ${name}`)),
    )
    const asked = [injectorWebhook, ...otherWebhooks].map(({ type, name }) => `${type.plural} ${name}`)
    expect([...granted].sort()).toEqual([...asked].sort())
  })

  it('changes nothing: port-forward, which could, stands alone in its own file', () => {
    expect([...new Set(rules.flatMap(({ verbs }) => verbs))].sort()).toEqual(['get', 'list'])
    expect(rules.flatMap(({ resources }) => resources).filter(each => each.includes('/'))).toEqual([])
    expect(rulesIn('linkerd-portforward.yaml').flatMap(({ resources }) => resources)).toEqual(['pods/portforward'])
  })
})
