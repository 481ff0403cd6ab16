import * as z from 'zod'
import { cassandraSchema } from '../systems/cassandra/schema.ts'
import { istioSchema } from '../systems/istio/schema.ts'
import { kymaSchema } from '../systems/kyma/schema.ts'
import { linkerdSchema } from '../systems/linkerd/schema.ts'
import { systemNames } from '../systems/systems.ts'
import {
  choice,
  duration,
  file,
  folder,
  kubernetesName,
  mintPath,
  object,
  plainText,
  repositoryPath,
  subject,
  text,
  url,
  validity,
} from './fields.ts'
import {
  branchProblem,
  labelPattern,
  labelProblem,
  recipientPattern,
  recipientProblem,
  reportsPattern,
  reportsProblem,
  signerExample,
  signerProblem,
  vouchedPattern,
  vouchedProblem,
} from './values.ts'

/**
 * The form of rotation.yaml: the one source of its checks, of its defaults and of `schemas/rotation.schema.json`. `title` says
 * what is expected in an error, `description` is for editors and the first `examples` entry goes into errors.
 * What concerns more than one field is in checks.ts.
 */

export type Surface = z.output<typeof declarationSchema>

const recipient = text(
  {
    title: 'a recipient of age (X25519)',
    description: 'Public key of age. Whoever holds its private key can open what reanchor seals.',
    examples: ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'],
    pattern: recipientPattern,
  },
  recipientProblem,
)

const recipients = z
  .array(recipient)
  .min(1)
  .meta({
    title: 'a list of recipients of age',
    description: 'Recipients of age to whom private keys are sealed; each of them alone can open them.',
    examples: [['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p']],
  })

const algorithm = z.enum(['ecdsa-p256', 'ecdsa-p384', 'rsa-4096'])

// ------------------------------------------------------------------------------------------------------- forge

const repositoryOn = (name: string, example: string) =>
  text(
    {
      title: 'owner/name of the repository',
      description: `The repository on ${name}, where pull requests are opened.`,
      examples: [example],
      pattern: '^[\\w.-]+(/[\\w.-]+)+$',
    },
    value =>
      /^[\w.][\w.-]*(\/[\w.-]+)+$/.test(value) && !value.split('/').some(part => part === '.' || part === '..')
        ? null
        : { what: 'is not a repository', expected: 'owner/name of the repository', example },
  )

const draft = z
  .boolean()
  .default(false)
  .meta({
    title: 'true or false',
    description: 'Open pull requests as drafts, which cannot be merged before a person calls them ready.',
    examples: [false],
  })

const hosted = (name: string, example: string, reviewer: string, reviewersText: string) =>
  z
    .strictObject({
      repository: repositoryOn(name, example),
      url: url(`Address of the server, where it is not the public ${name}.`, 'https://git.acme.example').optional(),
      labels: z
        .array(plainText('a label', 'A label.', 'trust'))
        .default([])
        .meta({
          title: 'a list of labels',
          description: 'What every pull request is labelled with; a label that does not exist is made.',
          examples: [['trust']],
        }),
      reviewers: z
        .array(
          text(
            { title: 'a login, or owner/team', description: 'Who is asked to review.', examples: [reviewer] },
            value =>
              /^[\w.-]+(\/[\w.-]+)?$/.test(value)
                ? null
                : { what: 'is not a login', expected: 'a login, or owner/team', example: reviewer },
          ),
        )
        .default([])
        .meta({ title: 'a list of logins and teams', description: reviewersText, examples: [[reviewer]] }),
      draft,
      dashboard: z
        .boolean()
        .default(false)
        .meta({
          title: 'true or false',
          description: 'Whether `run` keeps one open issue that says where the rotation stands.',
          examples: [true],
        }),
    })
    .meta({
      title: `the repository on ${name}`,
      description: `Pull requests on ${name}. The token is read from the environment, never from this file.`,
      examples: [{ repository: example }],
    })

const uuidExample = '{504c3b62-8120-4f0c-a7bc-87800b9d6f70}'
const uuidPattern = '^\\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\}$'

