/** Classes of consumers of trust, by system: what evidence may speak of. Two systems may have one of a name. */
const classes = {
  istio: ['istiod', 'sidecar', 'gateway', 'waypoint', 'ztunnel', 'configmap', 'webhook', 'vm'],
  cassandra: ['node', 'client', 'prober', 'reaper'],
  linkerd: ['proxy', 'control-plane', 'identity', 'external'],
  kyma: ['runtime', 'application', 'connector', 'gateway'],
} as const

export const consumerClasses = [...new Set(Object.values(classes).flat())]
