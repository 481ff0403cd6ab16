export { ArgoCdTrigger, type ArgoCdTriggerProps } from './argocd-trigger.ts'
export { RunnerCronJob } from './cron-job.ts'
export { FluxTrigger, type FluxTriggerProps } from './flux-trigger.ts'
export { type RunnerProps, runnerAccount, runnerNamespace } from './props.ts'