/** What the other forges have and Bitbucket Cloud has not is no field. */
const bitbucket = z
  .strictObject({
    repository: repositoryOn('Bitbucket Cloud', 'acme/fleet'),
    reviewers: z
      .array(
        text(
          {
            title: 'the UUID of an account',
            description: 'Who is asked to review.',
            examples: [uuidExample],
            pattern: uuidPattern,
          },
          value =>
            new RegExp(uuidPattern).test(value)
              ? null
              : { what: 'is not the UUID of an account', expected: 'a UUID in braces', example: `"${uuidExample}"` },
        ),
      )
      .default([])
      .meta({
        title: 'a list of UUIDs',
        description:
          'Who is asked to review every pull request: accounts by their UUID in braces; its API knows nobody by name.',
        examples: [[uuidExample]],
      }),
    draft,
  })
  .meta({
    title: 'the repository on Bitbucket Cloud',
    description:
      'Pull requests on Bitbucket Cloud (bitbucket.org). The token is read from the environment, never from this file.',
    examples: [{ repository: 'acme/fleet' }],
  })

const forge = z
  .union([
    z.enum(['local', 'none']),
    choice(
      {
        title: 'a forge',
        description: 'Where pull requests are opened: exactly one of the fields.',
        examples: [{ github: { repository: 'acme/fleet' } }],
      },
      {
        github: hosted(
          'GitHub',
          'acme/fleet',
          'acme/platform',
          'Who is asked to review every pull request: people by their login, teams as owner/team.',
        ).optional(),
        gitlab: hosted(
          'GitLab',
          'acme/platform/fleet',
          'ada',
          'Who is asked to review every merge request: people by their user name. GitLab Free keeps one of them.',
        ).optional(),
        gitea: hosted(
          'Gitea or Forgejo',
          'acme/fleet',
          'acme/platform',
          'Who is asked to review every pull request: people by their login, teams as owner/team.',
        ).optional(),
        bitbucket: bitbucket.optional(),
        local: z
          .strictObject({})
          .meta({
            title: 'an empty map',
            description: 'The embedded forge: pull requests live in the bare repository itself.',
            examples: [{}],
          })
          .optional(),
        none: z
          .strictObject({})
          .meta({
            title: 'an empty map',
            description: 'No pull requests: reanchor pushes branches, people open what they like.',
            examples: [{}],
          })
          .optional(),
      },
    ),
  ])
  .default('none')
  .meta({
    title: 'local, none, or one of github, gitlab, gitea, bitbucket with its repository',
    description: 'Where pull requests are opened. `none` pushes branches only; `local` is the embedded forge.',
    examples: ['local'],
  })

// ------------------------------------------------------------------------------------------------ current, next

const currentFiles = z
  .strictObject({
    certificate: file(
      "PEM file of the signing CA's certificate; for a self-signed CA the root itself.",
      '../material/ca-cert.pem',
    ),
    key: file(
      'PEM file of its private key, outside the repository. Needed where a phase puts the old CA into `cacerts` and the cluster is not to be read for it.',
      '../keys/ca-key.pem',
    ).optional(),
    chain: file(
      'PEM file of what cert-chain.pem holds now. Default: the certificate alone.',
      '../material/cert-chain.pem',
    ).optional(),
    roots: file(
      'PEM file of the roots that are trusted now. Default: the certificate alone, as a self-signed CA has it.',
      '../material/root-cert.pem',
    ).optional(),
  })
  .meta({
    title: 'the PEM files of the CA in use now',
    description: 'The CA in use now, from PEM files.',
    examples: [{ certificate: '../material/ca-cert.pem' }],
  })

const current = choice(
  {
    title: 'where the CA in use now is read from',
    description: 'The CA in use now: read from the cluster by `plan`, or given as files.',
    examples: [{ from: 'cluster' }],
  },
  {
    from: z
      .enum(['cluster'])
      .meta({
        title: 'cluster',
        description: '`cluster`: `plan` reads the CA in use from the cluster of the site.',
        examples: ['cluster'],
      })
      .optional(),
    files: currentFiles.optional(),
  },
)

