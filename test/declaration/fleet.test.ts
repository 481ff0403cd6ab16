import { expect, test } from 'vitest'
import { runInit } from '../../src/declaration/init.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { demoFleet } from '../../src/rehearsal/istio/fleet.ts'
import { istioOf } from '../../src/systems/istio/settings.ts'
import { recipients } from './declarations.ts'

test.each([[['eu-1']], [['eu-1', 'us-1']]])('init finds its way in the fleet of the demo: %s', async names => {
  const { path, text } = await runInit({
    files: demoFleet({ sites: names, ageRecipient: recipients[0]! }),
    flags: { site: names.map(name => `${name}=trust/${name}`), delivery: ['flux:flux-system/trust'], forge: 'local' },
    existing: () => null,
    now: new Date('2026-03-01T00:00:00Z'),
    ask: null,
  })
  const declaration = await readDeclaration(text, path)
  expect(Object.keys(istioOf(declaration).controlPlane)).toEqual(names)
  for (const name of names) {
    expect(istioOf(declaration).controlPlane[name]?.file).toContain(name)
    expect(declaration.sites.find(site => site.name === name)?.delivery.file).toContain(name)
    // Proxies read some settings only at start: without these no pull request would restart them.
    expect(declaration.reload.filter(target => target.site === name).length).toBeGreaterThan(0)
  }
})
