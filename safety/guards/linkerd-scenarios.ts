import { companyRoot } from '../../src/rehearsal/certificates.ts'
import { injectorWebhook } from '../../src/systems/linkerd/webhooks.ts'
import { twoBatches } from '../../test/rotations/linkerd-fleet.ts'
import type { TestWorld, TestWorldOptions } from '../../test/rotations/world.ts'
import type { Opened } from './drive.ts'
import type { Scenario } from './scenario.ts'
import { hour, struck, suspendFlux, unopened } from './strike.ts'

const mesh: TestWorldOptions = {
  system: 'linkerd',
  variant: 'trust-roots',
  roundLimit: 20,
  fleet: fleet => {
    const files = new Map(twoBatches(fleet))
    for (const path of [...files.keys()]) if (/^(shop\/|clusters\/[^/]+\/shop)/.test(path)) files.delete(path)
    return files
  },
}

/** New pods of this workload never get ready, so that its old ones stay. */
const stuck = ({ test }: Opened) => test.site('eu-1').faults.neverReady.add('emojivoto/Deployment/web')

/** As a person who puts back what stood there, or an installer that runs again. */
function writeOldAnchors(test: TestWorld): void {
  const { store, system } = test.site('eu-1')
  for (const { kind, namespace, name, key } of test.world.system.demo.bundles?.('trust-roots') ?? []) {
    const found = store.get('', kind, namespace, name)
    if (found === null) throw new Error(`there is no ${kind} ${name}`)
    store.update(found, 'kubectl-edit', next => {
      next.data = { ...(next.data as object), [key]: system.startingCa().root }
    })
  }
}

export const linkerdScenarios: readonly Scenario[] = [
  struck('linkerd-stuck-workload', 'new pods of one workload do not get ready when both roots are to be read', mesh, {
    before: 'trust-both/data-plane',
    act: stuck,
  }),
  struck('linkerd-stuck-control-plane', 'new pods of identity do not get ready when the old root is to go', mesh, {
    before: 'trust-new/control-plane',
    act: ({ test }) => test.site('eu-1').faults.neverReady.add('linkerd/Deployment/linkerd-identity'),
  }),
  struck('linkerd-suspended', 'Flux is suspended from adopt on, so that nothing that is merged arrives', mesh, {
    before: 'adopt/adopt',
    act: ({ test }) => suspendFlux(test.site('eu-1').store, true),
  }),
  struck('linkerd-stranger', 'a machine outside of the cluster joins the mesh, and nobody declares it', mesh, {
    before: 'trust-both/data',
    act: ({ test }) =>
      test.site('eu-1').kubectlApply({
        apiVersion: 'workload.linkerd.io/v1beta1',
        kind: 'ExternalWorkload',
        metadata: { name: 'billing-vm', namespace: 'emojivoto' },
        spec: { meshTLS: { identity: 'spiffe://root.linkerd.cluster.local/billing', serverName: 'billing' } },
      }),
    held: ({ step }) =>
      step === 'issue-new/data'
        ? 'identity is to issue from the new issuer while a machine has anchors that nobody vouches for'
        : undefined,
  }),
  struck('linkerd-old-anchors', 'somebody puts the old anchors back into the ConfigMap, and Flux is suspended', mesh, {
    after: 'trust-both/data',
    async act({ test, world }) {
      const { store } = test.site('eu-1')
      await world.rehearsal.run(hour / 6)
      suspendFlux(store, true)
      writeOldAnchors(test)
    },
  }),
  struck('linkerd-deaf-identity', 'one replica of identity misses the change of its issuer', mesh, {
    before: 'issue-new/data',
    act: ({ test }) => test.site('eu-1').system.strike?.('replica-lags', undefined),
  }),
  struck(
    'linkerd-old-leaves',
    'nothing, and no hold is asked for: leaves of the old issuer live on for most of an hour',
    {
      ...mesh,
      change: declared => ({ ...declared, gates: { ...declared.gates, hold: 0 } }),
    },
    { patience: hour / 2, pause: 60_000, act: () => {} },
  ),
  struck('linkerd-cut-off-plane', 'new pods of one workload do not get ready when both roots are to be read', mesh, {
    before: 'trust-both/data-plane',
    act: stuck,
    breaks: true,
    until: 'issue-new/data',
    // Somebody restarts the control plane, whose leaves are of the new issuer from then on.
    heal: ({ test, world }) =>
      void world.rehearsal.clock.after(hour / 12, () => {
        for (const pod of test.store('eu-1').list('', 'Pod', 'linkerd'))
          test.site('eu-1').kubectlDelete('', 'Pod', 'linkerd', pod.metadata.name)
      }),
    held: ({ step }) =>
      step === 'trust-new/data'
        ? 'the rotation goes on while proxies refuse what the control plane presents'
        : undefined,
  }),
  struck('linkerd-broken-webhook', 'somebody gives the injector’s webhook another CA than the one it serves by', mesh, {
    before: 'trust-both/data',
    breaks: true,
    act: ({ test }) => writeCaBundle(test),
    held: ({ step }) =>
      step === 'trust-both/control-plane' || step === 'trust-both/data-plane'
        ? 'pods are to restart while the API server refuses whoever gives them a proxy'
        : undefined,
  }),
  struck(
    'linkerd-unseen-leaf',
    'a proxy renews its leaf no more, and no port-forward to it is allowed; its workload restarts later',
    mesh,
    {
      before: 'issue-new/data',
      act: ({ test }) => {
        const { faults } = test.site('eu-1')
        faults.frozen.add('emojivoto/Deployment/web')
        faults.api.push({ asked: /^handshake with emojivoto\/web-/, failure: 'forbidden' })
      },
    },
  ),
  struck(
    'linkerd-unattested',
    'a declared machine outside of the cluster is told nothing, and nobody vouches for it',
    {
      ...mesh,
      change: declared => ({
        ...declared,
        gates: { ...declared.gates, attest: [{ name: 'emojivoto/billing-vm', why: 'a machine of the billing team' }] },
      }),
    },
    {
      act: () => {},
      held: ({ step }) =>
        step === 'issue-new/data'
          ? 'identity is to issue from the new issuer while a machine has anchors that nobody vouches for'
          : undefined,
    },
  ),
  unopened('linkerd-sealed', mesh, 'eu-1', 'trust-both/data', 'an issuer’s key'),
]

/** As an installer that runs again with another CA writes the configuration, and not the Secret. */
function writeCaBundle(test: TestWorld): void {
  const { store } = test.site('eu-1')
  const day = 86_400_000
  const other = companyRoot('other', {
    notBefore: new Date(Date.now() - 3 * day),
    notAfter: new Date(Date.now() + 90 * day),
  })
  const found = store.get('admissionregistration.k8s.io', 'MutatingWebhookConfiguration', null, injectorWebhook.name)
  if (found === null) throw new Error('there is no webhook')
  store.update(found, 'kubectl-edit', next => {
    const [webhook] = next.webhooks as { clientConfig: object }[]
    if (webhook === undefined) throw new Error('the configuration has no webhook')
    webhook.clientConfig = {
      ...webhook.clientConfig,
      caBundle: Buffer.from(other.certificate).toString('base64'),
    }
  })
}
