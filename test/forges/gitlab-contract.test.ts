import { openForge } from '../../src/forge/open.ts'
import { forgeContract } from '../forge/contract.ts'
import { bareRepository, opened } from '../repository/temporary.ts'
import { gitlabDescription } from './described/gitlab-description.ts'
import { gitlabPeople, gitlabProject, gitlabServer, gitlabToken } from './described/gitlab-server.ts'
import { forgeState } from './described/state.ts'

forgeContract({
  name:
    (await gitlabDescription()) === null
      ? 'GitLab, by its documentation and its client'
      : 'GitLab, by its documentation, its client and its published description',
  async scene(files, settings) {
    const bare = await bareRepository(files)
    const state = forgeState(bare)
    const { url } = await gitlabServer(state)
    const repository = await opened(bare)
    const forge = await openForge({ kind: 'gitlab', repository: gitlabProject, url, ...settings }, repository, {
      now: () => new Date(),
      base: 'main',
      environment: { GITLAB_TOKEN: gitlabToken },
    })
    return { repository, forge, people: gitlabPeople(state, url) }
  },
  reviewer: 'grace',
  methods: ['merge', 'squash'],
  deviations: [
    {
      reason: 'a push to the base that happens to bring the same files is no merge to it; people close the request',
      tests: ['tells a merge by another hand from the base branch'],
    },
    { reason: 'it has issues', tests: ['has no issues, and says so'] },
  ],
})
