import { openForge } from '../../src/forge/open.ts'
import { forgeContract } from '../forge/contract.ts'
import { bareRepository, opened } from '../repository/temporary.ts'
import { githubDescription } from './described/github-description.ts'
import { githubPeople, githubServer, githubToken } from './described/github-server.ts'
import { forgeState } from './described/state.ts'

forgeContract({
  name: 'GitHub, by its published description',
  async scene(files, settings) {
    const bare = await bareRepository(files)
    const state = forgeState(bare)
    const { url } = await githubServer(state, await githubDescription())
    const repository = await opened(bare)
    const forge = await openForge({ kind: 'github', repository: 'acme/fleet', url, ...settings }, repository, {
      now: () => new Date(),
      base: 'main',
      environment: { GITHUB_TOKEN: githubToken },
    })
    return { repository, forge, people: githubPeople(state, url) }
  },
  reviewer: 'acme/platform',
  methods: ['merge', 'squash', 'rebase'],
  deviations: [
    {
      reason: 'a push to the base that happens to bring the same files is no merge to it; people close the request',
      tests: ['tells a merge by another hand from the base branch'],
    },
    { reason: 'it has issues', tests: ['has no issues, and says so'] },
  ],
})
