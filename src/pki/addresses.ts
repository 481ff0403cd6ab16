import { isIP } from 'node:net'

/** 4 or 16 bytes; null for a text that is no address. */
export function ipBytes(ip: string): Buffer | null {
  const family = isIP(ip)
  if (family === 0 || ip.includes('%')) return null
  if (family === 4) return Buffer.from(ip.split('.').map(Number))
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(ip)
  const last = dotted === null ? null : Buffer.from(dotted[2]!.split('.').map(Number)).toString('hex')
  const text = dotted === null ? ip : `${dotted[1]}${last!.slice(0, 4)}:${last!.slice(4)}`
  const [head = '', tail] = text.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => '0'), ...right]
  return Buffer.from(groups.map(group => group.padStart(4, '0')).join(''), 'hex')
}

/** RFC 5952 §4 for IPv6: lower case, no leading zeros, the longest run of zero groups as `::`. */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return [...bytes].join('.')
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16))
  let best = { start: 0, length: 1 }
  for (let start = 0; start < 8; start += 1) {
    let length = 0
    while (start + length < 8 && groups[start + length] === '0') length += 1
    if (length > best.length) best = { start, length }
  }
  if (best.length < 2) return groups.join(':')
  return `${groups.slice(0, best.start).join(':')}::${groups.slice(best.start + best.length).join(':')}`
}