const issuing = z
  .strictObject({
    algorithm: algorithm
      .meta({
        title: 'a key algorithm',
        description: 'Key of the issuing CAs. Default: as the root.',
        examples: ['ecdsa-p256'],
      })
      .optional(),
    subject: subject(
      'Subject of the issuing CAs; `{site}` stands for the name of the site. Default: `CN=<name> issuing,L={site},O=<trust domain>`.',
      'CN=mesh-2026 issuing,L={site},O=cluster.local',
    ).optional(),
    validity: validity(7300, 'How long an issuing CA is valid. It never outlives the root.', '730d').default('730d'),
  })
  .meta({
    title: 'settings of the issuing CAs',
    description: 'The issuing CA that each site gets; all of them are signed by the one new root.',
    examples: [{ validity: '730d' }],
  })

const issuingFiles = z
  .strictObject({
    certificate: file('PEM file of the issuing CA.', '../material/eu-1/ca-cert.pem'),
    key: file('PEM file of its private key, outside the repository.', '../keys/eu-1-key.pem'),
    chain: file(
      'PEM file of the chain up to, and without need of, the root. Default: the certificate alone.',
      '../material/eu-1/cert-chain.pem',
    ).optional(),
  })
  .meta({
    title: 'the files of one issuing CA',
    description: 'Certificate, private key and chain of an issuing CA.',
    examples: [{ certificate: '../material/eu-1/ca-cert.pem', key: '../keys/eu-1-key.pem' }],
  })

const next = choice(
  {
    title: 'where the new CA comes from',
    description: 'The new CA: generated by `plan`, given as files, or signed by an offline root.',
    examples: [{ generate: { algorithm: 'ecdsa-p256' } }],
  },
  {
    generate: z
      .strictObject({
        algorithm: algorithm
          .default('ecdsa-p256')
          .meta({ title: 'a key algorithm', description: 'Key of the new root.', examples: ['ecdsa-p256'] }),
        subject: subject(
          'Subject of the new root. It must differ from the old one. Default: `CN=<name> root,O=<trust domain>`.',
          'CN=mesh-2026 root,O=cluster.local',
        ).optional(),
        validity: validity(9125, 'How long the new root is valid.', '3650d').default('3650d'),
        issuing: issuing.prefault({}),
      })
      .meta({
        title: 'settings of the new CA',
        description: '`plan` makes a new root and one issuing CA for each site.',
        examples: [{ algorithm: 'ecdsa-p256', validity: '3650d' }],
      })
      .optional(),
    files: z
      .strictObject({
        root: file('PEM file of the new root; public.', '../material/root-cert.pem'),
        issuing: z.record(z.string(), issuingFiles).meta({
          title: "files of each site's issuing CA",
          description: 'Issuing CA by name of the site; `*` is for every site that is not named.',
          examples: [{ '*': { certificate: '../material/ca-cert.pem', key: '../keys/ca-key.pem' } }],
        }),
      })
      .meta({
        title: 'the files of the new CA',
        description: 'The new CA as PEM files. Private keys lie outside the repository.',
        examples: [
          {
            root: '../material/root-cert.pem',
            issuing: { '*': { certificate: '../material/ca-cert.pem', key: '../keys/ca-key.pem' } },
          },
        ],
      })
      .optional(),
    csr: z
      .strictObject({
        root: file(
          'PEM file of the offline root, if it is known already; public.',
          '../material/root-cert.pem',
        ).optional(),
        issuing: issuing.prefault({}),
      })
      .meta({
        title: 'settings of the requests',
        description:
          'Offline root: `plan` writes `certificates/<site>.csr` and takes the signed chain back with `--chain FILE`.',
        examples: [{}],
      })
      .optional(),
    certManager: z
      .strictObject({
        issuer: z
          .strictObject({
            name: kubernetesName(
              'the name of an issuer',
              'metadata.name of what signs the new CA. Its own certificate must be of the new root.',
              'mesh-root-2026',
            ),
            kind: plainText(
              'a kind',
              'Issuer, ClusterIssuer, or the kind of an external issuer.',
              'ClusterIssuer',
            ).default('ClusterIssuer'),
            group: kubernetesName('an API group', 'API group of that kind.', 'cert-manager.io').default(
              'cert-manager.io',
            ),
          })
          .meta({
            title: 'an issuer of cert-manager',
            description: 'What signs the new CA: an issuer that each minting cluster has under this name.',
            examples: [{ name: 'mesh-root-2026', kind: 'ClusterIssuer' }],
          }),
        namespace: kubernetesName(
          'a namespace',
          'Namespace of the Certificate and its Secret, which nothing else may read; with an Issuer, its own.',
          'cert-manager',
        ).default('cert-manager'),
        path: mintPath(
          'Folder into which the Certificate goes; Flux or Argo CD applies it in that cluster already. `{site}` stands for the name of the site.',
          'clusters/{site}/cert-manager',
        ),
        root: file(
          "PEM file of the new root, where the issuer does not tell it in the Secret's ca.crt; public.",
          '../material/root-cert.pem',
        ).optional(),
        site: text(
          {
            title: 'the name of a site',
            description:
              'The site whose cluster mints one CA for all sites. Default: each cluster mints its own; for Kyma and Cassandra, which have one for all, the first site.',
            examples: ['eu-1'],
            pattern: labelPattern,
          },
          value => labelProblem(value, 63),
        ).optional(),
        issuing: issuing.prefault({}),
      })
      .meta({
        title: 'what cert-manager mints',
        description:
          'cert-manager makes the new CA: `plan` opens a `mint` pull request with a new Certificate, and run again, once that is issued, takes the CA over and seals it.',
        examples: [{ issuer: { name: 'mesh-root-2026' }, path: 'clusters/{site}/cert-manager' }],
      })
      .optional(),
  },
)

