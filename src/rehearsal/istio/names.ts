/** Namespace of the control plane, in the rehearsal's clusters. */
export const istioNamespace = 'istio-system'
