import { ApiObject } from 'cdk8s'
import type { Construct, IConstruct } from 'constructs'

/** Where an object of a chart goes in the site's folder, and which of its values custody must seal. */
export interface SiteFile {
  /** Relative to the site's folder, for example `components/istiod/patch.yaml`. */
  readonly path: string
  /** Keys of `data` that are private. */
  readonly privateKeys: readonly string[]
}

const metadataType = 'reanchor:site-file'

/** Says which file of the site's folder `object` is written to. Names are contracts, so nothing is derived from construct ids. */
export function placeIn(object: Construct, file: SiteFile): void {
  object.node.addMetadata(metadataType, file)
}

/** Every placed object below `root`, in the order in which it was made. Objects that nobody placed are an error. */
export function placedObjects(root: IConstruct): readonly { readonly object: ApiObject; readonly file: SiteFile }[] {
  return root.node
    .findAll()
    .filter(construct => ApiObject.isApiObject(construct))
    .map(object => {
      const file = object.node.metadata.find(entry => entry.type === metadataType)?.data as SiteFile | undefined
      if (file === undefined) throw new Error(`${object.node.path} has no place in the site's folder`)
      return { object, file }
    })
}
