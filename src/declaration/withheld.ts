/** Fields that people look for where they are not, and why they are not there. */
export const withheld: Readonly<Record<string, string>> = {
  'spec.forge.bitbucket.labels': 'no labels: pull requests of Bitbucket have none',
  'spec.forge.bitbucket.dashboard':
    'no dashboard: Bitbucket took its issues away in August 2026, and a comment belongs to one pull request; `reanchor status` says the same',
  'spec.forge.bitbucket.url':
    'no address: Bitbucket Cloud has one, and the API of Bitbucket Data Center is another one, which reanchor does not speak (forge: none pushes branches)',
}