// ----------------------------------------------------------------------------------------------------- custody

const custody = choice(
  {
    title: 'how private keys are sealed',
    description: 'How private keys are sealed before they reach Git: exactly one of the fields.',
    examples: [{ sops: {} }],
  },
  {
    sops: z
      .strictObject({
        age: recipients
          .meta({
            title: 'a list of recipients of age',
            description: 'Recipients. Default: the keys of the rule in .sops.yaml that matches the file.',
            examples: [['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p']],
          })
          .optional(),
        ksops: z
          .boolean()
          .default(false)
          .meta({
            title: 'true or false',
            description:
              'Argo CD decrypts with KSOPS. Must be said for sites that Argo CD delivers: by itself it cannot read SOPS.',
            examples: [true],
          }),
        rootAge: recipients
          .meta({
            title: 'a list of recipients of age',
            description:
              "Recipients of the new root's key file. Default: the recipients above; needed where the rule of .sops.yaml names none of age.",
            examples: [['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p']],
          })
          .optional(),
      })
      .meta({
        title: 'settings of SOPS',
        description:
          'SOPS; Flux decrypts it by itself. Rules of .sops.yaml with other keys than age (KMS, PGP, Vault, key groups) are sealed by the sops program.',
        examples: [{}],
      })
      .optional(),
    sealedSecrets: z
      .strictObject({
        certificate: file("PEM file of the SealedSecrets controller's certificate; public.", 'sealed-secrets/cert.pem'),
        scope: z
          .enum(['strict', 'namespace-wide', 'cluster-wide'])
          .default('strict')
          .meta({
            title: 'a scope of SealedSecrets',
            description: 'To which name and namespace the sealed value is bound.',
            examples: ['strict'],
          }),
        age: recipients
          .meta({
            title: 'a list of recipients of age',
            description:
              "Recipients of the new root's key file, which SealedSecrets cannot seal. Needed where `plan` generates the root.",
            examples: [['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p']],
          })
          .optional(),
      })
      .meta({
        title: 'settings of SealedSecrets',
        description: 'SealedSecrets of Bitnami; the usual choice under Argo CD.',
        examples: [{ certificate: 'sealed-secrets/cert.pem' }],
      })
      .optional(),
    externalSecrets: z
      .strictObject({
        store: kubernetesName('the name of a secret store', 'Name of the SecretStore or ClusterSecretStore.', 'vault'),
        kind: z
          .enum(['SecretStore', 'ClusterSecretStore'])
          .default('ClusterSecretStore')
          .meta({
            title: 'SecretStore or ClusterSecretStore',
            description: 'Kind of the store.',
            examples: ['ClusterSecretStore'],
          }),
        prefix: z
          .string()
          .regex(/^[A-Za-z0-9._/-]{0,100}$/)
          .default('reanchor/')
          .meta({
            title: 'how names in the store begin',
            description:
              'Begins every name in the store. Stores that allow no slash need another one, such as `reanchor-`.',
            examples: ['reanchor/'],
          }),
        version: z
          .string()
          .regex(/^[A-Za-z0-9._/-]{1,100}$/)
          .default('1')
          .meta({
            title: 'a version',
            description:
              'What the store calls the first version of a name, to which every reference is pinned: `1` in Vault (KV version 2) and Google Secret Manager.',
            examples: ['1'],
          }),
        vaultMount: z
          .string()
          .regex(/^[A-Za-z0-9._/-]{1,100}$/)
          .meta({
            title: 'a mount of Vault',
            description:
              "Mount of Vault's KV engine, version 2: `plan` then prints the commands that put the values there.",
            examples: ['secret'],
          })
          .optional(),
        age: recipients
          .meta({
            title: 'a list of recipients of age',
            description:
              "Recipients of the new root's key file, which never goes to the store. Needed where `plan` generates the root.",
            examples: [['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p']],
          })
          .optional(),
      })
      .meta({
        title: 'settings of External Secrets',
        description: 'External Secrets: the private key stays in a store outside Git.',
        examples: [{ store: 'vault' }],
      })
      .optional(),
  },
)

