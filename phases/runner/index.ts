export { ArgoCdTrigger, type ArgoCdTriggerProps } from './argocd-trigger.ts'
export { RunnerCronJob, VerifierCronJob } from './cron-job.ts'
export { FluxTrigger, type FluxTriggerProps } from './flux-trigger.ts'
export { FluxGate, type FluxGateProps, GateJob, gateFolder, gateSource } from './gate-job.ts'
export {
  type GateProps,
  type PodProps,
  type RunnerProps,
  runnerAccount,
  runnerNamespace,
  type VerifierProps,
} from './props.ts'
