/** Names of files in a site's folder that other parts speak of. */

/** The Secret linkerd-identity-issuer, sealed. */
export const issuerFile = 'issuer.yaml'
/** Folder of the Component that the control plane's kustomization takes in. */
export const controlPlaneComponent = 'components/control-plane'