// ------------------------------------------------------------------------------------------------------- sites

const reportsRef = text(
  {
    title: 'a name that begins with reports/',
    description:
      'What a Job in the cluster pushes its evidence to, where the cluster cannot be reached from outside: the ref refs/reanchor/<this> of the repository.',
    examples: ['reports/eu-1'],
    pattern: reportsPattern,
  },
  reportsProblem,
)

const cluster = z
  .union([
    z.enum(['inCluster']),
    choice(
      {
        title: 'how the cluster is read',
        description: 'How the verifier reaches the cluster.',
        examples: [{ context: 'eu-1' }],
      },
      {
        context: plainText(
          'the name of a context',
          'Context of the kubeconfig that the environment names.',
          'eu-1',
        ).optional(),
        kubeconfig: file(
          'A kubeconfig file; its present context unless `context` is said.',
          '../kubeconfigs/eu-1.yaml',
        ).optional(),
        inCluster: z
          .strictObject({})
          .meta({
            title: 'an empty map',
            description: 'The service account of the pod that reanchor runs in.',
            examples: [{}],
          })
          .optional(),
        reports: reportsRef.optional(),
      },
    ),
    z
      .strictObject({
        kubeconfig: file('A kubeconfig file.', '../kubeconfigs/eu-1.yaml'),
        context: plainText('the name of a context', 'Context in that file.', 'eu-1'),
      })
      .meta({
        title: 'a kubeconfig and one of its contexts',
        description: 'A context of a kubeconfig file of its own.',
        examples: [{ kubeconfig: '../kubeconfigs/eu-1.yaml', context: 'eu-1' }],
      }),
    z
      .strictObject({
        reports: reportsRef,
        within: duration('1m', '7d', 'A report that was begun longer ago than this is not taken.', '15m').default(
          '15m',
        ),
        signer: plainText(
          'a name among evidence.signers',
          'The one of evidence.signers who may sign the reports of this site. Default: each of them.',
          'eu-1',
        ).optional(),
      })
      .meta({
        title: 'reports, how young they have to be and who signs them',
        description: 'Evidence from a Job in the cluster, with limits of its own.',
        examples: [{ reports: 'reports/eu-1', within: '15m', signer: 'eu-1' }],
      }),
  ])
  .meta({
    title:
      'inCluster, or one of context, kubeconfig (with or without context), reports (with or without within, signer)',
    description: 'How the verifier reads this cluster. Default: the context that has the name of the site.',
    examples: [{ context: 'eu-1' }],
  })

