/** Names of files in a site's folder that other parts speak of. */

/** The Secret linkerd-identity-issuer, sealed. */
export const issuerFile = 'issuer.yaml'
/** Values of the chart: for a HelmRelease within a ConfigMap, else by themselves. */
export const valuesFile = 'linkerd-values.yaml'
/** That ConfigMap. */
export const valuesName = 'reanchor-linkerd-values'
/** Folder of the Component that the control plane's kustomization takes in. */
export const controlPlaneComponent = 'components/control-plane'
/** The ConfigMap of anchors, or the Bundle that it is made of, where the site's folder delivers it by itself. */
export const trustRootsFile = 'trust-roots.yaml'
/** Where a Bundle has the anchors. */
export const bundleAnchors = 'spec.sources.0.inLine'
