import { beforeAll, describe, expect, it } from 'vitest'
import { anchorText, readAsGo } from '../../../src/systems/linkerd/go-pem.ts'
import type { LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import { linkerdCa } from './material.ts'

let old: LinkerdIssuer
let next: LinkerdIssuer

beforeAll(async () => {
  ;[old, next] = await Promise.all([linkerdCa('CN=old'), linkerdCa('CN=new')])
})

describe('anchors as text (F30)', () => {
  it('is what Go reads whole: one newline between and behind the blocks, nothing else', () => {
    const text = anchorText([next.root.pem, old.root.pem])
    expect(readAsGo(text)).toEqual({ ok: true, anchors: [next.root.sha256, old.root.sha256] })
    expect(text).not.toContain('\n\n')
    expect(text.endsWith('-----END CERTIFICATE-----\n')).toBe(true)
  })

  it('takes CRLF, blank lines and a missing final newline in, and writes none of them', () => {
    const odd = [old.root.pem.replaceAll('\n', '\r\n'), `${next.root.pem}\n\n`, old.root.pem.trimEnd()]
    const text = anchorText(odd)
    expect(text).not.toMatch(/\r|\n\n/)
    expect(readAsGo(text)).toEqual({ ok: true, anchors: [old.root.sha256, next.root.sha256, old.root.sha256] })
  })

  it('stays one text when a part has no newline at its end: no END is glued to a BEGIN (trap 3)', () => {
    expect(anchorText([old.root.pem.trimEnd(), next.root.pem.trimEnd()])).toBe(
      anchorText([old.root.pem, next.root.pem]),
    )
  })
})

describe('reading as linkerd2 does', () => {
  it('gives up on a blank line behind the last block (linkerd2#3414)', () => {
    expect(readAsGo(`${old.root.pem}\n`)).toEqual({ ok: false, reason: 'not a PEM certificate' })
  })

  it('reads a text without a final newline, and comments before and between blocks', () => {
    expect(readAsGo(old.root.pem.trimEnd()).ok).toBe(true)
    const commented = readAsGo(`# old\n${old.root.pem}# new\n${next.root.pem}`)
    expect(commented).toEqual({ ok: true, anchors: [old.root.sha256, next.root.sha256] })
  })

  it('reads nothing of blocks that are glued together', () => {
    expect(readAsGo(`${old.root.pem.trimEnd()}${next.root.pem}`).ok).toBe(false)
  })

  it('loses every anchor behind a block that is no certificate', () => {
    const key = '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n'
    expect(readAsGo(`${old.root.pem}${key}${next.root.pem}`)).toEqual({ ok: true, anchors: [old.root.sha256] })
    expect(readAsGo(key).ok).toBe(false)
  })

  it('reads nothing where a block is cut off and another begins, as versions of Go differ in what they make of it', () => {
    const cut = old.root.pem.slice(0, 120)
    const key = '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n'
    expect(readAsGo(`${cut}\n${next.root.pem}`)).toEqual({ ok: false, reason: 'not a PEM certificate' })
    expect(readAsGo(`${cut}\n${key}${next.root.pem}`)).toEqual({ ok: false, reason: 'not a PEM certificate' })
    expect(readAsGo(`${next.root.pem}${cut}\n${next.root.pem}`).ok).toBe(false)
  })

  it('needs at least one anchor', () => {
    expect(readAsGo('').ok).toBe(false)
  })
})