const delivery = choice(
  {
    title: 'what applies the folder',
    description: "What applies the site's folder to the cluster: Flux or Argo CD.",
    examples: [{ flux: { kustomization: 'flux-system/trust' } }],
  },
  {
    flux: z
      .strictObject({
        kustomization: object(
          'a Flux Kustomization',
          "The Kustomization that applies the site's path.",
          'flux-system/trust',
        ),
        file: repositoryPath(
          'File that holds that Kustomization, or that `adopt` will write. Default: it is managed elsewhere.',
          'clusters/eu-1/trust.yaml',
        ).optional(),
        source: object('a GitRepository', 'The GitRepository that it reads from.', 'flux-system/flux-system').default(
          'flux-system/flux-system',
        ),
        decryptionSecret: kubernetesName(
          'the name of a Secret',
          "Secret with the age key, in the Kustomization's namespace.",
          'sops-age',
        ).default('sops-age'),
      })
      .meta({
        title: 'a Flux Kustomization',
        description: 'Flux applies the folder.',
        examples: [{ kustomization: 'flux-system/trust' }],
      })
      .optional(),
    argocd: z
      .strictObject({
        application: object('an Argo CD Application', "The Application that applies the site's path.", 'argocd/trust'),
        file: repositoryPath(
          'File that holds that Application, or that `adopt` will write. Default: it is managed elsewhere.',
          'apps/trust.yaml',
        ).optional(),
        repoURL: url(
          'Address of this repository as Argo CD knows it. Needed where `adopt` writes the Application.',
          'https://git.acme.example/acme/fleet.git',
        ).optional(),
        project: kubernetesName('the name of an AppProject', 'AppProject of the Application.', 'default').default(
          'default',
        ),
      })
      .meta({
        title: 'an Argo CD Application',
        description: 'Argo CD applies the folder.',
        examples: [{ application: 'argocd/trust' }],
      })
      .optional(),
  },
)

const base = text(
  {
    title: 'a branch name that Git accepts',
    description: 'The branch that Flux or Argo CD follows.',
    examples: ['main'],
    maxLength: 200,
  },
  branchProblem,
)

const siteName = text(
  {
    title: 'the name of a site',
    description: 'Name of the cluster or region; part of branch names and paths.',
    examples: ['eu-1'],
    pattern: labelPattern,
    maxLength: 63,
  },
  value => {
    const problem = labelProblem(value, 63)
    if (problem !== null) return problem
    if (value !== 'undo' && value !== 'nudge') return null
    return {
      what: 'is taken: folders of that name hold the ways back',
      expected: 'a name other than undo and nudge',
      example: 'eu-1',
    }
  },
)

const site = z
  .strictObject({
    name: siteName,
    path: repositoryPath(
      'Folder that Flux or Argo CD applies. reanchor owns it: nothing else lies in it.',
      'trust/eu-1',
    ),
    cluster: cluster.optional(),
    delivery,
    current: current
      .meta({
        title: 'where the CA in use now is read from',
        description: 'The CA in use at this site. Default: as `spec.current` says.',
        examples: [{ from: 'cluster' }],
      })
      .optional(),
    next: z
      .strictObject({ issuing: issuingFiles })
      .meta({
        title: 'the issuing CA of this site',
        description:
          'The issuing CA of this site, where `spec.next.files` is used. One root serves the whole rotation.',
        examples: [{ issuing: { certificate: '../material/eu-1/ca-cert.pem', key: '../keys/eu-1-key.pem' } }],
      })
      .optional(),
    custody: custody
      .meta({
        title: 'how private keys are sealed',
        description: 'Custody at this site. Default: as `spec.custody` says.',
        examples: [{ sops: {} }],
      })
      .optional(),
    base: base
      .meta({
        title: 'a branch name that Git accepts',
        description: 'The branch that this cluster follows. Default: as `spec.base` says.',
        examples: ['main'],
      })
      .optional(),
  })
  .meta({
    title: 'a site',
    description: 'A cluster or region with a folder of its own.',
    examples: [{ name: 'eu-1', path: 'trust/eu-1', delivery: { flux: { kustomization: 'flux-system/trust' } } }],
  })

