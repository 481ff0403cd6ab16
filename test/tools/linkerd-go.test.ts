import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { anchorText, readAsGo } from '../../src/systems/linkerd/go-pem.ts'
import type { LinkerdIssuer } from '../../src/systems/linkerd/next-ca.ts'
import { linkerdCa } from '../systems/linkerd/material.ts'

/** linkerd2's loop over a bundle (pkg/tls/codec.go), on Go's own encoding/pem and crypto/x509. */
const program = `package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
)

func main() {
	text, _ := io.ReadAll(os.Stdin)
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			fmt.Println("not a PEM certificate")
			os.Exit(0)
		}
		if block.Type != "CERTIFICATE" {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			fmt.Println("unparsable")
			os.Exit(0)
		}
		sum := sha256.Sum256(certificate.Raw)
		fmt.Println(hex.EncodeToString(sum[:]))
		text = rest
	}
}
`

let folder: string
let old: LinkerdIssuer
let next: LinkerdIssuer

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'linkerd-go-'))
  writeFileSync(join(folder, 'main.go'), program)
  writeFileSync(join(folder, 'go.mod'), 'module reader\n\ngo 1.21\n')
  execFileSync('go', ['build', '-o', 'reader', '.'], { cwd: folder })
  ;[old, next] = await Promise.all([linkerdCa('CN=old'), linkerdCa('CN=new')])
}, 300_000)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

function byGo(text: string): readonly string[] {
  return execFileSync(join(folder, 'reader'), { input: text }).toString().trim().split('\n')
}

describe('the bundle under Go’s strict reading (F30)', () => {
  it('is read whole, in its order', () => {
    const anchors = [next.root.sha256, old.root.sha256]
    expect(byGo(anchorText([next.root.pem, old.root.pem]))).toEqual(anchors)
  })

  it('is read by us as by Go, also where it is odd', () => {
    const [one, two] = [old.root.pem, next.root.pem]
    const key = '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n'
    const odd = {
      'a blank line behind': `${one}\n`,
      'a comment behind': `${one}# end\n`,
      'no final newline': one.trimEnd(),
      'comments before and between': `# a\n${one}# b\n${two}`,
      'blank lines between': `${one}\n\n${two}`,
      glued: `${one.trimEnd()}${two}`,
      'another block between': `${one}${key}${two}`,
      CRLF: `${one}${two}`.replaceAll('\n', '\r\n'),
      'blanks behind a marker': one.replace('-----END CERTIFICATE-----', '-----END CERTIFICATE-----  '),
    }
    for (const [what, text] of Object.entries(odd)) {
      const go = byGo(text)
      const ours = readAsGo(text)
      expect(ours.ok ? ours.anchors : ['not a PEM certificate'], what).toEqual(
        go.includes('not a PEM certificate') ? ['not a PEM certificate'] : go,
      )
    }
  })
})
