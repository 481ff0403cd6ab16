/** What reanchor puts into clusters goes by these names, in every system. */

/** Names the rotation on each object that a Component or a values file of it has reached. */
export const rotationAnnotation = 'reanchor.dev/rotation'
/** In a pod template: another value restarts the workload. */
export const trustAnnotation = 'reanchor.dev/trust'
/** Secret with a random value, delivered by `adopt`: it shows that custody works before a CA depends on it. */
export const canaryName = 'reanchor-canary'
/** On a Secret that External Secrets makes: SHA-256 of the private values as they arrived, and of the certificate that each belongs to. */
export const valuesAnnotation = 'reanchor.dev/values'