// ----------------------------------------------------------------------------------------------- the whole file

const rollout = z
  .union([
    z.enum(['parallel', 'serial']),
    z
      .strictObject({
        batches: z
          .array(z.array(siteName).min(1))
          .min(1)
          .meta({
            title: 'a list of lists of sites',
            description: 'Names of the sites that enter a step together, in order; every site once.',
            examples: [[['eu-1'], ['us-1', 'us-2']]],
          }),
      })
      .meta({
        title: 'batches',
        description: 'Batches of sites, in order.',
        examples: [{ batches: [['eu-1'], ['us-1', 'us-2']] }],
      }),
  ])
  .default('parallel')
  .meta({
    title: 'parallel, serial, or batches',
    description:
      'Which sites enter a step together: all of them, one after the other, or batches. Between steps all sites wait for each other.',
    examples: ['parallel', { batches: [['eu-1'], ['us-1', 'us-2']] }],
  })

const gates = z
  .strictObject({
    hold: duration(
      '0s',
      '30d',
      'How long the last change must lie back before the next step opens. Longer than the slowest kubelet takes to renew files: no API shows those of Istio’s proxies.',
      '10m',
    ).default('10m'),
    fresh: duration('10s', '7d', 'After this an observation is stale and must be made anew.', '1h').default('1h'),
    settle: duration('100ms', '1h', 'Time between the two observations that must agree.', '15s').default('15s'),
    attest: z
      .array(
        z
          .strictObject({
            name: text(
              {
                title: 'a name',
                description:
                  'Name for `reanchor attest NAME`; for WorkloadEntries and ExternalWorkloads `namespace/name`, or `namespace/*`.',
                examples: ['partner-vms', 'legacy/*'],
                pattern: vouchedPattern,
                maxLength: 317,
              },
              vouchedProblem,
            ),
            why: plainText(
              'a sentence',
              'Why no API shows these consumers.',
              'the VMs of our partner are outside the cluster',
            ),
          })
          .meta({
            title: 'a name and why',
            description: 'Consumers that no API shows.',
            examples: [{ name: 'partner-vms', why: 'the VMs of our partner are outside the cluster' }],
          }),
      )
      .default([])
      .meta({
        title: 'a list of names, each with why',
        description: 'Consumers that no API shows: each gate waits for a person to attest them.',
        examples: [[{ name: 'partner-vms', why: 'the VMs of our partner are outside the cluster' }]],
      }),
  })
  .meta({
    title: 'settings of the gates',
    description: 'What the verifier asks for before it opens a step.',
    examples: [{ hold: '10m', fresh: '1h' }],
  })

const evidence = z
  .strictObject({
    signers: z
      .array(
        text(
          {
            title: 'a line of an allowed-signers file: a name and an SSH public key',
            description:
              'Who may sign evidence: a name, options if any (`namespaces`, `valid-after`, `valid-before`), and an SSH public key (ed25519, ECDSA or RSA).',
            examples: [signerExample],
          },
          signerProblem,
        ),
      )
      .default([])
      .meta({
        title: 'a list of lines of an allowed-signers file',
        description:
          'Whose evidence counts. With at least one, evidence that none of them signed is `unknown`, and `next` wants `--signing-key`.',
        examples: [[signerExample]],
      }),
  })
  .meta({
    title: 'settings of evidence',
    description: 'Whose evidence counts. A change takes effect when it is merged, and needs no new plan.',
    examples: [{ signers: [signerExample] }],
  })

const workloadKinds = ['Deployment', 'StatefulSet', 'DaemonSet'] as const

