import { forgeContract } from '../forge/contract.ts'
import { giteaReviewer, giteaScene } from './gitea-scene.ts'

forgeContract({
  name: 'Gitea 1.26, the real one',
  scene: giteaScene,
  reviewer: giteaReviewer,
  methods: ['merge', 'squash', 'rebase'],
  deviations: [
    {
      reason: 'a push to the base that happens to bring the same files is no merge to it; people close the request',
      tests: ['tells a merge by another hand from the base branch'],
    },
    { reason: 'it has issues', tests: ['has no issues, and says so'] },
  ],
})
