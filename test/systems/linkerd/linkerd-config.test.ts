import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { anchorText, readAsGo } from '../../../src/systems/linkerd/go-pem.ts'
import { globalAnchors, withGlobalAnchors, withValuesAnchors } from '../../../src/systems/linkerd/linkerd-config.ts'
import type { LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import { globalJson, linkerdCa } from './material.ts'

let old: LinkerdIssuer
let next: LinkerdIssuer

beforeAll(async () => {
  ;[old, next] = await Promise.all([linkerdCa('CN=old'), linkerdCa('CN=new')])
})

describe('the JSON string in linkerd-config (F32)', () => {
  it('changes identityContext.trustAnchorsPem and no other byte', () => {
    const before = globalJson(old.root.pem)
    const both = anchorText([old.root.pem, next.root.pem])
    const after = withGlobalAnchors(before, both)
    expect(globalAnchors(after)).toBe(both)
    expect(after.replace(JSON.stringify(both), JSON.stringify(old.root.pem))).toBe(before)
    expect(withGlobalAnchors(after, old.root.pem)).toBe(before)
  })

  it('keeps the form in which Helm writes it: indented, the PEM without a newline at its end', () => {
    const before = JSON.stringify(JSON.parse(globalJson(old.root.pem.trimEnd())), null, 2)
    const after = withGlobalAnchors(before, anchorText([old.root.pem.trimEnd(), next.root.pem]))
    expect(after.split('\n')).toHaveLength(before.split('\n').length)
    expect(readAsGo(globalAnchors(after))).toEqual({ ok: true, anchors: [old.root.sha256, next.root.sha256] })
  })

  it('escapes each newline once: the awk of the runbook writes the same', () => {
    const after = withGlobalAnchors(globalJson(old.root.pem), next.root.pem)
    const awk = next.root.pem
      .split('\n')
      .filter(line => line !== '')
      .map(line => `${line}\\n`)
      .join('')
    expect(after).toContain(`"trustAnchorsPem":"${awk}"`)
    expect(after).not.toContain('\\\\n')
  })

  it('keeps escapes and key order of other values, and is not misled by a twin of the key elsewhere', () => {
    const json = `{"version":"a\\u003cb \\"identityContext\\"","other":{"identityContext":{"trustAnchorsPem":"x"}},"identityContext":{"scheme":"","trustAnchorsPem":${JSON.stringify(old.root.pem)}},"n":[1,{"a":null}]}`
    const after = withGlobalAnchors(json, next.root.pem)
    expect(after).toBe(json.replace(JSON.stringify(old.root.pem), JSON.stringify(next.root.pem)))
  })

  it('says what is wrong with a text that is no JSON, and with one that holds no anchors', () => {
    expect(() => globalAnchors('{"identityContext":')).toThrow(/data\.global is no JSON object/)
    expect(() => globalAnchors('{"identityContext":null}')).toThrow(/holds no trust anchors/)
  })
})

describe('Helm values in linkerd-config', () => {
  it('sets identityTrustAnchorsPEM, and keeps comments and the rest', () => {
    const yaml = `clusterDomain: cluster.local # ours\nidentityTrustAnchorsPEM: |\n${indented(old.root.pem)}identity:\n  issuer:\n    scheme: kubernetes.io/tls\n`
    const after = withValuesAnchors(yaml, next.root.pem)
    expect(after).toContain('cluster.local # ours')
    expect(parse(after)).toEqual({ ...parse(yaml), identityTrustAnchorsPEM: next.root.pem })
  })

  it('keeps a legacy `global` map where 2.9 has the key', () => {
    const after = withValuesAnchors(`global:\n  identityTrustAnchorsPEM: x\n`, next.root.pem)
    expect(parse(after)).toEqual({ global: { identityTrustAnchorsPEM: next.root.pem } })
  })
})

function indented(text: string): string {
  return text.replace(/^(?=.)/gm, '  ')
}