const reload = z
  .strictObject({
    leaves: z
      .enum(['renewal', 'restart'])
      .meta({
        title: 'renewal or restart',
        description:
          'Linkerd: how leaves of the new issuer reach the proxies. `renewal`, the default: by themselves, within a leaf’s life. `restart`: the control plane and the workloads restart once more.',
        examples: ['restart'],
      })
      .optional(),
    workloads: z
      .array(
        z
          .strictObject({
            site: siteName,
            path: folder('Folder whose kustomization, or Flux Kustomization, takes the Component in.', 'apps/eu-1'),
            kinds: z
              .array(z.enum(workloadKinds))
              .min(1)
              .default([...workloadKinds])
              .meta({
                title: 'a list of kinds',
                description: 'Kinds of workloads that are restarted.',
                examples: [['Deployment']],
              }),
            batch: z
              .int()
              .min(1)
              .max(99)
              .default(1)
              .meta({
                title: 'a whole number from 1 to 99',
                description: 'Workloads of batch 2 restart in a later step than those of batch 1.',
                examples: [1],
              }),
          })
          .meta({
            title: 'workloads of one folder',
            description: 'Workloads that take the restart annotation.',
            examples: [{ site: 'eu-1', path: 'apps/eu-1' }],
          }),
      )
      .default([])
      .meta({
        title: 'a list of workloads',
        description:
          'Folders of workloads that must be re-created to take up the new trust; the restart is an annotation of their pod template.',
        examples: [[{ site: 'eu-1', path: 'apps/eu-1' }]],
      }),
  })
  .meta({
    title: 'what is restarted',
    description: 'What is re-created through Git, because it reads trust only at start.',
    examples: [{ workloads: [] }],
  })

export const declarationSchema = z
  .strictObject({
    apiVersion: z.enum(['reanchor.dev/v1alpha1']).meta({
      title: 'reanchor.dev/v1alpha1',
      description: 'Version of this format.',
      examples: ['reanchor.dev/v1alpha1'],
    }),
    kind: z
      .enum(['TrustRotation'])
      .meta({ title: 'TrustRotation', description: 'What this file is.', examples: ['TrustRotation'] }),
    metadata: z
      .strictObject({
        name: text(
          {
            title: 'the name of the rotation',
            description: 'Name of the rotation; also of its folder under rotations/ and part of its branches.',
            examples: ['mesh-2026'],
            pattern: labelPattern,
            maxLength: 40,
          },
          value => labelProblem(value, 40),
        ),
      })
      .meta({
        title: 'the name of the rotation',
        description: 'Name of the rotation.',
        examples: [{ name: 'mesh-2026' }],
      }),
    spec: z
      .strictObject({
        system: z.enum(systemNames).meta({
          title: 'a system',
          description: 'Whose trust is rotated.',
          examples: ['istio'],
        }),
        strategy: z
          .enum(['graceful', 'renew', 'issuer', 'emergency'])
          .default('graceful')
          .meta({
            title: 'a strategy',
            description:
              'graceful: a new key, no outage. renew: same key and subject, new certificate. issuer: a new issuing CA under the same root. emergency: the old material is compromised, trust in it ends at once.',
            examples: ['graceful'],
          }),
        base: base.default('main'),
        forge,
        current: current.prefault({ from: 'cluster' }),
        next: next.prefault({ generate: {} }),
        custody: custody.prefault({ sops: {} }),
        sites: z
          .array(site)
          .min(1)
          .meta({
            title: 'a list of sites',
            description: 'Clusters or regions that share the trust root; at least one.',
            examples: [
              [{ name: 'eu-1', path: 'trust/eu-1', delivery: { flux: { kustomization: 'flux-system/trust' } } }],
            ],
          }),
        rollout,
        gates: gates.prefault({}),
        evidence: evidence.prefault({}),
        reload: reload.prefault({}),
        istio: istioSchema.optional(),
        linkerd: linkerdSchema.optional(),
        kyma: kymaSchema.optional(),
        cassandra: cassandraSchema.optional(),
        paused: z
          .boolean()
          .default(false)
          .meta({
            title: 'true or false',
            description: 'A paused rotation verifies and reports, but opens nothing.',
            examples: [false],
          }),
      })
      .meta({ title: 'the rotation', description: 'What is rotated, where, and how.', examples: [] }),
  })
  .meta({
    title: 'a TrustRotation: apiVersion, kind, metadata, spec',
    description: 'rotation.yaml: the declaration of one rotation of a certificate authority.',
  })
