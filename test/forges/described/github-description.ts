import { type Described, described } from './openapi.ts'
import { packedFile } from './packed.ts'

/** GitHub's description of api.github.com, as Octokit publishes it: 28 MB to download. */
const octokit = {
  name: '@octokit/openapi',
  version: '23.0.2',
  integrity: 'sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==',
  file: 'package/generated/api.github.com.json',
} as const

let loaded: Promise<Described> | null = null

export function githubDescription(): Promise<Described> {
  loaded ??= packedFile(octokit).then(text => described(JSON.parse(text)))
  return loaded
}
