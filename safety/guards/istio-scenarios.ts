import type { FileTree } from '../../src/rotation.ts'
import type { TestWorldOptions } from '../../test/rotations/world.ts'
import type { Opened } from './drive.ts'
import type { Scenario } from './scenario.ts'
import { struck, suspendFlux, unopened } from './strike.ts'

/** Two workloads are enough to fail a handshake. */
function small(fleet: FileTree): FileTree {
  return new Map(
    [...fleet].flatMap(([path, text]): readonly (readonly [string, string])[] => {
      if (/^apps\/[^/]+\/(shop|ingress)\.yaml$/.test(path)) return []
      if (/^apps\/[^/]+\/kustomization\.yaml$/.test(path))
        return [[path, text.replace(/ {2}- (shop|ingress)\.yaml.*\n/g, '')]]
      return [[path, text]]
    }),
  )
}

const mesh: TestWorldOptions = { system: 'istio', fleet: small, roundLimit: 20 }

const site = ({ test }: Opened) => test.site('eu-1')
const freeze = (at: Opened) => site(at).faults.frozen.add('httpbin/Deployment/httpbin')

export const istioScenarios: readonly Scenario[] = [
  struck('istio-frozen-roots', 'a proxy takes up nothing that is pushed to it', mesh, {
    before: 'trust-both/restart',
    act: freeze,
  }),
  struck('istio-stale-istiod', 'one of two istiods starts with the files that its node had before both roots', mesh, {
    before: 'trust-both/data',
    act: at => site(at).system.strike?.('replica-lags', undefined),
  }),
  struck(
    'istio-old-issuer',
    'one of two istiods starts with the files that its node had, and signs by the old CA',
    mesh,
    {
      before: 'issue-new/data',
      act: at => {
        site(at).faults.splitReplicas = true
        site(at).system.strike?.('replica-lags', undefined)
      },
    },
  ),
  struck(
    'istio-slow-kubelet',
    'a pod gets changed files nine minutes late, so its proxy verifies istiod by the old root until then',
    mesh,
    {
      before: 'trust-both/data',
      pause: 60_000,
      act: at => site(at).faults.kubeletLag.set('sleep/Deployment/sleep', 9 * 60_000),
    },
  ),
  struck('istio-suspended', 'Flux is suspended from adopt on, so that nothing that is merged arrives', mesh, {
    before: 'adopt/adopt',
    act: at => suspendFlux(site(at).store, true),
  }),
  struck('istio-stuck-workload', 'new pods of one workload do not get ready when proxies are to subscribe', mesh, {
    before: 'enable-multiroot/restart',
    act: at => site(at).faults.neverReady.add('httpbin/Deployment/httpbin'),
  }),
  struck('istio-stuck-istiod', 'new pods of istiod do not get ready when it is to take several roots', mesh, {
    before: 'enable-multiroot/data',
    act: at => site(at).faults.neverReady.add('istio-system/Deployment/istiod'),
  }),
  struck('istio-stranger', 'a machine outside of the cluster joins the mesh, and nobody declares it', mesh, {
    before: 'trust-both/data',
    act: at =>
      site(at).kubectlApply({
        apiVersion: 'networking.istio.io/v1',
        kind: 'WorkloadEntry',
        metadata: { name: 'billing-vm', namespace: 'sleep' },
        spec: { address: '10.0.9.9', serviceAccount: 'billing' },
      }),
    held: ({ step }) =>
      step === 'issue-new/data'
        ? 'istiod is to issue from the new CA while a machine has roots that nobody vouches for'
        : undefined,
  }),
  struck('istio-early-secret', 'somebody puts a Secret cacerts with another CA beside the self-signed one', mesh, {
    before: 'adopt/adopt',
    act: async at => {
      const { companyRoot } = await import('../../src/rehearsal/certificates.ts')
      const life = {
        notBefore: new Date(Date.now() - 3 * 86_400_000),
        notAfter: new Date(Date.now() + 90 * 86_400_000),
      }
      const other = companyRoot('other', life)
      const { secretOf } = await import('../../src/rehearsal/manifests.ts')
      site(at).kubectlApply(
        secretOf('cacerts', 'istio-system', {
          'ca-cert.pem': other.certificate,
          'ca-key.pem': other.key,
          'cert-chain.pem': other.certificate,
          'root-cert.pem': other.certificate,
        }),
      )
    },
  }),
  struck(
    'istio-unattested',
    'a declared machine outside of the cluster is told nothing, and nobody vouches for it',
    {
      ...mesh,
      change: declared => ({
        ...declared,
        gates: { ...declared.gates, attest: [{ name: 'sleep/billing-vm', why: 'a machine of the billing team' }] },
      }),
    },
    {
      act: () => {},
      held: ({ step }) =>
        step === 'issue-new/data'
          ? 'istiod is to issue from the new CA while a machine has roots that nobody vouches for'
          : undefined,
    },
  ),
  unopened('istio-sealed', mesh, 'eu-1', 'enable-multiroot/data', 'a CA’s key'),
]
